"""The multivariate normal family with independent features."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxsteer._types import Array, Float, Key
from jaxsteer.families._family import family
from jaxsteer.families._multivariate_normal import MultivariateNormal, check_same_space
from jaxsteer.families._normal import Normal
from jaxsteer.maps import DiagonalMap


@family(domain={"loc": "real", "scale": "positive"}, maps="diagonal")
@dataclasses.dataclass(frozen=True)
class DiagonalNormal:
    """Normal distributions with a diagonal covariance.

    Attributes:
        loc: ``[..., d]`` means; leading axes are a batch.
        scale: ``[..., d]`` standard deviations, positive.

    Example:
        >>> import jax.numpy as jnp
        >>> p = DiagonalNormal(jnp.zeros(2), jnp.ones(2))
        >>> p.kl(DiagonalNormal(jnp.array([1.0, 2.0]), jnp.ones(2))).item()
        2.5
    """

    loc: Float[Array, "... d"]
    scale: Float[Array, "... d"]

    @classmethod
    def from_moments(
        cls, mean: Float[Array, "... d"], cov: Float[Array, "... d d"]
    ) -> DiagonalNormal:
        """Keep the mean and the variances (the maximum-likelihood fit)."""
        return cls(mean, jnp.sqrt(jnp.diagonal(cov, axis1=-2, axis2=-1)))

    @property
    def features(self) -> Normal:
        """The independent univariate marginals, batch ``[..., d]``."""
        return Normal(self.loc, self.scale)

    @property
    def mean(self) -> Float[Array, "... d"]:
        """Means, ``[..., d]``."""
        return self.loc

    @property
    def cov(self) -> Float[Array, "... d d"]:
        """Covariance matrices, ``[..., d, d]``."""
        variances = jnp.square(self.scale)
        return variances[..., None] * jnp.eye(
            variances.shape[-1], dtype=variances.dtype
        )

    def to_dense(self) -> MultivariateNormal:
        """The same distributions with full covariance matrices."""
        return MultivariateNormal(self.loc, self.cov)

    def kl(self, other: DiagonalNormal) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_diagonal_normal`."""
        return kl_diagonal_normal(self, other)

    def log_prob(self, x: Float[Array, "... d"]) -> Float[Array, "..."]:
        """Log-density at points ``[..., d]``."""
        return jnp.sum(self.features.log_prob(x), -1)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` vectors."""
        return self.features.sample(key, shape)

    def pushforward(self, move: DiagonalMap) -> DiagonalNormal:
        """Law of ``move(x)``."""
        moved = self.features.pushforward(move)
        return DiagonalNormal(moved.loc, moved.scale)

    def transport_to(self, other: DiagonalNormal) -> DiagonalMap:
        """Optimal-transport map from this law onto `other`'s."""
        return self.features.transport_to(other.features)


def kl_diagonal_normal(p: DiagonalNormal, q: DiagonalNormal) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats: the sum over features of the univariate divergences.

    Args:
        p: Distributions with batch ``[...]`` over ``d`` features.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences. Cost O(d).

    Raises:
        ValueError: If the dimensions differ.
    """
    check_same_space(p.loc, q.loc)
    return jnp.sum(p.features.kl(q.features), -1)
