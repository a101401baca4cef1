"""The exponential family of waiting times."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, ArrayLike, Float, Key
from jaxsteer.families._family import family
from jaxsteer.families._gamma import Gamma
from jaxsteer.families._support import (
    as_floating,
    draws,
    on_support,
    positive_scale,
    scaling,
    weighted_samples,
)
from jaxsteer.families._weibull import Weibull
from jaxsteer.linalg import expm1_minus, log_quotient
from jaxsteer.maps import DiagonalMap


@family(
    domain={"rate": "positive"},
    maps="scale",
    size=lambda law: 1 / law.rate,
    spread=False,
)
@dataclasses.dataclass(frozen=True)
class Exponential:
    """Exponential distributions on ``x >= 0``, of density ``rate exp(-rate x)``.

    Attributes:
        rate: ``[...]`` inverse means, positive; leading axes are a batch.

    Example:
        >>> round(Exponential(1.0).kl(Exponential(2.0)).item(), 4)
        0.3069
    """

    rate: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> Exponential:
        """Maximum likelihood: the inverse of the weighted mean.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        x, weights = weighted_samples(x, weights, lambda v: v >= 0, "at least 0")
        return cls(1 / jnp.sum(weights * x, -1))

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``."""
        return 1 / jnp.asarray(self.rate)

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``."""
        return jnp.square(self.mean)

    def to_gamma(self) -> Gamma:
        """The same distributions as gamma ones of concentration 1."""
        return Gamma(jnp.ones_like(self.rate), self.rate)

    def to_weibull(self) -> Weibull:
        """The same distributions as Weibull ones of concentration 1."""
        return Weibull(jnp.ones_like(self.rate), self.mean)

    def kl(self, other: Exponential) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_exponential`."""
        return kl_exponential(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density at `x`, which broadcasts against the batch; ``-inf`` below 0."""
        x = as_floating(x, self.rate)
        inside = x >= 0
        value = jnp.log(self.rate) - self.rate * jnp.where(inside, x, 0.0)
        return on_support(x, inside, value)

    def cdf(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability of at most `x`, which broadcasts."""
        return -jnp.expm1(-self.rate * jnp.maximum(x, 0.0))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples."""
        return jax.random.exponential(key, *draws(shape, self.rate)) / self.rate

    def pushforward(self, move: DiagonalMap) -> Exponential:
        """Law of ``move(x)``; the shift must be 0 and the scale positive.

        Raises:
            ValueError: If concrete values of the map show otherwise.
        """
        return Exponential(self.rate / positive_scale(move, "Exponential"))

    def transport_to(self, other: Exponential) -> DiagonalMap:
        """Increasing (optimal-transport) map from this law onto `other`'s."""
        return scaling(jnp.asarray(self.rate / other.rate))


def kl_exponential(p: Exponential, q: Exponential) -> Float[Array, "..."]:
    """``KL(p || q) = r - 1 - log r`` in nats, with ``r = q.rate / p.rate``.

    Without cancellation; zero with zero gradient at ``p = q``.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    return expm1_minus(log_quotient(q.rate, p.rate))
