"""Boosted trees by tables instead of node by node, for very many rows.

A row leaves a tree at the first leaf, from the left, that none of its answers rules out.
Which leaves the answers about one feature rule out depends on the interval between
thresholds that its value lies in, so a tree is one AND of bit masks a feature, looked up
for all rows at once. References: Lucchese et al. 2015, "QuickScorer".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

_LEAVES = 32  # bits of a mask
_ALL = 2**_LEAVES - 1
# Features of few thresholds share a table of at most so many entries.
_ENTRIES = 1024
# Rows at a time: what is looked up for them stays in a core's own memory.
_AT_A_TIME = 8192
# The place of a lone bit, as the five highest bits of a product.
_DE_BRUIJN = np.uint32(0x077CB531)


class TreeTables:
    """The trees of one binary classifier.

    Args:
        model: A fitted :class:`sklearn.ensemble.HistGradientBoostingClassifier`.

    Raises:
        ValueError: If it has what tables do not hold: categories, more than two classes
            or more than 32 leaves.
    """

    def __init__(self, model: Any):
        trees = [one for (one,) in model._predictors]
        nodes = [tree.nodes for tree in trees]
        if model.n_trees_per_iteration_ != 1 or model.is_categorical_ is not None:
            raise ValueError("more than one tree a step, or categories")
        if max(int(tree["is_leaf"].sum()) for tree in nodes) > _LEAVES:
            raise ValueError("a tree with too many leaves")
        inner = np.concatenate([tree[tree["is_leaf"] == 0] for tree in nodes])
        self._thresholds = {
            int(f): np.unique(inner["num_threshold"][inner["feature_idx"] == f])
            for f in np.unique(inner["feature_idx"])
        }
        self._loss = model._loss
        self._baseline = float(np.ravel(model._baseline_prediction)[0])
        self._groups = self._grouped()
        self._trees = [self._tables(tree) for tree in nodes]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probabilities ``[n, 2]`` of finite rows ``[n, d]``."""
        raw = np.empty((len(X), 1))
        for start in range(0, len(X), _AT_A_TIME):
            raw[start : start + _AT_A_TIME, 0] = self._raw(
                X[start : start + _AT_A_TIME]
            )
        return self._loss.predict_proba(raw)

    def _grouped(self) -> list[list[int]]:
        """Put features together whose intervals have few combinations."""
        groups: list[list[int]] = [[]]
        size = 1
        for f in sorted(self._thresholds, key=lambda f: len(self._thresholds[f])):
            size *= len(self._thresholds[f]) + 1
            if size > _ENTRIES and groups[-1]:
                groups.append([])
                size = len(self._thresholds[f]) + 1
            groups[-1].append(f)
        return groups

    def _tables(self, nodes: np.ndarray) -> tuple[list[tuple[int, np.ndarray]], Any]:
        """Masks of each group of features, and the value of each leaf by its bit."""
        masks = {
            f: np.full(len(t) + 1, _ALL, np.uint32) for f, t in self._thresholds.items()
        }
        is_leaf = nodes["is_leaf"] == 1
        inner = np.flatnonzero(~is_leaf)
        if (nodes["left"][inner] != inner + 1).any():
            raise ValueError("nodes in another order")
        # Left ones come first: the leaves on a node's left are those up to its right one.
        before = np.cumsum(is_leaf) - is_leaf
        first, last = before[inner], before[nodes["right"][inner]]
        left = (1 << last.astype(np.int64)) - (1 << first.astype(np.int64))
        keep = (_ALL & ~left).astype(np.uint32)
        features, thresholds = (
            nodes[name][inner] for name in ("feature_idx", "num_threshold")
        )
        used = set(features.tolist())
        for f in used:
            mine = features == f
            passed = np.searchsorted(self._thresholds[f], thresholds[mine]) + 1
            np.bitwise_and.at(masks[f], passed, keep[mine])
            np.bitwise_and.accumulate(masks[f], out=masks[f])
        values = nodes["value"][is_leaf]
        tables = []
        for g, group in enumerate(self._groups):
            if used.isdisjoint(group):
                continue
            joint = np.array([_ALL], np.uint32)
            for f in group:
                joint = (joint[:, None] & masks[f]).reshape(-1)
            tables.append((g, joint))
        by_bit = np.zeros(_LEAVES)
        bits = np.uint32(1) << np.arange(len(values), dtype=np.uint32)
        by_bit[(bits * _DE_BRUIJN) >> np.uint32(27)] = values
        return tables, by_bit

    def _raw(self, X: np.ndarray) -> np.ndarray:
        codes = []
        for group in self._groups:
            code = np.zeros(len(X), np.intp)
            for f in group:
                limits = self._thresholds[f]
                value = X[:, f].astype(np.float64)
                code *= len(limits) + 1
                code += (
                    value > limits[0]
                    if len(limits) == 1
                    else np.searchsorted(limits, value)
                )
            codes.append(code)
        raw = np.full(len(X), self._baseline)
        left, other = np.empty(len(X), np.uint32), np.empty(len(X), np.uint32)
        value, bit = np.empty(len(X)), np.empty(len(X), np.intp)
        for tables, by_bit in self._trees:
            left.fill(_ALL)
            for g, masks in tables:
                # The codes are in range; "clip" spares the check.
                masks.take(codes[g], out=other, mode="clip")
                np.bitwise_and(left, other, out=left)
            np.negative(left, out=other)
            np.bitwise_and(left, other, out=left)
            np.multiply(left, _DE_BRUIJN, out=left)
            np.right_shift(left, 27, out=left)
            bit[:] = left
            by_bit.take(bit, out=value, mode="clip")
            raw += value
        return raw


def tree_tables(model: Any, X: np.ndarray) -> TreeTables | None:
    """Return the tables of a classifier, None where it has none or they disagree.

    Args:
        model: Any fitted classifier.
        X: ``[n, d]`` rows to compare the answers on, which must be equal.
    """
    if type(model) is not HistGradientBoostingClassifier:
        return None
    try:
        tables = TreeTables(model)
        agree = np.array_equal(tables.predict_proba(X), model.predict_proba(X))
    except (AttributeError, KeyError, TypeError, ValueError):
        # Trees are no part of scikit-learn's public face: another version has others.
        return None
    return tables if agree else None
