"""Objectives of matrices with a log-determinant, seen from the current matrix."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, Float
from jaxsteer.solvers._conjugate_gradient import solve_positive
from jaxsteer.solvers._fixed_point import DIFFERENTIATE, Differentiate
from jaxsteer.solvers._matrix_groups import (
    GeneralLinear,
    Gradient,
    MatrixGroup,
    bend,
    chain,
    identity_like,
    log_determinant_gradient,
)
from jaxsteer.solvers._narrow import narrow_vmap
from jaxsteer.solvers._solution import Solution

Objective = Callable[[Array, Any], Array]
TRIAL_STEPS = 8
UNROLLED_STEPS = 3  # Newton steps from the solution: enough for second derivatives


@dataclasses.dataclass(frozen=True)
class RelativeProblem:
    """Minimize ``fn(x, args) - sum_g weight_g log|det x_g|`` over a matrix group.

    Attributes:
        fn: ``fn(x, args) -> []`` for ``x`` of shape ``[g, d, d]``.
        gradient: ``gradient(x, args) -> [g, d, d]``, that of `fn` by `x`.
        curvature: ``curvature(frame, args) -> [g, d, d]``: about the second derivative
            of `fn` along each entry of the chart at `frame`.
        group: Which matrices are allowed.
    """

    fn: Objective
    gradient: Gradient
    curvature: Gradient
    group: MatrixGroup

    def slope(self, frame: Array, args: Any, weight: Array, e: Array) -> Array:
        """Gradient in the chart at `frame`, at the point `e` of it."""
        group = self.group
        gradient = self.gradient(group.moved_point(frame, e), args)
        pulled = chain(group.pull_back(frame, gradient), group.restrict(e))
        return group.restrict(pulled) - weight * log_determinant_gradient(e)

    def expand(self, frame: Array, args: Any, weight: Array) -> tuple[Array, Callable]:
        """Gradient and Hessian (as a linear map) at the center of the chart."""
        group = self.group

        def leaned(e):
            gradient = self.gradient(group.leaned_point(frame, e), args)
            return group.pull_back(frame, gradient)

        at_center, linear = jax.linearize(leaned, jnp.zeros_like(frame))

        def hessian(e):
            e = group.restrict(e)
            return group.restrict(linear(e) + bend(at_center, e))

        # The log-determinant's gradient at the center is the identity, its curvature 0.
        slope = group.restrict(at_center) - weight * identity_like(frame)
        return slope, hessian

    def preconditioner(
        self, frame: Array, args: Any, weight: Array, floor: float
    ) -> Callable:
        """Positive definite map near the inverse of the Hessian."""
        return self.group.precondition(self.curvature(frame, args), weight, floor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelativeSolver(abc.ABC):
    """A search on a matrix group; what differs is only the search from one start.

    Attributes:
        max_steps: Limit on steps.
        tolerance: Residual (relative gradient per unit of weight, Frobenius norm) that
            counts as converged; None takes the root of the rounding unit.
    """

    max_steps: int
    tolerance: float | None = None

    def run(
        self,
        fn: Objective,
        start: Float[Array, "g d d"] | Float[Array, "s g d d"],
        args: Any,
        *,
        weight: Float[Array, " g"] | None = None,
        gradient: Gradient | None = None,
        curvature: Gradient | None = None,
        group: MatrixGroup | None = None,
        differentiate: Differentiate = "implicit",
        trial_steps: int = TRIAL_STEPS,
    ) -> Solution:
        """Minimize ``fn(x, args) - sum_g weight_g log|det x_g|``.

        Args:
            fn: Smooth function of ``[g, d, d]`` and `args`; everything differentiable
                comes in through `args`.
            start: ``[g, d, d]`` invertible matrices; for
                :class:`~jaxsteer.solvers.PositiveDefinite` any ``f`` with ``f f'`` the
                first point. ``[s, g, d, d]``: several starts, of which the one that is
                lowest after `trial_steps` goes on, the first among equals. The gradient
                by it is zero.
            args: Any pytree.
            weight: ``[g]`` positive weights of the log-determinants; None takes 1.
            gradient: ``gradient(x, args)`` of `fn`; None differentiates `fn`.
            curvature: About the diagonal of its Hessian in the chart at a frame.
            group: Which matrices are allowed; None takes
                :class:`~jaxsteer.solvers.GeneralLinear`.
            differentiate: How derivatives pass through the solve.
            trial_steps: Steps from each of several starts.

        Returns:
            The solution; its residual is the Frobenius norm of the relative gradient
            per unit of weight, the largest over the ``g`` matrices.
        """
        check_choice("differentiate", differentiate, DIFFERENTIATE)
        if jnp.ndim(start) not in (3, 4) or start.shape[-1] != start.shape[-2]:
            raise ValueError(
                f"start must have shape [g, d, d] or [s, g, d, d], got "
                f"{jnp.shape(start)}."
            )
        problem = RelativeProblem(
            fn,
            jax.grad(fn) if gradient is None else gradient,
            no_curvature if curvature is None else curvature,
            GeneralLinear() if group is None else group,
        )
        starts = start[None] if start.ndim == 3 else start
        scale = jnp.ones(starts.shape[1], starts.dtype) if weight is None else weight
        scale = scale[:, None, None]
        starts, *fixed = jax.lax.stop_gradient((starts, args, scale))

        @narrow_vmap
        def search(starts, args, scale):
            return search_from(self, problem, starts, args, scale, trial_steps)

        found = search(starts, *fixed)
        return differentiable(problem, found, args, scale, differentiate)

    @abc.abstractmethod
    def search(
        self,
        problem: RelativeProblem,
        start: Array,
        args: Any,
        weight: Array,
        limit: Array,
    ) -> Solution:
        """Search from one frame for at most `limit` steps; `x` is a frame."""


def no_curvature(frame: Array, args: Any) -> Array:
    """Stand-in where nothing is known of the curvature."""
    del args
    return jnp.ones_like(frame)


def relative_residual(slope: Array, weight: Array) -> Float[Array, ""]:
    """Largest Frobenius norm of a matrix's relative gradient, per unit of its weight."""
    return jnp.max(jnp.sqrt(jnp.sum(slope**2, (-2, -1))) / weight[:, 0, 0])


def step_from(
    problem: RelativeProblem,
    frame: Array,
    args: Any,
    weight: Array,
    differentiate: Differentiate,
) -> Array:
    """The point at a solution's `frame`, with derivatives by `args` and `weight`.

    "implicit" differentiates the stationarity condition in the chart; the Hessian is
    damped by the root of the rounding unit, so that flat directions (rotations that the
    objective does not see) have derivative 0 instead of NaN. "unroll" differentiates
    through Newton steps from the solution, damped alike.
    """
    group = problem.group
    frame = jax.lax.stop_gradient(frame)
    if differentiate == "none":
        return group.point(frame)
    fixed = jax.lax.stop_gradient((args, weight))
    approximate = problem.preconditioner(frame, *fixed, floor=0.1)
    damping = fixed[1] * float(jnp.finfo(frame.dtype).eps) ** 0.5
    zero = jnp.zeros_like(frame)

    def slope(e):
        return problem.slope(frame, args, weight, e)

    def tangent_solve(linear, b):
        return solve_positive(lambda e: linear(e) + damping * e, b, approximate)

    if differentiate == "implicit":
        e = jax.lax.custom_root(slope, zero, lambda _, e: e, tangent_solve)
    else:
        # No scan: forward over reverse through one would go wrong (jax 0.10.2).
        e = zero
        for _ in range(UNROLLED_STEPS):
            value, linear = jax.linearize(slope, e)
            e = e - tangent_solve(linear, value)
    return group.moved_point(frame, e)


def search_from(
    solver: RelativeSolver,
    problem: RelativeProblem,
    starts: Float[Array, "s g d d"],
    args: Any,
    weight: Array,
    trial_steps: int,
) -> Solution:
    """Take a few steps from each of several starts, then go on from the best.

    One loop with one compiled body visits the starts and then the best of their ends;
    a batch would wait for its slowest row at every step.
    """
    n_starts, _, d, _ = starts.shape
    noise = 100 * float(jnp.finfo(starts.dtype).eps) * d * jnp.sum(weight)
    if n_starts == 1:
        return solver.search(
            problem, starts[0], args, weight, jnp.asarray(solver.max_steps)
        )
    first = jnp.zeros_like(starts[0])
    frames = jnp.concatenate([starts, first[None]])

    def attempt(state, item):
        best, lowest, used = state
        frame, last = item
        frame = jnp.where(last, best, frame)
        limit = jnp.where(last, solver.max_steps, trial_steps)
        found = solver.search(problem, frame, args, weight, limit)
        # Finite values only: a start may be no matrix of the group at all.
        value = whole_value(problem, problem.group.point(found.x), args, weight)
        # Among equals the first start stays: callers put the one they prefer there.
        better = (value < lowest - noise) | ~jnp.isfinite(lowest) | last
        state = (
            jnp.where(better, found.x, best),
            jnp.where(better & ~jnp.isnan(value), value, lowest),
            jnp.maximum(used, found.steps),
        )
        return state, found

    start = (starts[0], jnp.asarray(jnp.inf, starts.dtype), jnp.zeros((), jnp.int32))
    flags = jnp.arange(n_starts + 1) == n_starts
    _, found = jax.lax.scan(attempt, start, (frames, flags))
    last = jax.tree.map(lambda leaf: leaf[-1], found)
    return dataclasses.replace(last, steps=last.steps + jnp.max(found.steps[:-1]))


def whole_value(
    problem: RelativeProblem, x: Array, args: Any, weight: Array
) -> Float[Array, ""]:
    """The objective with its log-determinants, at a point."""
    _, size = jnp.linalg.slogdet(x)
    return problem.fn(x, args) - jnp.sum(weight[:, 0, 0] * size)


def differentiable(
    problem: RelativeProblem,
    found: Solution,
    args: Any,
    weight: Array,
    differentiate: Differentiate,
) -> Solution:
    """A solution (whose `x` is a frame) with its point, value and derivatives."""
    if differentiate == "none":
        args, weight = jax.lax.stop_gradient((args, weight))
    x = step_from(problem, found.x, args, weight, differentiate)
    value = whole_value(problem, x, args, weight)
    return dataclasses.replace(found, x=x, value=value)
