"""Global search over a few variables: a lattice, then Newton in every basin.

Made for profile objectives of one to a few variables that may have several local
minima: cheap on thousands of problems at once, and no basin of the lattice is missed.
Where a lattice would have too many points, a sequence that fills the box evenly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.solvers._fixed_point import Differentiate
from jaxsteer.solvers._small_newton import LocalMinimum, ValueAndGrad, minimize_newton

BUDGET = 2048  # points at which the function is evaluated, whatever the dimension
FEWEST = 3  # points along an axis of a lattice


def lattice_size(m: int, budget: int = BUDGET) -> int:
    """Points along each of `m` axes: 48, or fewer so that the lattice fits `budget`.

    1 where not even 3 along each axis fit: then no lattice is laid.
    """
    # A whole root, not a rounded one: 1331 ** (1 / 3) is below 11.
    size = min(48, round(budget ** (1 / m)))
    size -= size**m > budget
    return size if size >= FEWEST else 1


def _even_points(m: int, budget: int = BUDGET) -> np.ndarray:
    """Points ``[budget, m]`` that fill the unit cube evenly: a Kronecker sequence.

    Multiples, modulo 1, of the powers of ``1 / p`` with ``p^(m + 1) = p + 1``.

    References:
        Roberts 2018, "The unreasonable effectiveness of quasirandom sequences".
    """
    p = 2.0
    for _ in range(60):
        p = (1 + p) ** (1 / (m + 1))
    powers = p ** -np.arange(1.0, m + 1)
    return (0.5 + np.arange(1, budget + 1)[:, None] * powers) % 1


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
    value_and_grad: ValueAndGrad | None = None,
) -> LocalMinimum:
    """Minimize a smooth function of a few variables over all its basins.

    Evaluates at most 2,048 points of the box, refines the lowest by damped Newton (which
    may leave the box) and keeps the best. For up to six variables the points are a
    lattice, of which the lowest local minima are taken; for more they are a sequence
    that fills the box evenly, of which the lowest are. Batch with ``vmap``.

    Args:
        fn: ``fn(x, args) -> []``; everything differentiable comes in through `args`.
        args: Any pytree.
        low: ``[m]`` lower corner of the box.
        high: ``[m]`` upper corner.
        basins: How many basins are refined.
        steps: The most Newton steps in each; None takes 8 for one variable (48 lattice
            points leave little to do) and 30 for more. With "unroll" the exact number.
        differentiate: How derivatives with respect to `args` are taken: "implicit" by
            the implicit function theorem at the minimum, "unroll" through the Newton
            steps from the lattice point, "none" not at all.
        value_and_grad: As for :func:`minimize_newton`.

    Returns:
        The best point, its value and gradient, and the steps.
    """
    steps = (8 if low.shape[0] == 1 else 30) if steps is None else steps
    low, high = jax.lax.stop_gradient((low, high))
    m = low.shape[0]
    if lattice_size(m) > 1:
        points = _lattice(low, high)
    else:
        points = low + (high - low) * jnp.asarray(_even_points(m), low.dtype)
    flat = points.reshape(-1, m)
    values = jax.vmap(lambda x: fn(x, jax.lax.stop_gradient(args)))(flat)
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    if points.ndim > 2 or m == 1:
        minima = _local_minima(values.reshape(points.shape[:-1])).reshape(-1)
        values = jnp.where(minima, values, jnp.inf)
    lowest = jax.lax.top_k(-values, basins)[1]
    return minimize_newton(
        fn,
        flat[lowest],
        args,
        steps=steps,
        differentiate=differentiate,
        value_and_grad=value_and_grad,
    )


MIXTURES = 512
APART = 0.1  # share of the shapes' range within which a start is another one's


@cache
def _shares(n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares ``[MIXTURES - 1, G]`` of the groups, and signs; the same at every call.

    Each group alone, the middle of pairs, then two to four groups in random shares.
    """
    rng = np.random.default_rng(0)
    alone = np.eye(n_groups)[: MIXTURES // 4]
    rows = MIXTURES - 1 - len(alone)
    picked = rng.random((rows, n_groups)).argsort(1).argsort(1)
    members = rng.integers(2, 5, rows)
    mixed = rng.exponential(size=(rows, n_groups)) * (picked < members[:, None])
    mixed[: rows // 4] = picked[: rows // 4] < 2
    mixed = mixed / mixed.sum(1, keepdims=True)
    shares = np.concatenate([alone, mixed])
    return shares, rng.choice([-1.0, 1.0], shares.shape)


def mixtures(
    shapes: Float[Array, "G m"], mass: Float[Array, " G"], *, reflect: bool
) -> Float[Array, "n m"]:
    """Points to start from: the groups' shapes, their mean and mixtures of a few.

    Args:
        shapes: ``[G, m]``, means in the first half of each row, log-scales in the other.
        mass: ``[G]`` sizes of the groups.
        reflect: Whether a shape with its means turned is as good: then mixtures with the
            means turned towards the largest group's, and with random signs, as well.

    Returns:
        512 points, or 1,536.
    """
    shares, signs = (jnp.asarray(a, shapes.dtype) for a in _shares(shapes.shape[0]))
    mean = (mass / jnp.sum(mass))[None]
    shares = jnp.concatenate([shares, mean])
    if not reflect:
        return shares @ shapes
    half = shapes.shape[1] // 2
    loc, log_scale = shapes[:, :half], shapes[:, half:]
    scales = shares @ log_scale
    towards = jnp.where(loc @ loc[jnp.argmax(mass)] < 0, -1.0, 1.0)
    signs = jnp.concatenate([signs, jnp.ones_like(mean)])
    turned = [shares, shares * towards, shares * signs]
    return jnp.concatenate([jnp.concatenate([w @ loc, scales], 1) for w in turned])


def spread_out(
    points: Float[Array, "n m"], values: Float[Array, " n"], count: int
) -> Float[Array, "count m"]:
    """The lowest points of which none is close to a lower one.

    Args:
        points: ``[n, m]``.
        values: ``[n]``; one that is not finite is passed over.
        count: How many to take.
    """
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    width = jnp.max(points, 0) - jnp.min(points, 0)
    width = APART * jnp.where(width > 0, width, 1.0)

    def take(left: Array, _):
        # Where every point is close to one taken before: the lowest of all, again.
        best = jnp.where(jnp.all(jnp.isinf(left)), jnp.argmin(values), jnp.argmin(left))
        close = jnp.all(jnp.abs(points - points[best]) <= width, 1)
        return jnp.where(close, jnp.inf, left), points[best]

    return jax.lax.scan(take, values, None, length=count)[1]
