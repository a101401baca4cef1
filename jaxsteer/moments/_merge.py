"""Joins moments that were accumulated apart: Chan's formula, up to fourth moments."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array
from jaxsteer.linalg import matmul
from jaxsteer.moments._state import MomentState, owners


def merge(first: MomentState, *others: MomentState) -> MomentState:
    """Join what was accumulated apart, in any order. O(S d^2).

    Args:
        first: A state.
        others: States of the same sizes.

    Returns:
        The state of all their rows together.

    Raises:
        ValueError: If the states have other sizes.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer.moments import init, update
        >>> empty = init(1, n_classes=1)
        >>> zero = jnp.zeros(1, int)
        >>> low = update(empty, jnp.array([[0.0]]), zero)
        >>> high = update(empty, jnp.array([[2.0]]), zero)
        >>> both = merge(low, high)
        >>> both.mean.tolist(), both.cov.tolist()
        ([[1.0]], [[[1.0]]])
    """
    shapes = [
        (s.mean.shape, s.cov.shape, s.mass.dtype, s.n_groups) for s in (first, *others)
    ]
    if len(set(shapes)) != 1:
        raise ValueError(
            f"States of different sizes cannot be merged; means, covariances, dtypes and "
            f"groups are {', '.join(map(str, shapes))}."
        )
    return _merge([first, *others])


@jax.jit
def _merge(states: list[MomentState]):
    return merged(states)


def merge_over(state: MomentState, axis_name: str) -> MomentState:
    """Join the states of all devices along an axis of a ``shard_map`` or ``vmap``.

    Every device gets the state of all rows; one sum over the devices of what
    :func:`merge` adds.

    Args:
        state: The state of this device's own rows (start each from :func:`init`).
        axis_name: The axis.
    """
    return _joined([state], lambda value: jax.lax.psum(sum(value), axis_name))


def merged(states: list[MomentState]):
    return _joined(states, sum)


def _joined(states: list[MomentState], add: Any) -> MomentState:
    """Bring every part to the common means, where moments are sums."""
    mass = add([s.mass for s in states])
    # Not "above 0": NaN, from codes out of range, must go on.
    safe = jnp.where(mass != 0, mass, 1.0)
    share = [s.mass / safe for s in states]
    mean = add([p[:, None] * s.mean for p, s in zip(share, states, strict=True)])
    # About the mean once more: the first sum rounds at the size of the mean itself.
    mean = mean + add(
        [p[:, None] * (s.mean - mean) for p, s in zip(share, states, strict=True)]
    )
    mean = jnp.where(mass[:, None] != 0, mean, 0.0)
    shift = [jnp.where(s.mass[:, None] > 0, s.mean - mean, 0.0) for s in states]
    d = mean.shape[-1]
    far = [jnp.sum(b * b, -1) for b in shift]
    pairs = list(zip(states, shift, share, far, strict=True))
    level = add([p * (s.level + f / d) for s, _, p, f in pairs])
    unit = jnp.where(level > 0, level, 1.0)

    owner = owners(states[0])
    kept = states[0].cov.shape[0]

    def pool(values: Array):
        return jnp.zeros((kept, *values.shape[1:]), values.dtype).at[owner].add(values)

    def moved(state: MomentState, b: Array):
        own = pool(state.mass)[:, None, None] * state.cov
        return own + outer_products(owner, kept, state.mass, b)

    total = pool(mass)
    cov = add([moved(s, b) for s, b, _, _ in pairs])
    cov = cov / jnp.where(total > 0, total, 1.0)[:, None, None]
    higher = [_shifted(s, b, f, unit) for s, b, _, f in pairs]
    return dataclasses.replace(
        states[0],
        mass=mass,
        squares=add([s.squares for s in states]),
        mean=mean,
        cov=cov,
        third=add([p[:, None] * h[0] for p, h in zip(share, higher, strict=True)]),
        fourth=add([p * h[1] for p, h in zip(share, higher, strict=True)]),
        level=level,
    )


def outer_products(owner: np.ndarray, kept: int, mass: Array, b: Array):
    """Sums of ``mass b b'`` over the cells of each covariance, ``[kept, d, d]``."""
    if kept == 1:
        return matmul((mass[:, None] * b).T, b)[None]
    each = mass[:, None, None] * b[:, :, None] * b[:, None, :]
    return jnp.zeros((kept, *each.shape[1:]), b.dtype).at[owner].add(each)


def _shifted(state: MomentState, b: Array, far: Array, unit: Array):
    """Third and fourth moments about a mean further off by `b`, in new units."""
    # |y + b|^2 (y + b) and |y + b|^4, with y of mean zero.
    ratio = state.level / unit
    b = b / jnp.sqrt(unit)[:, None]
    far = far / unit
    trace = ratio * b.shape[-1]
    if state.scatter != "cell":
        # These need the cell's own covariance; without it they are not kept.
        return jnp.zeros_like(state.third), jnp.zeros_like(state.fourth)
    turned = matmul(state.cov / unit[:, None, None], b[..., None])[..., 0]
    # As a power: the root of 0, of a state without rows, has no derivative.
    old = state.third * (ratio**1.5)[:, None]
    third = old + 2 * turned + (far + trace)[:, None] * b
    fourth = state.fourth * ratio**2 + far**2 + 2 * far * trace
    fourth = fourth + 4 * jnp.sum(b * turned, -1) + 4 * jnp.sum(b * old, -1)
    return third, fourth
