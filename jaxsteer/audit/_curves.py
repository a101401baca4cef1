"""The curves that every threshold on a score traces out, group by group."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Bool, Float, Int
from jaxsteer.audit._rows import Rows

__all__ = ["Ties", "curves", "sort_by_score"]


@register_dataclass
@dataclass(frozen=True, kw_only=True)
class Ties:
    """Runs of equal scores, in falling order.

    Attributes:
        is_last: whether a row is the last of its run. A threshold can only fall
            between two runs, so only there is a curve read.
        last: place of the last row of each row's run.
        before: place of the last row of the run before, -1 in the first run.
    """

    is_last: Bool[Array, " n"]
    last: Int[Array, " n"]
    before: Int[Array, " n"]


def sort_by_score(rows: Rows) -> tuple[Rows, Ties]:
    """Sort rows by falling score, and find the runs of equal scores. O(n log n)."""
    assert rows.score is not None
    order = jnp.argsort(rows.score, descending=True)
    rows = jax.tree.map(lambda x: x[order], rows)
    assert rows.score is not None
    n = order.shape[0]
    place = jnp.arange(n, dtype=jnp.int32)
    differs = rows.score[1:] != rows.score[:-1]
    is_last = jnp.concatenate([differs, jnp.ones(1, bool)])
    is_first = jnp.concatenate([jnp.ones(1, bool), differs])
    last = jax.lax.cummin(jnp.where(is_last, place, n), reverse=True)
    first = jax.lax.cummax(jnp.where(is_first, place, 0))
    return rows, Ties(is_last=is_last, last=last, before=first - 1)


def curves(
    rows: Rows, classes: tuple[int, ...], weights: Float[Array, " n"] | None = None
) -> dict[int, Float[Array, "G n"]]:
    """Return the weight of each class and group down to each row.

    Args:
        rows: rows sorted by falling score.
        classes: the classes to follow.
        weights: weights in place of `rows.weights`.

    Returns:
        For each class `[G, n]`: the weight of the class in the group among rows
        0..m, which at the last row of a run is the weight scored at or above it.
    """
    weights = rows.weights if weights is None else weights
    # Sums of ones are exact in float32 up to 2^24 rows, in float64 beyond.
    weights = jnp.ones(rows.label.shape, float) if weights is None else weights
    groups = jnp.arange(rows.n_groups)[:, None]
    member = rows.group == groups

    def follow(i: int) -> Float[Array, "G n"]:
        return jnp.cumsum(jnp.where(member & (rows.label == i), weights, 0), axis=1)

    return {i: follow(i) for i in classes}
