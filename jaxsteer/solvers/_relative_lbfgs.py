"""Limited-memory BFGS on matrix groups, preconditioned by blocks of the Hessian."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array
from jaxsteer.solvers._conjugate_gradient import dot
from jaxsteer.solvers._matrix_groups import identity_like, log_determinant
from jaxsteer.solvers._relative import (
    RelativeProblem,
    RelativeSolver,
    relative_residual,
)
from jaxsteer.solvers._solution import (
    Solution,
    default_tolerance,
    final_status,
    new_trace,
    record,
)

PATIENCE = 30  # steps within rounding error that do not help, before giving up
HALVINGS = 20  # trials along one direction
DESCENT = 1e-4  # share of the promised decrease that a step must keep


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelativeLBFGS(RelativeSolver):
    """Quasi-Newton steps in the chart around the current matrix.

    The steps and the changes of slope of the last few iterations correct the problem's
    preconditioner, which is computed anew at every matrix; a direction that does not
    descend empties the memory. On :class:`~jaxsteer.solvers.GeneralLinear` the chart
    moves with the matrix, so that old pairs keep their meaning; on
    :class:`~jaxsteer.solvers.PositiveDefinite` the Cholesky factors turn it a little.
    Each step costs one gradient, one or a few values and ``4 memory g d^2`` flops:
    less than a step of :class:`~jaxsteer.solvers.RelativeNewton`, but more steps.

    Attributes:
        max_steps: Limit on steps.
        memory: Pairs remembered.
        tolerance: Residual (relative gradient per unit of weight, Frobenius norm) that
            counts as converged; None takes the root of the rounding unit.
        trace: Record the residual before every step.

    Example:
        >>> import jax.numpy as jnp
        >>> def fn(x, target):
        ...     return 0.5 * jnp.sum((x - target) ** 2)
        >>> found = RelativeLBFGS().run(fn, jnp.eye(2)[None], jnp.zeros((1, 2, 2)))
        >>> jnp.allclose(found.x, jnp.eye(2)).item(), found.converged.item()
        (True, True)

    References:
        Nocedal 1980, "Updating quasi-Newton matrices with limited storage"; Ablin,
        Cardoso and Gramfort 2018, "Faster independent component analysis by
        preconditioning with Hessian approximations".
    """

    max_steps: int = 500
    memory: int = 10
    trace: bool = False

    def search(
        self,
        problem: RelativeProblem,
        start: Array,
        args: Any,
        weight: Array,
        limit: Array,
    ) -> Solution:
        """Search from one frame for at most `limit` steps; `x` is a frame."""
        dtype, group = start.dtype, problem.group
        eps = float(jnp.finfo(dtype).eps)
        tolerance = (
            default_tolerance(dtype) if self.tolerance is None else self.tolerance
        )
        longest = (start.shape[0] * start.shape[-1]) ** 0.5
        first = problem.fn(group.point(start), args)
        slope = _slope_at(problem, start, args, weight)
        residual = relative_residual(slope, weight)
        state = {
            "frame": start,
            "value": first,
            "slope": slope,
            "residual": residual,
            "best": start,
            "lowest": residual,
            "pairs": _no_pairs(self.memory, start),
            "idle": jnp.zeros((), jnp.int32),
            "steps": jnp.zeros((), jnp.int32),
            "trace": new_trace(self.max_steps, dtype, self.trace),
            "done": ~(jnp.isfinite(first) & (residual > tolerance)),
        }

        def unfinished(state):
            return ~state["done"] & (state["steps"] < limit)

        def body(state):
            frame, slope, pairs = state["frame"], state["slope"], state["pairs"]
            approximate = problem.preconditioner(frame, args, weight, floor=0.1)
            bent = -_inverse_hessian(pairs, slope, approximate)
            ascends = ~(dot(bent, slope) < 0)
            e = jnp.where(ascends, -approximate(slope), bent)
            length = jnp.sqrt(dot(e, e))
            e = e * jnp.minimum(1.0, longest / jnp.where(length > 0, length, 1.0))
            promised = dot(e, slope)
            noise = (
                10 * eps * (jnp.abs(state["value"]) + jnp.sum(weight) * start.shape[-1])
            )

            def change_along(size):
                step = size * e
                value = problem.fn(group.moved_point(frame, step), args)
                gain = jnp.sum(weight[:, 0, 0] * log_determinant(step))
                return value, value - state["value"] - gain

            size, value, found = _backtrack(change_along, promised, noise)
            step = size * e
            promised = size * promised
            moved = jnp.where(found, group.move(frame, step), frame)
            new_slope = _slope_at(problem, moved, args, weight)
            # Where the change drowns in rounding the slope tells of an overshoot; that
            # step is not taken, but its pair corrects the next one.
            blind = -promised < noise
            taken = found & ~(blind & (dot(new_slope, step) > -0.8 * promised))
            ended = ascends | ~found
            pairs = _remember(_forget(pairs, ended), step, new_slope - slope)
            moved = jnp.where(taken, moved, frame)
            new_slope = jnp.where(taken, new_slope, slope)
            residual = relative_residual(new_slope, weight)
            improves = residual < state["lowest"]
            idle = jnp.where(blind & ~improves, state["idle"] + 1, 0)
            better = taken & (improves | ~blind)
            # Without a memory to blame, a direction without descent is the end.
            stuck = ~found & (ascends | ~_remembers(state["pairs"]))
            hopeless = stuck | (idle >= PATIENCE) | ~jnp.isfinite(residual)
            return {
                "frame": moved,
                "value": jnp.where(taken, value, state["value"]),
                "slope": new_slope,
                "residual": residual,
                "best": jnp.where(better, moved, state["best"]),
                "lowest": jnp.where(better, residual, state["lowest"]),
                "pairs": pairs,
                "idle": idle,
                "steps": state["steps"] + 1,
                "trace": record(state["trace"], state["steps"], state["residual"]),
                "done": (residual <= tolerance) | hopeless,
            }

        end = jax.lax.while_loop(unfinished, body, state)
        residual = jnp.where(jnp.isfinite(first), end["lowest"], jnp.nan)
        return Solution(
            x=end["best"],
            value=end["value"],
            residual=residual,
            status=final_status(residual, tolerance, end["steps"], limit),
            steps=end["steps"],
            trace=end["trace"],
        )


def _slope_at(
    problem: RelativeProblem, frame: Array, args: Any, weight: Array
) -> Array:
    """Gradient at the center of the chart at `frame`."""
    gradient = problem.gradient(problem.group.point(frame), args)
    pulled = problem.group.restrict(problem.group.pull_back(frame, gradient))
    return pulled - weight * identity_like(frame)


def _no_pairs(memory: int, frame: Array) -> tuple[Array, Array, Array]:
    """Empty memory: steps, changes of slope, 1 / curvature (0: no pair)."""
    empty = jnp.zeros((memory, *frame.shape), frame.dtype)
    return empty, empty, jnp.zeros(memory, frame.dtype)


def _forget(pairs: tuple, when: Array) -> tuple:
    steps, changes, inverse = pairs
    return steps, changes, jnp.where(when, 0.0, inverse)


def _remembers(pairs: tuple) -> Array:
    return jnp.any(pairs[2] > 0)


def _remember(pairs: tuple, step: Array, change: Array) -> tuple:
    """Put a pair first, unless the slope did not rise along the step."""
    curvature = dot(step, change)
    eps = float(jnp.finfo(step.dtype).eps)
    good = curvature > eps * jnp.sqrt(dot(step, step) * dot(change, change))
    newest = (step, change, 1 / jnp.where(good, curvature, 1.0))
    return tuple(
        jnp.where(good, jnp.concatenate([new[None], old[:-1]]), old)
        for new, old in zip(newest, pairs, strict=True)
    )


def _inverse_hessian(pairs: tuple, slope: Array, approximate: Any) -> Array:
    """The two-loop recursion around the approximate inverse Hessian.

    The latter is scaled to agree with the newest pair; without that the unit step is too
    long where the approximation sees little of the curvature.
    """
    steps, changes, inverse = pairs
    shares = []
    q = slope
    for i in range(inverse.shape[0]):
        share = inverse[i] * dot(steps[i], q)
        q = q - share * changes[i]
        shares.append(share)
    newest = dot(changes[0], approximate(changes[0]))
    usable = inverse[0] * newest > 0
    scale = 1 / jnp.where(usable, inverse[0] * newest, 1.0)
    r = scale * approximate(q)
    for i in reversed(range(inverse.shape[0])):
        r = r + (shares[i] - inverse[i] * dot(changes[i], r)) * steps[i]
    return r


def _backtrack(change_along: Any, promised: Array, noise: Array) -> tuple:
    """First step size, from 1 downwards, at which the objective falls enough.

    Returns:
        The size, the value of `fn` there and whether the objective fell enough.
    """

    def unfinished(state):
        _, _, _, found, count = state
        return ~found & (count < HALVINGS)

    def body(state):
        size, _, change, _, count = state
        # The parabola through the value, the slope and the last trial has its least
        # point here; the first trial (whose change counts as infinite) is 1.
        excess = change - size * promised
        least = -promised * size**2 / (2 * jnp.where(excess > 0, excess, 1.0))
        usable = jnp.isfinite(change) & (excess > 0)
        shorter = jnp.clip(jnp.where(usable, least, 0.0), 0.1 * size, 0.5 * size)
        size = jnp.where(count == 0, 1.0, shorter)
        value, change = change_along(size)
        found = change <= DESCENT * size * promised + noise
        return size, value, change, found, count + 1

    one = jnp.ones_like(promised)
    never = jnp.asarray(jnp.inf, promised.dtype)
    start = (one, one, never, jnp.asarray(False), jnp.zeros((), jnp.int32))
    size, value, _, found, _ = jax.lax.while_loop(unfinished, body, start)
    return size, value, found
