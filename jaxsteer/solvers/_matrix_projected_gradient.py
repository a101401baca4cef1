"""Projected gradient on the cone of positive definite matrices."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxsteer._types import Array
from jaxsteer.linalg import (
    eigh,
    identity_like,
    log_abs_det,
    matmul,
    symmetrize,
    transpose,
)
from jaxsteer.solvers._chart import (
    Chart,
    MatrixObjective,
    Sides,
    relative_residual,
)
from jaxsteer.solvers._matrix_newton import Verdict
from jaxsteer.solvers._projected_gradient import ProjectedGradient
from jaxsteer.solvers._solution import default_tolerance

FLOOR = 1e-4  # least eigenvalue, relative to the start's
GROWTH = 1.2  # of the step size after a step that held
SMALLEST = 1e-12  # step size at which there is no use in going on


class ConeMemory(NamedTuple):
    """What is carried from step to step, in the coordinates of the start.

    Attributes:
        origin: Sides of the start: the matrices are ``left z right``.
        z: ``[g, d, d]`` the current point of the cone.
        before: ``[g, d, d]`` the one before.
        pace: ``[]`` of the acceleration.
        size: ``[]`` step size.
        lowest: ``[]`` residual of the best point.
    """

    origin: Sides
    z: Array
    before: Array
    pace: Array
    size: Array
    lowest: Array


class ConeProposal(NamedTuple):
    """A step before its value is known, and the quadratic bound that it must keep."""

    sides: Sides
    residual: Array
    z: Array
    bound: Array
    slope: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConeProjectedGradient:
    """:class:`ProjectedGradient` for definite maps ``S R``, over ``S`` in the PSD cone.

    Works on ``z`` with ``S = f z f'`` for the frame `f` of the start, so that units and
    correlations of the features cost no iterations: ``z <- P(y - s grad(y))``, `P`
    setting eigenvalues below a floor to it, `y` pushed on along the last move (FISTA), `s`
    halved until the quadratic upper bound holds. A step that raises the value drops the
    push.

    Attributes:
        max_steps: Limit on steps.
        tolerance: As for :class:`jaxsteer.solvers.MatrixNewton`.
        acceleration: Whether to push on along the last move.
    """

    max_steps: int
    tolerance: float | None
    acceleration: bool

    @classmethod
    def of(cls, solver: ProjectedGradient) -> ConeProjectedGradient:
        """The same limits on the cone."""
        return cls(
            max_steps=solver.max_steps,
            tolerance=solver.tolerance,
            acceleration=solver.acceleration,
        )

    def accuracy(self, dtype: Any) -> float:
        """The residual that counts as converged."""
        if self.tolerance is None:
            return default_tolerance(dtype)
        return self.tolerance

    def begin(self, sides: Sides) -> ConeMemory:
        """Memory at a new start."""
        identity = identity_like(sides.left)
        one = jnp.ones((), sides.left.dtype)
        return ConeMemory(sides, identity, identity, one, one, one * jnp.inf)

    def propose(
        self,
        objective: MatrixObjective,
        chart: Chart,
        memory: ConeMemory,
        active: Array,
    ) -> ConeProposal:
        """One projected step from the point that is pushed on."""
        del active
        left, right = memory.origin
        weight = objective.log_weight
        pace = 0.5 * (1 + jnp.sqrt(1 + 4 * memory.pace**2))
        push = (memory.pace - 1) / pace if self.acceleration else jnp.zeros_like(pace)
        pushed = memory.z + push * (memory.z - memory.before)
        y, inverse, _ = _clipped(pushed)
        pulled = matmul(transpose(left), objective.gradient(_between(left, y, right)))
        gradient = symmetrize(matmul(pulled, transpose(right)))
        gradient = gradient / weight[:, None, None] - inverse
        gradient = jnp.where(chart.free[:, None, None], gradient, 0.0)
        z, _, root = _clipped(y - memory.size * gradient)
        move = z - y
        value = objective.value(_between(left, y, right))
        value = value - jnp.sum(weight * log_abs_det(_between(left, y, right)))
        linear = jnp.sum(weight[:, None, None] * gradient * move)
        square = jnp.sum(weight[:, None, None] * move**2) / (2 * memory.size)
        slope = chart.expand(objective).slope
        return ConeProposal(
            sides=Sides(matmul(left, root), matmul(root, right)),
            residual=relative_residual(slope, weight),
            z=z,
            bound=value + linear + square,
            slope=linear,
        )

    def judge(
        self,
        proposal: ConeProposal,
        memory: ConeMemory,
        value: Array,
        new_value: Array,
        scale: Array,
    ) -> Verdict:
        """Take the step where the quadratic bound holds; halve the step size if not."""
        noise = 10 * float(jnp.finfo(value.dtype).eps) * (jnp.abs(value) + scale)
        holds = (new_value <= proposal.bound + noise) & jnp.isfinite(new_value)
        lower = new_value <= value + noise
        accepted = holds & lower
        pace = 0.5 * (1 + jnp.sqrt(1 + 4 * memory.pace**2))
        memory = ConeMemory(
            origin=memory.origin,
            z=jnp.where(accepted, proposal.z, memory.z),
            before=memory.z,
            # A step that held but rose: drop the push and try again from here.
            pace=jnp.where(accepted, pace, 1.0),
            size=memory.size * jnp.where(accepted, GROWTH, jnp.where(holds, 1.0, 0.5)),
            lowest=jnp.minimum(memory.lowest, proposal.residual),
        )
        record = proposal.residual <= memory.lowest
        hopeless = (memory.size < SMALLEST) | ~jnp.isfinite(proposal.residual)
        return Verdict(accepted, record, hopeless, memory)


def _between(left: Array, z: Array, right: Array) -> Array:
    return matmul(left, matmul(z, right))


def _clipped(z: Array) -> tuple[Array, Array, Array]:
    """The nearest matrix with eigenvalues above the floor, its inverse and its root."""
    values, vectors = eigh(z)
    values = jnp.maximum(values, FLOOR)[..., None, :]
    turned = transpose(vectors)
    return (
        matmul(vectors * values, turned),
        matmul(vectors / values, turned),
        matmul(vectors * jnp.sqrt(values), turned),
    )
