"""Bins of scores with one column a class: a tree for each group, fitted on the host.

The rows start in one cell for each class, that of their highest column (the first of
equals). Then, until there are as many bins as asked for, the cell with the largest sum of
squared distances from its mean is split on the column that varies most in it (the first
of equals), at the upper median: rows at or above it go to the upper side. Where the
median is also the lowest value, the next value is the threshold, so that no side of a
split is empty; cells whose rows are all the same do not split.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, ArrayLike, Float, Int


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

    def unfinished(node):
        return jnp.any(tree.children[node] >= 0)

    def descend(node):
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
