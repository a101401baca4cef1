"""The confusion table `[K true, K predicted, G]`, and rates read off it."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxsteer._labels import cell_codes
from jaxsteer._types import Array, Float, Int
from jaxsteer.audit._rows import Rows

__all__ = [
    "cell_of_row",
    "confusion_table",
    "divide",
    "recall",
    "spread",
    "sum_by_cell",
]


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
