"""What :func:`jaxsteer.pareto.solve_badr` returns."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Bool, Float, Int, PyTree
from jaxsteer.pareto._model import Model
from jaxsteer.solvers import Status, require_converged


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """How a solve went: one entry for every evaluation of the upper level.

    After the last entry `step` is -1 and the others are NaN.

    Attributes:
        step: ``[m]`` the step after which it was taken, int32.
        value: ``[m]`` the smooth metric of the refitted model.
        group_weights: ``[m, G]``.
        residual: ``[m]`` see :class:`ParetoSolution`.
    """

    step: Int[Array, " m"]
    value: Float[Array, " m"]
    group_weights: Float[Array, "m G"]
    residual: Float[Array, " m"]

    @classmethod
    def empty(cls, size: int, n_groups: int, dtype: Any) -> History:
        """Return a history without entries."""
        return cls(
            step=jnp.full(size, -1, jnp.int32),
            value=jnp.full(size, jnp.nan, dtype),
            group_weights=jnp.full((size, n_groups), jnp.nan, dtype),
            residual=jnp.full(size, jnp.nan, dtype),
        )

    def write(
        self, place: Any, step: Any, value: Array, group_weights: Array, residual: Array
    ) -> History:
        """Return the history with one more entry."""
        return History(
            step=self.step.at[place].set(jnp.asarray(step, jnp.int32)),
            value=self.value.at[place].set(value),
            group_weights=self.group_weights.at[place].set(group_weights),
            residual=self.residual.at[place].set(residual),
        )


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ParetoSolution:
    """The fairest Pareto-efficient model that was found.

    Attributes:
        group_weights: ``[G]`` the weights of the groups' losses, on the simplex.
        params: The model's parameters, best for these weights.
        value: ``[]`` the smooth metric.
        hard: ``[]`` the hard metric.
        group_losses: ``[G]`` mean loss of each group, with the penalty.
        start_value: ``[]`` the smooth metric at the start (equal group weights, unless
            another start was given); `value` is never above it.
        residual: ``[]`` ``|x - P(x - h / |h_0|)|`` for the group weights `x`, the exact
            hypergradient `h` along the simplex and that of the start ``h_0``: 0 at
            stationary points of the upper level, which is not convex.
        status: ``[]`` int32 :class:`jaxsteer.Status`.
        steps: ``[]`` steps of the upper level, int32.
        history: How it went.
        model: The model.
    """

    group_weights: Float[Array, " G"]
    params: PyTree
    value: Float[Array, ""]
    hard: Float[Array, ""]
    group_losses: Float[Array, " G"]
    start_value: Float[Array, ""]
    residual: Float[Array, ""]
    status: Int[Array, ""]
    steps: Int[Array, ""]
    history: History
    model: Model

    @property
    def converged(self) -> Bool[Array, ""]:
        """Whether the upper level is stationary, ``[]`` bool."""
        return self.status == Status.CONVERGED

    def require(self) -> ParetoSolution:
        """Return self, or raise :class:`jaxsteer.SolveError`."""
        require_converged(self.status, "solve_badr")
        return self

    def score(self, x: Any) -> Array:
        """Return the model's scores of other rows, ``[n]`` or ``[n, K]``."""
        return self.model.score(self.params, x)

    def predict(self, x: Any) -> Array:
        """Return the model's predictions for other rows, ``[n]``."""
        return self.model.predict(self.params, x)
