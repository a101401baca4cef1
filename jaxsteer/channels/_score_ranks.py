"""How scores are ranked, calibrated and binned, group by group.

Mid-rank quantiles in each class and the ROC curves of the groups take the array module to
work with: NumPy on the host, where float64 scores keep their order, and JAX inside
``jit`` and ``vmap``. Shapes are fixed there: every group has a place for each row, and the
rows of other groups have weight 0.

Bins of scores with one column a class are a tree for each group, fitted on the host. The
rows start in one cell for each class, that of their highest column (the first of equals).
Then, until there are as many bins as asked for, the cell with the largest sum of squared
distances from its mean is split on the column that varies most in it (the first of
equals), at the upper median: rows at or above it go to the upper side. Where the median is
also the lowest value, the next value is the threshold, so that no side of a split is
empty; cells whose rows are all the same do not split.
"""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.channels._roc import concave_majorant


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


#: Knots of the calibration inside ``jit``, where their number cannot follow the data.
_BINS = 64


def isotonic_knots(score: np.ndarray, label: np.ndarray, weights: np.ndarray) -> Any:
    """Fit by pool-adjacent-violators; O(n log n), on the host.

    Least squares over all non-decreasing functions is constant on blocks of scores. What
    is returned is the mean score and the mean label of each block, between which the
    calibration runs straight: it then keeps the order within a block, and the area under
    the curve with it. From the outer blocks it runs to (0, 0) and (1, 1).

    Args:
        score: ``[n]`` in [0, 1].
        label: ``[n]`` codes 0 and 1.
        weights: ``[n]`` positive.

    Returns:
        ``[C, 2]`` knots (score, probability), both increasing.

    References:
        Ayer et al. 1955; Zadrozny & Elkan 2002 (calibration).
    """
    values, place = np.unique(score, return_inverse=True)
    mass = np.bincount(place, weights)
    hits = np.bincount(place, weights * label)
    at = mass * values
    blocks: list[list[float]] = []
    for block in zip(mass.tolist(), hits.tolist(), at.tolist(), strict=True):
        blocks.append(list(block))
        while len(blocks) > 1 and (
            blocks[-1][1] * blocks[-2][0] <= blocks[-2][1] * blocks[-1][0]
        ):
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    total = np.array(blocks)
    return _with_ends(np, total[:, 2] / total[:, 0], total[:, 1] / total[:, 0])


def isotonic_knots_traced(
    score: Float[Array, " n"], label: Float[Array, " n"], weights: Float[Array, " n"]
) -> Float[Array, "C 2"]:
    """The same from the sums of 64 equal bins of the score, in pure JAX.

    The isotonic fit of the bins' means is the slope of the least convex curve below
    their running sums. Bins without rows take the value of the bin below.
    """
    place = jnp.clip(jnp.floor(score * _BINS), 0, _BINS - 1).astype(jnp.int32)
    mass = jnp.zeros(_BINS, weights.dtype).at[place].add(weights)
    hits = jnp.zeros(_BINS, weights.dtype).at[place].add(weights * label)
    zero = jnp.zeros(1, weights.dtype)
    x = jnp.concatenate([zero, jnp.cumsum(mass)])
    y = jnp.concatenate([zero, jnp.cumsum(hits)])
    rise = jnp.diff(-concave_majorant(x, -y))
    rate = jnp.where(mass > 0, rise / jnp.where(mass > 0, mass, 1.0), 0.0)
    rate = jnp.clip(jnp.maximum.accumulate(rate), 0.0, 1.0)
    middle = (jnp.arange(_BINS, dtype=weights.dtype) + 0.5) / _BINS
    return _with_ends(jnp, middle, rate)


def _with_ends(xp: Any, at: Any, rate: Any) -> Any:
    knots = xp.stack([at, rate], 1)
    zero = xp.zeros_like(knots[:1])
    return xp.concatenate([zero, knots, zero + 1])


class ScoreTree(NamedTuple):
    """Nodes of a tree, the classes' cells first.

    Attributes:
        columns: ``[N]`` score column of a split; 0 at a leaf.
        thresholds: ``[N]`` value at or above which a row goes to the upper side;
            infinite at a leaf.
        children: ``[N]`` lower child of a split, which its upper child follows; at a leaf
            ``-1 - bin``.
    """

    columns: Int[ArrayLike, " N"]
    thresholds: Float[ArrayLike, " N"]
    children: Int[ArrayLike, " N"]


def tree_size(n_classes: int, bins: int) -> int:
    """Nodes of a tree with `bins` leaves."""
    return n_classes + 2 * (bins - n_classes)


def _spread(score: np.ndarray) -> np.ndarray:
    """Sum of squared distances from the mean in each column; exactly 0 if constant."""
    if len(score) == 0:
        return np.zeros(score.shape[1])
    return np.where(np.ptp(score, 0) > 0, len(score) * score.var(0), 0.0)


def fit_score_tree(score: np.ndarray, bins: int) -> tuple[ScoreTree, np.ndarray]:
    """Fit the tree of one group; ``O(n K log bins)``.

    Args:
        score: ``[n, K]`` finite scores.
        bins: Leaves, at least ``K``; fewer are used where the rows have fewer values.

    Returns:
        The tree in NumPy, ``tree_size(K, bins)`` nodes, and the bin ``[n]`` of each row.
    """
    n_classes = score.shape[1]
    size = tree_size(n_classes, bins)
    columns, thresholds = np.zeros(size, np.int32), np.full(size, np.inf)
    children = np.full(size, -1, np.int32)
    best = score.argmax(1)
    rows = [np.flatnonzero(best == k) for k in range(n_classes)]
    spreads = [_spread(score[mine]) for mine in rows]
    # Ties go to the node that was made first.
    queue = [(-spread.sum(), node) for node, spread in enumerate(spreads)]
    heapq.heapify(queue)
    while queue and len(rows) < size:
        total, node = heapq.heappop(queue)
        if total == 0:
            break
        column = int(np.argmax(spreads[node]))
        value = score[rows[node], column]
        median = np.quantile(value, 0.5, method="higher")
        threshold = max(median, value[value > value.min()].min())
        columns[node], thresholds[node] = column, threshold
        children[node] = len(rows)
        for mine in (rows[node][value < threshold], rows[node][value >= threshold]):
            spreads.append(_spread(score[mine]))
            heapq.heappush(queue, (-spreads[-1].sum(), len(rows)))
            rows.append(mine)
    found = np.empty(len(score), np.int64)
    leaves = [node for node in range(len(rows)) if children[node] < 0]
    for leaf, node in enumerate(leaves):
        children[node] = -1 - leaf
        found[rows[node]] = leaf
    return ScoreTree(columns, thresholds, children), found


def find_bins(tree: ScoreTree, score: Float[Array, "n K"]) -> Int[Array, " n"]:
    """Bin of each row, int32; as many gathers a row as the tree is deep."""

    def unfinished(node: Array):
        return jnp.any(tree.children[node] >= 0)

    def descend(node: Array):
        column, child = tree.columns[node], tree.children[node]
        value = jnp.take_along_axis(score, column[:, None], 1)[:, 0]
        above = (value >= tree.thresholds[node]).astype(jnp.int32)
        return jnp.where(child >= 0, child + above, node)

    start = jnp.argmax(score, -1).astype(jnp.int32)
    return -1 - tree.children[jax.lax.while_loop(unfinished, descend, start)]


def find_bins_on_host(tree: ScoreTree, score: np.ndarray) -> np.ndarray:
    """Bin of each row of concrete scores, in float64."""
    node, rows = score.argmax(-1), np.arange(len(score))
    while (child := tree.children[node]).max(initial=-1) >= 0:
        above = score[rows, tree.columns[node]] >= tree.thresholds[node]
        node = np.where(child >= 0, child + above, node)
    return np.asarray(-1 - child)
