"""Moments that need no covariance matrix for every cell."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Int
from jaxsteer.moments._cells import CellMoments, cell_moments


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class CellColumns:
    """Moments of the columns of ``C`` cells, each column on its own.

    Attributes:
        mass: ``[C]`` sums of the weights.
        effective_count: ``[C]`` Kish's effective sample sizes.
        mean: ``[C, d]``.
        variance: ``[C, d]``, divided by the mass (maximum likelihood).
    """

    mass: Float[Array, " C"]
    effective_count: Float[Array, " C"]
    mean: Float[Array, "C d"]
    variance: Float[Array, "C d"]

    @classmethod
    def of(cls, moments: CellMoments) -> CellColumns:
        """Keep the columns' part of full moments."""
        return cls(
            mass=moments.mass,
            effective_count=moments.effective_count,
            mean=moments.mean,
            variance=jnp.diagonal(moments.cov, axis1=-2, axis2=-1),
        )


def cell_columns(
    x: Float[Array, "n d"],
    cell: Int[Array, " n"],
    n_cells: int,
    weights: Float[Array, " n"],
) -> CellColumns:
    """Compute the weighted mean and variances of every cell, in O(n d).

    Arguments as for :func:`jaxsteer.moments.cell_moments`; a code outside
    ``0..n_cells-1`` makes all NaN, an empty cell has mean and variances 0.
    """
    # Scatters drop or wrap such codes without a word.
    x = jnp.where(((cell >= 0) & (cell < n_cells))[:, None], x, jnp.nan)
    mass = jnp.zeros(n_cells, x.dtype).at[cell].add(weights)
    squares = jnp.zeros(n_cells, x.dtype).at[cell].add(weights * weights)
    safe = jnp.where(mass > 0, mass, 1.0)[:, None]
    origin = jnp.mean(x, 0)
    empty = jnp.zeros((n_cells, x.shape[1]), x.dtype)
    mean = empty.at[cell].add(weights[:, None] * (x - origin)) / safe
    centered = x - origin - mean[cell]
    variance = empty.at[cell].add(weights[:, None] * centered * centered) / safe
    return CellColumns(
        mass=mass,
        effective_count=mass * mass / jnp.where(squares > 0, squares, 1.0),
        mean=jnp.where(mass[:, None] > 0, mean + origin, 0.0),
        variance=variance,
    )


def group_moments(
    x: Float[Array, "n d"],
    columns: CellColumns,
    cell: Int[Array, " n"],
    n_groups: int,
    weights: Float[Array, " n"],
) -> CellMoments:
    """Moments within classes, pooled by mass over the classes of each group.

    They are those of the rows less their cell's mean, with groups for cells: O(n d^2),
    and one ``d x d`` matrix a group whatever the number of classes.
    """
    return cell_moments(x - columns.mean[cell], cell % n_groups, n_groups, weights)
