"""One-feature families fitted to every cell by maximum likelihood."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import is_concrete
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.families import Categorical, fitted_by_samples, require_traits
from jaxsteer.moments._prior import prior_shares

FEWEST_ROWS = 2


def fit_cells(
    family: str,
    x: Float[Array, " n"],
    cell: Int[ArrayLike, " n"],
    weights: Float[Array, " n"],
    shape: tuple[int, int],
    pseudo: Float[Array, ""] | None = None,
) -> tuple[Float[Array, "K G"], Any]:
    """Fit a family with ``from_samples`` to every cell.

    Args:
        family: Its name.
        x: ``[n]`` the feature.
        cell: ``[n]`` cell codes.
        weights: ``[n]`` non-negative weights.
        shape: ``(K, G)``.
        pseudo: Mass of the pseudo-rows of each cell, or None.

    Returns:
        Mass of the cells, ``[K, G]``, and the laws, batch ``[K, G]``. Cost O(n K G),
        times the Newton steps of families that need them.

    Raises:
        ValueError: If a cell has fewer than two rows of positive weight, all its values
            are equal, or values lie off the family's support, as fractions of codes do.
    """
    n_cells = shape[0] * shape[1]
    hit = jnp.asarray(cell)[None] == jnp.arange(n_cells)[:, None]
    shares = jnp.where(hit, weights, 0.0)
    mass = jnp.sum(shares, 1)
    if pseudo is not None:
        shares = shares + prior_shares(jnp.asarray(cell), weights, shape, pseudo)
        mass = mass + pseudo
    _check_cells(family, x, shares, shape)
    kind = fitted_by_samples()[family]
    everywhere = jnp.broadcast_to(x, shares.shape)
    if kind is Categorical:
        _check_whole(x)
        law = kind.from_samples(everywhere.astype(jnp.int32), shares)
    else:
        law = kind.from_samples(everywhere, shares)
    law = jax.tree.map(lambda leaf: leaf.reshape(shape + leaf.shape[1:]), law)
    return mass.reshape(shape), law


def _check_whole(x: Array) -> None:
    """Raise if concrete codes have fractions, which integers would drop."""
    if is_concrete(x):
        values = np.asarray(x)
        parts = values != np.floor(values)
        if parts.any():
            raise ValueError(
                f"x must be integer codes 0, 1, ..., got {int(parts.sum())} other values, "
                f"the first {values[parts][0]}; encode them (jaxsteer.encode_labels), or "
                "choose a family of numbers."
            )


def _check_cells(family: str, x: Array, shares: Array, shape: tuple[int, int]) -> None:
    if not is_concrete(x, shares):
        return
    used = np.asarray(shares) > 0
    few = np.flatnonzero(used.sum(1) < FEWEST_ROWS)
    if few.size:
        i, a = divmod(int(few[0]), shape[1])
        raise ValueError(
            f"cell (class {i}, group {a}) has {int(used[few[0]].sum())} rows with "
            f"weight, {FEWEST_ROWS} are needed; merge classes or groups, or drop it."
        )
    if not require_traits(fitted_by_samples()[family]).spread:
        return
    values = np.asarray(x)
    for code, mine in enumerate(used):
        if np.ptp(values[mine]) == 0:
            i, a = divmod(code, shape[1])
            raise ValueError(
                f"x has one value only, {values[mine][0]}, in cell (class {i}, group "
                f"{a}); family={family!r} needs spread."
            )
