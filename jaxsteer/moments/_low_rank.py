"""Low-rank-plus-diagonal covariances of every cell, from few rows or many."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import is_concrete
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.families import LowRankNormal
from jaxsteer.linalg import matmul
from jaxsteer.moments._cells import cell_moments
from jaxsteer.moments._columns import CellColumns

# A direction costs d numbers: at least four rows are to speak for it.
ROWS_A_DIRECTION = 4
MOST_DIRECTIONS = 10


def choose_rank(d: int, rows: float | None) -> int:
    """Return the default rank: 10, less for few columns or few rows.

    Args:
        d: Number of columns.
        rows: Smallest effective number of rows of a cell; None where it is traced.
    """
    rank = min(MOST_DIRECTIONS, d - 1)
    if rows is not None:
        rank = min(rank, int(rows * (1 + 1e-5)) // ROWS_A_DIRECTION)
    return max(rank, 1)


def fit_low_rank(
    x: Float[Array, "n d"],
    cell: Int[ArrayLike, " n"],
    weights: Float[Array, " n"],
    columns: CellColumns,
    *,
    rank: int,
    shrinkage: str | float | None,
) -> LowRankNormal:
    """Fit :class:`LowRankNormal` to every cell.

    Where the codes are concrete, each cell's own rows are decomposed: cells with fewer
    rows than columns by the Gram matrix of the rows, so that no ``d x d`` matrix is
    formed, O(n d min(n_c, d)). Traced codes take the covariances of all
    cells, O(n d^2 + C d^3).

    Args:
        x: ``[n, d]`` features.
        cell: ``[n]`` cell codes.
        weights: ``[n]`` non-negative weights.
        columns: Moments of the ``C`` cells' columns.
        rank: Number of leading directions.
        shrinkage: How far the diagonal is pulled to its mean: an intensity, None for
            0, or "oas" or "ledoit-wolf" for the estimate of :func:`diagonal_intensity`.

    Returns:
        The laws, batch ``[C]``. Differentiable in `x`, and in `weights` where they are
        positive; see :meth:`LowRankNormal.from_moments`.
    """
    n_cells = len(columns.mass)
    if is_concrete(cell):
        law = _by_rows(x, np.asarray(cell), weights, columns, rank)
    else:
        moments = cell_moments(x, jnp.asarray(cell), n_cells, weights)
        law = LowRankNormal.from_moments(moments.mean, moments.cov, rank=rank)
    level = jnp.mean(law.diagonal, -1, keepdims=True)
    if shrinkage is None:
        return law
    if isinstance(shrinkage, str):
        intensity = diagonal_intensity(law.diagonal, columns.effective_count, rank)
    else:
        intensity = jnp.full(n_cells, float(shrinkage), x.dtype)
    intensity = intensity[:, None]
    diagonal = (1 - intensity) * law.diagonal + intensity * level
    return LowRankNormal(law.mean, law.factor, diagonal)


def diagonal_intensity(
    diagonal: Float[Array, "C d"], rows: Float[Array, " C"], rank: int
) -> Float[Array, " C"]:
    """Shrinkage intensity of remaining variances toward their mean.

    ``min(1, s / v)`` with the variance ``v`` of the entries across columns and the
    sampling variance ``s = 2 m^2 / (rows - 1 - rank)`` that normal rows would give
    entries that all equal their mean ``m``: the ratio of Ledoit and Wolf, for a
    diagonal.

    References:
        Ledoit and Wolf 2004, theorem 2.1 (the best intensity is sampling variance over
        spread); a variance of normal rows with ``f`` degrees of freedom has the
        sampling variance ``2 m^2 / f``.
    """
    level = jnp.mean(diagonal, -1, keepdims=True)
    unit = diagonal / jnp.where(level > 0, level, 1.0)  # squares must fit float32
    spread = jnp.var(unit, -1)
    sampling = 2 / jnp.maximum(rows - 1 - rank, 1.0)
    uneven = spread > sampling
    return jnp.where(uneven, sampling / jnp.where(uneven, spread, 1.0), 1.0)


def _by_rows(
    x: Array, cell: np.ndarray, weights: Array, columns: CellColumns, rank: int
):
    """Fit cells of like sizes together, each one's rows padded to a power of two."""
    n, n_cells = len(cell), len(columns.mass)
    order = np.argsort(cell, kind="stable")
    count = np.bincount(cell, minlength=n_cells)
    first = np.cumsum(count) - count
    d = x.shape[1]
    size = 2 ** np.ceil(np.log2(np.maximum(count, max(rank, 16)))).astype(int)
    size = np.where(count < d, np.minimum(size, max(d - 1, rank)), size)
    parts, places = [], []
    for width in np.unique(size):
        codes = np.flatnonzero(size == width)
        slot = np.arange(width)
        place = np.minimum(first[codes, None] + slot, n - 1)
        index = np.where(slot < count[codes, None], order[place], n)
        parts.append(_fit_alike(x, weights, columns, codes, index, rank))
        places.append(codes)
    back = np.argsort(np.concatenate(places))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[back], *parts)


@partial(jax.jit, static_argnames="rank")
def _fit_alike(
    x: Array,
    weights: Array,
    columns: CellColumns,
    codes: Array,
    index: Array,
    rank: int,
) -> LowRankNormal:
    n, d = x.shape

    def fit(one: tuple[Array, Array]):
        code, rows = one
        mean, mass = columns.mean[code], columns.mass[code]
        present = rows < n
        rows = jnp.minimum(rows, n - 1)
        share = jnp.where(present, weights[rows], 0) / jnp.where(mass > 0, mass, 1)
        centered = jnp.where(present[:, None], x[rows] - mean, 0)
        if len(rows) >= d:
            cov = matmul(centered.T, share[:, None] * centered)
            return LowRankNormal.from_moments(mean, cov, rank=rank)
        used = share > 0
        root = jnp.where(used, jnp.sqrt(jnp.where(used, share, 1)), 0)
        return LowRankNormal.from_root(mean, root[:, None] * centered, rank=rank)

    return jax.lax.map(fit, (codes, index))
