"""The beta family of shares."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc

from jaxsteer._types import Array, ArrayLike, Float, Key
from jaxsteer.families._dirichlet import (
    Dirichlet,
    fit_dirichlet,
    kl_shares,
    log_density,
)
from jaxsteer.families._family import family
from jaxsteer.families._support import as_floating, draws, on_support, weighted_samples


@family(
    domain={"concentration1": "positive", "concentration0": "positive"},
    maps="identity",
)
@dataclasses.dataclass(frozen=True)
class Beta:
    """Beta distributions, of density ~ ``x^(concentration1-1) (1-x)^(concentration0-1)``.

    Attributes:
        concentration1: ``[...]`` exponents of ``x`` plus 1, positive.
        concentration0: ``[...]`` exponents of ``1 - x`` plus 1, positive.

    Example:
        >>> round(Beta(2.0, 1.0).kl(Beta(1.0, 1.0)).item(), 4)
        0.1931
    """

    concentration1: Float[Array, "..."]
    concentration0: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> Beta:
        """Maximum likelihood: that of the Dirichlet law of ``(x, 1 - x)``.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        x, weights = weighted_samples(
            x, weights, lambda v: (v > 0) & (v < 1), "between 0 and 1"
        )
        both = fit_dirichlet(jnp.stack([x, 1 - x], -1), weights)
        return cls(both[..., 0], both[..., 1])

    @property
    def shares(self) -> Dirichlet:
        """The law of ``(x, 1 - x)``."""
        both = jnp.broadcast_arrays(
            as_floating(self.concentration1), as_floating(self.concentration0)
        )
        return Dirichlet(jnp.stack(both, -1))

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``."""
        total = self.concentration1 + self.concentration0
        return jnp.asarray(self.concentration1 / total)

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``."""
        total = self.concentration1 + self.concentration0
        return self.mean * (self.concentration0 / total) / (total + 1)

    def kl(self, other: Beta) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_beta`."""
        return kl_beta(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density at `x`, which broadcasts; ``-inf`` off the open interval."""
        x = as_floating(x, self.concentration1, self.concentration0)
        inside = (x > 0) & (x < 1)
        x_in = jnp.where(inside, x, 0.5)
        value = log_density(self.shares.concentration, jnp.stack([x_in, 1 - x_in], -1))
        return on_support(x, inside, value)

    def cdf(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability of at most `x`, which broadcasts."""
        inside = jnp.clip(x, 0.0, 1.0)
        return betainc(self.concentration1, self.concentration0, inside)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples."""
        both = (self.concentration1, self.concentration0)
        return jax.random.beta(key, *both, *draws(shape, *both))


def kl_beta(p: Beta, q: Beta) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats: that of the Dirichlet laws of ``(x, 1 - x)``.

    See :func:`kl_dirichlet` for the formula.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    return kl_shares(p.shares.concentration, q.shares.concentration)
