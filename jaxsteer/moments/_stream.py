"""Moments of data that come in batches, never held whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_codes,
    check_finite,
    check_same_length,
    check_weights,
    is_concrete,
)
from jaxsteer._labels import cell_codes
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.linalg import matmul, symmetrize
from jaxsteer.moments._cells import _regroup
from jaxsteer.moments._merge import merged, outer_products
from jaxsteer.moments._state import MomentState, init, owners


def update(
    state: MomentState,
    x: Float[ArrayLike, "n d"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"] | None = None,
    *,
    weights: Float[ArrayLike, " n"] | None = None,
) -> MomentState:
    """Add one batch of rows.

    The batch's own moments are taken about its own means and merged (Chan's formula), in
    the precision of the state: half precision rows are safe. O(n d^2), compiled once for
    every batch length. Traceable: in a ``jit`` over several devices the rows may be
    sharded; in a ``shard_map`` see :func:`merge_over`.

    Args:
        state: What is known so far.
        x: ``[n, d]`` features.
        label: ``[n]`` class codes.
        group: ``[n]`` group codes; None where the state has one group.
        weights: ``[n]`` sample weights, at least 0; None for 1.

    Returns:
        The new state.

    Raises:
        ValueError: If shapes, codes, weights or values are unusable. While codes are
            traced, one out of range makes the state NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> state = init(1, n_classes=1)
        >>> for batch in ([[0.0], [2.0]], [[4.0]]):
        ...     x = jnp.array(batch)
        ...     state = update(state, x, jnp.zeros(len(x), int))
        >>> state.mass.tolist(), state.mean.tolist()
        ([3.0], [[2.0]])

    References:
        Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance".
    """
    d = state.mean.shape[1]
    if np.ndim(x) != 2 or np.shape(x)[1] != d:
        raise ValueError(f"x must have shape [n, {d}], got {np.shape(x)}.")
    if group is None:
        if state.n_groups != 1:
            raise ValueError(f"The state has {state.n_groups} groups: pass group=...")
        group = np.zeros(np.shape(x)[0], np.int32)
    given = {} if weights is None else {"weights": weights}
    check_same_length(x=x, label=label, group=group, **given)
    check_finite("x", x)
    check_codes("label", label, state.n_classes)
    check_codes("group", group, state.n_groups)
    if weights is None:
        weights = np.ones(np.shape(x)[0], state.mass.dtype)
    elif is_concrete(weights):
        # A batch may be of no weight at all, as padding is.
        check_finite("weights", weights)
        values = np.asarray(weights)
        if (values < 0).any():
            check_weights(weights)
    return _updated(state, jnp.asarray(x), *map(jnp.asarray, (label, group, weights)))


@jax.jit
def _updated(state, x, label, group, weights):
    dtype = state.mass.dtype
    x, weights = x.astype(dtype), weights.astype(dtype)
    n_cells, d = state.mean.shape
    known = (label >= 0) & (label < state.n_classes)
    known = known & (group >= 0) & (group < state.n_groups)
    cell = cell_codes(label, group, state.n_groups)
    cell = jnp.where(known, cell, 0)
    mass = jnp.zeros(n_cells, dtype).at[cell].add(weights)
    # A code out of range must not be taken for another cell.
    spoilt = jnp.where(jnp.all(known), jnp.zeros((), dtype), jnp.nan)
    mass = mass + spoilt
    squares = jnp.zeros(n_cells, dtype).at[cell].add(weights * weights)
    safe = jnp.where(mass > 0, mass, 1.0)
    # A few rows tell where about all are; what that leaves is corrected below.
    origin = jnp.mean(x[:: max(x.shape[0] // 256, 1)], 0) + spoilt
    sums, far = _first_sums(x, cell, weights, origin, n_cells)
    # Any length of about the size of a row keeps its powers within float32.
    rough = far / safe / d
    rough = jnp.where(rough > 0, rough, 1.0)
    center = origin + sums / safe[:, None]
    found = _sums(state, x, cell, weights, center, rough)
    level = rough * found.level / safe / d
    # From units of the rough length to those of the cell's own spread.
    ratio = jnp.where(level > 0, rough / jnp.where(level > 0, level, 1.0), 0.0)
    owner, kept = owners(state), state.cov.shape[0]
    total = jnp.zeros(kept, dtype).at[owner].add(mass)
    total = jnp.where(total > 0, total, 1.0)
    # Rows have about no mean of their own, up to the rounding of the center.
    rest = found.first / safe[:, None]
    moved = outer_products(owner, kept, mass, rest)
    gram = symmetrize(found.gram - moved)
    batch = dataclasses.replace(
        state,
        mass=mass,
        squares=squares,
        mean=jnp.where(mass[:, None] > 0, center + rest, 0.0),
        cov=gram / total[:, None, None],
        third=found.third * (ratio * jnp.sqrt(ratio) / safe)[:, None],
        fourth=found.fourth * ratio**2 / safe,
        level=level,
    )
    return merged([state, batch])


FEW_CELLS = 16


def _by_cell(values, codes, weights, n_cells):
    """Weighted sums of the rows ``values [m, d]`` of each cell."""
    if n_cells > FEW_CELLS:
        empty = jnp.zeros((n_cells, values.shape[1]), values.dtype)
        return empty.at[codes].add(weights[:, None] * values)
    mine = jnp.where(codes == jnp.arange(n_cells)[:, None], weights, 0.0)
    return matmul(mine, values)


def _first_sums(x, cell, weights, origin, n_cells):
    """Sums of rows about the origin, and of their squared lengths, by cell."""
    size = 1024
    n, d = x.shape
    short = -n % size if n > size else 0

    def add(total, block):
        x, codes, share = block
        y = x - origin
        sums = total[0] + _by_cell(y, codes, share, n_cells)
        return (sums, total[1].at[codes].add(share * jnp.sum(y * y, -1))), None

    empty = jnp.zeros((n_cells, d), x.dtype), jnp.zeros(n_cells, x.dtype)
    whole = (n // size) * size if short else n
    parts = (x[:whole], cell[:whole], weights[:whole])
    rows = min(size, n)
    parts = jax.tree.map(lambda v: v.reshape(-1, rows, *v.shape[1:]), parts)
    total, _ = jax.lax.scan(add, empty, parts)
    if short:
        total, _ = add(total, (x[whole:], cell[whole:], weights[whole:]))
    return total


class _Sums(NamedTuple):
    """Sums over rows about their cells' means, in units of a rough length by cell."""

    gram: Array
    first: Array
    level: Array
    third: Array
    fourth: Array


def _sums(state, x, cell, weights, center, rough) -> _Sums:
    """Sum products of rows, a block that fits the cache at a time.

    All that is read of a block is read once, so that the pass costs little more than
    its matrix products.
    """
    n, d = x.shape
    n_cells, kept = state.mass.shape[0], state.cov.shape[0]
    size = next((s for s in (1024, 256) if 8 * s * kept <= n), 32)
    blocks = _regroup(owners(state)[cell], kept, size)
    slots = len(blocks.owner) * size
    # Slots without a row take the last one, with no weight.
    row = jnp.full(slots, n - 1, jnp.int32).at[blocks.place].set(jnp.arange(n))
    shares = jnp.zeros(slots, x.dtype).at[blocks.place].set(weights)
    alike = state.scatter == "cell"  # then a block is of one cell

    def add_block(total, block):
        owner, row, share = block
        codes = cell[row]
        y = x[row] - (center[owner] if alike else center[codes])
        norms = jnp.sum(y * y, -1) / (rough[owner] if alike else rough[codes])
        gram = total.gram.at[owner].add(matmul((share[:, None] * y).T, y))
        level = total.level.at[codes].add(share * norms)
        if alike:
            first = total.first.at[owner].add(share @ y)
        else:
            first = total.first + _by_cell(y, codes, share, n_cells)
        if not alike:
            return total._replace(gram=gram, first=first, level=level), None
        third = (share * norms) @ y / jnp.sqrt(rough[owner])
        return _Sums(
            gram=gram,
            first=first,
            level=level,
            third=total.third.at[owner].add(third),
            fourth=total.fourth.at[owner].add(jnp.sum(share * norms * norms)),
        ), None

    empty = _Sums(
        gram=jnp.zeros((kept, d, d), x.dtype),
        first=jnp.zeros((n_cells, d), x.dtype),
        level=jnp.zeros(n_cells, x.dtype),
        third=jnp.zeros((n_cells, d), x.dtype),
        fourth=jnp.zeros(n_cells, x.dtype),
    )
    parts = (blocks.owner, row.reshape(-1, size), shares.reshape(-1, size))
    return jax.lax.scan(add_block, empty, parts)[0]


def accumulate(
    batches: Iterable[Any],
    *,
    n_classes: int,
    n_groups: int = 1,
    scatter: str = "cell",
    dtype: Any = None,
    state: MomentState | None = None,
) -> MomentState:
    """Run through an iterator of batches.

    A batch shorter than the longest so far is filled up with rows of no weight, so that
    a last short batch compiles nothing new.

    Args:
        batches: Yields ``(x, label)``, ``(x, label, group)`` or ``(x, label, group,
            weights)``; `group` and `weights` may be None.
        n_classes: ``K``.
        n_groups: ``G``.
        scatter: See :func:`init`.
        dtype: See :func:`init`.
        state: Continue from here; None starts anew with the width of the first batch.

    Returns:
        The state of all batches.

    Raises:
        ValueError: If there are no batches, or one is unusable.

    Example:
        >>> import numpy as np
        >>> rows = np.arange(6.0).reshape(3, 2)
        >>> codes = np.array([0, 1, 0])
        >>> batches = ((rows[i : i + 2], codes[i : i + 2]) for i in (0, 2))
        >>> accumulate(batches, n_classes=2).mean.tolist()
        [[2.0, 3.0], [2.0, 3.0]]
    """
    longest = 0
    for batch in batches:
        parts: tuple[Any, ...] = (*batch, None, None)
        x, label, group, weights = parts[:4]
        n = np.shape(x)[0]
        if state is None:
            if np.ndim(x) != 2:
                raise ValueError(f"x must have shape [n, d], got {np.shape(x)}.")
            state = init(
                np.shape(x)[1],
                n_classes=n_classes,
                n_groups=n_groups,
                scatter=scatter,
                dtype=dtype,
            )
        if n == 0:
            continue
        longest = max(longest, n)
        if n < longest:
            weights = np.ones(n) if weights is None else weights
            x, label, group, weights = _padded(longest, x, label, group, weights)
        state = update(state, x, label, group, weights=weights)
    if state is None:
        raise ValueError("batches is empty; there is nothing to take moments of.")
    return state


def _padded(
    length: int, x: Any, label: Any, group: Any, weights: Any
) -> tuple[Any, ...]:
    extra = length - np.shape(x)[0]
    take = partial(jnp.concatenate, axis=0)

    def repeat(values: Any) -> Any:
        if values is None:
            return None
        values = jnp.asarray(values)
        return take([values, jnp.repeat(values[:1], extra, 0)])

    weights = jnp.asarray(weights)
    filled = take([weights, jnp.zeros(extra, weights.dtype)])
    return repeat(x), repeat(label), repeat(group), filled
