"""What the multivariate programs share: coordinates, frames, and the solve itself.

Everything is solved in coordinates in which the weighted precisions of the space mapped
into are multiples of the identity, so that units and correlations of the features cost
no iterations, and in which the second moments of what is mapped, once mapped, are
diagonal, so that the diagonal of the Hessian tells most of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Bool, Float, Int
from jaxsteer.linalg import matmul, transpose
from jaxsteer.solvers import Job, Starts, attach_derivative, coordinates, search

# Steps from every start: few where a step is dear, and the starts are told apart early.
TRIAL_STEPS, TRIAL_FEATURES = 8, 256
# With three classes or more there are many minima and no closed form is near one, as the
# paired axes are with two. So many random starts find the lowest of 64 nearly always.
RANDOM_STARTS, RANDOM_FEATURES, RANDOM_CLASSES = 16, 16, 3
TOLD_APART = 24  # steps after which starts at random are told apart
LOOSE = 1e-3  # residual of an answer that only serves as a start
# Above this many features the search for general maps starts from closed forms alone:
# every further start would cost as much as the solve.
MANY_FEATURES = 128


class MatrixSolution(NamedTuple):
    """Matrices ``[g, d, d]`` of a program, and how the search for them ended."""

    x: Float[Array, "g d d"]
    residual: Float[Array, ""]
    status: Int[Array, ""]
    steps: Int[Array, ""]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How a program searches.

    Attributes:
        solver: Proposes and judges steps; see :class:`jaxsteer.solvers.MatrixNewton`.
        tolerance: ``[]`` residual that counts as converged, maybe traced.
        differentiate: How derivatives pass through.
    """

    solver: Any
    tolerance: Float[Array, ""]
    differentiate: str


def random_count(solver: Any, d: int, n_classes: int) -> int:
    """How many random starts a solver asks for in a program of general maps."""
    asked = getattr(solver, "random_starts", 0)
    if asked is not None:
        return asked
    many = d <= RANDOM_FEATURES and n_classes >= RANDOM_CLASSES
    return RANDOM_STARTS if many else 0


def trial_steps(d: int) -> int:
    """Steps from each start, in `d` features."""
    return max(1, min(TRIAL_STEPS, TRIAL_FEATURES // d))


def solve_matrices(
    objective: Any,
    points: Float[Array, "m g d d"] | None,
    jobs: Sequence[Job],
    options: SearchOptions,
    *,
    frames: Float[Array, "f g d d"] | None = None,
    rights: Float[Array, "f g d d"] | None = None,
    free: Bool[Array, " g"] | None = None,
    moment: Float[Array, "g d d"] | None = None,
    factor: Float[Array, "g d d"] | None = None,
) -> MatrixSolution:
    """Minimize over matrices by a list of jobs, differentiably.

    Args:
        objective: See :class:`jaxsteer.solvers.MatrixObjective`.
        points: Starts of general matrices; the derivative by them is zero. None where all
            jobs are of definite ones.
        jobs: What is run.
        options: How.
        frames: Frames of definite matrices; None where no job searches these.
        rights: The fixed factors behind them; None: the identity.
        free: Which matrices move unless the template is pinned; None: all.
        moment: Second moments of what is mapped, for the coordinates of general
            matrices; None where no job searches these.
        factor: The fixed factor behind definite answers, where it carries derivatives.

    Returns:
        The lowest answer. No general answer is above its start.
    """
    fixed = jax.lax.stop_gradient(objective)
    weight = fixed.log_weight[:, None, None]
    if frames is None:
        if points is None:
            raise ValueError("points and frames are both None: give one of them.")
        frames = points[:1]  # which no job reads
    elif points is None:
        points = frames[:0]
    sides = transpose(frames)
    if rights is not None:
        sides = matmul(sides, rights)
    left = inverse = frames[0]
    if moment is not None:
        left, inverse = coordinates(fixed.output_metric / weight, points[0], moment)
    if free is None:
        free = jnp.ones(points.shape[1], bool)
    starts = Starts(points, left, inverse, frames, sides, free)
    end = search(
        options.solver,
        fixed,
        jax.lax.stop_gradient(starts),
        jobs,
        options.tolerance,
        jnp.maximum(options.tolerance, LOOSE),
    )
    x = attach_derivative(end.chart, objective, options.differentiate, factor)
    return MatrixSolution(x, end.residual, end.status, end.steps)
