"""The univariate normal family."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from jaxsteer._types import Array, Float, Key
from jaxsteer.families._family import family
from jaxsteer.linalg import expm1_minus, log_quotient
from jaxsteer.maps import DiagonalMap

LOG_2PI = math.log(2 * math.pi)


@family(domain={"loc": "real", "scale": "positive"}, maps="univariate")
@dataclasses.dataclass(frozen=True)
class Normal:
    """Univariate normal distributions ``N(loc, scale^2)``.

    Attributes:
        loc: ``[...]`` means; leading axes are a batch.
        scale: ``[...]`` standard deviations, positive.

    Example:
        >>> Normal(0.0, 1.0).kl(Normal(1.0, 1.0)).item()
        0.5
    """

    loc: Float[Array, "..."]
    scale: Float[Array, "..."]

    @classmethod
    def from_moments(
        cls, mean: Float[Array, "..."], cov: Float[Array, "..."]
    ) -> Normal:
        """Return the member with this mean and variance (the maximum-likelihood fit)."""
        return cls(mean, jnp.sqrt(cov))

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``."""
        return jnp.asarray(self.loc)

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``."""
        return jnp.square(self.scale)

    def kl(self, other: Normal) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_normal`."""
        return kl_normal(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density at `x`, which broadcasts against the batch."""
        z = (x - self.loc) / self.scale
        return -0.5 * (z * z + LOG_2PI) - jnp.log(self.scale)

    def cdf(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability of at most `x`, which broadcasts."""
        return ndtr((x - self.loc) / self.scale)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples."""
        dtype = jnp.result_type(self.loc, self.scale, float)
        batch = jnp.broadcast_shapes(jnp.shape(self.loc), jnp.shape(self.scale))
        noise = jax.random.normal(key, shape + batch, dtype)
        return self.loc + self.scale * noise

    def pushforward(self, move: DiagonalMap) -> Normal:
        """Law of ``move(x)``; the batches of both broadcast."""
        return Normal(move(self.loc), jnp.abs(move.scale) * self.scale)

    def transport_to(self, other: Normal) -> DiagonalMap:
        """Increasing (optimal-transport) map from this law onto `other`'s."""
        scale = other.scale / self.scale
        return DiagonalMap(scale, other.loc - scale * self.loc)


def kl_normal(p: Normal, q: Normal) -> Float[Array, "..."]:
    """``KL(p || q) = (r - 1 - log r + (p.loc - q.loc)^2 / q.scale^2) / 2`` in nats.

    ``r = (p.scale / q.scale)^2``. Computed without cancellation, so that nearly equal
    distributions keep their digits in float32; zero with zero gradient at ``p = q``.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    log_ratio = 2 * log_quotient(p.scale, q.scale)
    distance = (p.loc - q.loc) / q.scale
    return 0.5 * (expm1_minus(log_ratio) + distance * distance)
