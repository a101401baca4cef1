"""Mid-rank quantiles of a score in each class, and the ROC curves of the groups.

Everything here takes the array module to work with: NumPy on the host, where float64
scores keep their order, and JAX inside ``jit`` and ``vmap``. Shapes are fixed: every
group has a place for each row, and the rows of other groups have weight 0 there.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class GroupCurve(NamedTuple):
    """One group's scores, with what lies below and above them.

    Attributes:
        score: ``[n]`` non-decreasing; rows of other groups stand at the highest.
        level: ``[n]`` class-weighted mid-rank of each score.
        fpr: ``[n + 1]`` share of the negatives at or above a threshold, from the highest
            threshold (which no row reaches) to the lowest.
        tpr: ``[n + 1]`` the same of the positives.
    """

    score: Any
    level: Any
    fpr: Any
    tpr: Any


def group_curve(
    xp: Any, score: Any, label: Any, weights: Any, class_weight: Any
) -> GroupCurve:
    """Rank the rows of one group, those of positive weight; O(n log n)."""
    mine = weights > 0
    top = xp.max(xp.where(mine, score, -xp.inf))
    held = xp.where(mine, score, top)
    order = xp.argsort(held)
    held = held[order]
    first = xp.searchsorted(held, held, side="left")
    after = xp.searchsorted(held, held, side="right")
    level, rates = 0.0, []
    for cls, share in ((0, 1 - class_weight), (1, class_weight)):
        mass = xp.where(label == cls, weights, 0.0)[order]
        below = xp.concatenate([xp.zeros(1, mass.dtype), xp.cumsum(mass)])
        below = below / below[-1]
        level = level + share * (below[first] + below[after]) / 2
        above = 1 - below[first][::-1]
        rates.append(xp.concatenate([xp.zeros(1, mass.dtype), above]))
    return GroupCurve(held, level, *rates)


def frechet_gap(xp: Any, curves: list[GroupCurve]) -> Any:
    """Half the largest difference of two curves' heights ``TPR - FPR`` at one share.

    The share is ``u = (FPR + TPR) / 2``; the curves are straight between their points,
    so that the largest difference lies at a point of one of them.
    """
    shares = [(curve.fpr + curve.tpr) / 2 for curve in curves]
    at = xp.concatenate(shares)
    heights = xp.stack(
        [
            xp.interp(at, share, curve.tpr - curve.fpr)
            for share, curve in zip(shares, curves, strict=True)
        ]
    )
    return xp.max(xp.max(heights, 0) - xp.min(heights, 0)) / 2


def rates_at(xp: Any, curve: GroupCurve, class_weight: Any, levels: Any) -> Any:
    """Rates ``[L, 2]`` of one group where ``(1 - w) FPR + w TPR`` is each level."""
    along = (1 - class_weight) * curve.fpr + class_weight * curve.tpr
    return xp.stack(
        [xp.interp(levels, along, curve.fpr), xp.interp(levels, along, curve.tpr)], -1
    )


def largest_gaps(
    xp: Any, mapped: Any, label: Any, group: Any, weights: Any, n_groups: int
) -> Any:
    """Largest FPR and TPR difference ``[2]`` of any two groups over all thresholds."""
    order = xp.argsort(mapped)
    ends = xp.searchsorted(mapped[order], mapped[order], side="right")
    gaps = []
    for cls in (0, 1):
        rates = []
        for code in range(n_groups):
            mine = (label == cls) & (group == code)
            below = xp.cumsum(xp.where(mine, weights, 0.0)[order])
            rates.append((below / below[-1])[ends - 1])
        table = xp.stack(rates)
        gaps.append(xp.max(xp.max(table, 0) - xp.min(table, 0)))
    return xp.stack(gaps)
