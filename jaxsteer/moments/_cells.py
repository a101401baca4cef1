"""Weighted moments of every class-by-group cell."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Bool, Float, Int
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


class Blocks(NamedTuple):
    """Rows cut into blocks of one owner each.

    Attributes:
        owner: ``[m]`` whose a block is.
        row: ``[m, size]`` its rows; any where there is none.
        held: ``[m, size]`` whether there is one.
    """

    owner: Int[Array, " m"]
    row: Int[Array, "m size"]
    held: Bool[Array, "m size"]


def cut_blocks(order: Int[Array, " n"], count: Int[Array, " S"], size: int) -> Blocks:
    """Cut rows into blocks of `size`, however they are spread over their owners.

    Args:
        order: ``[n]`` the rows, sorted by owner.
        count: ``[S]`` how many of them, from the front, each owner has.
        size: Rows of a block.
    """
    n, kept = order.shape[0], count.shape[0]
    ends = jnp.cumsum(-(-count // size))
    block = jnp.arange(-(-n // size) + kept)
    owner = jnp.minimum(jnp.searchsorted(ends, block, side="right"), kept - 1)
    before = ends[owner] - -(-count[owner] // size)
    place = (block - before)[:, None] * size + jnp.arange(size)
    first = (jnp.cumsum(count) - count)[owner]
    row = order[jnp.clip(first[:, None] + place, 0, n - 1)]
    return Blocks(owner, row, place < count[owner][:, None])


def blocks_of(owner: Int[Array, " n"], n_owners: int) -> Blocks:
    """Cut rows in any order into blocks by their owners ``[n]``."""
    count = jnp.zeros(n_owners, jnp.int32).at[owner].add(1)
    size = 256 if owner.shape[0] > 4096 else 32
    return cut_blocks(jnp.argsort(owner, stable=True), count, size)


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

    def add_block(total: Array, block: Blocks):
        owner, row, held = block
        part = jnp.where(held[:, None], centered[row], 0.0)
        # Not the roots of the weights: their gradient at weight 0 would be NaN.
        share = jnp.where(held, weights[row], 0.0)
        return total.at[owner].add(matmul(part.T, share[:, None] * part)), None

    empty = jnp.zeros((n_cells, d, d), x.dtype)
    gram, _ = jax.lax.scan(add_block, empty, blocks_of(cell, n_cells))
    gram = symmetrize(gram)
    return CellMoments(
        mass=mass,
        effective_count=mass * mass / jnp.where(squares > 0, squares, 1.0),
        mean=jnp.where(mass[:, None] > 0, mean + origin, 0.0),
        cov=gram / safe[:, None, None],
        fourth=fourth,
    )
