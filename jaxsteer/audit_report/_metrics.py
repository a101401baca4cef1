"""The figures of a whole table: accuracy, AUC, and the largest gaps between groups.

Each is a function of the counts; its interval comes from bootstrap draws of them, and
its chance level from draws in which the groups are alike within each label. Intervals of
gaps are reflected about the value at a fifth of the tails, as in
:mod:`jaxsteer.audit.metrics`, and every interval holds its own value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxsteer.audit_report._cells import Cells
from jaxsteer.audit_report._measures import Stream, draw_counts, quantile

_PLAIN = ("accuracy", "balanced_accuracy", "auc")
_FEW = 30
_TAIL = 0.05


def measure_table(cells: Cells, *, seed: int, draws: int) -> dict[str, dict[str, Any]]:
    """Return value, interval and chance level by the names of `jaxsteer.audit.metrics`.

    A gap that no two groups have rows for is left out: it is unknown, not 0.

    Args:
        cells: The counts.
        seed: Seed of the draws.
        draws: Number of bootstrap draws; half as many give the chance level.
    """
    keys, weight, square, n = _fine(cells)
    values = metrics_of(keys, weight, cells)
    for name in _unknown(keys, weight, cells):
        values.pop(name, None)
    stream = Stream(seed)
    boot = _collect(
        metrics_of(keys, draw_counts(weight, square, stream.normal(len(weight))), cells)
        for _ in range(draws)
    )
    null, expected, spread = _alike(keys, weight, square)
    chance = _collect(
        metrics_of(
            null, draw_counts(expected, spread, stream.normal(len(expected))), cells
        )
        for _ in range(max(1, draws // 2))
    )
    smallest = _smallest(keys, n, cells)
    found = {}
    for name, value in values.items():
        gap = name not in _PLAIN
        tail = _TAIL / 2 / (5 if gap else 1)
        low, high = (quantile(boot[name], share) for share in (tail, 1 - tail))
        if gap:
            low, high = (min(1.0, max(0.0, 2 * value - end)) for end in (high, low))
        found[name] = {
            "value": value,
            "low": min(low, value),
            "high": max(high, value),
            "smallest_cell": smallest[name],
            "few": smallest[name] < _FEW,
        }
        if gap:
            found[name]["by_chance"] = float(np.mean(chance[name]))
            found[name]["by_chance_95"] = quantile(chance[name], 0.95)
    return found


def metrics_of(keys: np.ndarray, weight: np.ndarray, cells: Cells) -> dict[str, float]:
    """Return the metrics of cells with ``keys [C, 4]`` (group, label, decision, bin)."""
    group, label, said, place = keys.T
    n_groups, k = group.max() + 1, len(cells.label_names)
    found = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        if (said >= 0).all():
            by_said = _sum(weight, (said, k), (group, n_groups))
            chosen = by_said / by_said.sum(0)
            if (label >= 0).all():
                table = _sum(weight, (label, k), (said, k), (group, n_groups))
                pooled, own = table.sum(2), table / table.sum(1, keepdims=True)
                recall = np.einsum("iia->ia", own)
                found["accuracy"] = float(np.trace(pooled) / pooled.sum())
                found["balanced_accuracy"] = float(
                    np.nanmean(np.diag(pooled) / pooled.sum(1))
                )
                found["demographic_parity"] = _widest(chosen)
                if k == 2 and cells.favorable is not None:
                    found["equal_opportunity"] = _widest(recall[cells.favorable])
                found["equalized_odds"] = _widest(own)
                gaps = [_widest(rates) for rates in recall]
                found["tpr_gap"] = float(np.sqrt(np.mean(np.square(gaps))))
            else:
                found["demographic_parity"] = _widest(chosen)
        if (place >= 0).all():
            size = len(cells.thresholds) + 1
            kinds = np.maximum(label, 0)
            table = _sum(weight, (kinds, 2), (group, n_groups), (place, size))
            if (label >= 0).all():
                no, yes = table.sum(1)
                below = np.cumsum(no) - no / 2
                found["auc"] = float(yes @ below / (yes.sum() * no.sum()))
                found["sup_tpr_gap"] = _widest_tail(table[1])
                found["sup_fpr_gap"] = _widest_tail(table[0])
            found["sup_dp_gap"] = _widest_tail(table.sum(0))
    return found


def _widest_tail(table: np.ndarray) -> float:
    """Largest gap over thresholds of the shares of ``[G, T + 1]`` that reach them."""
    above = table[:, ::-1].cumsum(1)[:, :-1] / table.sum(1, keepdims=True)
    return _widest(above.T) if above.shape[1] else 0.0


def _widest(rates: np.ndarray) -> float:
    """Largest difference between two groups ``[..., G]``; groups without rows left out."""
    known = rates[..., ~np.isnan(rates).reshape(-1, rates.shape[-1]).any(0)]
    if known.shape[-1] == 0:
        return 0.0
    return float((known.max(-1) - known.min(-1)).max())


def _sum(weight: np.ndarray, *axes: tuple[np.ndarray, int]) -> np.ndarray:
    shape = tuple(int(size) for _, size in axes)
    place = np.ravel_multi_index(tuple(codes for codes, _ in axes), shape)
    return np.bincount(place, weight, int(np.prod(shape))).reshape(shape)


def _fine(cells: Cells) -> Any:
    parts = np.column_stack([cells.group, cells.label, cells.prediction, cells.bin])
    keys, place = np.unique(parts, axis=0, return_inverse=True)
    place = place.reshape(-1)
    sums = (np.bincount(place, a) for a in (cells.weight, cells.square, cells.n))
    return (keys, *sums)


def _alike(
    keys: np.ndarray, weight: np.ndarray, square: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells as they would be if groups were alike within each label: keys, expectations.

    In the order of groups, labels and then kinds of decision and score.
    """
    kinds, kind = np.unique(keys[:, 1:], axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    share = np.bincount(kind, weight)
    labels, label = np.unique(keys[:, 1], return_inverse=True)
    own = np.searchsorted(labels, kinds[:, 0])
    share = share / np.bincount(own, share)[own]
    groups = np.arange(keys[:, 0].max() + 1)
    mass = _sum(weight, (keys[:, 0], len(groups)), (label.reshape(-1), len(labels)))
    expected = (mass[:, own] * share).reshape(-1)
    out = np.column_stack(
        [np.repeat(groups, len(kinds)), np.tile(kinds, (len(groups), 1))]
    )
    return out, expected, expected * (square.sum() / weight.sum())


def _collect(draws: Iterable[dict[str, Any]]) -> dict[str, np.ndarray]:
    rows = list(draws)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _unknown(keys: np.ndarray, weight: np.ndarray, cells: Cells) -> set[str]:
    """Name the gaps for which fewer than two groups have rows of the labels they need."""
    group, label = keys[:, 0], keys[:, 1]
    if (label < 0).any():
        return set()
    k = len(cells.label_names)
    filled = _sum(weight, (label, k), (group, group.max() + 1)) > 0
    alone = filled.sum(1) < 2
    found = set()
    if alone.any() or filled.all(0).sum() < 2:
        found |= {"equalized_odds", "tpr_gap"}
    if cells.favorable is not None and alone[cells.favorable]:
        found |= {"equal_opportunity"}
    if k == 2:
        found |= {"sup_fpr_gap"} if alone[0] else set()
        found |= {"sup_tpr_gap"} if alone[1] else set()
    return found


def _smallest(keys: np.ndarray, n: np.ndarray, cells: Cells) -> dict[str, int]:
    """Return the smallest number of rows that each metric divides by."""
    group, label = keys[:, 0], np.maximum(keys[:, 1], 0)
    table = _sum(n, (label, max(2, len(cells.label_names))), (group, group.max() + 1))
    filled = table[table.sum(1) > 0]
    rows, groups = int(n.sum()), int(table.sum(0).min())
    least = int(filled.min())
    favorable = int(table[cells.favorable if cells.favorable is not None else -1].min())
    return {
        "accuracy": rows,
        "balanced_accuracy": int(filled.sum(1).min()),
        "auc": int(filled.sum(1).min()),
        "demographic_parity": groups,
        "sup_dp_gap": groups,
        "equal_opportunity": favorable,
        "sup_tpr_gap": favorable,
        "sup_fpr_gap": int(table[0].min()),
        "equalized_odds": least,
        "tpr_gap": least,
    }
