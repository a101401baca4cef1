"""The Gumbel family of largest values."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, ArrayLike, Float, Key
from jaxsteer.families._family import family
from jaxsteer.families._slopes import gumbel_kl_and_slope
from jaxsteer.families._support import (
    as_floating,
    draws,
    increasing_scale,
    on_support,
    weighted_samples,
)
from jaxsteer.linalg import expm1_minus, lgamma_bregman, log_quotient
from jaxsteer.maps import DiagonalMap


@family(
    domain={"loc": "real", "scale": "positive"},
    maps="location_scale",
    kl_and_slope=gumbel_kl_and_slope,
)
@dataclasses.dataclass(frozen=True)
class Gumbel:
    """Gumbel distributions of maxima: ``P(X <= x) = exp(-exp(-(x - loc) / scale))``.

    Attributes:
        loc: ``[...]`` modes; leading axes are a batch.
        scale: ``[...]`` scales, positive.

    Example:
        >>> round(Gumbel(0.0, 1.0).kl(Gumbel(1.0, 1.0)).item(), 4)
        0.7183
    """

    loc: Float[Array, "..."]
    scale: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> Gumbel:
        """Maximum likelihood; see :func:`fit_gumbel`.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        return cls(*fit_gumbel(*weighted_samples(x, weights)))

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``."""
        return jnp.asarray(self.loc + np.euler_gamma * self.scale)

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``."""
        return math.pi**2 / 6 * jnp.square(self.scale)

    def kl(self, other: Gumbel) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_gumbel`."""
        return kl_gumbel(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density at `x`, which broadcasts against the batch."""
        x = as_floating(x, self.loc, self.scale)
        inside = jnp.isfinite(x)
        z = (jnp.where(inside, x, 0.0) - self.loc) / self.scale
        return on_support(x, inside, -z - jnp.exp(-z) - jnp.log(self.scale))

    def cdf(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability of at most `x`, which broadcasts."""
        return jnp.exp(-jnp.exp(-(x - self.loc) / self.scale))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples."""
        noise = jax.random.gumbel(key, *draws(shape, self.loc, self.scale))
        return self.loc + self.scale * noise

    def pushforward(self, move: DiagonalMap) -> Gumbel:
        """Law of ``move(x)``; the scale must be positive (minima are another family).

        Raises:
            ValueError: If a concrete scale of the map is not positive.
        """
        return Gumbel(move(self.loc), increasing_scale(move, "Gumbel") * self.scale)

    def transport_to(self, other: Gumbel) -> DiagonalMap:
        """Increasing (optimal-transport) map from this law onto `other`'s."""
        scale = jnp.asarray(other.scale / self.scale)
        return DiagonalMap(scale, other.loc - scale * self.loc)


def fit_gumbel(
    x: Float[Array, "... n"], weights: Float[Array, "... n"]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Location and scale of maximum likelihood.

    ``scale = mean(x) - sum x w exp(-x / scale) / sum w exp(-x / scale)`` by Newton's
    method for ``1 / scale``, on samples that are standardized first;
    ``loc = -scale log sum w exp(-x / scale)``. NaN where all samples are equal.

    Args:
        x: ``[..., n]`` samples.
        weights: ``[..., n]`` weights that sum to 1.

    Returns:
        ``[...]`` locations and scales.
    """
    mean = jnp.sum(weights * x, -1, keepdims=True)
    spread = jnp.sqrt(jnp.sum(weights * jnp.square(x - mean), -1, keepdims=True))
    z = (x - mean) / spread
    present = weights > 0
    log_weights = jnp.where(present, jnp.log(jnp.where(present, weights, 1)), -jnp.inf)

    def step(_: int, k: Array) -> Array:
        tilted = jax.nn.softmax(log_weights - k * z, -1)
        center = jnp.sum(tilted * z, -1, keepdims=True)
        slope = 1 / k**2 + jnp.sum(tilted * jnp.square(z - center), -1, keepdims=True)
        return jnp.clip(k + (1 / k + center) / slope, k / 2, 2 * k)

    # From the scale of the moments; the equation is monotone in k.
    k = jnp.full_like(mean, math.pi / math.sqrt(6))
    k = jax.lax.fori_loop(0, 15, step, k)
    log_mean = jax.nn.logsumexp(log_weights - k * z, -1, keepdims=True)
    return (mean - spread * log_mean / k)[..., 0], (spread / k)[..., 0]


def kl_gumbel(p: Gumbel, q: Gumbel) -> Float[Array, "..."]:
    """``KL(p || q) = (exp(u) - 1 - u) + B(r)`` in nats.

    ``r = p.scale / q.scale``, ``u = (q.loc - p.loc) / q.scale + lgamma(1 + r)``,
    ``B(r) = lgamma(r) + 0.5772 (r - 1)`` (Euler's constant). Both parts are at least 0
    and computed without cancellation; zero with zero gradient at ``p = q``.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    shift = (q.loc - p.loc) / q.scale
    return kl_extreme(p.scale, q.scale, shift)


def kl_extreme(
    p_scale: Float[Array, "..."], q_scale: Float[Array, "..."], shift: Array
) -> Float[Array, "..."]:
    """Divergence of extreme-value laws from their scales and the shift over `q_scale`.

    ``lgamma`` is never evaluated near its zeros 1 and 2, where a ratio near 1 would
    leave only the rounding: with ``d = r - 1`` it is ``B_2 + (1 - 0.5772) d`` and
    ``B = B_2 + d - log(1 + d)``, ``B_2`` the remainder of ``lgamma`` at 2.
    """
    excess = (p_scale - q_scale) / q_scale
    remainder = lgamma_bregman(jnp.full_like(excess, 2.0), 2 + excess, excess)
    u = shift + (1 - np.euler_gamma) * excess + remainder
    return expm1_minus(u) + expm1_minus(log_quotient(p_scale, q_scale)) + remainder
