"""How well a classifier reads the group of a row from its features, given its class.

Steering moves each group by a map of its own. On columns with few distinct values that
puts the groups on different lattices, from which trees read the group without error even
where means and covariances have become equal. This measures it.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings

import numpy as np

from jaxsteer._errors import check_codes, check_finite, check_same_length
from jaxsteer._types import ArrayLike, Classifier, ColumnLike

__all__ = ["GroupReadability", "group_readability"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupReadability:
    """Areas under the curve of a classifier that predicts the group, out of fold.

    Attributes:
        before: ``[K, G]`` of each group against the rest, among the rows of each class,
            from the features as they are; 1/2 is chance, 1 without error, NaN where a
            cell has too few rows.
        after: ``[K, G]`` from the moved features.
        rows: ``[K]`` rows of each class that were used.
    """

    before: np.ndarray
    after: np.ndarray
    rows: np.ndarray

    @property
    def rise(self) -> float:
        """The largest of the differences, after less before; NaN if there is none."""
        away = self.after - self.before
        return float(np.nanmax(away)) if np.isfinite(away).any() else float("nan")


def group_readability(
    x: ArrayLike,
    moved: ArrayLike,
    label: ColumnLike,
    group: ColumnLike,
    *,
    classifier: Classifier,
    folds: int = 3,
    most_rows: int = 4000,
    margin: float = 0.02,
    seed: int = 0,
) -> GroupReadability:
    """Measure whether the group is read better from moved features than before.

    The classifier is trained on all folds but one and predicts the groups of that one,
    class by class, before and after on the same folds. Cost: ``2 K folds`` trainings on
    at most `most_rows` rows.

    Args:
        x: ``[n, d]`` features.
        moved: ``[n, m]`` the same rows, moved.
        label: ``[n]`` class codes.
        group: ``[n]`` group codes.
        classifier: Anything with ``fit(x, y)`` and ``predict_proba(x)``, copied before
            each training; trees see most, such as scikit-learn's
            ``HistGradientBoostingClassifier()``.
        folds: Folds, at least 2.
        most_rows: Rows of a class to use, drawn at random where there are more.
        margin: Rise of an area above which a warning is given.
        seed: Seed of the folds and of the rows that are used.

    Returns:
        The areas.

    Raises:
        ValueError: On lengths that differ, unknown codes, values that are not finite,
            one group, or fewer than two folds.

    Example:
        >>> import numpy as np
        >>> class Distance:  # a toy: how far a row is from the whole numbers
        ...     def fit(self, x, y):
        ...         far = np.abs(x[:, 0] - x[:, 0].round())
        ...         self.sign = np.sign(far[y == 1].mean() - far[y == 0].mean())
        ...     def predict_proba(self, x):
        ...         far = self.sign * np.abs(x[:, 0] - x[:, 0].round())
        ...         return np.stack([-far, far], 1)
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, (2, 400))
        >>> x = rng.integers(0, 9, (400, 1)) * 1.0
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     found = group_readability(
        ...         x, x + 0.1 * group[:, None], label, group, classifier=Distance()
        ...     )
        >>> found.before[0, 1].item(), found.after[0, 1].item()
        (0.5, 1.0)
    """
    check_same_length(x=x, moved=moved, label=label, group=group)
    n_classes, n_groups = check_codes("label", label), check_codes("group", group)
    if n_groups < 2:
        raise ValueError("group has one value; there is nothing to be read.")
    if not (isinstance(folds, int) and folds >= 2):
        raise ValueError(f"folds={folds!r} must be a whole number of at least 2.")
    sides = []
    for name, values in (("x", x), ("moved", moved)):
        check_finite(name, values)
        if np.ndim(values) != 2:
            raise ValueError(f"{name} has shape {np.shape(values)}, expected [n, d].")
        sides.append(np.asarray(values))
    label, group = np.asarray(label), np.asarray(group)
    rng = np.random.default_rng(seed)
    areas = np.full((2, n_classes, n_groups), np.nan)
    used = np.zeros(n_classes, int)
    for cls in range(n_classes):
        rows = rng.permutation(np.flatnonzero(label == cls))[:most_rows]
        used[cls] = len(rows)
        own = group[rows]
        counts = np.bincount(own, minlength=n_groups)
        known = np.flatnonzero(counts >= folds)
        if len(known) < 2:
            continue
        rows, own = rows[np.isin(own, known)], own[np.isin(own, known)]
        fold = np.empty(len(rows), int)
        for code in known:
            mine = own == code
            fold[mine] = np.arange(mine.sum()) % folds
        target = np.searchsorted(known, own)
        for side, values in enumerate(sides):
            scores = _out_of_fold(classifier, values[rows], target, fold, len(known))
            for place, code in enumerate(known):
                areas[side, cls, code] = _area(scores[:, place], own == code)
    found = GroupReadability(before=areas[0], after=areas[1], rows=used)
    if found.rise > margin:
        cls, code = np.unravel_index(np.nanargmax(areas[1] - areas[0]), areas[0].shape)
        warnings.warn(
            f"the moved features tell group {code} better than before: among the rows of "
            f"class {cls} the classifier's area is {areas[1, cls, code]:.2f}, it was "
            f"{areas[0, cls, code]:.2f}. Flexible learners can undo the steering; leave "
            f"columns with few distinct values where they are, or make the score fair "
            f"instead (jaxsteer.balanced_quantiles, jaxsteer.roc_channel).",
            stacklevel=2,
        )
    return found


def _out_of_fold(
    classifier: Classifier,
    x: np.ndarray,
    target: np.ndarray,
    fold: np.ndarray,
    size: int,
) -> np.ndarray:
    scores = np.zeros((len(x), size))
    for code in range(fold.max() + 1):
        inside = fold == code
        model = copy.deepcopy(classifier)
        model.fit(x[~inside], target[~inside])
        scores[inside] = np.asarray(model.predict_proba(x[inside]))
    return scores


def _area(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the curve by mid-ranks (Mann and Whitney)."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n, m = positive.sum(), (~positive).sum()
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))
