"""Evaluate metrics on rows: one jitted program for any set of them."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsteer._types import Array, Float
from jaxsteer.audit._curves import Ties, curves, sort_by_score
from jaxsteer.audit._metric import Metric, check_metric
from jaxsteer.audit._rows import Rows, read_rows
from jaxsteer.audit._table import confusion_table

__all__ = ["evaluate", "measure", "on_rows", "on_table", "rows_for"]


def measure(
    metric: Metric,
    label: ArrayLike,
    group: ArrayLike,
    *,
    prediction: ArrayLike | None = None,
    score: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
    positive: int = 1,
) -> Array:
    """Check the input of one metric and evaluate it: what every front door does."""
    rows = rows_for(
        (metric,),
        label,
        group,
        prediction=prediction,
        score=score,
        weights=weights,
        n_classes=n_classes,
        n_groups=n_groups,
        positive=positive,
    )
    return evaluate(rows, metrics=(metric,), positive=positive)[metric.name]


def rows_for(
    metrics: tuple[Metric, ...],
    label: ArrayLike,
    group: ArrayLike,
    *,
    prediction: ArrayLike | None,
    score: ArrayLike | None,
    weights: ArrayLike | None,
    n_classes: int | None,
    n_groups: int | None,
    positive: int,
) -> Rows:
    """Read what the metrics need of the rows, and check that each is defined."""
    reads_score = any(metric.on_scores for metric in metrics)
    reads_prediction = not all(metric.on_scores for metric in metrics)
    rows = read_rows(
        label,
        group,
        prediction=prediction if reads_prediction else None,
        score=score if reads_score else None,
        weights=weights,
        n_classes=n_classes,
        n_groups=n_groups,
    )
    for metric in metrics:
        check_metric(metric, rows, positive)
    return rows


@functools.partial(jax.jit, static_argnames=("metrics", "positive"))
def evaluate(
    rows: Rows, *, metrics: tuple[Metric, ...], positive: int
) -> dict[str, Array]:
    """Return each metric's value, NaN where the rows are not valid."""
    ok = rows.valid()
    ties = None
    if any(metric.on_scores for metric in metrics):
        rows, ties = sort_by_score(rows)
    values = on_rows(rows, ties, metrics=metrics, positive=positive)
    return {name: jnp.where(ok, value, jnp.nan) for name, value in values.items()}


def on_rows(
    rows: Rows,
    ties: Ties | None,
    weights: Float[Array, " n"] | None = None,
    *,
    metrics: tuple[Metric, ...],
    positive: int,
) -> dict[str, Array]:
    """Return each metric's value on rows that are sorted where scores are read.

    Args:
        rows: the rows, by falling score where a metric reads one.
        ties: the runs of equal scores, or None where no metric reads one.
        weights: weights in place of `rows.weights`.
        metrics: what to evaluate.
        positive: the positive class.

    Returns:
        The values by name.
    """
    values = {}
    of_table = tuple(metric for metric in metrics if not metric.on_scores)
    if of_table:
        table = confusion_table(rows, weights)
        values |= on_table(table, metrics=of_table, positive=positive)
    of_score = [metric for metric in metrics if metric.on_scores]
    if of_score:
        classes = sorted({i for metric in of_score for i in metric.classes})
        curve = curves(rows, tuple(classes), weights)
        values |= {metric.name: metric.formula(curve, ties) for metric in of_score}
    return values


def on_table(
    table: Float[Array, "K K G"], *, metrics: tuple[Metric, ...], positive: int
) -> dict[str, Array]:
    """Return each table metric's value on a confusion table."""
    return {metric.name: metric.formula(table, positive) for metric in metrics}
