"""Variance of the groups' losses."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._dependence_metrics import row_errors
from jaxsteer.pareto._metric import Metric, hard_gap
from jaxsteer.pareto._model import Outputs


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupLossVariance(Metric):
    """Variance over the groups of their mean losses.

    Hard: the largest difference between groups of the error rate, or mean squared
    error for regression.
    """

    def smooth(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the variance."""
        return jnp.var(data.group_mean(outputs.losses))

    def hard(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the largest difference of the error rates."""
        return hard_gap(data.group_mean(row_errors(outputs.score, data)))
