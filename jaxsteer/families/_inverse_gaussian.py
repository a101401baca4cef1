"""The inverse-Gaussian (Wald) family: first passage times of a drifting motion."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr

from jaxsteer._types import Array, ArrayLike, Float, Key
from jaxsteer.families._family import family
from jaxsteer.families._support import (
    as_floating,
    draws,
    on_support,
    positive_scale,
    scaling,
    weighted_samples,
)
from jaxsteer.linalg import expm1_minus, log_quotient
from jaxsteer.maps import DiagonalMap


@family(
    domain={"mean": "positive", "concentration": "positive"},
    maps="scale",
    size=lambda law: law.mean,
)
@dataclasses.dataclass(frozen=True)
class InverseGaussian:
    """Inverse-Gaussian distributions of positive numbers.

    ``p(x) = sqrt(c / (2 pi x^3)) exp(-c (x - m)^2 / (2 m^2 x))`` with mean ``m`` and
    concentration ``c``; the variance is ``m^3 / c``. The map ``x -> a x`` multiplies
    both parameters by ``a``.

    Attributes:
        mean: ``[...]`` means ``m``, positive; leading axes are a batch.
        concentration: ``[...]`` concentrations ``c``, positive, in the unit of `mean`.

    Example:
        >>> InverseGaussian(1.0, 2.0).kl(InverseGaussian(2.0, 2.0)).item()
        0.25
    """

    mean: Float[Array, "..."]
    concentration: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> InverseGaussian:
        """Maximum likelihood: ``1 / c`` is the mean of ``1 / x - 1 / m``.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        x, weights = weighted_samples(x, weights, lambda v: v > 0, "positive")
        mean = jnp.sum(weights * x, -1)
        # 1/x - 1/m + (x - m)/m^2, whose last term has mean 0, has no cancellation.
        gap = x / mean[..., None] - 1
        spread = jnp.sum(weights * gap * gap / x, -1)
        return cls(mean, 1 / spread)

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``."""
        return self.mean**3 / jnp.asarray(self.concentration)

    def kl(self, other: InverseGaussian) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_inverse_gaussian`."""
        return kl_inverse_gaussian(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density at `x`, which broadcasts; ``-inf`` off the open half-line."""
        x = as_floating(x, self.mean, self.concentration)
        inside = (x > 0) & (x < jnp.inf)
        x_in = jnp.where(inside, x, self.mean)
        z = x_in / self.mean - 1
        log_front = jnp.log(self.concentration / x_in) - math.log(2 * math.pi)
        density = 0.5 * log_front - jnp.log(x_in)
        return on_support(x, inside, density - 0.5 * self.concentration * z * z / x_in)

    def cdf(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability of at most `x`, which broadcasts."""
        inside = x > 0
        x = jnp.where(inside, x, self.mean)
        root = jnp.sqrt(self.concentration / x)
        ratio = x / self.mean
        # exp(2 c / m) overflows where the normal tail underflows: add logarithms.
        mirrored = 2 * self.concentration / self.mean + log_ndtr(-root * (ratio + 1))
        # At infinity the ratio and the root's product are 0 times infinity.
        upper = jnp.where(jnp.isinf(x), jnp.inf, root * (ratio - 1))
        total = ndtr(upper) + jnp.where(jnp.isinf(x), 0.0, jnp.exp(mirrored))
        return jnp.where(inside, jnp.minimum(total, 1.0), 0.0)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples by the two roots of a squared normal."""
        size, dtype = draws(shape, self.mean, self.concentration)
        normal, uniform = jax.random.split(key)
        y = jnp.square(jax.random.normal(normal, size, dtype))
        # The smaller root in units of the mean is 1 / (1 + t + sqrt(t (2 + t))).
        t = 0.5 * y * self.mean / self.concentration
        small = 1 / (1 + t + jnp.sqrt(t * (2 + t)))
        first = jax.random.uniform(uniform, size, dtype) * (1 + small) <= 1
        return self.mean * jnp.where(first, small, 1 / small)

    def pushforward(self, move: DiagonalMap) -> InverseGaussian:
        """Law of ``move(x)``; the shift must be 0 and the scale positive.

        Raises:
            ValueError: If concrete values of the map show otherwise.
        """
        gain = positive_scale(move, "InverseGaussian")
        return InverseGaussian(gain * self.mean, gain * self.concentration)

    def transport_to(self, other: InverseGaussian) -> DiagonalMap:
        """The scaling onto `other`'s law, of one ``concentration / mean`` with this one.

        Laws of different shape have no scaling between them; this one gives them one
        mean.
        """
        return scaling(jnp.asarray(other.mean / self.mean))


def kl_inverse_gaussian(p: InverseGaussian, q: InverseGaussian) -> Float[Array, "..."]:
    """``KL(p || q) = (r - 1 - log r + q.c (p.m - q.m)^2 / (q.m^2 p.m)) / 2`` in nats.

    ``m`` the means, ``c`` the concentrations, ``r = q.c / p.c``: two non-negative
    parts, without cancellation; zero with zero gradient at ``p = q``.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.

    References:
        From ``E_p[x] = p.m`` and ``E_p[1 / x] = 1 / p.m + 1 / p.c``.
    """
    distance = (p.mean - q.mean) / q.mean
    bend = q.concentration / p.mean * distance * distance
    return 0.5 * (expm1_minus(log_quotient(q.concentration, p.concentration)) + bend)
