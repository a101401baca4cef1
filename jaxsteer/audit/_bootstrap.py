"""Bootstrap intervals of any set of metrics, in one jitted program."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsteer._chunks import map_in_chunks
from jaxsteer._errors import check_choice, is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Bool, Float, Int, Key
from jaxsteer.audit._counts import cell_of_row, sort_by_score, sum_by_cell
from jaxsteer.audit._formulas import METRICS
from jaxsteer.audit._metric import (
    Metric,
    cell_counts,
    evaluate,
    on_rows,
    on_table,
    rows_for,
    smallest_cell,
)
from jaxsteer.audit._rows import Rows

_FEW = 30

# Reflected 95% percentiles held a true gap of .05 in 83 to 85 of 100 cases, reflected 99%
# percentiles in 93 to 94: what reflection leaves of the bias is taken into account by a
# fifth of the tails (benchmarks/bench_gap_intervals.py).
_NARROWER = 5


@register_dataclass
@dataclass(frozen=True, kw_only=True)
class Interval:
    """A metric's value with its bootstrap interval.

    Attributes:
        value: the metric on the data as they are, a scalar or `[K]`.
        low: lower end of the interval: percentiles of the resampled values, or for the
            largest gaps over all thresholds their reflection about the value, within
            [0, 1].
        high: upper end.
        standard_error: standard deviation of the resampled values.
        smallest_cell: the smallest number of rows that the metric divides by (of a
            class in a group for the true-positive rates, of a group for demographic
            parity, all rows for accuracy).
        undefined: number of resamples in which such a cell came out empty, so that
            the metric was undefined; the interval rests on the others.
    """

    value: Float[Array, " ..."]
    low: Float[Array, " ..."]
    high: Float[Array, " ..."]
    standard_error: Float[Array, " ..."]
    smallest_cell: Int[Array, " ..."]
    undefined: Int[Array, " ..."]

    @property
    def few(self) -> Bool[Array, " ..."]:
        """Whether the figure rests on fewer than 30 rows, too few to lean on."""
        return self.smallest_cell < _FEW


def interval(
    value: Float[Array, "*shape"],
    replicates: Float[Array, " B *shape"],
    level: Float[Array, ""],
    smallest_cell: Int[Array, "*shape"],
    *,
    reflected: bool = False,
) -> Interval:
    """Summarize resampled values by their percentiles and standard deviation.

    Args:
        value: the value on the data.
        replicates: the value on each of B resamples, NaN where it is undefined.
        level: probability that the interval should hold, in 0..1.
        smallest_cell: number of rows the value rests on.
        reflected: whether to take a basic interval, `2 value - percentiles` at a fifth of
            the tails, cut to [0, 1] and never ending below the value.

    Returns:
        The interval; NaN ends where no resample was defined, or only one.
    """
    tail = (1 - level) / (2 * _NARROWER if reflected else 2)
    low, high = jnp.nanquantile(replicates, jnp.stack([tail, 1 - tail]), axis=0)
    if reflected:
        low, high = (jnp.clip(2 * value - end, 0, 1) for end in (high, low))
        # Where all noise is upwards the reflection ends below the value itself.
        high = jnp.maximum(high, value)
    return Interval(
        value=value,
        low=low,
        high=high,
        standard_error=jnp.nanstd(replicates, axis=0, ddof=1),
        smallest_cell=smallest_cell,
        undefined=jnp.sum(jnp.isnan(replicates), axis=0, dtype=jnp.int32),
    )


def row_multiplicities(key: Key[Array, ""], n: int) -> Float[Array, " n"]:
    """Draw n of n rows with replacement; return how often each row came. O(n)."""
    drawn = jax.random.randint(key, (n,), 0, n, dtype=jnp.int32)
    return jnp.zeros(n, float).at[drawn].add(1)


def multinomial_counts(
    key: Key[Array, ""], counts: Int[Array, " C"]
) -> Float[Array, " C"]:
    """Draw the cell counts of as many rows drawn with replacement.

    A chain of conditional binomials: cell c takes its share, `counts[c]` out of all
    that remains, of the draws that remain. The remaining totals are integers, so the
    last cell with rows takes exactly what is left, and an empty cell nothing.

    Args:
        key: randomness.
        counts: rows in each cell; they add up to n.

    Returns:
        Counts that add up to n. Cost O(C) binomials, whatever n is.
    """
    remaining = jnp.cumsum(counts[::-1])[::-1]
    share = counts / jnp.maximum(remaining, 1)

    def draw(left: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        key, share = step
        taken = jnp.clip(jax.random.binomial(key, left, share), 0, left)
        return left - taken, taken

    keys = jax.random.split(key, counts.shape[0])
    _, drawn = jax.lax.scan(draw, remaining[0].astype(float), (keys, share))
    return drawn


# Entries that the resamples worked on at one time may fill (16 MiB in float32): more
# leaves the processor's cache, measured twice as slow for all resamples at once.
CHUNK_ENTRIES = 2**22


def bootstrap(
    metrics: Sequence[str | Metric],
    label: ArrayLike,
    prediction: ArrayLike | None,
    group: ArrayLike,
    *,
    key: Key[Array, ""],
    score: ArrayLike | None = None,
    n_boot: int = 200,
    level: float = 0.95,
    positive: int = 1,
    weights: ArrayLike | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> dict[str, Interval]:
    """Evaluate metrics with bootstrap intervals.

    The n rows are drawn with replacement `n_boot` times. A metric on predictions sees
    the data only through the counts of (label, prediction, group), and those of a
    resample are multinomial: so without weights the counts are drawn, at a cost that
    does not grow with n. With weights, or where a score is read too, rows are drawn;
    all metrics then see the same resamples.

    Each interval runs from the `(1 - level) / 2` to the `(1 + level) / 2` quantile of
    the resampled values, leaving out those in which a cell was empty
    (`Interval.undefined` counts them). A gap is never negative, so where the true gap
    is 0 such an interval lies above 0: it shows the noise of the figure, and is no test
    of fairness. The largest gaps over all thresholds get basic intervals instead,
    reflected about the value (at a fifth of the tails) and cut at 0: in simulations
    with 150 to 1,200 rows a cell 95% intervals held true gaps of .05 and .1 in 92 to 96
    of 100 cases, percentiles in 0 to 74 (benchmarks/bench_gap_intervals.py).
    `chance_level` says what a figure would be if the groups had nothing to do with it.

    Args:
        metrics: names out of "accuracy", "balanced_accuracy", "demographic_parity",
            "equal_opportunity", "equalized_odds", "tpr_gap", "tpr_gap_per_class", and
            for scores "auc", "sup_tpr_gap", "sup_fpr_gap", "sup_dp_gap"; or metrics of
            your own (`Metric`).
        label: true class codes 0..K-1, `[n]`; binary where a score is read.
        prediction: predicted class codes, `[n]`, or None if only scores are read.
        group: group codes 0..G-1, `[n]`.
        key: a key of `jax.random.key`; the same key gives the same intervals.
        score: real scores, `[n]`, for the metrics on scores.
        n_boot: number of resamples, at least 2.
        level: probability that an interval should hold, between 0 and 1.
        positive: the class of "equal_opportunity".
        weights: non-negative row weights, `[n]`; they stay with their rows.
        n_classes: K, needed under `jax.jit` and `jax.vmap`.
        n_groups: G, needed under `jax.jit` and `jax.vmap`.

    Returns:
        An `Interval` for each name. Cost O(n + n_boot K^2 G) where counts are drawn,
        O(n log n + n_boot n G) where rows are.

    Raises:
        ValueError: a name is not known, the array that a metric reads is missing, an
            option is out of range, or as the metrics themselves.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> label, group = np.array([0, 0, 1, 1] * 50), np.array([0, 1] * 100)
        >>> found = bootstrap(
        ...     ["accuracy"], label, np.roll(label, 1), group, key=jax.random.key(0)
        ... )
        >>> print(found["accuracy"].value, found["accuracy"].smallest_cell)
        0.5 200

    References:
        Efron and Tibshirani (1993), "An introduction to the bootstrap", chapters 6
        (standard errors) and 13 (percentile and basic intervals).
    """
    chosen = choose(metrics, prediction, score)
    check_resampling(key, n_boot, level)
    rows = rows_for(
        chosen,
        label,
        group,
        prediction=prediction,
        score=score,
        weights=weights,
        n_classes=n_classes,
        n_groups=n_groups,
        positive=positive,
    )
    found = _intervals(
        rows, key, level, metrics=chosen, positive=positive, n_boot=n_boot
    )
    # A jitted function returns its dictionaries sorted by name.
    return {metric.name: found[metric.name] for metric in chosen}


@functools.partial(jax.jit, static_argnames=("metrics", "positive", "n_boot"))
def _intervals(
    rows: Rows,
    key: Key[Array, ""],
    level: Float[Array, ""],
    *,
    metrics: tuple[Metric, ...],
    positive: int,
    n_boot: int,
) -> dict[str, Interval]:
    values = evaluate(rows, metrics=metrics, positive=positive)
    keys = jax.random.split(key, n_boot)
    draw_rows = rows.weights is not None or rows.score is not None
    replicate = _replicate_rows if draw_rows else _replicate_counts
    replicates = replicate(rows, keys, metrics=metrics, positive=positive)
    counts = cell_counts(rows)
    return {
        metric.name: interval(
            values[metric.name],
            replicates[metric.name],
            level,
            smallest_cell(metric, counts, positive),
            reflected=metric.reflected,
        )
        for metric in metrics
    }


def _replicate_counts(
    rows: Rows, keys: Key[Array, " B"], *, metrics: tuple[Metric, ...], positive: int
) -> dict[str, Array]:
    shape = (rows.n_classes, rows.n_classes, rows.n_groups)
    size = rows.n_classes**2 * rows.n_groups
    counts = sum_by_cell(None, cell_of_row(rows), size)

    def replicate(key: Array) -> dict[str, Array]:
        table = multinomial_counts(key, counts).reshape(shape)
        return on_table(table, metrics=metrics, positive=positive)

    return _map_resamples(replicate, keys, size)


def _replicate_rows(
    rows: Rows, keys: Key[Array, " B"], *, metrics: tuple[Metric, ...], positive: int
) -> dict[str, Array]:
    ties = None
    if rows.score is not None:
        rows, ties = sort_by_score(rows)
    n = rows.label.shape[0]

    def replicate(key: Array) -> dict[str, Array]:
        weights = row_multiplicities(key, n)
        if rows.weights is not None:
            weights = weights * rows.weights
        return on_rows(rows, ties, weights, metrics=metrics, positive=positive)

    return _map_resamples(replicate, keys, 2 * rows.n_groups * n)


def _map_resamples(
    replicate: Callable[[Array], dict[str, Array]], keys: Key[Array, " B"], size: int
) -> dict[str, Array]:
    """Map over keys, as many at one time as resamples of `size` entries may fill."""
    n_boot = keys.shape[0]
    n_chunks = math.ceil(n_boot / max(1, CHUNK_ENTRIES // size))
    return map_in_chunks(replicate, keys, math.ceil(n_boot / n_chunks))


def choose(
    names: Sequence[str | Metric], prediction: ArrayLike | None, score: ArrayLike | None
) -> tuple[Metric, ...]:
    """Return the metrics of the names, and check that what they read is there."""
    names = (names,) if isinstance(names, str | Metric) else tuple(names)
    if not names:
        raise ValueError(f"metrics is empty: name some of {', '.join(METRICS)}.")
    for name in names:
        if not isinstance(name, Metric):
            check_choice("metrics", name, tuple(METRICS))
    found = [one if isinstance(one, Metric) else METRICS[one] for one in names]
    chosen = tuple(dict.fromkeys(found))
    if len({metric.name for metric in chosen}) < len(chosen):
        raise ValueError("two metrics have one name; the answers go by names.")
    for metric in chosen:
        if metric.on_scores and score is None:
            raise ValueError(f"{metric.name} reads a score: pass score=, real and [n].")
        if not metric.on_scores and prediction is None:
            raise ValueError(
                f"{metric.name} reads predictions, got prediction=None: pass class "
                "codes [n], or ask only for metrics on scores."
            )
    return chosen


def check_resampling(
    key: Array, repeats: int, level: float, name: str = "n_boot"
) -> None:
    """Raise unless the key is one key, there are repeats, and the level is one."""
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed or key.shape != ():
        raise ValueError(f"key must be one jax.random.key(seed), got {key!r}.")
    try:
        many = operator.index(repeats) >= 2
    except TypeError:
        many = False
    if not many:
        raise ValueError(f"{name} must be an int of 2 or more, got {repeats!r}.")
    if is_concrete(level) and not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}: try 0.95.")
