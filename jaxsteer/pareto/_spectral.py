"""Spectral projected gradients on the simplex, for costly functions with warm starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float, Int, Scalar
from jaxsteer.pareto._hypergradient import tangent
from jaxsteer.pareto._solution import History
from jaxsteer.solvers import project_simplex

TRIALS = 12  # of one line search
PATIENCE = 4  # steps in a row that lower the value by no more than rounding
LONGEST = 1e4  # of the step sizes, in units of the first one


class Point(NamedTuple):
    """A function's value, slope and whatever helps to evaluate it nearby."""

    value: Float[Array, ""]
    slope: Float[Array, " G"]
    carry: Any


class SpectralEnd(NamedTuple):
    """Where :func:`spectral_descent` ended."""

    x: Float[Array, " G"]
    point: Point
    residual: Float[Array, ""]
    steps: Int[Array, ""]
    unit: Float[Array, ""]
    history: History


def slope_scale(slope: Float[Array, " G"]) -> Float[Array, ""]:
    """Size of a slope along the simplex, never 0: the unit of residuals."""
    size = jnp.sqrt(jnp.sum(tangent(slope) ** 2))
    return jnp.maximum(size, jnp.finfo(slope.dtype).tiny ** 0.5)


def projected_residual(x: Array, slope: Array, scale: Array) -> Float[Array, ""]:
    """``|x - P(x - slope / scale)|``: 0 at stationary points, at most sqrt(2)."""
    moved = project_simplex(x - tangent(slope) / scale)
    return jnp.sqrt(jnp.sum((moved - x) ** 2))


def spectral_descent(
    evaluate: Callable[[Array, Any], Point],
    x: Float[Array, " G"],
    carry: Any,
    *,
    max_steps: Any,
    tolerance: Scalar,
    scale: Scalar = 0.0,
    record: int = 1,
) -> SpectralEnd:
    """Minimize over the simplex, one evaluation a step where all goes well.

    Steps have the length that the last change of slope suggests (in one dimension the
    secant method), are projected, and are shortened until the value falls. Each
    evaluation starts from what the last one carried over.

    Args:
        evaluate: ``evaluate(x, carry) -> Point``.
        x: ``[G]`` first point, on the simplex.
        carry: What helps the first evaluation.
        max_steps: Limit on steps; 0 only evaluates.
        tolerance: Residual that counts as solved.
        scale: ``[]`` unit of slopes; 0 takes the size of the first one.
        record: Length of the history.

    References:
        Birgin, Martinez and Raydan 2000, "Nonmonotone spectral projected gradient
        methods on convex sets"; Barzilai and Borwein 1988.
    """
    real = x.dtype
    eps = float(jnp.finfo(real).eps)
    shape = jax.eval_shape(evaluate, x, carry)
    blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape)
    state = {
        "x": x,
        "point": Point(jnp.asarray(jnp.inf, real), blank.slope, carry),
        "move": jnp.zeros_like(x),
        "length": jnp.ones((), real),
        "size": jnp.zeros((), real),
        "unit": jnp.asarray(scale, real),
        "floor": jnp.zeros((), real),
        "residual": jnp.asarray(jnp.nan, real),
        "steps": jnp.asarray(-1, jnp.int32),
        "trials": jnp.zeros((), jnp.int32),
        "idle": jnp.zeros((), jnp.int32),
        "history": History.empty(record, x.shape[0], real),
        "done": jnp.asarray(False),
    }

    def turn(state: dict[str, Any]) -> dict[str, Any]:
        """Evaluate one trial point; go there, or come nearer."""
        x, point, length = state["x"], state["point"], state["length"]
        begins = state["steps"] < 0
        new = evaluate(x + length * state["move"], point.carry)
        along = jnp.sum(tangent(point.slope) * state["move"])
        holds = new.value <= point.value + 1e-4 * length * along + state["floor"]
        holds = holds & jnp.isfinite(new.value)
        change = length * state["move"]

        def accepted() -> dict[str, Any]:
            unit = state["unit"]
            unit = jnp.where(begins & (unit <= 0), slope_scale(new.slope), unit)
            curve = jnp.sum(change * (new.slope - point.slope))
            secant = jnp.sum(change**2) / jnp.where(curve > 0, curve, 1.0)
            size = jnp.where(curve > 0, secant, 4 * state["size"])
            size = jnp.clip(size, 1 / (LONGEST * unit), LONGEST / unit)
            size = jnp.where(begins, 0.5 / unit, size)
            moved = x + change
            # The next step, and the residual as in projected_residual: one projection.
            sizes = jnp.stack([size, 1 / unit])[:, None]
            aims = project_simplex(moved[None] - sizes * tangent(new.slope)[None])
            move = aims[0] - moved
            residual = jnp.sqrt(jnp.sum((aims[1] - moved) ** 2))
            steps = state["steps"] + 1
            falls = new.value < point.value - state["floor"]
            idle = jnp.where(falls, 0, state["idle"] + 1)
            still = jnp.all(move == 0) | (idle >= PATIENCE)
            rounding = 10 * eps * jnp.abs(new.value)
            return state | {
                "x": moved,
                "point": new,
                "move": move,
                "length": jnp.ones_like(length),
                "size": size,
                "unit": unit,
                "floor": jnp.where(begins, rounding, state["floor"]),
                "residual": residual,
                "steps": steps,
                "trials": jnp.zeros_like(state["trials"]),
                "idle": idle,
                "history": state["history"].write(
                    steps, steps, new.value, moved, residual
                ),
                "done": (residual <= tolerance) | still,
            }

        def refused() -> dict[str, Any]:
            # The parabola through both values and the first slope.
            bend = new.value - point.value - length * along
            best = -0.5 * length**2 * along / jnp.where(bend > 0, bend, 1.0)
            best = jnp.where(jnp.isfinite(best) & (bend > 0), best, 0.25 * length)
            trials = state["trials"] + 1
            return state | {
                "length": jnp.clip(best, 0.1 * length, 0.5 * length),
                "trials": trials,
                "done": (trials >= TRIALS) | ~jnp.isfinite(point.value),
            }

        return jax.lax.cond(holds, accepted, refused)

    end = jax.lax.while_loop(
        lambda s: ~s["done"] & (s["steps"] < max_steps), turn, state
    )
    return SpectralEnd(
        end["x"],
        end["point"],
        end["residual"],
        jnp.maximum(end["steps"], 0),
        end["unit"],
        end["history"],
    )
