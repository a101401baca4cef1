"""Rows as counts: all that an audit needs of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsteer._errors import check_same_length

#: Scores with more distinct values are compared at so many thresholds.
THRESHOLDS = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cells:
    """Rows that are alike in all that matters, counted.

    Attributes:
        columns: Names of the sensitive columns.
        levels: Names of the values of each of them.
        codes: ``[C, m]`` the value of each cell in each column.
        label: ``[C]`` code of the true label, -1 where there is none.
        prediction: ``[C]`` code of the decision, -1 where there is none.
        above: ``[C]`` 1 where the score lies above the median, -1 without a score.
        bin: ``[C]`` how many of the thresholds the score reaches, -1 without a score.
        n: ``[C]`` rows.
        weight: ``[C]`` their weights together, the rows where there are none.
        square: ``[C]`` the squares of their weights together.
        label_names: Names of the label codes.
        favorable: Code of the favorable label, None where none of several is.
        thresholds: ``[T]`` scores at which gaps are measured.
        median: The median score, None without a score.
        suppressed: Rows and intersections that were left out, too small to show.
    """

    columns: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    codes: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    above: np.ndarray
    bin: np.ndarray
    n: np.ndarray
    weight: np.ndarray
    square: np.ndarray
    label_names: tuple[str, ...]
    favorable: int | None
    thresholds: np.ndarray
    median: float | None = None
    suppressed: tuple[int, int] = (0, 0)

    @property
    def group(self) -> np.ndarray:
        """Code ``[C]`` of the intersection that each cell belongs to."""
        return np.unique(self.codes, axis=0, return_inverse=True)[1].reshape(-1)

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the intersections that occur."""
        return tuple(
            " & ".join(self.levels[j][code] for j, code in enumerate(row))
            for row in np.unique(self.codes, axis=0).tolist()
        )


def _names_of(
    names: Sequence[str], label: np.ndarray | None, prediction: np.ndarray | None
) -> tuple[str, ...]:
    """Return the names of all codes that occur."""
    codes = [np.asarray(c) for c in (label, prediction) if c is not None and len(c)]
    largest = max((int(c.max()) for c in codes), default=-1)
    if not names:
        return tuple(map(str, range(largest + 1)))
    if largest >= len(names):
        raise ValueError(
            f"label and prediction have the code {largest}, which has no name among "
            f"label_names={tuple(names)!r}."
        )
    return tuple(names)


def count_rows(
    groups: Sequence[tuple[str, np.ndarray, Sequence[str]]],
    *,
    label: np.ndarray | None = None,
    prediction: np.ndarray | None = None,
    score: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    label_names: Sequence[str] = (),
    favorable: int | None = 1,
    suppress: int = 0,
) -> Cells:
    """Count the rows of each kind.

    Args:
        groups: Name, codes ``[n]`` and names of the codes of each sensitive column.
        label: ``[n]`` codes, or None.
        prediction: ``[n]`` codes of the same names, or None.
        score: ``[n]`` scores of the favorable label, or None.
        weights: ``[n]`` sampling weights, or None.
        label_names: Names of the codes; their numbers where none are given.
        favorable: Code of the favorable one, or None.
        suppress: Intersections with fewer rows, or with fewer rows of a label, are left
            out, of the margins too: what is left out could be told from the difference.

    Returns:
        The cells, in the order of their codes. Cost O(n log n) with a score, else O(n).

    Raises:
        ValueError: If lengths differ, or a code has no name.

    Example:
        >>> sex = ("sex", np.array([0, 0, 1, 1]), ("f", "m"))
        >>> cells = count_rows([sex], prediction=np.array([0, 1, 1, 1]))
        >>> cells.n.tolist(), cells.codes[:, 0].tolist(), cells.prediction.tolist()
        ([1, 1, 2], [0, 0, 1], [0, 1, 1])
    """
    columns = {f"groups[{name!r}]": codes for name, codes, _ in groups}
    columns |= {"label": label, "prediction": prediction}
    columns |= {"score": score, "weights": weights}
    n = check_same_length(**columns)
    label_names = _names_of(label_names, label, prediction)
    codes = np.stack([np.asarray(c, np.int64) for _, c, _ in groups], axis=1)
    levels = [tuple(map(str, names)) for _, _, names in groups]
    kept, suppressed = slice(None), (0, 0)
    if suppress > 1:
        kept, suppressed = _large(codes, label, suppress)
    if suppressed[0]:
        if len(np.unique(codes[kept], axis=0)) < 2:
            raise ValueError(
                f"suppress={suppress} leaves fewer than two intersections; take a "
                "smaller number or fewer columns."
            )
        codes = codes[kept]
        label, prediction, score, weights = (
            None if a is None else np.asarray(a)[kept]
            for a in (label, prediction, score, weights)
        )
        n = len(codes)
    none = np.full(n, -1)
    thresholds, median, above, place = np.empty(0), None, none, none
    if score is not None:
        thresholds = _thresholds(score)
        median = float(np.median(score))
        above = (score > median).astype(np.int64)
        place = np.searchsorted(thresholds, score, side="right")
    parts = np.column_stack(
        [
            codes,
            none if label is None else label,
            none if prediction is None else prediction,
            above,
            place,
        ]
    )
    # One number a row: unique rows of a matrix are found far more slowly.
    low = parts.min(axis=0)
    sizes = parts.max(axis=0) - low + 1
    key: Any = np.ravel_multi_index(tuple((parts - low).T), tuple(sizes))
    seen, inverse = _unique(key, int(np.prod(sizes)))
    found = np.stack(np.unravel_index(seen, tuple(sizes)), axis=1) + low
    m = codes.shape[1]
    mass = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    return Cells(
        columns=tuple(name for name, _, _ in groups),
        levels=tuple(levels),
        codes=found[:, :m],
        label=found[:, m],
        prediction=found[:, m + 1],
        above=found[:, m + 2],
        bin=found[:, m + 3],
        n=np.bincount(inverse, minlength=len(seen)),
        weight=np.bincount(inverse, mass, len(seen)),
        square=np.bincount(inverse, mass**2, len(seen)),
        label_names=tuple(map(str, label_names)),
        favorable=favorable,
        thresholds=thresholds,
        median=median,
        suppressed=suppressed,
    )


def cut_numbers(
    values: np.ndarray, edges: Sequence[float]
) -> tuple[np.ndarray, list[str]]:
    """Cut numbers into ranges with names, as for a sensitive column such as an age.

    Args:
        values: ``[n]`` numbers, NaN where there is none.
        edges: Increasing; each range holds its lower edge and not its upper one.

    Returns:
        Codes ``[n]``, -1 for NaN, and the names of the ranges.

    Example:
        >>> cut_numbers(np.array([17.0, 40.0, 70.0]), [18, 65])
        (array([0, 1, 2]), ['under 18', '18 to under 65', '65 and over'])
    """
    codes = np.searchsorted(np.asarray(edges, float), values, side="right")
    shown = [f"{edge:g}" for edge in edges]
    names = [f"under {shown[0]}"]
    names += [f"{a} to under {b}" for a, b in itertools.pairwise(shown)]
    return np.where(np.isnan(values), -1, codes), [*names, f"{shown[-1]} and over"]


def _thresholds(score: np.ndarray) -> np.ndarray:
    distinct = np.unique(score)
    if len(distinct) <= THRESHOLDS:
        return distinct[1:]
    shares = np.arange(1, THRESHOLDS) / THRESHOLDS
    cuts = np.quantile(score, shares, method="inverted_cdf")
    return np.unique(cuts[cuts > distinct[0]])


def _unique(key: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct keys in order, and the place of each row's key among them."""
    if size > 20_000_000:
        return np.unique(key, return_inverse=True)
    seen = np.flatnonzero(np.bincount(key, minlength=size))
    place = np.zeros(size, np.int64)
    place[seen] = np.arange(len(seen))
    return seen, place[key]


def _large(
    codes: np.ndarray, label: np.ndarray | None, least: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """Rows of large enough intersections, and how many others there are."""
    place = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
    kinds = np.zeros(len(codes), int) if label is None else label
    counts = np.zeros((place.max() + 1, kinds.max() + 1), int)
    np.add.at(counts, (place, kinds), 1)
    few = counts[:, counts.any(0)].min(1) < least
    return ~few[place], (int(few[place].sum()), int(few.sum()))
