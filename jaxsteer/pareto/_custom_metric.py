"""A user's own metric, and sums of metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._metric import Metric
from jaxsteer.pareto._model import Outputs

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
