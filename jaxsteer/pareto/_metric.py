"""What a fairness metric is, what all share, a user's own one, and sums of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Scalar
from jaxsteer.linalg import expm1_minus
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._model import Outputs


class Metric:
    """How unfair a model is: a smooth version to minimize, a hard one to report.

    Subclass it, or use :class:`CustomMetric`. Both versions are 0 where the model is
    fair. A metric is a frozen pytree like a model: a new temperature compiles nothing.
    """

    def smooth(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the version that is minimized, differentiable in the outputs."""
        raise NotImplementedError

    def hard(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the version that is reported, on decisions rather than scores."""
        raise NotImplementedError

    def check(self, data: GroupData) -> None:
        """Raise ValueError if the metric is not defined on such rows."""


def soft_decisions(
    score: Array, data: GroupData, temperature: Scalar
) -> Float[Array, "n k"]:
    """Probabilities of the positive class, or of every class, or the score itself.

    ``[n, 1]`` ``sigmoid(score / temperature)`` for a binary score, ``[n, K]`` softmax
    for one score a class, ``[n, 1]`` the score for regression.
    """
    if data.n_classes == 0:
        return score[:, None]
    if score.ndim == 1:
        return jax.nn.sigmoid(score / temperature)[:, None]
    return jax.nn.softmax(score / temperature)


def hard_decisions(score: Array, data: GroupData) -> Float[Array, "n k"]:
    """The same, decided: 0 or 1."""
    if data.n_classes == 0:
        return score[:, None]
    if score.ndim == 1:
        return (score > 0).astype(data.share.dtype)[:, None]
    return jax.nn.one_hot(jnp.argmax(score, 1), score.shape[1], dtype=data.share.dtype)


def smooth_gap(
    rates: Float[Array, "G ..."], smoothing: Scalar = 0.1
) -> Float[Array, "..."]:
    """A smooth ``max_a r_a - min_a r_a``, 0 exactly where the rates are equal.

    ``t log mean exp(r / t) + t log mean exp(-r / t)`` for the smoothing `t`: between
    0 and the difference, near it for gaps far above `t`, near ``Var(r) / t`` for gaps
    far below.

    Example:
        >>> import jax.numpy as jnp
        >>> gaps = [smooth_gap(jnp.array([0.2, 0.5]), t) for t in (0.001, 0.1)]
        >>> [round(float(gap), 3) for gap in gaps]
        [0.299, 0.171]
    """
    z = (rates - jnp.mean(rates, 0)) / smoothing
    near = jnp.max(jnp.abs(z), 0) < 1.0
    # The deviations add up to 0: without their linear part nothing cancels.
    inside = jnp.where(near, z, 0.0)
    both = jnp.stack([inside, -inside])
    small = jnp.log1p(jnp.mean(expm1_minus(both), 1)).sum(0)
    outside = jnp.where(near, 0.0, z)
    wide = jnp.stack([outside, -outside])
    large = (jax.nn.logsumexp(wide, 1) - jnp.log(rates.shape[0])).sum(0)
    return smoothing * jnp.where(near, small, large)


def hard_gap(rates: Float[Array, "G ..."]) -> Float[Array, ""]:
    """Largest ``max_a r_a - min_a r_a``."""
    return jnp.max(jnp.max(rates, 0) - jnp.min(rates, 0))


def class_masks(data: GroupData, threshold: Scalar) -> list[Array]:
    """Rows of each class; for regression, at most the threshold and above."""
    if data.n_classes == 0:
        above = data.target > threshold
        return [~above, above]
    return [data.target == k for k in range(data.n_classes)]


def require_rows(data: GroupData, masks: list[Array], names: list[str]) -> None:
    """Raise unless every group has rows of positive share in every mask."""
    for mask, name in zip(masks, names, strict=True):
        held = data.group_sum(data.share * mask)
        if not bool(jnp.all(held > 0)):
            raise ValueError(
                f"group {int(jnp.argmin(held))} has no rows with {name}, so its rate "
                "is not defined; merge groups or classes, or leave that group out."
            )


MetricFn = Callable[[Outputs, GroupData], Array]


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class CustomMetric(Metric):
    """A metric made of one or two functions ``fn(outputs, data) -> []``.

    Define the functions once: a new function compiles everything anew.

    Attributes:
        fn: Smooth in ``outputs.score``, ``outputs.losses`` and ``outputs.params``.
        hard_fn: What is reported; None reports `fn`.

    Example:
        >>> import jax.numpy as jnp
        >>> def score_gap(outputs, data):
        ...     means = data.group_mean(outputs.score)
        ...     return (means[0] - means[1]) ** 2
        >>> metric = CustomMetric(fn=score_gap)
    """

    fn: MetricFn = dataclasses.field(metadata={"static": True})
    hard_fn: MetricFn | None = dataclasses.field(
        default=None, metadata={"static": True}
    )

    def smooth(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return ``fn``."""
        return self.fn(outputs, data)

    def hard(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return ``hard_fn``."""
        return (self.hard_fn or self.fn)(outputs, data)


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricSum(Metric):
    """``sum_k c_k metric_k``: several metrics at once, traded off.

    Attributes:
        metrics: The metrics.
        coefficients: ``[k]`` at least 0; other numbers compile nothing anew.
    """

    metrics: tuple[Metric, ...]
    coefficients: Float[Array, " k"]

    def smooth(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the sum of the smooth versions."""
        values = [metric.smooth(outputs, data) for metric in self.metrics]
        return jnp.sum(jnp.stack(values) * jnp.asarray(self.coefficients))

    def hard(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the sum of the hard versions."""
        values = [metric.hard(outputs, data) for metric in self.metrics]
        return jnp.sum(jnp.stack(values) * jnp.asarray(self.coefficients))

    def check(self, data: GroupData) -> None:
        """Raise what a part raises."""
        for metric in self.metrics:
            metric.check(data)
