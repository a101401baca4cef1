"""The lower level: the model that is best for given group weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float, Int
from jaxsteer.linalg import cholesky_inverse, matmul, transpose
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._model import Model, weighted_loss
from jaxsteer.solvers._conjugate_gradient import solve_positive

DENSE = 300  # parameters up to which the Hessian is formed and factored
NEWTON_STEPS = 50
HALVINGS = 25


class LowerFit(NamedTuple):
    """Parameters that minimize the weighted loss.

    Attributes:
        theta: ``[p]`` flat parameters.
        solve: Solves with the Hessian of the weighted loss there.
        factor: ``[p, p]`` inverse Cholesky factor of that Hessian, or None above
            ``DENSE`` parameters.
        steps: ``[]`` steps taken, int32.
    """

    theta: Float[Array, " p"]
    solve: Callable[[Array], Array]
    factor: Float[Array, "p p"] | None
    steps: Int[Array, ""]


def fit_weighted(
    model: Model, data: GroupData, group_weights: Array, theta: Float[Array, " p"]
) -> LowerFit:
    """Minimize ``sum_a lambda_a F_a`` from `theta` on.

    Newton's method with halvings where the model is convex (quadratically convergent, a
    step or three from a near start), the model's own solver otherwise. Hessians are
    formed and factored for up to ``DENSE`` parameters; above, conjugate gradients.
    """
    dense = theta.shape[0] <= DENSE
    if model.convex:
        end, factor, steps = _newton(model, data, group_weights, theta, dense)
    else:
        solver: Any = getattr(model, "solver", None)
        found = solver.run(
            _loss_of, theta, (model, data, group_weights), differentiate="none"
        )
        end, steps = found.x, found.steps
        factor = _factor(model, data, group_weights, end) if dense else None
    if factor is not None:
        return LowerFit(end, partial(solve_factored, factor), factor, steps)
    return LowerFit(end, _iterative(model, data, group_weights, end), None, steps)


def solve_factored(factor: Float[Array, "p p"], b: Array) -> Float[Array, " p"]:
    """Solve with a matrix of which this is the inverse Cholesky factor."""
    return matmul(transpose(factor), matmul(factor, b))


def _loss_of(theta: Array, args: tuple[Model, GroupData, Array]):
    model, data, group_weights = args
    return weighted_loss(model, theta, data, group_weights)


def _factor(model: Model, data: GroupData, group_weights: Array, theta: Array):
    matrix = model.hessian(theta, data, group_weights)
    damping = getattr(model, "damping", 0.0)
    eye = jnp.eye(theta.shape[0], dtype=theta.dtype)
    return cholesky_inverse(matrix + damping * eye)[1]


def _iterative(
    model: Model, data: GroupData, group_weights: Array, theta: Array
) -> Callable[[Array], Array]:
    slope, args = jax.grad(_loss_of), (model, data, group_weights)
    damping = getattr(model, "damping", 0.0)

    def product(v: Array):
        along = jax.jvp(partial(slope, args=args), (theta,), (v,))[1]
        return along + damping * v

    limit = float(jnp.finfo(theta.dtype).eps) ** 0.75
    return lambda b: solve_positive(product, b, lambda r: r, tolerance=limit)


def _newton(
    model: Model, data: GroupData, group_weights: Array, theta: Array, dense: bool
) -> tuple[Array, Array | None, Array]:
    """Damped Newton steps; every turn of the loop evaluates one trial point."""
    eps = float(jnp.finfo(theta.dtype).eps)
    args = (model, data, group_weights)
    # Slopes are in units of a row's loss, which standardized features keep near 1.
    limit = eps**0.75

    def turn(state: dict[str, Any]) -> dict[str, Any]:
        old = state["value"]
        trial = state["theta"] - state["length"] * state["move"]
        value, slope = jax.value_and_grad(_loss_of)(trial, args)
        steep = jnp.sqrt(jnp.sum(slope**2))
        noise = 10 * eps * (1 + jnp.abs(value))
        fall = 1e-4 * state["length"] * jnp.sum(state["slope"] * state["move"])
        # At the level of rounding the slope decides: no step that makes it steeper.
        lower = value <= old - fall - noise
        level = (value <= old + noise) & (steep < state["steep"])
        seen = jnp.abs(value - old) <= noise

        def accepted() -> dict[str, Any]:
            if dense:
                factor = _factor(*args, trial)
                move = solve_factored(factor, slope)
            else:
                factor, move = None, _iterative(*args, trial)(slope)
            return state | {
                "theta": trial,
                "value": value,
                "slope": slope,
                "steep": steep,
                "move": move,
                "length": jnp.ones_like(state["length"]),
                "count": jnp.zeros_like(state["count"]),
                "factor": factor,
                "done": steep <= limit,
            }

        def refused() -> dict[str, Any]:
            count = state["count"] + 1
            stuck = seen | (count >= HALVINGS) | ~jnp.isfinite(old)
            return state | {
                "length": 0.5 * state["length"],
                "count": count,
                "done": (state["steep"] <= limit) | stuck,
            }

        # A condition, not a choice leaf by leaf: only a new point is factored.
        new = jax.lax.cond(lower | level, accepted, refused)
        return new | {"turns": state["turns"] + 1}

    p, real = theta.shape[0], theta.dtype
    state = {
        "theta": theta,
        "value": jnp.asarray(jnp.inf, real),
        "slope": jnp.zeros_like(theta),
        "steep": jnp.asarray(jnp.inf, real),
        "move": jnp.zeros_like(theta),
        "length": jnp.ones((), real),
        "count": jnp.zeros((), jnp.int32),
        "factor": jnp.eye(p, dtype=real) if dense else None,
        "turns": jnp.zeros((), jnp.int32),
        "done": jnp.asarray(False),
    }
    end = jax.lax.while_loop(
        lambda s: ~s["done"] & (s["turns"] <= NEWTON_STEPS), turn, state
    )
    # The last step is computed already; metrics see the error of `theta` in full.
    near = end["steep"] <= eps**0.5
    theta = end["theta"] - jnp.where(near, end["move"], 0.0)
    return theta, end["factor"], end["turns"] - 1
