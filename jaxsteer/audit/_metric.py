"""What a metric is: a formula, and the rows that it divides by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import is_concrete
from jaxsteer._labels import cell_codes
from jaxsteer._types import Array, Float, Int
from jaxsteer.audit._rows import Rows
from jaxsteer.audit._table import sum_by_cell

__all__ = ["Metric", "Support", "cell_counts", "check_metric", "smallest_cell"]

Support = Literal["rows", "classes", "groups", "cells", "positive", "ones", "zeros"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A named formula, hashable, so that a jitted function can take it as static.

    Attributes:
        name: the name under which `bootstrap` knows it.
        support: the rows whose number it divides by: all rows, those of each class,
            of each group, of each class in each group ("cells"), or of one class in
            each group: of the class `positive`, of class 1 or of class 0.
        formula: `(table [K, K, G], positive) -> value`, or for scores
            `(curves {class: [G, n]}, ties) -> value`.
        compares: whether it compares groups, and so needs two of them.
        classes: for a metric on scores, the classes whose curves it reads.
        per_class: whether its value is `[K]` and not a scalar.
        reflected: whether its interval is a basic one, reflected about the value. The
            largest of many noisy differences is biased upwards, and resampling adds the
            bias a second time: percentiles of it lie beside a small true gap.
    """

    name: str
    support: Support
    formula: Callable[..., Array]
    compares: bool = True
    classes: tuple[int, ...] = ()
    per_class: bool = False
    reflected: bool = False

    @property
    def on_scores(self) -> bool:
        """Whether it reads a score, and not a prediction."""
        return bool(self.classes)


def cell_counts(rows: Rows) -> Int[Array, "K G"]:
    """Count the rows (not their weights) of each class in each group."""
    cell = cell_codes(rows.label, rows.group, rows.n_groups)
    counts = sum_by_cell(None, cell, rows.n_classes * rows.n_groups)
    return counts.reshape(rows.n_classes, rows.n_groups)


def smallest_cell(
    metric: Metric, counts: Int[Array, "K G"], positive: int
) -> Int[Array, ""] | Int[Array, " K"]:
    """Return the smallest number of rows that the metric divides by.

    Args:
        metric: the metric; one with a value per class gets a number per class.
        counts: rows of each class in each group.
        positive: the class that "positive" support means.

    Returns:
        A number of rows, or `[K]` of them.
    """
    kept = _divisors(counts, metric.support, positive)
    return kept.min(axis=1) if metric.per_class else kept.min()


def check_metric(metric: Metric, rows: Rows, positive: int) -> None:
    """Refuse a metric that would be undefined on these rows.

    Args:
        metric: the metric.
        rows: the rows, whose values are looked at only where they are concrete.
        positive: the class that "positive" support means.

    Raises:
        ValueError: a single group is compared, `positive` is no class, or a class,
            group or cell that the metric divides by has no weight.
    """
    if metric.compares and rows.n_groups < 2:
        raise ValueError(
            f"{metric.name} compares groups, but group holds only the code 0: pass the "
            "rows of at least two groups"
        )
    if not 0 <= positive < rows.n_classes:
        raise ValueError(
            f"positive={positive} is no class: the codes run 0..{rows.n_classes - 1}; "
            "pass n_classes= where no row holds the largest code"
        )
    if not is_concrete(rows.label, rows.group, rows.weights):
        return
    label, group = np.asarray(rows.label), np.asarray(rows.group)
    weights = None if rows.weights is None else np.asarray(rows.weights)
    total = np.bincount(
        cell_codes(label, group, rows.n_groups),
        weights,
        rows.n_classes * rows.n_groups,
    ).reshape(rows.n_classes, rows.n_groups)
    empty = np.argwhere(_divisors(total, metric.support, positive) <= 0)
    if empty.size:
        i, a = empty[0].tolist()
        where = _name_cell(metric.support, i, a, positive)
        raise ValueError(
            f"{metric.name} is undefined: no row{where} carries weight. Leave that "
            "class or group out and renumber the codes with jaxsteer.encode_labels, "
            "merge it with another, or gather more rows"
        )


def _divisors(
    cells: Float[Array, "K G"] | Int[Array, "K G"] | np.ndarray,
    support: Support,
    positive: int,
) -> Array | np.ndarray:
    """Return the totals a metric divides by, as `[classes, groups]`."""
    xp = np if isinstance(cells, np.ndarray) else jnp
    if support == "rows":
        return xp.sum(cells, keepdims=True)
    if support == "classes":
        return xp.sum(cells, axis=1, keepdims=True)
    if support == "groups":
        return xp.sum(cells, axis=0, keepdims=True)
    if support == "cells":
        return cells
    row = {"positive": positive, "ones": 1, "zeros": 0}[support]
    return cells[row][None]


def _name_cell(support: Support, i: int, a: int, positive: int) -> str:
    label = {"positive": positive, "ones": 1, "zeros": 0}.get(support, i)
    parts = {"rows": "", "classes": f" of class {label}", "groups": f" of group {a}"}
    return parts.get(support, f" of class {label} in group {a}")
