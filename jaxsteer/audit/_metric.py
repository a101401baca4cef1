"""What a metric is: a formula of counts, the rows that it divides by, and its evaluation.

One jitted program evaluates any set of metrics on the rows of one audit.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsteer._errors import is_concrete
from jaxsteer._labels import cell_codes
from jaxsteer._types import Array, Float, Int
from jaxsteer.audit._counts import (
    Ties,
    confusion_table,
    curves,
    sort_by_score,
    sum_by_cell,
)
from jaxsteer.audit._rows import Rows, read_rows

Support = Literal["rows", "classes", "groups", "cells", "positive", "ones", "zeros"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A fairness metric: a formula of counts, and the rows that it divides by.

    One of your own is made by the decorator :func:`metric`, or from these fields. It is
    called as ours are, and `bootstrap` and `chance_level` take it beside names: it gets
    its intervals, its chance level, its checks and one compiled program with the others.
    Hashable, so that a jitted function takes it as static: define it once.

    Attributes:
        name: its name in the answers of `bootstrap` and `chance_level`.
        support: the rows whose number it divides by: all rows, those of each class,
            of each group, of each class in each group ("cells"), or of one class in
            each group: of the class `positive`, of class 1 or of class 0.
        formula: `(table [K true, K predicted, G], positive) -> value`, or for scores
            `(curves {class: [G, n]}, ties) -> value`.
        compares: whether it compares groups, and so needs two of them.
        classes: for a metric on scores, the classes whose curves it reads.
        per_class: whether its value is `[K]` and not a scalar.
        reflected: whether its interval is a basic one, reflected about the value. The
            largest of many noisy differences is biased upwards, and resampling adds the
            bias a second time: percentiles of it lie beside a small true gap.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> @metric(support="cells")
        ... def missed_gap(table, positive):
        ...     missed = 1 - table[positive, positive] / jnp.sum(table[positive], 0)
        ...     return jnp.max(missed) - jnp.min(missed)
        >>> label, group = np.array([1, 1, 0, 1, 1, 0]), np.array([0, 0, 0, 1, 1, 1])
        >>> print(missed_gap(label, np.array([0, 1, 0, 1, 1, 0]), group))
        0.5
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

    def __call__(
        self,
        label: ArrayLike,
        prediction: ArrayLike,
        group: ArrayLike,
        *,
        positive: int = 1,
        weights: ArrayLike | None = None,
        n_classes: int | None = None,
        n_groups: int | None = None,
    ) -> Array:
        """Evaluate the metric on rows. Pure JAX; cost O(n + K^2 G).

        Args:
            label: true class codes 0..K-1, `[n]`.
            prediction: predicted class codes 0..K-1, `[n]`.
            group: group codes 0..G-1, `[n]`.
            positive: code of the class whose members should be found, for the metrics
                that ask for one.
            weights: non-negative row weights, `[n]`; None counts every row once.
            n_classes: K, needed under `jax.jit` and `jax.vmap`.
            n_groups: G, needed under `jax.jit` and `jax.vmap`.

        Returns:
            A scalar, or `[K]` for a metric of each class; NaN under tracing where it
            would divide by an empty class, group or cell.

        Raises:
            ValueError: the arrays are not codes of one length, `positive` is no class,
                groups are compared and there is one, or a class, group or cell that the
                metric divides by has no row of positive weight.
        """
        return _measure(
            self,
            label,
            group,
            prediction=prediction,
            weights=weights,
            n_classes=n_classes,
            n_groups=n_groups,
            positive=positive,
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        """One that stands in a module under its name is pickled by it, as functions are."""
        return vars(self).get("__qualname__") or super().__reduce_ex__(protocol)


@dataclass(frozen=True, kw_only=True)
class ScoreMetric(Metric):
    """A :class:`Metric` of a score of class 1, over all thresholds."""

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        label: ArrayLike,
        score: ArrayLike,
        group: ArrayLike,
        *,
        weights: ArrayLike | None = None,
        n_groups: int | None = None,
    ) -> Array:
        """Evaluate the metric on rows. Pure JAX; cost O(n log n + G n).

        Args:
            label: binary class codes, 0 or 1, `[n]`.
            score: real scores, higher for class 1, `[n]`; infinite ones are allowed.
            group: group codes 0..G-1, `[n]`.
            weights: non-negative row weights, `[n]`; None counts every row once.
            n_groups: G, needed under `jax.jit` and `jax.vmap`.

        Returns:
            A scalar; NaN under tracing where a class, group or cell that it divides by
            is empty, or a score is NaN.

        Raises:
            ValueError: the arrays are not of one length, the label is not binary, a
                score is NaN, or as for other metrics.
        """
        return _measure(
            self, label, group, score=score, weights=weights, n_groups=n_groups
        )


@overload
def metric(
    *,
    support: Support,
    compares: bool = True,
    per_class: bool = False,
    reflected: bool = False,
) -> Callable[[Callable[..., Array]], Metric]: ...
@overload
def metric(
    *,
    support: Support,
    classes: tuple[int, ...],
    compares: bool = True,
    per_class: bool = False,
    reflected: bool = False,
) -> Callable[[Callable[..., Array]], ScoreMetric]: ...
def metric(**fields: Any) -> Any:
    """Make a metric of a formula, under its name and with its docstring.

    Args:
        **fields: those of :class:`Metric` but the name and the formula.

    Returns:
        A decorator, which makes a :class:`ScoreMetric` where `classes` are given.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> @metric(support="groups", classes=(0, 1))
        ... def highest_share(curve, ties):
        ...     rows = curve[0] + curve[1]
        ...     return jnp.max(rows[:, -1]) / jnp.sum(rows[:, -1])
        >>> label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 0, 1])
        >>> print(highest_share(label, np.array([0.1, 0.4, 0.4, 0.9]), group))
        0.75
    """
    cls = ScoreMetric if fields.get("classes") else Metric

    def make(formula: Callable[..., Array]) -> Metric:
        made = cls(name=formula.__name__, formula=formula, **fields)
        signature = inspect.signature(made)
        dressed = {"__wrapped__": formula, "__signature__": signature}
        for name in ("__doc__", "__module__", "__name__", "__qualname__"):
            dressed[name] = getattr(formula, name)
        vars(made).update(dressed)  # frozen fields, but a function's face
        return made

    return make


def _measure(
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
