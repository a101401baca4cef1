"""Weighted moments of every class-by-group cell."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Int
from jaxsteer.linalg import matmul, symmetrize


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class CellMoments:
    """Moments of the ``C`` cells of a sample (cell ``c = class * G + group``).

    Attributes:
        mass: ``[C]`` sums of the weights.
        effective_count: ``[C]`` Kish's effective sample sizes, ``mass^2 / sum w^2``;
            the number of rows where all weights are equal.
        mean: ``[C, d]``.
        cov: ``[C, d, d]``, divided by the mass (maximum likelihood).
        fourth: ``[C]`` weighted means of ``|x - mean|^4``, which Ledoit-Wolf needs, in
            units of ``(tr cov / d)^2`` (plain powers leave the range of float32).
    """

    mass: Float[Array, " C"]
    effective_count: Float[Array, " C"]
    mean: Float[Array, "C d"]
    cov: Float[Array, "C d d"]
    fourth: Float[Array, " C"]


class _Blocks(NamedTuple):
    """Rows regrouped so that each block holds rows of one cell only."""

    place: Int[Array, " n"]
    owner: Int[Array, " m"]
    size: int


def _regroup(cell: Array, n_cells: int) -> _Blocks:
    n = cell.shape[0]
    size = 256 if n > 4096 else 32
    count = jnp.zeros(n_cells, jnp.int32).at[cell].add(1)
    blocks = -(-count // size)
    first_block = jnp.cumsum(blocks) - blocks
    order = jnp.argsort(cell, stable=True)
    first_row = jnp.cumsum(count) - count
    rank = jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n, dtype=jnp.int32))
    place = first_block[cell] * size + rank - first_row[cell]
    n_blocks = -(-n // size) + n_cells
    ends = jnp.cumsum(blocks)
    owner = jnp.searchsorted(ends, jnp.arange(n_blocks), side="right")
    return _Blocks(place, jnp.minimum(owner, n_cells - 1), size)


def cell_moments(
    x: Float[Array, "n d"],
    cell: Int[Array, " n"],
    n_cells: int,
    weights: Float[Array, " n"],
) -> CellMoments:
    """Compute the weighted mean and covariance of every cell.

    Rows are regrouped into blocks that belong to one cell, so that the products cost
    ``O(n d^2)`` however many cells there are. Centered before they are multiplied, so
    that float32 keeps its digits. A code outside ``0..n_cells-1`` makes all NaN.

    Args:
        x: ``[n, d]`` features.
        cell: ``[n]`` cell codes.
        n_cells: Number of cells.
        weights: ``[n]`` non-negative weights.

    Returns:
        The moments; an empty cell has mass 0, mean and covariance 0.

    Example:
        >>> import jax.numpy as jnp
        >>> x, cell = jnp.array([[0.0], [2.0], [5.0]]), jnp.array([0, 0, 1])
        >>> found = cell_moments(x, cell, 2, jnp.ones(3))
        >>> found.mean.tolist(), found.cov.tolist()
        ([[1.0], [5.0]], [[[1.0]], [[0.0]]])
    """
    d = x.shape[1]
    # Scatters drop or wrap such codes without a word.
    x = jnp.where(((cell >= 0) & (cell < n_cells))[:, None], x, jnp.nan)
    mass = jnp.zeros(n_cells, x.dtype).at[cell].add(weights)
    squares = jnp.zeros(n_cells, x.dtype).at[cell].add(weights * weights)
    safe = jnp.where(mass > 0, mass, 1.0)
    origin = jnp.mean(x, 0)
    sums = jnp.zeros((n_cells, d), x.dtype)
    mean = sums.at[cell].add(weights[:, None] * (x - origin)) / safe[:, None]
    centered = x - origin - mean[cell]
    norms = jnp.sum(centered * centered, -1)
    level = jnp.zeros(n_cells, x.dtype).at[cell].add(weights * norms) / safe / d
    norms = norms / jnp.where(level > 0, level, 1.0)[cell]
    fourth = jnp.zeros(n_cells, x.dtype).at[cell].add(weights * norms * norms) / safe

    blocks = _regroup(cell, n_cells)
    n_slots = len(blocks.owner) * blocks.size
    rows = jnp.zeros((n_slots, d), x.dtype).at[blocks.place].set(centered)
    # Not the roots of the weights: their gradient at weight 0 would be NaN.
    shares = jnp.zeros(n_slots, x.dtype).at[blocks.place].set(weights)

    def add_block(total, block):
        owner, part, share = block
        return total.at[owner].add(matmul(part.T, share[:, None] * part)), None

    gram, _ = jax.lax.scan(
        add_block,
        jnp.zeros((n_cells, d, d), x.dtype),
        (
            blocks.owner,
            rows.reshape(-1, blocks.size, d),
            shares.reshape(-1, blocks.size),
        ),
    )
    gram = symmetrize(gram)
    return CellMoments(
        mass=mass,
        effective_count=mass * mass / jnp.where(squares > 0, squares, 1.0),
        mean=jnp.where(mass[:, None] > 0, mean + origin, 0.0),
        cov=gram / safe[:, None, None],
        fourth=fourth,
    )
