"""Derivatives of a minimum by its data: the implicit function theorem, when asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float, PyTree
from jaxsteer.linalg import solve


def at_stationary_point(
    value_and_grad: Callable[[Array, Any], tuple[Array, Array]],
    x: Float[Array, " m"],
    value: Float[Array, ""],
    args: Any,
    *,
    held: bool = False,
) -> tuple[Float[Array, " m"], Float[Array, ""]]:
    """Give a stationary point and its value the derivatives that they have by `args`.

    Values pass through unchanged, and unless derivatives are taken nothing is added to
    the program. Both modes and any order, in any nesting of ``vmap`` and ``grad``.

    Args:
        value_and_grad: ``(x, args) -> (value [], gradient in x [m])``, whose gradient is
            0 at `x`.
        x: ``[m]`` the point; what it was computed from does not count.
        value: ``[]`` the value there.
        args: Any pytree.
        held: Give `x` the first derivative 0 (the envelope theorem: what only depends
            on the minimum does not see it move); second ones are right all the same.

    Returns:
        `x` with the derivative ``-H^-1 d(gradient)/d(args)``, ``H`` the Hessian, which
        costs O(m^3), and `value` with that of the function.
    """
    # What the function closes over comes in as an argument, maybe batched or traced.
    pure, hidden = jax.closure_convert(value_and_grad, x, args)
    hidden = jax.lax.stop_gradient(hidden)

    @jax.custom_jvp
    def attach(x: Array, value: Array, args: PyTree, hidden: list[Any]):
        return x, value

    @attach.defjvp
    def _rule(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
        x, value, args, hidden = primals
        # Through the rule again, so that higher derivatives know that x moves.
        x, value = attach(x, value, args, hidden)

        def by_args(parameters: PyTree) -> tuple[Array, Array]:
            return pure(x, parameters, *hidden)

        def slope(y: Array) -> Array:
            return pure(y, args, *hidden)[1]

        (_, gradient), (dvalue, force) = jax.jvp(by_args, (args,), (tangents[2],))
        hessian = jax.jacfwd(slope)(x)
        dx = -_solve_symmetric(0.5 * (hessian + hessian.T), force)
        return (x, value), (dx, dvalue + jnp.sum(gradient * dx))

    @jax.custom_jvp
    def attach_held(x: Array, value: Array, args: PyTree, hidden: list[Any]):
        return x, value

    @attach_held.defjvp
    def _held_rule(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
        _, _, args, hidden = primals
        x, value = attach(*primals)
        _, dvalue = jax.jvp(lambda p: pure(x, p, *hidden)[0], (args,), (tangents[2],))
        return (x, value), (jnp.zeros_like(x), dvalue)

    x, value = jax.lax.stop_gradient((x, value))
    return (attach_held if held else attach)(x, value, args, hidden)


def _solve_symmetric(matrix: Array, b: Array) -> Array:
    """The solution as a linear function of `b`, which can be transposed."""
    if b.shape[0] == 1:
        return b / matrix[0]
    return jax.lax.custom_linear_solve(
        lambda x: matrix @ x,
        b,
        lambda _, rhs: solve(matrix, rhs[:, None])[:, 0],
        symmetric=True,
    )
