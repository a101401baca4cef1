"""What formulas read: the confusion table, and the curves of a score, group by group."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxsteer._labels import cell_codes
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Bool, Float, Int
from jaxsteer.audit._rows import Rows


def cell_of_row(rows: Rows) -> Int[Array, " n"]:
    """Return each row's place in the flattened table: `(label, prediction, group)`."""
    assert rows.prediction is not None
    pair = cell_codes(rows.label, rows.prediction, rows.n_classes)
    return cell_codes(pair, rows.group, rows.n_groups)


def sum_by_cell(
    weights: Float[Array, " n"] | None, cell: Int[Array, " n"], n_cells: int
) -> Float[Array, " C"] | Int[Array, " C"]:
    """Add up the weights of each cell's rows; count the rows where weights are None.

    Counts are integers, exact in any precision. Weights are added in about `sqrt(n)`
    interleaved stripes and the stripes then summed, which keeps the rounding error of
    float32 near `sqrt(n) eps` where one running sum would let it grow like `n eps`.

    Args:
        weights: weight of each row, or None.
        cell: cell of each row, 0..C-1.
        n_cells: C.

    Returns:
        The total of each cell.
    """
    n = cell.shape[0]
    if weights is None:
        return jax.ops.segment_sum(jnp.ones(n, jnp.int32), cell, n_cells)
    stripes = max(1, min(math.isqrt(n), 2**20 // n_cells))
    striped = cell * stripes + jnp.arange(n, dtype=jnp.int32) % stripes
    parts = jax.ops.segment_sum(weights, striped, n_cells * stripes)
    return jnp.sum(parts.reshape(n_cells, stripes), axis=1)


def confusion_table(
    rows: Rows,
    weights: Float[Array, " n"] | None = None,
) -> Float[Array, "K K G"]:
    """Return the weight of each (true class, predicted class, group).

    Args:
        rows: the rows, with predictions.
        weights: weights in place of `rows.weights`.

    Returns:
        The table in JAX's default float type.
    """
    weights = rows.weights if weights is None else weights
    shape = (rows.n_classes, rows.n_classes, rows.n_groups)
    flat = sum_by_cell(weights, cell_of_row(rows), math.prod(shape))
    return flat.reshape(shape).astype(float)


def divide(
    part: Float[Array, "*shape"], whole: Float[Array, "*#shape"]
) -> Float[Array, "*shape"]:
    """Return `part / whole`, NaN where there is nothing to divide by."""
    some = whole > 0
    return jnp.where(some, part / jnp.where(some, whole, 1), jnp.nan)


def spread(rates: Float[Array, "*shape G"]) -> Float[Array, "*shape"]:
    """Return the largest difference between two groups; NaN where one is NaN."""
    return jnp.max(rates, axis=-1) - jnp.min(rates, axis=-1)


def recall(table: Float[Array, "K K G"]) -> Float[Array, "K G"]:
    """Return the true-positive rate `P(prediction = i | label = i, group = a)`."""
    hits = jnp.einsum("iia->ia", table)
    return divide(hits, jnp.sum(table, axis=1))


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
