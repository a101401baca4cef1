"""The Bernoulli and the categorical family."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_codes
from jaxsteer._types import Array, ArrayLike, Float, Int, Key
from jaxsteer.families._family import Natural, family
from jaxsteer.families._support import (
    as_floating,
    draws,
    normalized_weights,
    on_support,
    weighted_samples,
)
from jaxsteer.linalg import entropy_remainder


def _normalized(law: Categorical):
    # Looked up when called: the class is declared below.
    return Categorical(jax.nn.log_softmax(law.logits, -1))


@family(domain={"logits": "real"}, maps="identity", spread=False, discrete=True)
@dataclasses.dataclass(frozen=True)
class Bernoulli:
    """Bernoulli distributions of codes 0 and 1.

    Attributes:
        logits: ``[...]`` log-odds of a 1; leading axes are a batch. They may be
            infinite: the probability is then 0 or 1.

    Example:
        >>> Bernoulli(0.0).probs.item()
        0.5
    """

    logits: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> Bernoulli:
        """Maximum likelihood: the log-odds of the weighted shares of ones and zeros.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        inside = "0 or 1"
        x, weights = weighted_samples(x, weights, lambda v: (v == 0) | (v == 1), inside)
        ones, zeros = (jnp.sum(weights * v, -1) for v in (x, 1 - x))
        return cls(jnp.log(ones) - jnp.log(zeros))

    @property
    def probs(self) -> Float[Array, "..."]:
        """Probabilities of a 1, ``[...]``."""
        return jax.nn.sigmoid(as_floating(self.logits))

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``."""
        return self.probs

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``."""
        return self.probs * jax.nn.sigmoid(-as_floating(self.logits))

    def kl(self, other: Bernoulli) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_bernoulli`."""
        return kl_bernoulli(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-probability of `x`, which broadcasts; ``-inf`` of all but 0 and 1."""
        x, logits = as_floating(x, self.logits), as_floating(self.logits)
        value = jax.nn.log_sigmoid(jnp.where(x == 1, logits, -logits))
        return on_support(x, (x == 0) | (x == 1), value)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` integer codes."""
        sizes, _ = draws(shape, self.logits)
        return jax.random.bernoulli(key, self.probs, sizes).astype(jnp.int32)


@family(
    domain={"logits": "real"},
    maps="identity",
    spread=False,
    discrete=True,
    natural=Natural(of=_normalized, law=_normalized),
)
@dataclasses.dataclass(frozen=True)
class Categorical:
    """Discrete distributions of integer codes ``0..m-1``.

    Attributes:
        logits: ``[..., m]`` log-probabilities up to a constant; leading axes are a
            batch. One of ``-inf`` is the probability 0.

    Example:
        >>> import jax.numpy as jnp
        >>> Categorical(jnp.zeros(4)).probs.tolist()
        [0.25, 0.25, 0.25, 0.25]
    """

    logits: Float[Array, "... m"]

    @classmethod
    def from_samples(
        cls,
        x: Int[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
        *,
        n_values: int | None = None,
    ) -> Categorical:
        """Maximum likelihood: the logarithms of the weighted shares. O(n m).

        Args:
            x: ``[..., n]`` integer codes ``0..m-1``.
            weights: Weights that broadcast against them.
            n_values: ``m``; None takes the largest code plus one, which needs concrete
                codes. A value that does not occur has the logit ``-inf``.

        Raises:
            ValueError: If codes or weights are unusable.
        """
        if jnp.ndim(x) == 0 or jnp.shape(x)[-1] == 0:
            raise ValueError(f"x must hold codes in its last axis, got {jnp.shape(x)}.")
        size = check_codes("x", x, n_values)
        shares = normalized_weights(as_floating(x), weights)
        hit = jnp.asarray(x)[..., None] == jnp.arange(size)
        return cls(jnp.log(jnp.sum(jnp.where(hit, shares[..., None], 0.0), -2)))

    @property
    def probs(self) -> Float[Array, "... m"]:
        """Probabilities, ``[..., m]``."""
        return jax.nn.softmax(as_floating(self.logits), -1)

    @property
    def mean(self) -> Float[Array, "... m"]:
        """Means of the indicators of the values: the probabilities, ``[..., m]``."""
        return self.probs

    @property
    def cov(self) -> Float[Array, "... m m"]:
        """Covariance matrices of the indicators, ``[..., m, m]``, of rank ``m - 1``."""
        p = self.probs
        diagonal = p[..., None] * jnp.eye(p.shape[-1], dtype=p.dtype)
        return diagonal - p[..., None] * p[..., None, :]

    def kl(self, other: Categorical) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_categorical`."""
        return kl_categorical(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-probability of codes `x`, which broadcast; ``-inf`` of all other values."""
        logs = jax.nn.log_softmax(as_floating(self.logits), -1)
        x, size = as_floating(x, self.logits), logs.shape[-1]
        shape = jnp.broadcast_shapes(x.shape, logs.shape[:-1])
        x, logs = jnp.broadcast_to(x, shape), jnp.broadcast_to(logs, (*shape, size))
        inside = (x >= 0) & (x < size) & (x == jnp.floor(x))
        code = jnp.where(inside, x, 0).astype(jnp.int32)[..., None]
        return on_support(x, inside, jnp.take_along_axis(logs, code, -1)[..., 0])

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` integer codes."""
        logits = as_floating(self.logits)
        sizes = (*shape, *logits.shape[:-1])
        return jax.random.categorical(key, logits, -1, sizes)


def kl_categorical(p: Categorical, q: Categorical) -> Float[Array, "..."]:
    """``KL(p || q) = sum_i (q_i - p_i - p_i log(q_i / p_i))`` in nats.

    Terms that are not negative, so that nearly equal laws keep their digits. A value
    that `p` never takes adds ``q_i`` (gradient 0 in its logit of `p`); one that only
    `p` takes makes it infinite. Zero with zero gradient at ``p = q``.

    Args:
        p: Distributions with batch ``[...]`` over ``m`` values.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.

    Raises:
        ValueError: If the numbers of values differ.
    """
    if p.logits.shape[-1] != q.logits.shape[-1]:
        raise ValueError(
            "p and q must have the same number of values, got "
            f"{p.logits.shape[-1]} and {q.logits.shape[-1]}."
        )
    return _kl_logits(as_floating(p.logits), as_floating(q.logits))


def kl_bernoulli(p: Bernoulli, q: Bernoulli) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats: that of categorical laws of two values.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    return _kl_logits(_two_logits(p.logits), _two_logits(q.logits))


def _two_logits(logits: Array) -> Array:
    """Logits of 0 and 1 whose difference is exact, at infinite log-odds too."""
    logits = as_floating(logits)
    return jnp.stack([-jnp.maximum(logits, 0), jnp.minimum(logits, 0)], -1)


def _kl_logits(p_logits: Array, q_logits: Array) -> Array:
    p_logits, q_logits = jnp.broadcast_arrays(p_logits, q_logits)
    p, q = jax.nn.softmax(p_logits, -1), jax.nn.softmax(q_logits, -1)
    p_has, q_has = p_logits > -jnp.inf, q_logits > -jnp.inf
    both = p_has & q_has
    # Differences of near logits are exact, differences of log-probabilities are not.
    change = jnp.where(both, q_logits, 0.0) - jnp.where(both, p_logits, 0.0)
    change = change - jnp.sum(p * change, -1, keepdims=True)
    near = jnp.all((jnp.abs(change) < 1) & (p_has == q_has), -1, keepdims=True)
    change = jnp.where(near, change, 0.0)
    total = jnp.sum(p * jnp.expm1(change), -1, keepdims=True)
    far = jax.nn.log_softmax(q_logits, -1) - jax.nn.log_softmax(p_logits, -1)
    log_ratio = jnp.where(near, change - jnp.log1p(total), far)
    return jnp.sum(entropy_remainder(p, q, log_ratio), -1)
