"""Fixed points ``x = step(x, args)`` with a choice of derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, Float
from jaxsteer._varying import vary_together
from jaxsteer.linalg import solve

Differentiate = Literal["implicit", "unroll", "none"]
DIFFERENTIATE = ("implicit", "unroll", "none")


class FixedPoint(NamedTuple):
    """What :func:`fixed_point` found.

    Attributes:
        x: ``[m]`` the last iterate.
        change: ``[]`` largest change in the last step, the residual.
        steps: ``[]`` number of steps, int32.
    """

    x: Float[Array, " m"]
    change: Float[Array, ""]
    steps: Array


def dense_tangent_solve(
    linear: Callable[[Array], Array], y: Float[Array, " m"]
) -> Float[Array, " m"]:
    """Solve ``linear(x) = y`` for a small vector by forming the matrix."""
    return solve(jax.jacobian(linear)(jnp.zeros_like(y)), y[:, None])[:, 0]


def fixed_point(
    step: Callable[[Array, Any], Array],
    start: Float[Array, " m"],
    args: Any,
    *,
    max_steps: int = 1000,
    tolerance: float | None = None,
    differentiate: Differentiate = "implicit",
) -> FixedPoint:
    """Iterate ``x <- step(x, args)`` until it stops moving.

    Args:
        step: The map; everything differentiable must come in through `args`.
        start: ``[m]`` first iterate; the gradient with respect to it is zero.
        args: Any pytree.
        max_steps: Step limit; with "unroll" the exact number of steps.
        tolerance: Largest change that counts as none; None takes ``10 eps``.
        differentiate: "implicit" (implicit function theorem: any order, both modes,
            right only at convergence), "unroll" (through the steps) or "none".

    Returns:
        The last iterate, its residual and the number of steps.
    """
    check_choice("differentiate", differentiate, DIFFERENTIATE)
    eps = float(jnp.finfo(start.dtype).eps)
    start = vary_together(jax.lax.stop_gradient(start), args)
    limit = 10 * eps if tolerance is None else tolerance

    if differentiate == "unroll":

        def unrolled(x: Array, _):
            new = step(x, args)
            return new, jnp.max(jnp.abs(new - x))

        x, changes = jax.lax.scan(unrolled, start, None, length=max_steps)
        return FixedPoint(x, changes[-1], jnp.asarray(max_steps, jnp.int32))

    def iterate(residual_fn: Callable[[Array], Array], x0: Array):
        def body(state: tuple[Array, Array, Array]):
            x, _, count = state
            gap = residual_fn(x)
            return x + gap, jnp.max(jnp.abs(gap)), count + 1

        def unfinished(state: tuple[Array, Array, Array]):
            _, change, count = state
            return (change > limit) & (count < max_steps)

        x, change, count = jax.lax.while_loop(
            unfinished,
            body,
            vary_together((x0, jnp.asarray(jnp.inf, x0.dtype), jnp.zeros_like(limit))),
        )
        return x, (change, count)

    limit = jnp.asarray(limit, start.dtype)
    if differentiate == "none":
        args = jax.lax.stop_gradient(args)
        x, (change, count) = iterate(lambda x: step(x, args) - x, start)
    else:
        x, (change, count) = jax.lax.custom_root(
            lambda x: step(x, args) - x,
            start,
            iterate,
            dense_tangent_solve,
            has_aux=True,
        )
    return FixedPoint(x, change, count.astype(jnp.int32))


def at_root(
    gap: Callable[[Array], Array],
    x: Array,
    tangent_solve: Callable[..., Array] = dense_tangent_solve,
) -> Array:
    """Give a root its derivatives by all that `gap` closes over.

    Args:
        gap: The function that is 0 at `x`.
        x: The root, found by whatever means.
        tangent_solve: Solves ``linear(x) = y`` for the derivative of `gap`.

    Returns:
        `x`, with the derivatives of the implicit function theorem.
    """
    x = jax.lax.stop_gradient(x)
    return jax.lax.custom_root(gap, x, lambda _, x: x, tangent_solve)
