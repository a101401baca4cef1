"""Global search over a few variables: a lattice, then Newton in every basin.

Made for profile objectives of one to a few variables that may have several local
minima: cheap on thousands of problems at once, and no basin of the lattice is missed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.solvers._fixed_point import Differentiate
from jaxsteer.solvers._small_newton import LocalMinimum, minimize_newton


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


def search_lattice(
    fn: Callable[[Array, Any], Array],
    args: Any,
    low: Float[Array, " m"],
    high: Float[Array, " m"],
    *,
    basins: int = 2,
    steps: int | None = None,
    differentiate: Differentiate = "implicit",
) -> LocalMinimum:
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
    steps = (8 if low.shape[0] == 1 else 30) if steps is None else steps
    low, high = jax.lax.stop_gradient((low, high))
    points = _lattice(low, high)
    m = low.shape[0]
    flat = points.reshape(-1, m)
    values = jax.vmap(lambda x: fn(x, jax.lax.stop_gradient(args)))(flat)
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    minima = _local_minima(values.reshape(points.shape[:-1])).reshape(-1)
    values = jnp.where(minima, values, jnp.inf)
    starts = []
    for _ in range(basins):
        best = jnp.argmin(values)
        starts.append(flat[best])
        values = values.at[best].set(jnp.inf)
    return minimize_newton(
        fn, jnp.stack(starts), args, steps=steps, differentiate=differentiate
    )
