"""The Poisson family of counts."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, ArrayLike, Float, Key
from jaxsteer.families._family import Natural, family
from jaxsteer.families._support import as_floating, draws, on_support, weighted_samples
from jaxsteer.linalg import HALF_LOG_2PI, entropy_remainder, stirling_remainder


def _log_rate(law: Poisson):
    return jnp.log(law.rate)


def _from_log_rate(log_rate: Array):
    return Poisson(jnp.exp(log_rate))


@family(
    domain={"rate": "not_negative"},
    maps="identity",
    spread=False,
    discrete=True,
    natural=Natural(of=_log_rate, law=_from_log_rate),
)
@dataclasses.dataclass(frozen=True)
class Poisson:
    """Poisson distributions of counts.

    Attributes:
        rate: ``[...]`` means, at least 0; leading axes are a batch.

    Example:
        >>> round(Poisson(1.0).kl(Poisson(2.0)).item(), 4)
        0.3069
    """

    rate: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> Poisson:
        """Maximum likelihood: the weighted mean.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        x, weights = weighted_samples(
            x, weights, lambda v: (v >= 0) & (v == v.round()), "counts 0, 1, 2, ..."
        )
        return cls(jnp.sum(weights * x, -1))

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``."""
        return jnp.asarray(self.rate)

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``."""
        return jnp.asarray(self.rate)

    def kl(self, other: Poisson) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_poisson`."""
        return kl_poisson(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-probability of `x`, which broadcasts; ``-inf`` of all but counts."""
        x = as_floating(x, self.rate)
        inside = (x >= 0) & (x == jnp.floor(x)) & (x < jnp.inf)
        some = inside & (x > 0)
        n = jnp.where(some, x, 1.0)
        # By the saddle point: x log rate, rate and log x! are large beside their sum.
        width = HALF_LOG_2PI + 0.5 * jnp.log(n) + stirling_remainder(n)
        value = -entropy_remainder(n, self.rate) - width
        return on_support(x, inside, jnp.where(some, value, -as_floating(self.rate)))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` integer counts."""
        sizes, dtype = draws(shape, self.rate)
        return jax.random.poisson(key, jnp.asarray(self.rate, dtype), sizes)


def kl_poisson(p: Poisson, q: Poisson) -> Float[Array, "..."]:
    """``KL(p || q) = q.rate - p.rate - p.rate log(q.rate / p.rate)`` in nats.

    Without cancellation; zero with zero gradient at ``p = q``. ``q.rate`` where
    ``p.rate = 0`` (gradient 0 in it), infinite where only ``q.rate = 0``.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    return entropy_remainder(as_floating(p.rate), as_floating(q.rate))
