"""The largest gap over all thresholds, of scores that lie on many devices."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxsteer._errors import check_choice, check_same_length
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.moments._sharded import Axes, axes_of, axis_size, is_spread

_CLASSES = {"tpr": (1,), "fpr": (0,), "dp": (0, 1)}


def sharded_sup_gap(
    label: Int[ArrayLike, " n"],
    score: Float[Array, " n"],
    group: Int[ArrayLike, " n"],
    *,
    n_groups: int,
    rate: Literal["tpr", "fpr", "dp"] = "tpr",
    weights: Float[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Return :func:`jaxsteer.metrics.sup_gap` of scores on a mesh, without a gather.

    Exact: each device sorts its own rows once, and the sorted blocks go around in a
    ring; every device counts, at each of its own scores, how much of every cell scores
    at or above it in the block that is passing. Counts of rows are exact up to 2^31 of
    them; weights add up in the scores' precision.

    Args:
        label: ``[n]`` binary class codes.
        score: ``[n]`` scores that lie on a mesh.
        group: ``[n]`` group codes ``0..G-1``.
        n_groups: ``G``.
        rate: As for :func:`jaxsteer.metrics.sup_gap`.
        weights: ``[n]`` sample weights, or None.

    Returns:
        ``[]``, NaN where a group has no such row, a score is NaN or a code is out of
        range. Each device takes O(n log n) time and O(G n / devices) memory.

    Raises:
        ValueError: If `score` lies on one device only, lengths differ, or there is a
            single group.

    Example:
        On all devices of a process::

            mesh = jax.make_mesh((jax.device_count(),), ("rows",))
            score = jax.device_put(score, NamedSharding(mesh, PartitionSpec("rows")))
            sharded_sup_gap(label, score, group, n_groups=2)
    """
    check_choice("rate", rate, tuple(_CLASSES))
    if not is_spread(score):
        raise ValueError(
            "score lies on one device: use jaxsteer.metrics.sup_gap, or lay it out with "
            "jax.device_put(score, NamedSharding(mesh, P('rows')))."
        )
    check_same_length(label=label, score=score, group=group, weights=weights)
    if n_groups < 2:
        raise ValueError(f"n_groups={n_groups}: a gap takes two groups at least.")
    mesh, rows, _ = axes_of(score)
    if weights is None:
        shares: Any = np.ones(np.shape(label)[0], np.int32)
    else:
        shares = jnp.asarray(weights).astype(score.dtype)
    codes = jnp.asarray(label), jnp.asarray(group)
    return _gap(*codes, score, jnp.asarray(shares), mesh, rows, n_groups, rate)


@partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _gap(
    label: Any,
    group: Any,
    score: Any,
    shares: Any,
    mesh: Mesh,
    rows: Any,
    n_groups: int,
    rate: str,
) -> Array:
    along = PartitionSpec(rows)
    devices = axis_size(mesh, rows)
    return jax.shard_map(
        partial(_own_gap, rows=rows, n_groups=n_groups, rate=rate, devices=devices),
        mesh=mesh,
        in_specs=(along,) * 4,
        out_specs=PartitionSpec(),
        check_vma=False,
    )(label, group, score, shares)


def _own_gap(
    label: Array,
    group: Array,
    score: Array,
    shares: Array,
    *,
    rows: Axes,
    n_groups: int,
    rate: str,
    devices: int,
):
    label, group = label.astype(jnp.int32), group.astype(jnp.int32)
    valid = (label >= 0) & (label < 2) & (group >= 0) & (group < n_groups)
    valid = jnp.all(valid & ~jnp.isnan(score) & (shares >= 0))
    counts = jnp.isin(label, jnp.array(_CLASSES[rate]))
    mine = jnp.where(
        counts & (group == jnp.arange(n_groups)[:, None]),
        shares,
        jnp.zeros_like(shares),
    )
    order = jnp.argsort(score)
    below = jnp.cumsum(mine[:, order], axis=1, dtype=shares.dtype)
    below = jnp.concatenate([jnp.zeros_like(below[:, :1]), below], axis=1)
    own = score[order]
    onward = [(i, (i + 1) % devices) for i in range(devices)]

    def step(carry: tuple[Array, tuple[Array, Array]], _):
        above, block = carry
        scores, sums = block
        place = jnp.searchsorted(scores, own, side="left")
        above = above + sums[:, -1:] - sums[:, place]
        block = jax.tree.map(lambda v: jax.lax.ppermute(v, rows, onward), block)
        return (above, block), None

    start = (jnp.zeros_like(below[:, 1:]), (own, below))
    above = jax.lax.scan(step, start, None, length=devices)[0][0]
    total = jax.lax.psum(below[:, -1:], rows).astype(score.dtype)
    rates = above.astype(score.dtype) / total  # a group without rows: 0 / 0 is NaN
    gap = jnp.max(jnp.max(rates, 0) - jnp.min(rates, 0))
    gap = jnp.where(valid, gap, jnp.nan)
    # The maximum over devices may drop NaN; a sum does not.
    bad = jax.lax.psum(jnp.isnan(gap).astype(jnp.int32), rows)
    return jnp.where(bad > 0, jnp.nan, jax.lax.pmax(jnp.nan_to_num(gap), rows))
