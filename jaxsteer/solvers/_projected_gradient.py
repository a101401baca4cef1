"""Projected gradient descent: backtracking, acceleration, certified answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, Float, PyTree
from jaxsteer.solvers._conjugate_gradient import damped_tangent_solve
from jaxsteer.solvers._fixed_point import DIFFERENTIATE, Differentiate, at_root
from jaxsteer.solvers._solution import (
    Solution,
    default_tolerance,
    final_status,
    new_trace,
    record,
)

Projection = Callable[[Array], Array]
HALVINGS = 60  # trials in one line search
GROWTH = 1.2  # of the step size after a step whose first trial held


def no_constraint(x: Array) -> Array:
    """Leave `x` as it is."""
    return x


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectedGradient:
    """Minimize ``fn(x, args)`` over a closed convex set, given its projection ``P``.

    Iterates ``x <- P(y - s grad fn(y))``, where `y` is `x` or, with acceleration, `x`
    pushed on along its last move (FISTA; a rise of the objective or a slope against the
    move stops the push). A step size counts as short enough when the quadratic upper
    bound holds at the new point, up to rounding. Each step costs one gradient, one or a
    few values and projections.

    Attributes:
        max_steps: Limit on steps; with ``differentiate="unroll"`` their exact number.
        tolerance: Residual that counts as converged; None takes the root of the
            rounding unit.
        step_size: None to search for it, a positive number, or a schedule (such as
            optax's) ``step -> size``.
        acceleration: Whether to push on along the last move. The objective is then
            also evaluated outside the set; where it is not finite the push is undone.
        trace: Record the residual before every step (with acceleration at `y`).

    Example:
        >>> import jax.numpy as jnp
        >>> def fn(x, target):
        ...     return jnp.sum((x - target) ** 2)
        >>> target = jnp.array([0.5, -2.0])
        >>> positive = lambda x: jnp.maximum(x, 0.0)
        >>> found = ProjectedGradient().run(fn, target, target, projection=positive)
        >>> found.x.tolist(), found.converged.item()
        ([0.5, 0.0], True)

    References:
        Beck and Teboulle 2009, "A fast iterative shrinkage-thresholding algorithm";
        O'Donoghue and Candes 2015, "Adaptive restart for accelerated gradient schemes".
    """

    max_steps: int = 1000
    tolerance: float | None = None
    step_size: float | Callable[[Array], Array | float] | None = None
    acceleration: bool = True
    trace: bool = False

    def run(
        self,
        fn: Callable[[Array, PyTree], Array],
        start: Float[Array, "..."],
        args: PyTree,
        *,
        projection: Projection = no_constraint,
        differentiate: Differentiate = "implicit",
    ) -> Solution:
        """Minimize from one start; batch with ``vmap``.

        Compiled once for each pair of functions (pass the same objects, not new
        lambdas) and each shape.

        Args:
            fn: ``fn(x, args) -> []``, differentiable; everything differentiable comes in
                through `args`. Scale it so that gradients are of order 1.
            start: First point, any shape; it is projected. The gradient by it is zero.
            args: PyTree pytree.
            projection: ``projection(x)``, the nearest point of the set.
            differentiate: How derivatives by `args` pass through: "implicit" by the
                fixed-point condition at the solution (any order, both modes; right only
                at convergence; directions in which the solution is not unique get
                derivative 0), "unroll" through all `max_steps` steps, or "none".

        Returns:
            The solution. Its residual is ``|x - P(x - s grad fn(x))| / s`` for the last
            step size `s`, relative to ``1 + |grad fn(start)|``.

        Raises:
            ValueError: If `start` is no floating point array, or an option is unknown.
        """
        check_choice("differentiate", differentiate, DIFFERENTIATE)
        start = check_start(start)
        return _solve(self, fn, projection, differentiate, start, args)


def check_start(start: Any) -> Array:
    """The start as an array, or an error unless it is real."""
    start = jnp.asarray(start)
    if not jnp.issubdtype(start.dtype, jnp.floating):
        raise ValueError(
            f"start must be a floating point array, got dtype {start.dtype}; convert it "
            "with start.astype(float)."
        )
    return start


def norm(x: Array) -> Float[Array, ""]:
    """Euclidean norm over all axes."""
    return jnp.sqrt(jnp.sum(x**2))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _solve(
    solver: ProjectedGradient,
    fn: Callable[[Array, PyTree], Array],
    projection: Projection,
    differentiate: Differentiate,
    start: Array,
    args: PyTree,
) -> Solution:
    fixed = jax.lax.stop_gradient(args)
    start = jax.lax.stop_gradient(start)

    def project(x: Array):
        # The set may be closed over too: its derivatives come in at the end only.
        return jax.lax.stop_gradient(projection(x))

    eps = float(jnp.finfo(start.dtype).eps)
    tolerance = (
        default_tolerance(start.dtype) if solver.tolerance is None else solver.tolerance
    )
    unroll = differentiate == "unroll"
    x = project(start)
    value, slope = jax.value_and_grad(fn)(x, fixed)
    scale = 1.0 + norm(slope)
    state = {
        "x": x,
        "y": x,
        "value": value,
        "momentum": jnp.ones((), x.dtype),  # 1: y is x
        "size": jnp.where(scale > 1.0, (1.0 + norm(x)) / (scale - 1.0), 1.0),
        "grow": jnp.asarray(False),
        "steps": jnp.zeros((), jnp.int32),
        "trace": new_trace(solver.max_steps, x.dtype, solver.trace),
        "certificate": jnp.asarray(jnp.inf, x.dtype),
        "broken": ~(jnp.isfinite(value) & jnp.isfinite(scale)),
    }
    state["done"] = state["broken"]

    def search(y: Array, value: Array, slope: Array, size: Array):
        """Halve the step size until the quadratic upper bound holds."""
        noise = 10 * eps * (jnp.abs(value) + norm(slope) * norm(y))

        def unfinished(trial: dict[str, Array]):
            return ~trial["found"] & (trial["count"] < HALVINGS)

        def body(trial: dict[str, Array]):
            size = jnp.where(trial["count"] == 0, trial["size"], 0.5 * trial["size"])
            move = project(y - size * slope) - y
            reached = fn(y + move, fixed)
            quadratic = jnp.sum(move**2) / (2 * size)
            bound = value + jnp.sum(slope * move) + quadratic + noise
            # Where the bound drowns in rounding, which may exceed this estimate of it,
            # the size stays: halving would go on until nothing moves.
            visible = quadratic > noise
            return {
                "size": size,
                "value": reached,
                "found": (reached <= bound) | (~visible & jnp.isfinite(reached)),
                "visible": visible,
                "count": trial["count"] + 1,
            }

        trial = {
            "size": size,
            "value": value,
            "found": jnp.asarray(False),
            "visible": jnp.asarray(False),
            "count": jnp.zeros((), jnp.int32),
        }
        return jax.lax.while_loop(unfinished, body, trial)

    def step(
        state: dict[str, Any], args: PyTree, move_to: Callable[[Array], Array]
    ) -> dict[str, Any]:
        x, y = state["x"], state["y"]
        value, slope = jax.value_and_grad(fn)(y, args)
        plain = state["momentum"] == 1.0
        if solver.step_size is None:
            # Growing where the bound drowns in rounding would go on for ever.
            size = state["size"] * jnp.where(state["grow"], GROWTH, 1.0)
            trial = search(*jax.lax.stop_gradient((y, value, slope, size)))
            descends, reached = trial["found"], trial["value"]
            grow = trial["visible"] & (trial["count"] == 1)
            size = jnp.where(descends, trial["size"], state["size"])
            z = move_to(y - size * slope)
        else:
            chosen = solver.step_size
            size = chosen(state["steps"]) if callable(chosen) else chosen
            size = jnp.asarray(size, x.dtype)
            z = move_to(y - size * slope)
            descends, grow = jnp.asarray(True), state["grow"]
            reached = fn(jax.lax.stop_gradient(z), fixed)
        residual = norm(jax.lax.stop_gradient(z - y)) / size / scale
        finite = jnp.isfinite(residual) & jnp.isfinite(reached)
        rises = reached > state["value"] + 10 * eps * jnp.abs(state["value"])
        # A step from y that ends higher than x is undone; the next one starts at x.
        accepted = finite & descends & (plain | ~rises)
        small = (residual <= tolerance) & (not unroll)
        solved = small & plain  # measured at x itself, not at y
        accepted = accepted & ~solved
        momentum = jnp.ones_like(state["momentum"])
        new_x = jnp.where(accepted, z, x)
        new_y = new_x
        if solver.acceleration:
            # Past a valley's bottom the push points uphill; the slope tells so even
            # where the values drown in rounding.
            uphill = jnp.sum((y - z) * (z - x)) > 0
            onward = accepted & ~small & ~uphill
            longer = 0.5 * (1.0 + jnp.sqrt(1.0 + 4.0 * state["momentum"] ** 2))
            share = (state["momentum"] - 1.0) / longer
            new_y = jnp.where(onward, z + share * (z - x), new_x)
            momentum = jnp.where(onward, longer, 1.0)
        return {
            "x": new_x,
            "y": new_y,
            "value": jnp.where(accepted, reached, state["value"]),
            "momentum": momentum,
            "size": size,
            "grow": grow,
            "steps": state["steps"] + jnp.where(solved, 0, 1),
            "trace": record(state["trace"], state["steps"], residual),
            "certificate": jnp.where(solved, residual, state["certificate"]),
            "broken": plain & ~finite,
            "done": solved | (plain & ~(finite & descends)),
        }

    if unroll:

        def forward(state: dict[str, Any], _):
            new = step(state, args, projection)
            keep = state["broken"]
            return jax.tree.map(partial(jnp.where, keep), state, new), None

        end, _ = jax.lax.scan(forward, state, None, length=solver.max_steps)
    else:
        end = jax.lax.while_loop(
            lambda state: ~state["done"] & (state["steps"] < solver.max_steps),
            lambda state: step(state, fixed, project),
            state,
        )
    size = jax.lax.stop_gradient(end["size"])
    residual = projected_residual(fn, project, end["x"], fixed, size, scale)
    # Another rounding of the same residual must not take the success back.
    residual = jnp.minimum(residual, end["certificate"])
    residual = jnp.where(end["broken"], jnp.nan, residual)

    def gap(x: Array):
        return x - projection(x - size * jax.grad(fn)(x, args))

    x = end["x"]
    if differentiate == "none":
        x = jax.lax.stop_gradient(x)
    elif not unroll:
        x = at_root(gap, x, damped_tangent_solve)
    return Solution(
        x=x,
        value=fn(x, fixed if differentiate == "none" else args),
        residual=residual,
        status=final_status(residual, tolerance, end["steps"], solver.max_steps),
        steps=end["steps"],
        trace=jax.lax.stop_gradient(end["trace"]),
    )


def projected_residual(
    fn: Callable[..., Array],
    projection: Projection,
    x: Array,
    args: PyTree,
    size: Array,
    scale: Array,
) -> Float[Array, ""]:
    """``|x - P(x - size grad fn(x))| / size / scale``, without derivatives."""
    x = jax.lax.stop_gradient(x)
    moved = projection(x - size * jax.grad(fn)(x, args))
    return norm(moved - x) / size / scale
