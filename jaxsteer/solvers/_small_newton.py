"""Newton's method for a few variables, from one start or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, Float
from jaxsteer.linalg import solve_small_psd
from jaxsteer.solvers._fixed_point import (
    DIFFERENTIATE,
    Differentiate,
    dense_tangent_solve,
)

UNROLLED = 16  # variables up to which elimination is written out


class LocalMinimum(NamedTuple):
    """What a search over a few variables found.

    Attributes:
        x: ``[m]`` the best point.
        value: ``[]`` the objective there.
        gradient_norm: ``[]`` largest entry of the gradient there.
        steps: ``[]`` Newton steps taken from each start, int32.
    """

    x: Float[Array, " m"]
    value: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    steps: Array


def _solve(a, b):
    if len(b) == 1:
        return b / a[0]
    if len(b) <= UNROLLED:
        return solve_small_psd(a, b)
    return jnp.linalg.solve(a, b)


def _is_positive(a):
    """Whether a symmetric matrix is positive definite, by its pivots."""
    m = len(a)
    if m > UNROLLED:
        return jnp.all(jnp.isfinite(jnp.linalg.cholesky(a)))
    floor = m * jnp.finfo(a.dtype).eps * jnp.max(jnp.abs(jnp.diag(a)))
    positive = jnp.asarray(True)
    for _ in range(m):
        positive = positive & (a[0, 0] > floor)
        pivot = jnp.where(a[0, 0] == 0, 1.0, a[0, 0])
        a = a[1:, 1:] - a[1:, :1] * a[:1, 1:] / pivot
    return positive


def _descend(fn, args, x, steps):
    """Damped Newton: a step that does not lower the value raises the damping."""
    m = x.shape[0]
    eps = float(jnp.finfo(x.dtype).eps)
    gradient = jax.grad(fn)

    def curvature(x):
        g, columns = jax.vmap(
            lambda e: jax.jvp(lambda y: gradient(y, args), (x,), (e,)),
            out_axes=(None, 1),
        )(jnp.eye(m, dtype=x.dtype))
        return g, 0.5 * (columns + columns.T)

    def step(state, _):
        x, value, damping = state
        g, h = curvature(x)
        # Gershgorin: enough on the diagonal makes a model convex that is not.
        bound = jnp.max(jnp.sum(jnp.abs(h), 1) - jnp.abs(jnp.diag(h)) - jnp.diag(h))
        bound = jnp.where(_is_positive(h), 0.0, jnp.maximum(bound, 0.0))
        lift = bound * 1.01 + damping + eps
        lifted = h + lift * jnp.eye(m, dtype=x.dtype)
        move = _solve(lifted, g)
        longest = jnp.max(jnp.abs(move))
        move = move * jnp.minimum(1.0, 2.0 / jnp.where(longest > 0, longest, 1.0))
        trial = x - move
        trial_value = fn(trial, args)
        better = trial_value <= value + 4 * eps * (1 + jnp.abs(value))
        state = (
            jnp.where(better, trial, x),
            jnp.where(better, trial_value, value),
            jnp.where(better, damping * 0.1, jnp.maximum(damping, 1e-3) * 10),
        )
        return state, None

    start = (x, fn(x, args), jnp.asarray(0.0, x.dtype))
    (x, value, _), _ = jax.lax.scan(step, start, None, length=steps)
    return x, value


def minimize_newton(
    fn: Callable[[Array, Any], Array],
    starts: Float[Array, "s m"],
    args: Any,
    *,
    steps: int = 30,
    differentiate: Differentiate = "implicit",
) -> LocalMinimum:
    """Minimize a smooth function of a few variables from several starts.

    Takes damped Newton steps from every start, one after the other, and keeps the
    lowest end. Batch with ``vmap``. Each step costs ``m`` gradients and O(m^3).

    Args:
        fn: ``fn(x, args) -> []``; everything differentiable comes in through `args`.
        starts: ``[s, m]`` first points; the gradient by them is zero.
        args: Any pytree.
        steps: Newton steps from each start.
        differentiate: How derivatives with respect to `args` are taken: "implicit" by
            the implicit function theorem at the minimum, "unroll" through the Newton
            steps, "none" not at all.

    Returns:
        The best point, its value and gradient, and the steps.

    Example:
        >>> import jax.numpy as jnp
        >>> def fn(x, center):
        ...     return jnp.sum(jnp.cosh(x - center))
        >>> minimize_newton(fn, jnp.zeros((1, 2)), jnp.array([1.0, 2.0])).x.tolist()
        [1.0, 2.0]
    """
    check_choice("differentiate", differentiate, DIFFERENTIATE)
    fixed = jax.lax.stop_gradient(args) if differentiate != "unroll" else args
    starts = jax.lax.stop_gradient(starts)

    def visit(state, start):
        x, lowest = state
        end, value = _descend(fn, fixed, start, steps)
        better = value < lowest
        return (jnp.where(better, end, x), jnp.where(better, value, lowest)), None

    nothing = (starts[0], jnp.asarray(jnp.inf, starts.dtype))
    (x, _), _ = jax.lax.scan(visit, nothing, starts)
    gradient = jax.grad(fn)
    if differentiate == "implicit":
        x = jax.lax.custom_root(
            lambda y: gradient(y, args), x, lambda _, y: y, dense_tangent_solve
        )
    value = fn(x, fixed if differentiate == "none" else args)
    norm = jnp.max(jnp.abs(gradient(x, fixed)))
    return LocalMinimum(x, value, norm, jnp.asarray(steps, jnp.int32))
