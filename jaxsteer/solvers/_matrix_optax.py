"""Any optax optimizer on matrices, in the exponential chart around the current ones."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxsteer._types import Array, DTypeLike
from jaxsteer.linalg import log_abs_det
from jaxsteer.solvers._chart import (
    Chart,
    MatrixObjective,
    Sides,
    relative_residual,
)
from jaxsteer.solvers._matrix_newton import Verdict
from jaxsteer.solvers._solution import default_tolerance


class OptaxMemory(NamedTuple):
    """What is carried from step to step.

    Attributes:
        state: The optimizer's.
        taken: ``[g, d, d]`` sum of the steps so far, which counts as its parameters.
        lowest: ``[]`` lowest value of a point so far.
        residual: ``[]`` residual of the best point.
    """

    state: Any
    taken: Array
    lowest: Array
    residual: Array


class OptaxProposal(NamedTuple):
    """A step before its value is known; `sides` are those of the chart after it."""

    sides: Sides
    residual: Array
    state: Any
    taken: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optax:
    """Steps of an optax optimizer on the gradient relative to the current matrices.

    The matrices move by ``left r(u) right`` with the optimizer's update `u`, the
    exponential chart to second order around where they are: they stay invertible, or
    positive definite, whatever the step. The optimizer sees the gradient by `u` per unit
    of weight, so that one learning rate serves populations of any units. The best point
    is kept, and the residual says how good it is.

    Take it where the objective is noisy or the step rule is to be one's own; Newton's
    method (:class:`jaxsteer.solvers.MatrixNewton`) needs far fewer steps.

    Attributes:
        optimizer: Any ``optax.GradientTransformation``, schedules included; line
            searches get the value, the gradient and the function. Make it once: every
            new one is compiled anew.
        max_steps: Limit on steps from the best start.
        tolerance: Residual (relative gradient per unit of weight, Frobenius norm) that
            counts as converged; None takes the root of the rounding unit.

    Example:
        >>> import jax.numpy as jnp, optax, jaxsteer as js
        >>> cells = js.MultivariateNormal(
        ...     jnp.array([[[0.0, 0.0], [0.0, 1.0]]]), jnp.tile(jnp.eye(2), (1, 2, 1, 1)))
        >>> pop = js.Population(jnp.array([[0.5, 0.5]]), cells)
        >>> solver = js.solvers.Optax(optimizer=optax.adam(0.05))
        >>> found = js.nearest_ideal(pop, maps="positive_definite", solver=solver)
        >>> bool(found.converged)
        True
    """

    optimizer: optax.GradientTransformation
    max_steps: int = 2000
    tolerance: float | None = None

    def accuracy(self, dtype: DTypeLike) -> float:
        """The residual that counts as converged."""
        if self.tolerance is None:
            return default_tolerance(dtype)
        return self.tolerance

    def begin(self, sides: Sides) -> OptaxMemory:
        """Memory at a new start."""
        taken = jnp.zeros_like(sides.left)
        unknown = jnp.asarray(jnp.inf, sides.left.dtype)
        return OptaxMemory(self.optimizer.init(taken), taken, unknown, unknown)

    def propose(
        self,
        objective: MatrixObjective,
        chart: Chart,
        memory: OptaxMemory,
        active: Array,
    ) -> OptaxProposal:
        """The optimizer's next step."""
        del active
        weight = objective.log_weight
        slope = chart.expand(objective).slope
        total = jnp.sum(weight)

        def value_of(taken: Array) -> Array:
            moved, _ = chart.move(chart.restrict(taken - memory.taken))
            x = moved.point
            size = jnp.sum(weight * log_abs_det(x))
            return (objective.value(x) - size) / total

        gradient = slope / total
        update = optax.with_extra_args_support(self.optimizer).update
        step: Any
        step, state = update(
            gradient,
            memory.state,
            memory.taken,
            value=value_of(memory.taken),
            grad=gradient,
            value_fn=value_of,
        )
        moved, _ = chart.move(chart.restrict(step))
        return OptaxProposal(
            sides=moved.sides,
            residual=relative_residual(slope, weight),
            state=state,
            taken=memory.taken + step,
        )

    def judge(
        self,
        proposal: OptaxProposal,
        memory: OptaxMemory,
        value: Array,
        new_value: Array,
        scale: Array,
    ) -> Verdict:
        """Take every step with a finite value; remember the best point."""
        noise = 10 * float(jnp.finfo(value.dtype).eps) * (jnp.abs(value) + scale)
        nearer = proposal.residual < memory.residual
        equal = value < memory.lowest + noise
        record = (value < memory.lowest - noise) | (equal & nearer)
        finite = jnp.isfinite(new_value)
        state, taken = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (proposal.state, proposal.taken),
            (memory.state, memory.taken),
        )
        lowest = jnp.where(record, value, memory.lowest)
        residual = jnp.where(record, proposal.residual, memory.residual)
        hopeless = ~finite | ~jnp.isfinite(proposal.residual)
        return Verdict(
            finite, record, hopeless, OptaxMemory(state, taken, lowest, residual)
        )
