"""The Pareto family."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

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


@family(domain={"concentration": "positive", "scale": "positive"})
@dataclasses.dataclass(frozen=True)
class Pareto:
    """Pareto distributions: ``P(X > x) = (scale / x)^concentration``, ``x >= scale``.

    Attributes:
        concentration: ``[...]`` tail exponents, positive; leading axes are a batch.
        scale: ``[...]`` least values, positive.

    Example:
        >>> round(Pareto(1.0, 1.0).kl(Pareto(2.0, 1.0)).item(), 4)
        0.3069
    """

    concentration: Float[Array, "..."]
    scale: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> Pareto:
        """Maximum likelihood: the least sample, and Hill's mean of ``log(x / least)``.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        x, weights = weighted_samples(x, weights, lambda v: v > 0, "positive")
        least = jnp.min(jnp.where(weights > 0, x, jnp.inf), -1)
        # A sample of weight 0 may lie below.
        logs = log_quotient(jnp.maximum(x, least[..., None]), least[..., None])
        return cls(1 / jnp.sum(weights * logs, -1), least)

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``; infinite where the concentration is at most 1."""
        excess = jnp.asarray(self.concentration) - 1
        inside = self.concentration * self.scale / jnp.where(excess > 0, excess, 1)
        return jnp.where(excess > 0, inside, jnp.inf)

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``; infinite where the concentration is at most 2."""
        excess = jnp.asarray(self.concentration) - 2
        safe = jnp.where(excess > 0, self.concentration, 3.0)
        inside = safe * jnp.square(self.scale / (safe - 1)) / (safe - 2)
        return jnp.where(excess > 0, inside, jnp.inf)

    def kl(self, other: Pareto) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_pareto`."""
        return kl_pareto(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density at `x`, which broadcasts; ``-inf`` below the scale."""
        x = as_floating(x, self.concentration, self.scale)
        inside = (x >= self.scale) & (x < jnp.inf)
        x_in = jnp.where(inside, x, self.scale)
        tail = self.concentration * log_quotient(x_in, jnp.asarray(self.scale))
        log_slope = jnp.log(self.concentration) - jnp.log(x_in)
        return on_support(x, inside, log_slope - tail)

    def cdf(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability of at most `x`, which broadcasts."""
        return 1 - (self.scale / jnp.maximum(x, self.scale)) ** self.concentration

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples."""
        sizes = draws(shape, self.concentration, self.scale)
        return self.scale * jnp.exp(
            jax.random.exponential(key, *sizes) / self.concentration
        )

    def pushforward(self, move: DiagonalMap) -> Pareto:
        """Law of ``move(x)``; the shift must be 0 and the scale positive.

        Raises:
            ValueError: If concrete values of the map show otherwise.
        """
        scale = positive_scale(move, "Pareto") * self.scale
        return Pareto(*jnp.broadcast_arrays(self.concentration, scale))

    def transport_to(self, other: Pareto) -> DiagonalMap:
        """Map ``x -> scale x`` onto `other`'s law of the same concentration.

        Raises:
            ValueError: If the concentrations differ; under ``jit`` the map is NaN.
        """
        shapes = self.concentration, other.concentration
        return scaling(jnp.asarray(other.scale / self.scale), shapes, "Pareto")


def kl_pareto(p: Pareto, q: Pareto) -> Float[Array, "..."]:
    """``KL(p || q) = (r - 1 - log r) + a log(p.scale / q.scale)`` in nats.

    ``a = q.concentration``, ``r = a / p.concentration``. Infinite where
    ``p.scale < q.scale``, for `p` has mass that `q` has not. At equal scales, on the
    edge of that, the gradient in the scales is the one-sided ``a / scale``, not 0.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    tails = expm1_minus(log_quotient(q.concentration, p.concentration))
    inside = jnp.asarray(p.scale >= q.scale)
    shift = q.concentration * log_quotient(
        jnp.where(inside, p.scale, q.scale), jnp.asarray(q.scale)
    )
    return jnp.where(inside, tails + shift, tails + jnp.inf)
