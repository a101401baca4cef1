"""The geometric family of numbers of failures."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, ArrayLike, Float, Key
from jaxsteer.families._categorical import Bernoulli, kl_bernoulli
from jaxsteer.families._family import Natural, family
from jaxsteer.families._support import as_floating, draws, on_support, weighted_samples


def _log_failure(law: Geometric):
    return -jax.nn.softplus(law.logits)


def _from_log_failure(log_failure: Array):
    # p = 1 - exp(log_failure); its logit is log(p) - log_failure.
    return Geometric(jnp.log(-jnp.expm1(log_failure)) - log_failure)


@family(
    domain={"logits": "real"},
    maps="identity",
    spread=False,
    discrete=True,
    natural=Natural(of=_log_failure, law=_from_log_failure),
)
@dataclasses.dataclass(frozen=True)
class Geometric:
    """Numbers of failures before the first success: ``P(x) = (1 - p)^x p``.

    Attributes:
        logits: ``[...]`` log-odds of a success; leading axes are a batch.

    Example:
        >>> Geometric(0.0).mean.item()
        1.0
    """

    logits: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> Geometric:
        """Maximum likelihood: odds of a success that are the inverse of the mean.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        x, weights = weighted_samples(
            x, weights, lambda v: (v >= 0) & (v == v.round()), "counts 0, 1, 2, ..."
        )
        return cls(-jnp.log(jnp.sum(weights * x, -1)))

    @property
    def trial(self) -> Bernoulli:
        """The law of one trial."""
        return Bernoulli(self.logits)

    @property
    def probs(self) -> Float[Array, "..."]:
        """Probabilities of a success, ``[...]``."""
        return self.trial.probs

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``."""
        return jnp.exp(-as_floating(self.logits))

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``."""
        return self.mean * (1 + self.mean)

    def kl(self, other: Geometric) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_geometric`."""
        return kl_geometric(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-probability of `x`, which broadcasts; ``-inf`` of all but counts."""
        x, logits = as_floating(x, self.logits), as_floating(self.logits)
        inside = (x >= 0) & (x == jnp.floor(x)) & (x < jnp.inf)
        some = inside & (x > 0)
        # At x = 0 the logarithm of a failure may be -inf.
        failures = x * jax.nn.log_sigmoid(-jnp.where(some, logits, 0.0))
        value = jax.nn.log_sigmoid(logits) + jnp.where(some, failures, 0.0)
        return on_support(x, inside, value)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` integer counts."""
        waiting = jax.random.exponential(key, *draws(shape, self.logits))
        count = waiting / -jax.nn.log_sigmoid(-as_floating(self.logits))
        largest = jnp.iinfo(jnp.int32).max - 127  # the largest that float32 can hold
        return jnp.minimum(count, largest).astype(jnp.int32)


def kl_geometric(p: Geometric, q: Geometric) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats: that of one trial times ``p``'s mean number of trials.

    Without cancellation; zero with zero gradient at ``p = q``.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    return kl_bernoulli(p.trial, q.trial) / p.probs
