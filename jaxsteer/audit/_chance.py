"""What a gap would be by chance: the same rows with groups that mean nothing."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsteer._chunks import map_in_chunks
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Key
from jaxsteer.audit._bootstrap import CHUNK_ENTRIES, check_resampling, choose
from jaxsteer.audit._counts import sort_by_score
from jaxsteer.audit._metric import Metric, on_rows, rows_for
from jaxsteer.audit._rows import Rows


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ChanceLevel:
    """A metric under shuffled groups.

    Attributes:
        mean: its mean over the shuffles: the floor that no method can be asked to beat.
        high: its `level` quantile: what a value must exceed to be more than chance.
    """

    mean: Float[Array, " ..."]
    high: Float[Array, " ..."]


def chance_level(
    metrics: Sequence[str | Metric],
    label: ArrayLike,
    prediction: ArrayLike | None,
    group: ArrayLike,
    *,
    key: Key[Array, ""],
    score: ArrayLike | None = None,
    n_shuffles: int = 100,
    level: float = 0.95,
    positive: int = 1,
    weights: ArrayLike | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> dict[str, ChanceLevel]:
    """Evaluate metrics with the groups shuffled among the rows of each label.

    The shuffled rows have the same scores, labels and cell counts; whether scores and
    groups go together given the label is all that is lost. A gap at or below the mean is
    as small as rows so few can show.

    Args:
        metrics: names, or metrics of your own, as in `bootstrap`.
        label: true class codes 0..K-1, `[n]`; binary where a score is read.
        prediction: predicted class codes, `[n]`, or None if only scores are read.
        group: group codes 0..G-1, `[n]`.
        key: a key of `jax.random.key`.
        score: real scores, `[n]`, for the metrics on scores.
        n_shuffles: number of shuffles, at least 2.
        level: quantile of `ChanceLevel.high`, between 0 and 1.
        positive: the class of "equal_opportunity".
        weights: non-negative row weights, `[n]`; they stay with their rows.
        n_classes: K, needed under `jax.jit` and `jax.vmap`.
        n_groups: G, needed under `jax.jit` and `jax.vmap`.

    Returns:
        A `ChanceLevel` for each name. Cost O(n_shuffles n (log n + G)).

    Raises:
        ValueError: as `bootstrap`.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> label, group = np.array([0, 0, 1, 1] * 50), np.array([0, 1] * 100)
        >>> score = label + group
        >>> found = chance_level(
        ...     ["sup_tpr_gap"], label, None, group, score=score, key=jax.random.key(0)
        ... )
        >>> bool(found["sup_tpr_gap"].mean < 0.2)
        True
    """
    chosen = choose(metrics, prediction, score)
    check_resampling(key, n_shuffles, level, "n_shuffles")
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
    found = _levels(
        rows, key, level, metrics=chosen, positive=positive, n_shuffles=n_shuffles
    )
    return {metric.name: found[metric.name] for metric in chosen}


@functools.partial(jax.jit, static_argnames=("metrics", "positive", "n_shuffles"))
def _levels(
    rows: Rows,
    key: Key[Array, ""],
    level: Float[Array, ""],
    *,
    metrics: tuple[Metric, ...],
    positive: int,
    n_shuffles: int,
) -> dict[str, ChanceLevel]:
    ok, ties = rows.valid(), None
    if rows.score is not None:
        rows, ties = sort_by_score(rows)
    n = rows.label.shape[0]
    by_label = jnp.argsort(rows.label)

    def shuffle(key: Array) -> dict[str, Array]:
        order = jnp.lexsort((jax.random.uniform(key, (n,)), rows.label))
        group = jnp.zeros_like(rows.group).at[by_label].set(rows.group[order])
        moved = dataclasses.replace(rows, group=group)
        return on_rows(moved, ties, metrics=metrics, positive=positive)

    n_chunks = math.ceil(n_shuffles / max(1, CHUNK_ENTRIES // (2 * rows.n_groups * n)))
    keys = jax.random.split(key, n_shuffles)
    values = map_in_chunks(shuffle, keys, math.ceil(n_shuffles / n_chunks))
    return {
        name: ChanceLevel(
            mean=jnp.where(ok, jnp.mean(value, 0), jnp.nan),
            high=jnp.where(ok, jnp.quantile(value, level, axis=0), jnp.nan),
        )
        for name, value in values.items()
    }
