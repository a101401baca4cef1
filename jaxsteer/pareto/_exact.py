"""BADR with exact hypergradients, from several starts."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_choice
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float
from jaxsteer.pareto._hypergradient import Problem, hypergradient
from jaxsteer.pareto._screening import sample_of, starting_points
from jaxsteer.pareto._solution import History
from jaxsteer.pareto._spectral import (
    Point,
    SpectralEnd,
    projected_residual,
    spectral_descent,
)
from jaxsteer.solvers import minimize_on_simplex

UPPER = ("spectral", "projected_gradient", "mirror_descent")
STATIC = {"static": True}
SCREENED = 1e-2  # residual at which a descent of the screening may end
APART = 0.02  # ends of the screening that are nearer are one


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactOptions:
    """How ``method="exact"`` searches.

    The upper level is not convex. Descents from several starts on a sample of the rows
    find where the low places are; the best of them are descended to the end on all
    rows.

    Attributes:
        max_steps: Limit on the steps of the last descents.
        tolerance: Residual that counts as converged; None takes the cube root of the
            rounding unit.
        starts: Number of starts: corners and middle of the simplex, then points spread
            over it.
        screen_rows: Rows of the sample, the same number of every group.
        screen_steps: Limit on the steps of a descent there.
        keep: How many ends are followed up on all rows.
        upper: "spectral" (warm starts, one fit a step), or "projected_gradient" or
            "mirror_descent" of :func:`jaxsteer.solvers.minimize_on_simplex`.
    """

    max_steps: int = dataclasses.field(default=60, metadata=STATIC)
    tolerance: float | None = dataclasses.field(default=None, metadata=STATIC)
    starts: int = dataclasses.field(default=8, metadata=STATIC)
    screen_rows: int = dataclasses.field(default=2048, metadata=STATIC)
    screen_steps: int = dataclasses.field(default=12, metadata=STATIC)
    keep: int = dataclasses.field(default=2, metadata=STATIC)
    upper: Literal["spectral", "projected_gradient", "mirror_descent"] = (
        dataclasses.field(default="spectral", metadata=STATIC)
    )


class UpperEnd(NamedTuple):
    """Where the upper level ended, from whatever method."""

    group_weights: Float[Array, " G"]
    theta: Float[Array, " p"]
    value: Float[Array, ""]
    residual: Float[Array, ""]
    steps: Array
    history: History


def _point(group_weights, theta, problem):
    found = hypergradient(group_weights, theta, problem)
    return Point(found.value, found.slope, found.theta)


def _by_simplex_solver(problem, start, theta, options, tolerance, scale):
    found = minimize_on_simplex(
        _scaled_value,
        start,
        (theta, problem, scale),
        method=options.upper,
        max_steps=options.max_steps,
        tolerance=tolerance,
        differentiate="none",
    )
    point = _point(found.x, theta, problem)
    residual = projected_residual(found.x, point.slope, scale)
    history = History.empty(options.max_steps + 1, start.shape[0], start.dtype)
    history = history.write(0, found.steps, point.value, found.x, residual)
    return SpectralEnd(found.x, point, residual, found.steps, scale, history)


@jax.custom_vjp
def _scaled_value(group_weights, args):
    theta, problem, scale = args
    return hypergradient(group_weights, theta, problem).value / scale


def _forward(group_weights, args):
    theta, problem, scale = args
    found = hypergradient(group_weights, theta, problem)
    return found.value / scale, (found.slope / scale, args)


def _backward(kept, push):
    slope, args = kept
    return push * slope, jax.tree.map(_no_cotangent, args)


def _no_cotangent(leaf):
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)


_scaled_value.defvjp(_forward, _backward)


def solve_exact(
    problem: Problem,
    start: Float[Array, " G"],
    theta: Float[Array, " p"],
    options: ExactOptions,
    tolerance: float,
) -> tuple[UpperEnd, Float[Array, ""]]:
    """Minimize the upper level; the value at `start` is returned beside it."""
    check_choice("upper", options.upper, UPPER)
    ends, values, thetas = _screen(problem, theta, start.dtype, options)

    def descend(x, theta, limit, scale):
        return spectral_descent(
            partial(_point, problem=problem),
            x,
            theta,
            max_steps=limit,
            tolerance=tolerance,
            scale=scale,
            record=options.max_steps + 1,
        )

    def follow(x, theta, limit, scale):
        if options.upper == "spectral":
            return descend(x, theta, limit, scale)
        return _by_simplex_solver(problem, x, theta, options, tolerance, scale)

    def polish(carry, turn):
        best, open_values, scale = carry
        index = jnp.argmin(open_values)
        begins = turn == 0
        x = jnp.where(begins, start, ends[index])
        near = jnp.max(jnp.abs(ends - x), 1) < APART
        first_theta = jnp.where(begins, theta, thetas[index])
        limit = jnp.where(begins, 0, options.max_steps)
        wanted = begins | jnp.isfinite(open_values[index])
        found = jax.lax.cond(
            wanted, lambda: follow(x, first_theta, limit, scale), lambda: best
        )
        better = found.point.value < best.point.value
        best = jax.tree.map(partial(jnp.where, better | begins), found, best)
        open_values = jnp.where(near & ~begins, jnp.inf, open_values)
        return (best, open_values, jnp.where(begins, found.unit, scale)), (
            found.point.value
        )

    # The start is only evaluated: it gives the unit of slopes, and a value to beat.
    zero = jnp.zeros((), start.dtype)
    if options.upper == "spectral":
        blank = jax.eval_shape(descend, start, theta, 0, zero)
        blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), blank)
        carry, turns = (blank, values, zero), jnp.arange(options.keep + 1)
    else:
        first = descend(start, theta, 0, zero)
        carry, turns = (first, values, first.unit), jnp.arange(1, options.keep + 1)
    (best, _, _), tried = jax.lax.scan(polish, carry, turns)
    start_value = tried[0] if options.upper == "spectral" else first.point.value
    end = UpperEnd(
        best.x,
        best.point.carry,
        best.point.value,
        best.residual,
        best.steps,
        best.history,
    )
    return end, start_value


def _screen(problem, theta, real, options):
    """Descend a few steps from several starts, side by side on a sample of the rows."""
    data = problem.data
    points = jnp.asarray(starting_points(options.starts, data.n_groups), real)
    problem = sample_of(problem, options.screen_rows)

    def descend(point):
        found = spectral_descent(
            partial(_point, problem=problem),
            point,
            theta,
            max_steps=options.screen_steps,
            tolerance=SCREENED,
        )
        value = found.point.value
        value = jnp.where(jnp.isfinite(value), value, jnp.inf)
        return found.x, value, found.point.carry

    return jax.vmap(descend)(points)
