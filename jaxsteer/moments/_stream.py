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
from jaxsteer._varying import vary_together
from jaxsteer.linalg import matmul, symmetrize
from jaxsteer.moments._cells import cut_blocks
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
    check_same_length(x=x, label=label, group=group, weights=weights)
    check_finite("x", x)
    check_codes("label", label, state.n_classes)
    check_codes("group", group, state.n_groups)
    if weights is not None and is_concrete(weights):
        # A batch may be of no weight at all, as padding is.
        check_finite("weights", weights)
        values = np.asarray(weights)
        if (values < 0).any():
            check_weights(weights)
    share = None if weights is None else jnp.asarray(weights)
    order = None
    if is_concrete(label, group, weights):
        # NumPy sorts short codes by their digits, ten times faster than XLA compares.
        codes = cell_codes(np.asarray(label), np.asarray(group), state.n_groups)
        n_cells = state.mass.shape[0]
        keys = _ranks(state).astype(np.uint16 if n_cells < 1 << 16 else np.int32)[codes]
        if weights is not None:
            keys[np.asarray(weights) <= 0] = n_cells
        order = np.argsort(keys, kind="stable").astype(np.int32)
    return _updated(state, *map(jnp.asarray, (x, label, group)), share, order)


def _ranks(state: MomentState) -> np.ndarray:
    """The cells' places where those of one covariance are neighbours."""
    return np.argsort(np.argsort(owners(state), kind="stable"), kind="stable")


@jax.jit
def _updated(
    state: MomentState,
    x: Array,
    label: Array,
    group: Array,
    weights: Array | None,
    order: Array | None = None,
):
    dtype = state.mass.dtype
    x = x.astype(dtype)
    weights = None if weights is None else weights.astype(dtype)
    share = jnp.ones(x.shape[0], dtype) if weights is None else weights
    n_cells, d = state.mean.shape
    known = (label >= 0) & (label < state.n_classes)
    known = known & (group >= 0) & (group < state.n_groups)
    cell = cell_codes(label, group, state.n_groups)
    cell = jnp.where(known, cell, 0)
    mass = jnp.zeros(n_cells, dtype).at[cell].add(share)
    # A code out of range must not be taken for another cell.
    mass = mass + jnp.where(jnp.all(known), jnp.zeros((), dtype), jnp.nan)
    squares = jnp.zeros(n_cells, dtype).at[cell].add(share * share)
    safe = jnp.where(mass > 0, mass, 1.0)
    # Rows of no weight come last, and are not read: padding may be anywhere.
    counts = share > 0
    if order is None:
        key = jnp.where(counts, jnp.asarray(_ranks(state))[cell], n_cells)
        order = jnp.argsort(key, stable=True)
    count = jnp.zeros(n_cells, jnp.int32).at[cell].add(counts.astype(jnp.int32))
    origin, unit = _origins(x, order, count, _ranks(state))
    found = _sums(state, x, cell, weights, order, count, origin, unit)
    # By how much the origins miss the means, which sums about them are corrected by.
    rest = found.first / safe[:, None]
    far = jnp.sum(rest * rest, -1)
    level = jnp.maximum(found.square / safe - far, 0.0) / d
    owner, kept = owners(state), state.cov.shape[0]
    total = jnp.zeros(kept, dtype).at[owner].add(mass)
    total = jnp.where(total > 0, total, 1.0)
    moved = outer_products(owner, kept, mass, rest)
    third, fourth = _about_means(state, found, unit, safe, rest, level)
    batch = dataclasses.replace(
        state,
        mass=mass,
        squares=squares,
        mean=jnp.where(mass[:, None] != 0, origin + rest, 0.0),
        cov=symmetrize(found.gram - moved) / total[:, None, None],
        third=third,
        fourth=fourth,
        level=level,
    )
    return merged([state, batch])


class _Sums(NamedTuple):
    """Sums over the rows ``y`` of cells about the cells' origins, with weights ``w``.

    Attributes:
        gram: ``[S, d, d]`` of ``w y y'``, by covariance.
        first: ``[C, d]`` of ``w y``.
        square: ``[C]`` of ``w |y|^2``.
        third: ``[C, d]`` of ``w |y|^2 y``, ``|y|^2`` in the cell's unit.
        fourth: ``[C]`` of ``w |y|^4``, likewise.
    """

    gram: Array
    first: Array
    square: Array
    third: Array
    fourth: Array


FEW_CELLS = 16
NEAR = 64  # rows that tell where a cell is


def _by_cell(values: Array, codes: Array, weights: Array, n_cells: int):
    """Weighted sums of the rows ``values [m, d]`` of each cell."""
    if n_cells > FEW_CELLS:
        empty = jnp.zeros((n_cells, values.shape[1]), values.dtype)
        return empty.at[codes].add(weights[:, None] * values)
    mine = jnp.where(codes == jnp.arange(n_cells)[:, None], weights, 0.0)
    return matmul(mine, values)


def _origins(x: Array, order: Array, count: Array, ranks: np.ndarray):
    """Where a few rows of each cell, evenly taken, are, and how long they are there.

    Args:
        x: ``[n, d]`` rows.
        order: ``[n]`` the rows that count, sorted by the ranks of their cells, in front.
        count: ``[C]`` how many of them each cell has.
        ranks: ``[C]``.
    """
    sorted_count = count[np.argsort(ranks)]
    first = (jnp.cumsum(sorted_count) - sorted_count)[ranks]
    steps = jnp.arange(NEAR) * (count / NEAR)[:, None]
    steps = jnp.minimum(steps.astype(jnp.int32), count[:, None] - 1)
    some = x[order[jnp.clip(first[:, None] + steps, 0, x.shape[0] - 1)]]
    # About one of them: a mean of values that are far off loses digits.
    near = some[:, :1]
    origin = jnp.mean(some - near, 1) + near[:, 0]
    length = jnp.mean(jnp.sum((some - origin[:, None]) ** 2, -1), -1)
    return origin, jnp.where(length > 0, length, 1.0)


def _block_sizes() -> tuple[int, ...]:
    """Rows of a block, by what there are many of: those that a CPU's cache holds.

    Where a step of a loop takes as long to start as a large product to run they are more.
    """
    sizes = 1024, 256
    return sizes if jax.default_backend() == "cpu" else (16384, 4096, *sizes)


def _sums(
    state: MomentState,
    x: Array,
    cell: Array,
    weights: Array | None,
    order: Array,
    count: Array,
    origin: Array,
    unit: Array,
) -> _Sums:
    """Sum products of rows, a block that fits the cache at a time.

    All that is read of a block is read once, so that the pass costs little more than
    its matrix products.

    Args:
        state: Of the wanted sizes.
        x: ``[n, d]`` rows.
        cell: ``[n]`` their cells.
        weights: ``[n]``, or None for 1.
        order: ``[n]`` the rows that count, those of one covariance side by side, in front.
        count: ``[C]`` how many each cell has.
        origin: ``[C, d]`` points near the cells' means.
        unit: ``[C]`` units of squared lengths.
    """
    n, d = x.shape
    n_cells, kept = state.mass.shape[0], state.cov.shape[0]
    size = next((s for s in _block_sizes() if 8 * s * kept <= n), 32)
    # A sum, not a scatter: XLA for CPUs is wrong about one of integers onto one place.
    mine = owners(state) == np.arange(kept)[:, None]
    counts = jnp.sum(jnp.where(mine, count, 0), 1)
    alike = state.scatter == "cell"  # then a block is of one cell

    def add_block(total: _Sums, block: Any):
        owner, row, held = block
        codes = cell[row]
        share = held.astype(x.dtype)
        share = share if weights is None else share * weights[row]
        y = x[row] - (origin[owner] if alike else origin[codes])
        y = jnp.where(held[:, None], y, 0.0)
        weighted = y if weights is None else share[:, None] * y
        norms = jnp.sum(y * y, -1)
        total = total._replace(
            gram=total.gram.at[owner].add(matmul(weighted.T, y)),
            square=total.square.at[codes].add(share * norms),
        )
        if not alike:
            first = total.first + _by_cell(y, codes, share, n_cells)
            return total._replace(first=first), None
        norms = norms / unit[owner]
        # Two products of the block at once.
        sums = matmul(jnp.stack([share, share * norms]), y)
        return total._replace(
            first=total.first.at[owner].add(sums[0]),
            third=total.third.at[owner].add(sums[1]),
            fourth=total.fourth.at[owner].add(jnp.sum(share * norms * norms)),
        ), None

    empty = _Sums(
        gram=jnp.zeros((kept, d, d), x.dtype),
        first=jnp.zeros((n_cells, d), x.dtype),
        square=jnp.zeros(n_cells, x.dtype),
        third=jnp.zeros((n_cells, d), x.dtype),
        fourth=jnp.zeros(n_cells, x.dtype),
    )
    empty = vary_together(empty, like=(x, cell, weights, origin))
    return jax.lax.scan(add_block, empty, cut_blocks(order, counts, size))[0]


def _about_means(
    state: MomentState,
    found: _Sums,
    unit: Array,
    safe: Array,
    rest: Array,
    level: Array,
):
    """Third and fourth moments about means that are `rest` from the origins."""
    if state.scatter != "cell":
        return jnp.zeros_like(rest), jnp.zeros_like(level)
    varies = level > 0
    own = jnp.where(varies, level, 1.0)
    root = jnp.sqrt(own)[:, None]
    e = rest / root
    far = jnp.sum(e * e, -1)
    trace = far + rest.shape[1]
    scaled = found.gram / (safe * own)[:, None, None]
    turned = matmul(scaled, e[..., None])[..., 0]
    ratio = unit / own
    third = ratio[:, None] * (found.third / safe[:, None] / root)
    fourth = ratio**2 * found.fourth / safe
    # |y - e|^2 (y - e) and |y - e|^4, multiplied out.
    fourth = (
        fourth - 4 * jnp.sum(e * (third - turned), -1) + 2 * far * trace - 3 * far**2
    )
    third = third - 2 * turned - (trace - 2 * far)[:, None] * e
    return jnp.where(varies[:, None], third, 0.0), jnp.where(varies, fourth, 0.0)


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
