"""Newton's method for a few variables, from one start or several."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, Float, PyTree
from jaxsteer._varying import vary_together
from jaxsteer.solvers._fixed_point import DIFFERENTIATE, Differentiate
from jaxsteer.solvers._stationary import at_stationary_point

LONGEST = 2.0  # largest change of a variable in one step
STILL = 256  # rounding errors of the variables; a step below leaves none to take


ValueAndGrad = Callable[[Array, Any], tuple[Array, Array]]


class LocalMinimum(NamedTuple):
    """What a search over a few variables found.

    Attributes:
        x: ``[m]`` the best point.
        value: ``[]`` the objective there.
        gradient_norm: ``[]`` largest entry of the gradient there; no derivative.
        steps: ``[]`` Newton steps taken from each start, int32.
    """

    x: Float[Array, " m"]
    value: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    steps: Array


class _State(NamedTuple):
    """A descent from one start: where it is, and the model of the function there."""

    x: Array
    value: Array
    gradient: Array
    hessian: Array
    damping: Array
    moves: Array  # bool: whether the last step was more than rounding


def minimize_newton(
    fn: Callable[[Array, Any], Array],
    starts: Float[Array, "s m"],
    args: Any,
    *,
    steps: int = 30,
    differentiate: Differentiate = "implicit",
    value_and_grad: ValueAndGrad | None = None,
) -> LocalMinimum:
    """Minimize a smooth function of a few variables from several starts.

    Takes damped Newton steps from all starts at once until none moves any more, and
    keeps the lowest end. Batch with ``vmap``. Each step costs one value, ``m`` products
    with the Hessian and O(m^3). The program does not grow with `m` or the number of
    starts: the function is traced once, for its value, gradient and Hessian together.

    Args:
        fn: ``fn(x, args) -> []``; everything differentiable comes in through `args`.
        starts: ``[s, m]`` first points; the gradient by them is zero.
        args: Any pytree.
        steps: The most Newton steps from each start; with "unroll" the exact number.
        differentiate: How derivatives with respect to `args` are taken: "implicit" by
            the implicit function theorem at the minimum, "unroll" through the Newton
            steps, "none" not at all.
        value_and_grad: ``(x, args) -> (value, gradient in x)`` of `fn`, where they are
            known in fewer operations than reverse mode takes; the Hessian is the
            gradient's forward derivative.

    Returns:
        The best point, its value and gradient, and the steps.

    Example:
        >>> import jax.numpy as jnp
        >>> def fn(x, center):
        ...     return jnp.sum(jnp.cosh(x - center))
        >>> minimize_newton(fn, jnp.zeros((1, 2)), jnp.array([1.0, 2.0])).x.tolist()
        [1.0, 2.0]
    """
    check_choice("differentiate", differentiate, (*DIFFERENTIATE, "held"))
    # One program for one function: what is compiled outside jit is kept, too.
    starts, args = vary_together((jnp.asarray(starts), args))
    return _minimize(fn, value_and_grad, steps, differentiate, starts, args)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _minimize(
    fn: Callable[..., Any],
    both: Callable[..., Any] | None,
    steps: int,
    differentiate: str,
    starts: Array,
    args: PyTree,
) -> LocalMinimum:
    both = jax.value_and_grad(fn) if both is None else both
    fixed = jax.lax.stop_gradient(args)
    starts = jax.lax.stop_gradient(starts)
    if differentiate == "unroll":
        advance = jax.vmap(partial(_advance, both, args))
        state = advance(vary_together(jax.vmap(_begin)(starts)))
        state, _ = jax.lax.scan(lambda s, _: (advance(s), None), state, length=steps)
        taken = jnp.asarray(steps, jnp.int32)
    else:
        advance = jax.vmap(partial(_advance, both, fixed))

        def unfinished(loop: tuple[_State, Array]):
            state, count = loop
            return (count <= steps) & jnp.any(state.moves)

        # The first turn only measures the starts.
        state, count = jax.lax.while_loop(
            unfinished,
            lambda loop: (advance(loop[0]), loop[1] + 1),
            vary_together((jax.vmap(_begin)(starts), jnp.zeros((), jnp.int32))),
        )
        taken = count - 1
    best = jnp.argmin(jnp.where(jnp.isnan(state.value), jnp.inf, state.value))
    x, value, gradient = (leaf[best] for leaf in state[:3])
    # Still at infinite height: no start, nor a point near it, had a finite value.
    value = jnp.where(jnp.isinf(value), jnp.nan, value)
    if differentiate in ("implicit", "held"):
        held = differentiate == "held"
        x, value = at_stationary_point(both, x, value, args, held=held)
    norm = jnp.max(jnp.abs(gradient)) + 0 * value
    return LocalMinimum(x, value, jax.lax.stop_gradient(norm), taken)


def _begin(x: Array) -> _State:
    """A state whose first step leads to `x` itself, where everything is measured."""
    flat = jnp.zeros((*x.shape, *x.shape), x.dtype)
    one = jnp.ones((), x.dtype)
    # x - 0 * inf would be no number: the model at infinite height is flat.
    return _State(x, jnp.inf * one, 0 * x, flat, 0 * one, one > 0)


def _advance(both: ValueAndGrad, args: Any, state: _State) -> _State:
    """One damped step; one that does not lower the value raises the damping instead."""
    eps = float(jnp.finfo(state.x.dtype).eps)
    move = _newton_move(state.gradient, state.hessian, state.damping)
    longest = jnp.max(jnp.abs(move))
    move = move * jnp.minimum(1.0, LONGEST / jnp.where(longest > 0, longest, 1.0))
    trial = state.x - move
    value, gradient, hessian = _measure(both, trial, args)
    first = jnp.isinf(state.value)
    # Near the end values differ by their rounding alone, and the slopes tell.
    flatter = jnp.max(jnp.abs(gradient)) < jnp.max(jnp.abs(state.gradient))
    slack = jnp.where(flatter, 64.0, 4.0) * eps * (1 + jnp.abs(state.value))
    rise = value - jnp.where(first, value, state.value)
    better = (rise <= slack) & jnp.isfinite(value)
    # A start outside the domain stays where it is, at its own value.
    damping = jnp.where(
        better, state.damping * 0.1, jnp.maximum(state.damping, 1e-3) * 10
    )
    size = STILL * eps * (1 + jnp.max(jnp.abs(trial)))
    new = _State(trial, value, gradient, hessian, damping, first | (longest > size))
    kept = state._replace(damping=damping, moves=new.moves & ~first)
    return jax.tree.map(partial(jnp.where, better), new, kept)


def _measure(both: ValueAndGrad, x: Array, args: Any) -> tuple[Array, Array, Array]:
    """Value, gradient and Hessian, from one trace of the function."""

    def column(direction: Array):
        return jax.jvp(lambda y: both(y, args), (x,), (direction,))

    (value, gradient), (_, hessian) = jax.vmap(column, out_axes=((None, None), 0))(
        vary_together(jnp.eye(x.shape[0], dtype=x.dtype), x)
    )
    return value, gradient, hessian


def _newton_move(gradient: Array, hessian: Array, damping: Array) -> Array:
    """``(H + damping diag H)^-1 g`` by elimination; pivots that are not positive turn.

    Vectorized over a batch and one loop over the variables, without LAPACK. Turning a
    pivot makes the model convex, so that the step descends. The matrix counts as a
    constant: Newton's method is a fixed point whatever the matrix, and derivatives
    through the steps are those of the gradients alone.
    """
    m = gradient.shape[0]
    eps = float(jnp.finfo(gradient.dtype).eps)
    hessian, damping = jax.lax.stop_gradient((hessian, damping))
    size = jnp.abs(jnp.diagonal(hessian))
    # Relative to each variable's own scale, and positive where it has none.
    scale = jnp.where(size > 0, size, 1.0)
    hessian = 0.5 * (hessian + hessian.T) + jnp.diag(damping * scale)
    if m == 1:
        return gradient / jnp.maximum(jnp.abs(hessian[0]), eps * scale)
    rows = jnp.concatenate([hessian, gradient[:, None]], 1)
    variables = jnp.arange(m)

    def eliminate(k: Array, rows: Array):
        pivot_row = rows[k]
        pivot = jnp.maximum(jnp.abs(pivot_row[k]), m * eps * scale[k])
        pivot_row = pivot_row / pivot
        own = (variables == k)[:, None]
        rest = rows - jnp.where(own, 0.0, rows[:, k, None]) * pivot_row
        return jnp.where(own, pivot_row, rest)

    return jax.lax.fori_loop(0, m, eliminate, rows)[:, m]
