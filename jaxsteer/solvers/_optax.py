"""Unconstrained coordinates for constrained problems, searched by any optax optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, Float, PyTree
from jaxsteer.linalg import cholesky, gram
from jaxsteer.solvers._conjugate_gradient import damped_tangent_solve
from jaxsteer.solvers._fixed_point import Differentiate, at_root
from jaxsteer.solvers._projected_gradient import check_start, no_constraint, norm
from jaxsteer.solvers._solution import (
    Solution,
    default_tolerance,
    final_status,
    new_trace,
    record,
)

PATIENCE = 3  # steps that leave the point where it is, before giving up
CHOICES = ("implicit", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reparametrized:
    """Minimize ``fn(parametrization(u), args)`` over unconstrained `u`.

    Attributes:
        optimizer: Any optax transformation; line searches get the value, the gradient
            and the function. None takes ``optax.lbfgs()``. Make it once: every new one
            is compiled anew.
        max_steps: Limit on steps.
        tolerance: Residual that counts as converged; None takes the root of the
            rounding unit.
        trace: Record the residual before every step.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxsteer.linalg import slogdet, solve
        >>> def fn(s, scatter):
        ...     return jnp.trace(solve(s, scatter)) + slogdet(s)[1]
        >>> scatter = jnp.array([[2.0, 1.0], [1.0, 3.0]])
        >>> found = Reparametrized().run(
        ...     fn, jnp.zeros(3), scatter, parametrization=from_log_cholesky
        ... )
        >>> jnp.allclose(found.x, scatter, atol=1e-2).item()
        True
    """

    optimizer: optax.GradientTransformation | None = None
    max_steps: int = 500
    tolerance: float | None = None
    trace: bool = False

    def run(
        self,
        fn: Callable[[Array, Any], Array],
        start: Float[Array, "..."],
        args: Any,
        *,
        parametrization: Callable[[Array], Array] = no_constraint,
        differentiate: Literal["implicit", "none"] = "implicit",
    ) -> Solution:
        """Minimize from one start; batch with ``vmap``.

        Compiled once for each set of functions (pass the same objects, not new lambdas)
        and each shape.

        Args:
            fn: ``fn(x, args) -> []``, differentiable; everything differentiable comes in
                through `args`.
            start: First `u`, any shape. The gradient by it is zero.
            args: Any pytree.
            parametrization: ``parametrization(u) -> x``, differentiable.
            differentiate: "implicit" (stationarity at the solution: any order, both
                modes; right only at convergence; directions of `u` that the objective
                does not see get derivative 0) or "none".

        Returns:
            The solution, whose `x` is ``parametrization(u)``. Its residual is the norm
            of the gradient by `u`, relative to 1 + the norm at the start.

        Raises:
            ValueError: If `start` is no floating point array, or an option is unknown.
        """
        check_choice("differentiate", differentiate, CHOICES)
        start = check_start(start)
        return _solve(self, fn, parametrization, differentiate, start, args)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _solve(
    solver: Reparametrized,
    fn: Callable[[Array, PyTree], Array],
    parametrization: Callable[[Array], Array],
    differentiate: Differentiate,
    start: Array,
    args: PyTree,
) -> Solution:
    fixed = jax.lax.stop_gradient(args)
    start = jax.lax.stop_gradient(start)
    dtype = start.dtype
    eps = float(jnp.finfo(dtype).eps)
    tolerance = (
        default_tolerance(dtype) if solver.tolerance is None else solver.tolerance
    )
    optimizer = optax.lbfgs() if solver.optimizer is None else solver.optimizer
    optimizer = optax.with_extra_args_support(optimizer)

    def objective(u: Array):
        return fn(parametrization(u), fixed)

    evaluate = jax.value_and_grad(objective)
    value, slope = evaluate(start)
    scale = 1.0 + norm(slope)
    residual = norm(slope) / scale
    state = {
        "u": start,
        "value": value,
        "slope": slope,
        "residual": residual,
        "inner": optimizer.init(start),
        "best": start,
        "lowest": value,
        "certificate": residual,
        "idle": jnp.zeros((), jnp.int32),
        "steps": jnp.zeros((), jnp.int32),
        "trace": new_trace(solver.max_steps, dtype, solver.trace),
        "done": ~(jnp.isfinite(value) & (residual > tolerance)),
    }

    def body(state: dict[str, Any]) -> dict[str, Any]:
        updates, inner = optimizer.update(
            state["slope"],
            state["inner"],
            state["u"],
            value=state["value"],
            grad=state["slope"],
            value_fn=objective,
        )
        u: Any = optax.apply_updates(state["u"], updates)
        value, slope = evaluate(u)
        residual = norm(slope) / scale
        idle = jnp.where(jnp.all(u == state["u"]), state["idle"] + 1, 0)
        # Values within rounding of the lowest: there the residual decides.
        noise = 10 * eps * jnp.abs(state["lowest"])
        lower = value < state["lowest"] - noise
        level = (value <= state["lowest"] + noise) & (residual < state["certificate"])
        better = (lower | level) & jnp.isfinite(residual)
        solved = better & (residual <= tolerance)
        finite = jnp.isfinite(value) & jnp.isfinite(residual)
        return {
            "u": u,
            "value": value,
            "slope": slope,
            "residual": residual,
            "inner": inner,
            "best": jnp.where(better, u, state["best"]),
            "lowest": jnp.where(better, value, state["lowest"]),
            "certificate": jnp.where(better, residual, state["certificate"]),
            "idle": idle,
            "steps": state["steps"] + 1,
            "trace": record(state["trace"], state["steps"], state["residual"]),
            "done": solved | ~finite | (idle >= PATIENCE),
        }

    end = jax.lax.while_loop(
        lambda state: ~state["done"] & (state["steps"] < solver.max_steps), body, state
    )
    finite = jnp.isfinite(end["value"]) & jnp.isfinite(end["residual"])
    residual = jnp.where(finite, end["certificate"], jnp.nan)
    u = jax.lax.stop_gradient(end["best"])
    if differentiate == "implicit":
        size = _secant(start, u, slope, evaluate(u)[1])

        def gap(u: Array) -> Array:
            return size * jax.grad(lambda v: fn(parametrization(v), args))(u)

        u = at_root(gap, u, damped_tangent_solve)
    x = parametrization(u)
    return Solution(
        x=x,
        value=fn(x, fixed if differentiate == "none" else args),
        residual=residual,
        status=final_status(residual, tolerance, end["steps"], solver.max_steps),
        steps=end["steps"],
        trace=end["trace"],
    )


def _secant(u: Array, v: Array, slope: Array, other: Array) -> Array:
    """About the inverse of the curvature, to bring the Hessian to unit scale."""
    change = norm(slope - other)
    return jnp.where(change > 0, norm(u - v) / jnp.where(change > 0, change, 1.0), 1.0)


def log_cholesky(s: Float[Array, "... d d"]) -> Float[Array, "... m"]:
    """Unconstrained coordinates of a positive definite matrix, ``m = d (d + 1) / 2``.

    The lower Cholesky factor row by row, with the logarithms of its diagonal. NaN where
    a matrix is not positive definite.

    Example:
        >>> import jax.numpy as jnp
        >>> log_cholesky(jnp.eye(2)).tolist()
        [0.0, 0.0, 0.0]
    """
    factor = cholesky(s)
    d = s.shape[-1]
    rows, columns = jnp.tril_indices(d)
    diagonal = jnp.eye(d, dtype=bool)
    logs = jnp.log(jnp.where(diagonal, factor, 1.0))
    return jnp.where(diagonal, logs, factor)[..., rows, columns]


def from_log_cholesky(v: Float[Array, "... m"]) -> Float[Array, "... d d"]:
    """The positive definite matrix with these coordinates; see :func:`log_cholesky`.

    Raises:
        ValueError: If the length is not ``d (d + 1) / 2`` for any `d`.

    Example:
        >>> import jax.numpy as jnp
        >>> from_log_cholesky(jnp.zeros(3)).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    m = v.shape[-1]
    d = int(((8 * m + 1) ** 0.5 - 1) / 2 + 0.5)
    if d * (d + 1) // 2 != m:
        raise ValueError(
            f"v must have d (d + 1) / 2 entries (1, 3, 6, 10, ...) on its last axis, got "
            f"{m}."
        )
    rows, columns = jnp.tril_indices(d)
    factor = jnp.zeros((*v.shape[:-1], d, d), v.dtype).at[..., rows, columns].set(v)
    diagonal = jnp.eye(d, dtype=bool)
    positive = jnp.exp(jnp.where(diagonal, factor, 0.0))
    return gram(jnp.where(diagonal, positive, factor))
