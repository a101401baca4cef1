"""Global search over a few variables: a lattice, then Newton in every basin.

Made for profile objectives of one to a few variables that may have several local
minima: cheap on thousands of problems at once, and no basin of the lattice is missed.
"""

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


class LatticeSearch(NamedTuple):
    """What :func:`search_lattice` found.

    Attributes:
        x: ``[m]`` the best point.
        value: ``[]`` the objective there.
        gradient_norm: ``[]`` largest entry of the gradient there.
        steps: ``[]`` Newton steps taken in each basin, int32.
    """

    x: Float[Array, " m"]
    value: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    steps: Array


def lattice_size(m: int, budget: int = 2048) -> int:
    """Points along each of `m` axes: 48, or fewer so that the lattice fits `budget`."""
    return max(3, min(48, int(budget ** (1 / m))))


def _lattice(low: Array, high: Array) -> Array:
    m = low.shape[0]
    size = lattice_size(m)
    unit = jnp.linspace(0.0, 1.0, size, dtype=low.dtype)
    axes = jnp.meshgrid(*([unit] * m), indexing="ij")
    return low + (high - low) * jnp.stack(axes, -1)


def _local_minima(values: Array) -> Array:
    """Mask of lattice points not above any neighbor along an axis."""
    mask = jnp.ones(values.shape, bool)
    for axis in range(values.ndim):
        pad = [(0, 0)] * values.ndim
        pad[axis] = (1, 1)
        padded = jnp.pad(values, pad, constant_values=jnp.inf)
        size = values.shape[axis]
        before = jax.lax.slice_in_dim(padded, 0, size, axis=axis)
        after = jax.lax.slice_in_dim(padded, 2, size + 2, axis=axis)
        mask = mask & (values <= before) & (values <= after)
    return mask


def _newton(fn, args, x, steps):
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
        # Gershgorin: enough on the diagonal makes the model convex.
        bound = jnp.max(jnp.sum(jnp.abs(h), 1) - jnp.abs(jnp.diag(h)) - jnp.diag(h))
        lift = jnp.maximum(bound, 0.0) * 1.01 + damping + eps
        lifted = h + lift * jnp.eye(m, dtype=x.dtype)
        move = g / lifted[0] if m == 1 else solve_small_psd(lifted, g)
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


def search_lattice(
    fn: Callable[[Array, Any], Array],
    args: Any,
    low: Float[Array, " m"],
    high: Float[Array, " m"],
    *,
    basins: int = 2,
    steps: int | None = None,
    differentiate: Differentiate = "implicit",
) -> LatticeSearch:
    """Minimize a smooth function of a few variables over all its basins.

    Evaluates a lattice on the box, takes its lowest local minima, refines each by
    damped Newton (which may leave the box) and keeps the best. Batch with ``vmap``.

    Args:
        fn: ``fn(x, args) -> []``; everything differentiable comes in through `args`.
        args: Any pytree.
        low: ``[m]`` lower corner of the box.
        high: ``[m]`` upper corner.
        basins: How many basins are refined.
        steps: Newton steps in each; None takes 8 for one variable (48 lattice points
            leave little to do) and 30 for more.
        differentiate: How derivatives with respect to `args` are taken: "implicit" by
            the implicit function theorem at the minimum, "unroll" through the Newton
            steps from the lattice point, "none" not at all.

    Returns:
        The best point, its value and gradient, and the steps.
    """
    check_choice("differentiate", differentiate, DIFFERENTIATE)
    steps = (8 if low.shape[0] == 1 else 30) if steps is None else steps
    fixed = jax.lax.stop_gradient(args) if differentiate != "unroll" else args
    low, high = jax.lax.stop_gradient((low, high))
    points = _lattice(low, high)
    m = low.shape[0]
    flat = points.reshape(-1, m)
    values = jax.vmap(lambda x: fn(x, jax.lax.stop_gradient(args)))(flat)
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    minima = _local_minima(values.reshape(points.shape[:-1])).reshape(-1)
    values = jnp.where(minima, values, jnp.inf)

    def refine(state, _):
        x, lowest, values = state
        best = jnp.argmin(values)
        end, value = _newton(fn, fixed, flat[best], steps)
        better = value < lowest
        x, lowest = jnp.where(better, end, x), jnp.where(better, value, lowest)
        values = jnp.where(jnp.arange(values.size) == best, jnp.inf, values)
        return (x, lowest, values), None

    start = (flat[0], jnp.asarray(jnp.inf, low.dtype), values)
    (x, _, _), _ = jax.lax.scan(refine, start, None, length=basins)
    gradient = jax.grad(fn)
    if differentiate == "implicit":
        x = jax.lax.custom_root(
            lambda y: gradient(y, args), x, lambda _, y: y, dense_tangent_solve
        )
    value = fn(x, fixed if differentiate == "none" else args)
    norm = jnp.max(jnp.abs(gradient(x, fixed)))
    return LatticeSearch(x, value, norm, jnp.asarray(steps, jnp.int32))
