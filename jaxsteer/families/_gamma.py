"""The gamma and the inverse-gamma family."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.scipy.special import gammainc, gammaincc

from jaxsteer._types import Array, ArrayLike, Float, Key
from jaxsteer.families._family import family
from jaxsteer.families._slopes import gamma_kl_and_slope
from jaxsteer.families._support import (
    as_floating,
    draws,
    newton,
    on_support,
    positive_scale,
    scaling,
    weighted_samples,
)
from jaxsteer.linalg import (
    HALF_LOG_2PI,
    entropy_remainder,
    expm1_minus,
    gamma_excess,
    log_minus_digamma,
    log_quotient,
    stirling_remainder,
)
from jaxsteer.maps import DiagonalMap


@family(
    domain={"concentration": "positive", "rate": "positive"},
    maps="scale",
    size=lambda law: 1 / law.rate,
    kl_and_slope=gamma_kl_and_slope,
)
@dataclasses.dataclass(frozen=True)
class Gamma:
    """Gamma distributions on ``x > 0``, of density ~ ``x^(concentration-1) e^(-rate x)``.

    Attributes:
        concentration: ``[...]`` shapes, positive; leading axes are a batch.
        rate: ``[...]`` inverse scales, positive.

    Example:
        >>> round(Gamma(1.0, 1.0).kl(Gamma(1.0, 2.0)).item(), 4)
        0.3069
    """

    concentration: Float[Array, "..."]
    rate: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> Gamma:
        """Maximum likelihood; see :func:`fit_gamma`.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        x, weights = weighted_samples(x, weights, lambda v: v > 0, "positive")
        return cls(*fit_gamma(x, weights))

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``."""
        return jnp.asarray(self.concentration / self.rate)

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``."""
        return self.mean / self.rate

    def kl(self, other: Gamma) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_gamma`."""
        return kl_gamma(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density at `x`, which broadcasts; ``-inf`` off the open half-line."""
        x = as_floating(x, self.concentration, self.rate)
        inside = (x > 0) & (x < jnp.inf)
        x_in = jnp.where(inside, x, 1.0)
        value = _log_density(self.concentration, self.rate * x_in) - jnp.log(x_in)
        return on_support(x, inside, value)

    def cdf(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability of at most `x`, which broadcasts."""
        return gammainc(self.concentration, self.rate * jnp.maximum(x, 0.0))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples."""
        sizes = draws(shape, self.concentration, self.rate)
        return jax.random.gamma(key, self.concentration, *sizes) / self.rate

    def pushforward(self, move: DiagonalMap) -> Gamma:
        """Law of ``move(x)``; the shift must be 0 and the scale positive.

        Raises:
            ValueError: If concrete values of the map show otherwise.
        """
        rate = self.rate / positive_scale(move, "Gamma")
        return Gamma(*jnp.broadcast_arrays(self.concentration, rate))

    def transport_to(self, other: Gamma) -> DiagonalMap:
        """Map ``x -> scale x`` onto `other`'s law of the same concentration.

        Raises:
            ValueError: If the concentrations differ; under ``jit`` the map is NaN.
        """
        shapes = self.concentration, other.concentration
        return scaling(jnp.asarray(self.rate / other.rate), shapes, "Gamma")


@family(
    domain={"concentration": "positive", "scale": "positive"},
    maps="scale",
    kl_and_slope=gamma_kl_and_slope,
)
@dataclasses.dataclass(frozen=True)
class InverseGamma:
    """Inverse-gamma distributions: ``1 / x`` is gamma with `scale` as its rate.

    Attributes:
        concentration: ``[...]`` shapes, positive; leading axes are a batch.
        scale: ``[...]`` scales, positive.

    Example:
        >>> import jax.numpy as jnp
        >>> p = InverseGamma(jnp.array(2.0), jnp.array(3.0))
        >>> p.kl(p).item()
        0.0
    """

    concentration: Float[Array, "..."]
    scale: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> InverseGamma:
        """Maximum likelihood: that of the gamma law of ``1 / x``.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        x, weights = weighted_samples(x, weights, lambda v: v > 0, "positive")
        return cls(*fit_gamma(1 / x, weights))

    @property
    def reciprocal(self) -> Gamma:
        """The law of ``1 / x``."""
        return Gamma(self.concentration, self.scale)

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``; infinite where the concentration is at most 1."""
        excess = self.concentration - jnp.ones(())
        return jnp.where(
            excess > 0, self.scale / jnp.where(excess > 0, excess, 1), jnp.inf
        )

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``; infinite where the concentration is at most 2."""
        excess = self.concentration - 2 * jnp.ones(())
        inside = jnp.square(self.mean) / jnp.where(excess > 0, excess, 1)
        return jnp.where(excess > 0, inside, jnp.inf)

    def kl(self, other: InverseGamma) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_inverse_gamma`."""
        return kl_inverse_gamma(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density at `x`, which broadcasts; ``-inf`` off the open half-line."""
        x = as_floating(x, self.concentration, self.scale)
        inside = (x > 0) & (x < jnp.inf)
        x_in = jnp.where(inside, x, 1.0)
        value = _log_density(self.concentration, self.scale / x_in) - jnp.log(x_in)
        return on_support(x, inside, value)

    def cdf(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability of at most `x`, which broadcasts."""
        positive = x > 0
        ratio = self.scale / jnp.where(positive, x, 1.0)
        return jnp.where(positive, gammaincc(self.concentration, ratio), 0.0)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples."""
        return 1 / self.reciprocal.sample(key, shape)

    def pushforward(self, move: DiagonalMap) -> InverseGamma:
        """Law of ``move(x)``; the shift must be 0 and the scale positive.

        Raises:
            ValueError: If concrete values of the map show otherwise.
        """
        scale = positive_scale(move, "InverseGamma") * self.scale
        return InverseGamma(*jnp.broadcast_arrays(self.concentration, scale))

    def transport_to(self, other: InverseGamma) -> DiagonalMap:
        """Map ``x -> scale x`` onto `other`'s law of the same concentration.

        Raises:
            ValueError: If the concentrations differ; under ``jit`` the map is NaN.
        """
        shapes = self.concentration, other.concentration
        return scaling(jnp.asarray(other.scale / self.scale), shapes, "InverseGamma")


def _log_density(shape: Array, y: Array) -> Array:
    """Log-density of ``log y`` for the gamma law of rate 1, by its saddle point."""
    # shape log y - y - lgamma(shape) are large numbers with a small sum.
    width = 0.5 * jnp.log(shape) - HALF_LOG_2PI - stirling_remainder(shape)
    return width - entropy_remainder(shape, y)


def fit_gamma(
    x: Float[Array, "... n"], weights: Float[Array, "... n"]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Concentration and rate of maximum likelihood.

    ``log a - digamma(a) = log mean(x) - mean(log x)``, solved by Newton's method for
    the inverses of both sides, which are nearly linear in ``a``; ``rate = a / mean``.
    Infinite where all samples are equal.

    Args:
        x: ``[..., n]`` positive samples.
        weights: ``[..., n]`` weights that sum to 1.

    Returns:
        ``[...]`` concentrations and rates.

    References:
        Minka 2002, "Estimating a Gamma distribution" (the equation and the start).
    """
    mean = jnp.sum(weights * x, -1)
    # log mean - mean log, as a sum of terms that are not negative.
    gap = jnp.sum(weights * expm1_minus(log_quotient(x, mean[..., None])), -1)
    start = (3 - gap + jnp.sqrt(jnp.square(gap - 3) + 24 * gap)) / (12 * gap)
    shape = newton(lambda a: 1 / log_minus_digamma(a), 1 / gap, start, 6)
    return shape, shape / mean


def kl_gamma(p: Gamma, q: Gamma) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats: a part of the means and one of the concentrations.

    ``b (m - 1 - log m) + B(a, b)`` with ``m`` the ratio of the means (``p``'s over
    ``q``'s), ``a, b`` the concentrations and ``B`` the remainder of Taylor's first
    order of ``lgamma(x) - x log x + x`` at ``a``. Both parts are at least 0, without
    cancellation, and zero with zero gradient at ``p = q``.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    a, b = p.concentration, q.concentration
    log_means = log_quotient(a, b) + log_quotient(q.rate, p.rate)
    return b * expm1_minus(log_means) + gamma_excess(a, b)


def kl_inverse_gamma(p: InverseGamma, q: InverseGamma) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats: that of the gamma laws of ``1 / x``.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    return kl_gamma(p.reciprocal, q.reciprocal)
