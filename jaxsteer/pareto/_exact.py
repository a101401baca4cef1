"""BADR with exact hypergradients, from several starts."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Scalar
from jaxsteer.pareto._hypergradient import (
    Problem,
    hypergradient,
    sample_of,
    starting_points,
)
from jaxsteer.pareto._solution import History
from jaxsteer.pareto._spectral import (
    Point,
    SpectralEnd,
    spectral_descent,
)

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

    Example:
        >>> ExactOptions(starts=4, keep=1).starts
        4
    """

    max_steps: int = dataclasses.field(default=60, metadata=STATIC)
    tolerance: float | None = dataclasses.field(default=None, metadata=STATIC)
    starts: int = dataclasses.field(default=8, metadata=STATIC)
    screen_rows: int = dataclasses.field(default=2048, metadata=STATIC)
    screen_steps: int = dataclasses.field(default=12, metadata=STATIC)
    keep: int = dataclasses.field(default=2, metadata=STATIC)


class UpperEnd(NamedTuple):
    """Where the upper level ended."""

    group_weights: Float[Array, " G"]
    theta: Float[Array, " p"]
    value: Float[Array, ""]
    residual: Float[Array, ""]
    steps: Array
    history: History


def _point(group_weights: Array, theta: Array, problem: Problem):
    found = hypergradient(group_weights, theta, problem)
    return Point(found.value, found.slope, found.theta)


def solve_exact(
    problem: Problem,
    start: Float[Array, " G"],
    theta: Float[Array, " p"],
    options: ExactOptions,
    tolerance: float,
) -> tuple[UpperEnd, Float[Array, ""]]:
    """Minimize the upper level; the value at `start` is returned beside it."""
    points = starting_points(options.starts, problem.data.n_groups)
    points = jnp.asarray(points, start.dtype)
    sample = sample_of(problem, options.screen_rows)
    # Turns: a descent from every point on the sample, the start on all rows, and then
    # the best ends on all rows.
    n, last = len(points), len(points) + 1 + options.keep

    def turns(problem: Problem, carry: _Search, first: int, end: int):
        step = partial(_turn, problem, points, start, theta, options, tolerance)
        return jax.lax.scan(step, carry, jnp.arange(first, end))[0]

    found = jax.eval_shape(
        lambda: _descend(problem, start, theta, options, 0, tolerance, 0.0)
    )
    blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), found)
    carry = _Search(
        ends=points,
        values=jnp.full(n, jnp.inf, start.dtype),
        thetas=jnp.broadcast_to(theta, (n, *theta.shape)),
        best=blank,
        start_value=jnp.zeros((), start.dtype),
    )
    # One loop, and so one copy of the program, where nothing differs between turns.
    if sample is problem:
        carry = turns(problem, carry, 0, last)
    else:
        carry = turns(sample, carry, 0, n)
        carry = turns(problem, carry, n, last)
    best = carry.best
    end = UpperEnd(
        best.x,
        best.point.carry,
        best.point.value,
        best.residual,
        best.steps,
        best.history,
    )
    return end, carry.start_value


class _Search(NamedTuple):
    """Where the search stands: the ends of the screening, and the best on all rows."""

    ends: Float[Array, "S G"]
    values: Float[Array, " S"]
    thetas: Float[Array, "S p"]
    best: SpectralEnd
    start_value: Float[Array, ""]


def _descend(
    problem: Problem,
    x: Array,
    theta: Array,
    options: ExactOptions,
    limit: int | Array,
    tolerance: Scalar,
    scale: Scalar,
) -> SpectralEnd:
    return spectral_descent(
        partial(_point, problem=problem),
        x,
        theta,
        max_steps=limit,
        tolerance=tolerance,
        scale=scale,
        record=options.max_steps + 1,
    )


def _turn(
    problem: Problem,
    points: Array,
    start: Array,
    theta: Array,
    options: ExactOptions,
    tolerance: float,
    carry: _Search,
    turn: Array,
):
    """One descent: of the screening, or on all rows from its best ends."""
    n, best = len(points), carry.best
    screens, begins = turn < n, turn == n
    open_ = jnp.argmin(carry.values)
    index = jnp.where(screens, jnp.minimum(turn, n - 1), open_)
    x = jnp.where(begins, start, carry.ends[index])
    first = jnp.where(screens | begins, theta, carry.thetas[index])
    limit = jnp.where(screens, options.screen_steps, options.max_steps)
    # The start is only evaluated: it gives the unit of slopes, and a value to beat.
    limit = jnp.where(begins, 0, limit)
    ends_at = jnp.where(screens, SCREENED, tolerance).astype(start.dtype)
    scale = jnp.where(screens | begins, 0.0, best.unit).astype(start.dtype)
    wanted = screens | begins | jnp.isfinite(carry.values[index])
    found = jax.lax.cond(
        wanted,
        lambda: _descend(problem, x, first, options, limit, ends_at, scale),
        lambda: best,
    )
    value = found.point.value
    # Residuals of all descents are in the unit of the start's slope.
    kept = jax.lax.cond(
        begins | (~screens & (value < best.point.value)), lambda: found, lambda: best
    )
    near = jnp.max(jnp.abs(carry.ends - x), 1) < APART
    closed = jnp.where(near & ~begins, jnp.inf, carry.values)
    seen = jnp.where(jnp.isfinite(value), value, jnp.inf)

    def screened(now: Array, new: Array):
        return jnp.where(screens, now.at[index].set(new), now)

    return (
        _Search(
            ends=screened(carry.ends, found.x),
            values=jnp.where(screens, carry.values.at[index].set(seen), closed),
            thetas=screened(carry.thetas, found.point.carry),
            best=kept,
            start_value=jnp.where(begins, value, carry.start_value),
        ),
        None,
    )
