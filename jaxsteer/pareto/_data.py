"""Rows sorted by group, so that sums over groups and balanced batches are cheap."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_codes,
    check_finite,
    check_range,
    check_same_length,
    check_weights,
    is_concrete,
)
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Int, PyTree

TILE = 128  # rows that are added up side by side, all of one group


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupData:
    """Rows of several groups, as :func:`group_data` lays them out.

    The rows of a group stand together, in a random order, and are filled up with
    copies of share 0 to a multiple of `tile`. Read rows through `share`, or through
    :meth:`group_mean`, and the copies do not count.

    Attributes:
        x: ``[n, d]`` features, or any pytree of arrays with a leading row axis.
        target: ``[n]`` class codes, or real numbers for regression.
        group: ``[n]`` group codes ``0..G-1``, ascending.
        share: ``[n]`` weight of a row in its group; sums to 1 in every group.
        mass: ``[G]`` share of each group in all rows; sums to 1.
        first: ``[G]`` where each group begins.
        count: ``[G]`` rows of each group, copies left out.
        tile_group: ``[m]`` group of each tile.
        n_classes: Number of classes, 0 for regression.
        tile: Rows in a tile.
    """

    x: PyTree
    target: Array
    group: Int[Array, " n"]
    share: Float[Array, " n"]
    mass: Float[Array, " G"]
    first: Int[Array, " G"]
    count: Int[Array, " G"]
    tile_group: Int[Array, " m"]
    n_classes: int = dataclasses.field(metadata={"static": True})
    tile: int = dataclasses.field(metadata={"static": True})

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return self.mass.shape[0]

    def group_sum(self, values: Float[Array, "n ..."]) -> Float[Array, "G ..."]:
        """Add up the rows of each group."""
        tiles = values.reshape(-1, self.tile, *values.shape[1:]).sum(1)
        return jax.ops.segment_sum(
            tiles, self.tile_group, self.n_groups, indices_are_sorted=True
        )

    def group_mean(self, values: Float[Array, "n ..."]) -> Float[Array, "G ..."]:
        """Average the rows of each group, by their shares."""
        share = self.share.reshape(-1, *[1] * (values.ndim - 1))
        return self.group_sum(share * values)

    def mean_where(
        self, values: Float[Array, "n ..."], chosen: Array
    ) -> Float[Array, "G ..."]:
        """Average the chosen rows of each group; 0 where a group has none."""
        weight = self.share * chosen.astype(self.share.dtype)
        column = weight.reshape(-1, *[1] * (values.ndim - 1))
        total = self.group_sum(weight)
        total = jnp.where(total > 0, total, 1.0).reshape(-1, *[1] * (values.ndim - 1))
        return self.group_sum(column * values) / total

    def batch(self, size: int, start: Int[Array, " G"]) -> GroupData:
        """Take the same number of rows of every group, from a place on, going round.

        Args:
            size: Rows of each group.
            start: ``[G]`` where to begin in each group.
        """
        slot = jnp.arange(size)
        rows = self.first[:, None] + (start[:, None] + slot) % self.count[:, None]
        rows = rows.reshape(-1)
        share = self.share[rows] * jnp.repeat(
            self.count / size, size, total_repeat_length=len(rows)
        ).astype(self.share.dtype)
        groups = jnp.arange(self.n_groups, dtype=self.group.dtype)
        return GroupData(
            x=jax.tree.map(lambda leaf: leaf[rows], self.x),
            target=self.target[rows],
            group=jnp.repeat(groups, size, total_repeat_length=len(rows)),
            share=share,
            mass=self.mass,
            first=groups * size,
            count=jnp.full_like(self.count, size),
            tile_group=groups,
            n_classes=self.n_classes,
            tile=size,
        )


def group_data(
    x: PyTree,
    target: ArrayLike,
    group: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    n_groups: int | None = None,
    seed: int = 0,
) -> GroupData:
    """Lay rows out for :func:`solve_badr` and the other functions of this package.

    Standardize the features first: the penalties of the models do not know their
    units. Runs on the host (not under ``jit``); O(n log n).

    Args:
        x: ``[n, d]`` features, or any pytree of arrays with a leading row axis.
        target: ``[n]`` integer (or boolean) codes ``0..K-1`` of classes; real numbers
            mean regression.
        group: ``[n]`` integer codes ``0..G-1``; every group needs rows.
        weights: ``[n]`` sample weights, or None.
        n_groups: G; None takes the largest code plus one.
        seed: Seed of the order of the rows inside a group, of which batches are made.

    Returns:
        The rows, checked and coded.

    Raises:
        ValueError: If lengths, codes or values are unusable, a group has no rows of
            positive weight, or there is a single group.

    Example:
        >>> import numpy as np
        >>> data = group_data(np.eye(4), np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]))
        >>> data.n_groups, data.n_classes
        (2, 2)
        >>> data.group_mean(data.target.astype(float)).tolist()  # positive rates
        [0.5, 1.0]
    """
    leaves = jax.tree.leaves(x)
    if not is_concrete(target, group, *leaves, weights):
        raise ValueError(
            "group_data lays rows out on the host and cannot be traced: call it outside "
            "of jit, and pass the GroupData that it returns into jit."
        )
    named = {f"x[{i}]" if len(leaves) > 1 else "x": v for i, v in enumerate(leaves)}
    n = check_same_length(**named, target=target, group=group, weights=weights)
    for name, leaf in named.items():
        check_finite(name, leaf)
        check_range(name, leaf)
    groups = check_codes("group", group, n_groups)
    if groups < 2:
        raise ValueError("group has only the code 0; at least two groups are needed.")
    target = np.asarray(target)
    if target.ndim != 1:
        raise ValueError(f"target must have shape [n], got {target.shape}.")
    is_classes = target.dtype == bool or np.issubdtype(target.dtype, np.integer)
    if is_classes:
        n_classes = max(check_codes("target", target), 2)
    else:
        check_finite("target", target)
        check_range("target", target)
        n_classes = 0
    check_weights(np.ones(n) if weights is None else weights)
    weight = np.ones(n) if weights is None else np.asarray(weights, float)
    group = np.asarray(group, np.int32)
    total = np.bincount(group, weight, groups)
    if (total <= 0).any():
        raise ValueError(
            f"group {int(np.argmin(total))} has no rows of positive weight; leave its "
            "code out (jaxsteer.encode_labels makes codes without holes)."
        )
    count = np.bincount(group, minlength=groups)
    tile = TILE if n >= 8 * TILE * groups else 8
    padded = -(-count // tile) * tile
    first = np.cumsum(padded) - padded
    order = np.lexsort((np.random.default_rng(seed).random(n), group))
    place = np.repeat(first - (np.cumsum(count) - count), count) + np.arange(n)
    rows = order[np.repeat(np.cumsum(count) - count, padded)]
    rows[place] = order
    share = np.zeros(len(rows))
    share[place] = (weight / total[group])[order]
    real = jnp.result_type(float)

    def laid_out(leaf: np.ndarray):
        leaf = np.asarray(leaf)
        floating = np.issubdtype(leaf.dtype, np.floating)
        return jnp.asarray(leaf[rows], None if floating else real)

    return GroupData(
        x=jax.tree.map(laid_out, x),
        target=jnp.asarray(target[rows], jnp.int32 if is_classes else real),
        group=jnp.asarray(group[rows]),
        share=jnp.asarray(share, real),
        mass=jnp.asarray(total / total.sum(), real),
        first=jnp.asarray(first, jnp.int32),
        count=jnp.asarray(count, jnp.int32),
        tile_group=jnp.asarray(group[rows[::tile]]),
        n_classes=n_classes,
        tile=tile,
    )
