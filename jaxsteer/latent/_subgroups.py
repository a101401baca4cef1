"""Errors in the intersections of sensitive columns, and what seeds do to them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsteer._errors import check_choice, check_same_length
from jaxsteer._types import ArrayLike

SPLITS = {"median": 2, "quartiles": 4}
LOSSES = ("squared", "zero_one")
FEW = 5  # distinct values up to which a column counts as categories


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubgroupErrors:
    """Mean errors overall and in every subgroup.

    Attributes:
        names: Subgroups, such as ``"race high & age low"``.
        counts: ``[m]`` their rows.
        errors: ``[m]`` their mean errors.
        overall: Mean error of all rows.
        left_out: Names of subgroups with too few rows.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    errors: np.ndarray
    overall: float
    left_out: tuple[str, ...] = ()

    @property
    def worst(self) -> float:
        """The largest mean error of a subgroup."""
        return float(self.errors.max())

    @property
    def worst_name(self) -> str:
        """The subgroup where it is."""
        return self.names[int(self.errors.argmax())]


def subgroups(
    s: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    split: str = "median",
    column_names: Sequence[str] | None = None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Split rows by every sensitive column at once.

    Args:
        s: ``[n, q]`` or ``[n]`` sensitive columns.
        reference: Rows whose quantiles cut the columns (those of the fit); None takes
            `s` itself. Columns with up to five values there are categories.
        split: "median" or "quartiles"; a value at a cut belongs to the lower part.
        column_names: Of the `q` columns, for names.

    Returns:
        Codes ``[n]`` and the names in the order of the codes.

    Raises:
        ValueError: If `split` is unknown or shapes differ.

    Example:
        >>> codes, names = subgroups([["a", 1], ["b", 0], ["a", 0]])
        >>> names
        ('s0 a & s1 0', 's0 a & s1 1', 's0 b & s1 0')
        >>> codes.tolist()
        [1, 2, 0]
    """
    check_choice("split", split, tuple(SPLITS))
    rows = _columns(s)
    base = rows if reference is None else _columns(reference)
    if rows.shape[1] != base.shape[1]:
        raise ValueError(
            f"s has {rows.shape[1]} columns and reference {base.shape[1]}; they must be "
            "the same columns."
        )
    if column_names is None:
        column_names = [f"s{i}" for i in range(rows.shape[1])]
    if len(column_names) != rows.shape[1]:
        raise ValueError(
            f"column_names has {len(column_names)} names for {rows.shape[1]} columns."
        )
    parts = SPLITS[split]
    words = ("low", "high") if parts == 2 else tuple(f"q{i + 1}" for i in range(parts))
    labels = []
    for name, own, ours in zip(column_names, rows.T, base.T, strict=True):
        numeric = ours.dtype.kind in "fiub" or _is_numeric(ours)
        if numeric and len(np.unique(ours.astype(float))) > FEW:
            cuts = np.quantile(ours.astype(float), np.arange(1, parts) / parts)
            index = np.searchsorted(cuts, own.astype(float), side="left")
            labels.append([f"{name} {words[i]}" for i in index])
        else:
            labels.append([f"{name} {_text(value)}" for value in own])
    joined = [" & ".join(row) for row in zip(*labels, strict=True)]
    names = sorted(set(joined))
    code = {name: i for i, name in enumerate(names)}
    return np.array([code[name] for name in joined], np.int32), tuple(names)


def subgroup_errors(
    y: ArrayLike,
    prediction: ArrayLike,
    s: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    split: str = "median",
    loss: str = "squared",
    min_rows: int = 2,
    column_names: Sequence[str] | None = None,
) -> SubgroupErrors:
    """Mean error overall and in every intersectional subgroup.

    Args:
        y: ``[n]`` outcomes or class codes.
        prediction: ``[n]`` predictions of the same kind.
        s: ``[n, q]`` sensitive columns.
        reference: Rows whose quantiles cut them; see :func:`subgroups`.
        split: "median" or "quartiles".
        loss: "squared" or "zero_one".
        min_rows: Subgroups with fewer rows are left out of the worst, and named.
        column_names: Of the sensitive columns.

    Returns:
        The errors.

    Raises:
        ValueError: If an option is unknown, lengths differ, or no subgroup has enough
            rows.

    Example:
        >>> found = subgroup_errors([0, 0, 2, 1], [0, 0, 0, 0], ["a", "a", "b", "b"])
        >>> found.overall, found.worst, found.worst_name
        (1.25, 2.5, 's0 b')
    """
    check_choice("loss", loss, LOSSES)
    y, prediction = np.asarray(y), np.asarray(prediction)
    check_same_length(y=y, prediction=prediction, s=s)
    if y.shape != prediction.shape or y.ndim != 1:
        raise ValueError(
            f"y and prediction must have shape [n], got {list(y.shape)} and "
            f"{list(prediction.shape)}."
        )
    codes, names = subgroups(
        s, reference=reference, split=split, column_names=column_names
    )
    if loss == "squared":
        errors = (y.astype(float) - prediction.astype(float)) ** 2
    else:
        errors = (y != prediction).astype(float)
    counts = np.bincount(codes, minlength=len(names))
    means = np.bincount(codes, errors, minlength=len(names)) / counts
    kept = counts >= min_rows
    if not kept.any():
        raise ValueError(f"no subgroup has {min_rows} rows; lower min_rows.")
    return SubgroupErrors(
        names=tuple(n for n, k in zip(names, kept, strict=True) if k),
        counts=counts[kept],
        errors=means[kept],
        overall=float(errors.mean()),
        left_out=tuple(n for n, k in zip(names, kept, strict=True) if not k),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedInterval:
    """A mean over seeds with its interval.

    Attributes:
        mean: The mean.
        low: Lower end.
        high: Upper end.
        n_seeds: Figures that it rests on.
    """

    mean: float
    low: float
    high: float
    n_seeds: int


def seed_interval(values: Any, *, level: float = 0.95) -> SeedInterval:
    """Mean over seeds with Student's interval.

    Args:
        values: ``[m]`` one figure a seed, two seeds at least.
        level: Coverage.

    Returns:
        The mean and its interval.

    Raises:
        ValueError: If there are fewer than two values, or `level` is not in (0, 1).

    Example:
        >>> found = seed_interval([1.0, 2.0, 3.0])
        >>> found.mean, round(found.high, 2)
        (2.0, 4.48)
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"values must have shape [m] with m of 2 or more, got {list(values.shape)}."
        )
    if not 0 < level < 1:
        raise ValueError(f"level={level!r} must be between 0 and 1.")
    from scipy.stats import t

    mean = float(values.mean())
    width = float(t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1))
    width = width / math.sqrt(len(values))
    return SeedInterval(
        mean=mean, low=mean - width, high=mean + width, n_seeds=len(values)
    )


def _columns(s: ArrayLike) -> np.ndarray:
    rows = np.asarray(s)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[0] == 0:
        raise ValueError(f"s must have shape [n, q], got {list(rows.shape)}.")
    return rows


def _is_numeric(column: np.ndarray) -> bool:
    try:
        column.astype(float)
    except (TypeError, ValueError):
        return False
    return True


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
