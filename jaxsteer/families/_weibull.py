"""The Weibull family, and the Rayleigh family inside it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, ArrayLike, Float, Key
from jaxsteer.families._family import Carried, family
from jaxsteer.families._gumbel import Gumbel, fit_gumbel, kl_extreme
from jaxsteer.families._support import (
    as_floating,
    draws,
    increasing_scale,
    on_support,
    positive_scale,
    scaling,
    weighted_samples,
)
from jaxsteer.linalg import expm1_minus, log_quotient
from jaxsteer.maps import ConjugatedMap, DiagonalMap, Exp


# ``-log x`` of a Weibull law has a Gumbel law, on which gains and shifts act.
def _to_gumbel(law: Weibull):
    return Gumbel(-jnp.log(law.scale), 1 / law.concentration)


def _from_gumbel(law: Gumbel):
    return Weibull(1 / law.scale, jnp.exp(-law.loc))


def _maps_of_logs(maps: Any):
    return ConjugatedMap(DiagonalMap(maps.scale, -maps.shift), Exp())


@family(
    domain={"concentration": "positive", "scale": "positive"},
    maps="carried",
    carried=Carried(to=_to_gumbel, back=_from_gumbel, maps=_maps_of_logs),
)
@dataclasses.dataclass(frozen=True)
class Weibull:
    """Weibull distributions: ``P(X > x) = exp(-(x / scale)^concentration)``, ``x > 0``.

    Attributes:
        concentration: ``[...]`` shapes, positive; leading axes are a batch.
        scale: ``[...]`` scales, positive.

    Example:
        >>> round(Weibull(1.0, 1.0).kl(Weibull(1.0, 0.5)).item(), 4)
        0.3069
    """

    concentration: Float[Array, "..."]
    scale: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> Weibull:
        """Maximum likelihood: ``-log x`` is Gumbel of scale ``1 / concentration``.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        x, weights = weighted_samples(x, weights, lambda v: v > 0, "positive")
        loc, spread = fit_gumbel(-jnp.log(x), weights)
        return cls(1 / spread, jnp.exp(-loc))

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``."""
        return self.scale * self._moment(1)

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``."""
        spread = self._moment(2) - jnp.square(self._moment(1))
        return jnp.square(self.scale) * spread

    def _moment(self, power: int) -> Array:
        exponent = 1 + power / jnp.asarray(self.concentration)
        return jnp.exp(jax.lax.lgamma(as_floating(exponent)))

    def kl(self, other: Weibull) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_weibull`."""
        return kl_weibull(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density at `x`, which broadcasts; ``-inf`` off the open half-line."""
        x = as_floating(x, self.concentration, self.scale)
        inside = (x > 0) & (x < jnp.inf)
        x_in = jnp.where(inside, x, 1.0)
        power = self.concentration * jnp.log(x_in / self.scale)
        log_slope = jnp.log(self.concentration) - jnp.log(x_in)
        return on_support(x, inside, log_slope + power - jnp.exp(power))

    def cdf(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability of at most `x`, which broadcasts."""
        power = (jnp.maximum(x, 0.0) / self.scale) ** self.concentration
        return -jnp.expm1(-power)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples."""
        noise = jax.random.exponential(
            key, *draws(shape, self.concentration, self.scale)
        )
        return self.scale * noise ** (1 / jnp.asarray(self.concentration))

    def pushforward(self, move: DiagonalMap | ConjugatedMap) -> Weibull:
        """Law of ``move(x)``: ``x -> a x``, or ``x -> a x^b`` as gain and shift of logs.

        Raises:
            ValueError: If concrete values show a shift or a scale that is not positive.
        """
        if isinstance(move, ConjugatedMap):
            base: Any = move.base
            power = increasing_scale(base, "Weibull")
            scale = jnp.exp(power * jnp.log(self.scale) + base.shift)
            return Weibull(self.concentration / power, scale)
        return Weibull(self.concentration, positive_scale(move, "Weibull") * self.scale)

    def transport_to(self, other: Weibull) -> ConjugatedMap:
        """The increasing map ``x -> a x^b`` onto `other`'s law."""
        power = jnp.asarray(self.concentration / other.concentration)
        shift = jnp.log(other.scale) - power * jnp.log(self.scale)
        return ConjugatedMap(DiagonalMap(power, shift), Exp())


@family(domain={"scale": "positive"}, maps="scale")
@dataclasses.dataclass(frozen=True)
class Rayleigh:
    """Rayleigh distributions: ``x^2`` is exponential of mean ``2 scale^2``.

    Attributes:
        scale: ``[...]`` modes, positive; leading axes are a batch.

    Example:
        >>> round(Rayleigh(1.0).kl(Rayleigh(2.0)).item(), 4)
        0.6363
    """

    scale: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> Rayleigh:
        """Maximum likelihood: ``scale^2`` is half of the weighted mean square.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        x, weights = weighted_samples(x, weights, lambda v: v >= 0, "at least 0")
        return cls(jnp.sqrt(0.5 * jnp.sum(weights * jnp.square(x), -1)))

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``."""
        return math.sqrt(math.pi / 2) * jnp.asarray(self.scale)

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``."""
        return (2 - math.pi / 2) * jnp.square(self.scale)

    def to_weibull(self) -> Weibull:
        """The same distributions as Weibull ones of concentration 2."""
        return Weibull(
            2 * jnp.ones_like(self.scale), math.sqrt(2) * jnp.asarray(self.scale)
        )

    def kl(self, other: Rayleigh) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_rayleigh`."""
        return kl_rayleigh(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density at `x`, which broadcasts; ``-inf`` off the open half-line."""
        x = as_floating(x, self.scale)
        inside = (x > 0) & (x < jnp.inf)
        z = jnp.where(inside, x, self.scale) / self.scale
        return on_support(x, inside, jnp.log(z) - jnp.log(self.scale) - 0.5 * z * z)

    def cdf(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability of at most `x`, which broadcasts."""
        z = jnp.maximum(x, 0.0) / self.scale
        return -jnp.expm1(-0.5 * z * z)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples."""
        noise = jax.random.exponential(key, *draws(shape, self.scale))
        return self.scale * jnp.sqrt(2 * noise)

    def pushforward(self, move: DiagonalMap) -> Rayleigh:
        """Law of ``move(x)``; the shift must be 0 and the scale positive.

        Raises:
            ValueError: If concrete values of the map show otherwise.
        """
        return Rayleigh(positive_scale(move, "Rayleigh") * self.scale)

    def transport_to(self, other: Rayleigh) -> DiagonalMap:
        """Increasing (optimal-transport) map from this law onto `other`'s."""
        return scaling(jnp.asarray(other.scale / self.scale))


def kl_weibull(p: Weibull, q: Weibull) -> Float[Array, "..."]:
    """``KL(p || q) = (exp(u) - 1 - u) + B(r)`` in nats.

    ``r = q.concentration / p.concentration``, ``u = q.concentration log(p.scale /
    q.scale) + lgamma(1 + r)``, ``B(r) = lgamma(r) + 0.5772 (r - 1)``; the divergence of
    the Gumbel laws of ``-log x``. Non-negative parts, without cancellation; infinite
    where ``exp(u)`` overflows (``r`` above about 35 in float32). Zero with zero
    gradient at ``p = q``.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    shift = q.concentration * log_quotient(p.scale, q.scale)
    return kl_extreme(q.concentration, p.concentration, shift)


def kl_rayleigh(p: Rayleigh, q: Rayleigh) -> Float[Array, "..."]:
    """``KL(p || q) = r - 1 - log r`` in nats, with ``r = (p.scale / q.scale)^2``.

    Without cancellation; zero with zero gradient at ``p = q``.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    return expm1_minus(2 * log_quotient(p.scale, q.scale))
