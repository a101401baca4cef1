"""Pseudo-rows for small cells: moments that stay finite when a cell has no rows.

Every cell gets ``t`` rows more, which are distributed as the rows of its class in all
groups; every class, for that purpose, ``t`` rows that are distributed as all rows are.
With ``w = m / (m + t)`` the two steps are the same mixture,

    mean = w mean_own + (1 - w) mean_wide
    cov  = w cov_own + (1 - w) cov_wide + w (1 - w) outer(mean_own - mean_wide),

which is smooth in the rows and the weights, changes a cell of mass ``m`` by
``O(t / m)``, and gives an empty cell its class's moments.
"""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import is_concrete
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.moments._cells import CellMoments, cell_moments
from jaxsteer.moments._columns import CellColumns


class _Law(NamedTuple):
    """Mass ``[...]``, mean ``[..., d]``, and variances ``[..., d]`` or covariances."""

    mass: Array
    mean: Array
    spread: Array


def check_prior(prior: Any, covariance: str, shrinkage: str | float | None) -> Any:
    """Return the pseudo-count, None for 0, or raise if it cannot be used."""
    if prior is None:
        return None
    is_array = isinstance(prior, np.generic | jax.Array)
    is_number = (is_array and prior.ndim == 0) or isinstance(prior, numbers.Real)
    if isinstance(prior, bool) or not is_number:
        raise ValueError(f"prior={prior!r} must be a number of rows, or None.")
    if is_concrete(prior):
        if not 0 <= float(prior) < float("inf"):
            raise ValueError(f"prior={prior!r} must be a finite number of at least 0.")
        if float(prior) == 0:
            return None
    if covariance == "low_rank":
        raise ValueError(
            "prior= gives a cell the moments of its class, which covariance='low_rank' "
            "does not form; use 'full', 'tied' or 'diagonal'."
        )
    if shrinkage == "ledoit-wolf" and covariance != "diagonal":
        raise ValueError(
            "shrinkage='ledoit-wolf' needs fourth moments, which pseudo-rows do not "
            "have; with prior= use 'oas', an intensity, or None."
        )
    return prior


def mass_of_rows(prior: ArrayLike, weights: Float[Array, " n"]) -> Float[Array, ""]:
    """Return the mass of `prior` rows: of Kish's average weight, ``sum w^2 / sum w``.

    So a factor common to all weights changes nothing, nor do rows of weight 0.
    """
    total = jnp.sum(weights)
    average = jnp.sum(weights * weights) / jnp.where(total > 0, total, 1.0)
    return jnp.asarray(prior, weights.dtype) * average


def prior_columns(
    columns: CellColumns, shape: tuple[int, int], mass: Array, prior: ArrayLike
) -> CellColumns:
    """Add the pseudo-rows to the moments of each column.

    Args:
        columns: Of the ``K * G`` cells.
        shape: ``(K, G)``.
        mass: ``[]`` mass of the pseudo-rows of a cell.
        prior: Their number.

    Returns:
        The moments, masses and effective counts with them.
    """
    own = _Law(columns.mass, columns.mean, columns.variance)
    law = _with_class_rows(own, shape, mass)
    return CellColumns(
        mass=law.mass,
        effective_count=columns.effective_count + prior,
        mean=law.mean,
        variance=law.spread,
    )


def prior_moments(
    moments: CellMoments, shape: tuple[int, int], mass: Array, prior: ArrayLike
) -> CellMoments:
    """Add the pseudo-rows to the moments of each cell; see :func:`prior_columns`."""
    own = _Law(moments.mass, moments.mean, moments.cov)
    law = _with_class_rows(own, shape, mass)
    return dataclasses.replace(
        moments,
        mass=law.mass,
        effective_count=moments.effective_count + prior,
        mean=law.mean,
        cov=law.spread,
    )


def prior_group_moments(
    within: CellMoments,
    columns: CellColumns,
    x: Float[Array, "n d"],
    cell: Int[Array, " n"],
    weights: Float[Array, " n"],
    shape: tuple[int, int],
    mass: Array,
    prior: ArrayLike,
) -> CellMoments:
    """Add the pseudo-rows to the covariances that the classes of a group share.

    In O(n d^2) and ``G + 2`` matrices, whatever the number of classes.

    Args:
        within: Of the groups, without pseudo-rows.
        columns: Of the cells, without pseudo-rows.
        x: ``[n, d]`` features.
        cell: ``[n]`` cell codes.
        weights: ``[n]`` weights.
        shape: ``(K, G)``.
        mass: ``[]`` mass of the pseudo-rows of a cell.
        prior: Their number.

    Returns:
        The moments of the groups with them.
    """
    n_classes, n_groups = shape
    own = _shaped(_Law(columns.mass, columns.mean, columns.variance), shape)
    classes = _pooled(own, 1)
    everyone = _pooled(classes, 0)
    wide = _mixed(classes, everyone, mass)
    nobody = jnp.zeros(x.shape[0], jnp.int32)
    # The pseudo-rows of all cells of a group, which are the same in every group.
    share = mass / (classes.mass + mass)
    label = cell // n_groups
    own_part = cell_moments(x - classes.mean[label], nobody, 1, weights * share[label])
    all_rows = cell_moments(x, nobody, 1, weights)
    apart = classes.mean - everyone.mean
    pseudo = own_part.mass[0] * own_part.cov[0]
    pseudo += jnp.sum(share * mass) * all_rows.cov[0]
    pseudo += _sum_outer(share**2 * classes.mass, apart)
    # What moves the means of the cells toward those of their classes.
    moved = own.mean - wide.mean[:, None]
    between = jax.vmap(_sum_outer, (1, 1))(own.mass * mass / (own.mass + mass), moved)
    total = within.mass[:, None, None] * within.cov + pseudo + between
    new_mass = within.mass + n_classes * mass
    return dataclasses.replace(
        within,
        mass=new_mass,
        effective_count=within.effective_count + n_classes * jnp.asarray(prior),
        cov=total / new_mass[:, None, None],
    )


def prior_shares(
    cell: Int[Array, " n"],
    weights: Float[Array, " n"],
    shape: tuple[int, int],
    mass: Array,
) -> Float[Array, "C n"]:
    """Return the weight that each cell's pseudo-rows give to every row.

    Args:
        cell: ``[n]`` cell codes.
        weights: ``[n]`` weights.
        shape: ``(K, G)``.
        mass: ``[]`` mass of the pseudo-rows of a cell.

    Returns:
        ``[C, n]``, whose rows sum to `mass`.
    """
    n_classes, n_groups = shape
    of_class = (cell // n_groups)[None] == jnp.arange(n_classes)[:, None]
    own = jnp.where(of_class, weights, 0.0)
    total = jnp.sum(weights)
    wide = mass * weights / jnp.where(total > 0, total, 1.0)
    share = mass / (jnp.sum(own, 1) + mass)
    return jnp.repeat(share[:, None] * (own + wide), n_groups, 0)


def _with_class_rows(cells: _Law, shape: tuple[int, int], mass: Array) -> _Law:
    own = _shaped(cells, shape)
    classes = _pooled(own, 1)
    wide = _mixed(classes, _pooled(classes, 0), mass)
    mixed = _mixed(own, jax.tree.map(lambda leaf: leaf[:, None], wide), mass)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), mixed)


def _shaped(cells: _Law, shape: tuple[int, int]) -> _Law:
    return jax.tree.map(lambda leaf: leaf.reshape(shape + leaf.shape[1:]), cells)


def _pooled(laws: _Law, axis: int) -> _Law:
    """The law of all rows of some cells, by the law of total covariance."""
    mass = jnp.sum(laws.mass, axis)
    part = laws.mass / jnp.expand_dims(jnp.where(mass > 0, mass, 1.0), axis)
    mean = jnp.sum(part[..., None] * laws.mean, axis)
    apart = laws.mean - jnp.expand_dims(mean, axis)
    spread = laws.spread + _outer(apart, laws)
    return _Law(mass, mean, jnp.sum(_like(part, spread) * spread, axis))


def _mixed(own: _Law, wide: _Law, mass: Array) -> _Law:
    """The law of a cell's rows and of rows of mass `mass` from a wider law."""
    total = own.mass + mass
    part = own.mass / jnp.where(total > 0, total, 1.0)
    mean = part[..., None] * own.mean + (1 - part)[..., None] * wide.mean
    between = _outer(own.mean - wide.mean, own)
    weight = _like(part, own.spread)
    spread = weight * own.spread + (1 - weight) * wide.spread
    return _Law(total, mean, spread + weight * (1 - weight) * between)


def _outer(apart: Array, laws: _Law) -> Array:
    """Squares, or outer products where the laws have covariance matrices."""
    if laws.spread.ndim == laws.mean.ndim:
        return apart * apart
    return apart[..., :, None] * apart[..., None, :]


def _like(part: Array, spread: Array) -> Array:
    return part.reshape(part.shape + (1,) * (spread.ndim - part.ndim))


def _sum_outer(weight: Float[Array, " K"], apart: Float[Array, "K d"]) -> Array:
    return jnp.sum(
        weight[:, None, None] * apart[:, :, None] * apart[:, None, :], axis=0
    )
