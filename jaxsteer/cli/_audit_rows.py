"""The rows of an audit: whom to count, as what, and whom not."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxsteer._frames import missing_column_message
from jaxsteer._spellings import match_values, merge_spellings
from jaxsteer.audit_report import Cells, count_rows, cut_numbers
from jaxsteer.cli._errors import UsageError
from jaxsteer.datasets._frame import label_codes, weight_values

if TYPE_CHECKING:
    from jaxsteer.cli._audit import Question

_MOST_GROUPS = 200
_FEW_BINS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counted:
    """Rows as counts.

    Attributes:
        cells: The counts.
        rows: Rows of the file.
        rows_counted: Those that are in the counts.
        unknown: Rows without a group, by column, and in any of them.
        excluded: Rows without a label, decision, score or weight.
    """

    cells: Cells
    rows: int
    rows_counted: int
    unknown: dict[str, int]
    excluded: dict[str, int]

    def counts(self) -> list[list[int]]:
        """Return the rows of each label in each intersection, ``[K][G]``."""
        cells = self.cells
        kind = np.where(cells.label >= 0, cells.label, np.maximum(cells.prediction, 0))
        table = np.zeros((len(cells.label_names), len(cells.group_names)), int)
        np.add.at(table, (kind, cells.group), cells.n)
        return table.tolist()


def counted_rows(frame: Any, question: Question, *, strict: bool) -> Counted:
    """Count the rows of a table.

    Args:
        frame: The table.
        question: What is asked.
        strict: Whether rows that cannot be counted are refused.

    Raises:
        ValueError: If a column is not there or unusable, or too few rows are left.
    """
    columns = _columns(frame, question)
    cuts = _cuts(question, columns)
    parts = {name: _group(frame, name, cuts.get(name), question) for name in columns}
    for text in question.unknown:
        if not any(
            (frame[name].astype(str).str.strip() == text).any() for name in parts
        ):
            warnings.warn(
                f"--unknown {text!r} stands in no group column; no row is left out for "
                "it.",
                stacklevel=2,
            )
    unknown = {name: int((codes < 0).sum()) for name, (codes, _) in parts.items()}
    known = np.all([codes >= 0 for codes, _ in parts.values()], axis=0)
    if len(columns) > 1 and not known.all():
        unknown["group, in any of these"] = int((~known).sum())
    excluded, keep = {}, known.copy()
    for option in ("label", "prediction", "score", "weights"):
        name = getattr(question, option)
        if name is not None:
            missing = frame[name].isna().to_numpy()
            excluded[f"a {option.rstrip('s')}"] = int((missing & known).sum())
            keep &= ~missing
    if strict and not keep.all():
        raise ValueError(
            f"{int((~keep).sum()):,} rows have no group, label, decision or score, the "
            f"first is row {int(np.flatnonzero(~keep)[0])}, counted from 0; fill them "
            "in, or leave --strict out."
        )
    if not keep.any():
        raise ValueError(
            "No row has a group and everything else that is asked for; there is nothing "
            "to count."
        )
    some = frame if keep.all() else frame[keep]
    groups = [(name, codes[keep], names) for name, (codes, names) in parts.items()]
    for name, codes, names in groups:
        if len(np.unique(codes)) < 2:
            raise ValueError(
                f"group column {name!r} has only the value {names[codes[0]]!r}; at least "
                "two groups are needed."
            )
    decided = _decisions(some, question)
    weights = None
    if question.weights is not None:
        weights = weight_values(some[question.weights], question.weights)
    cells = count_rows(groups, weights=weights, suppress=question.suppress, **decided)
    if len(cells.group_names) > _MOST_GROUPS:
        raise ValueError(
            f"The columns {', '.join(map(repr, columns))} give {len(cells.group_names)} "
            f"intersections, too many (at most {_MOST_GROUPS}); use fewer columns, or "
            "cut numbers with --bin."
        )
    return Counted(
        cells=cells,
        rows=len(frame),
        rows_counted=len(some),
        unknown=unknown,
        excluded=excluded,
    )


def numbers(column: Any, name: str) -> np.ndarray:
    """Return a column of scores as float64 ``[n]``."""
    try:
        values = column.to_numpy(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"--score {name}: the column must hold numbers, got {column.iloc[0]!r}."
        ) from None
    if not np.isfinite(values).all():
        raise ValueError(
            f"--score {name}: {int((~np.isfinite(values)).sum())} scores are infinite; "
            "replace them by a number."
        )
    return values


def _columns(frame: Any, question: Question) -> list[str]:
    """Return the sensitive columns, and check that every column is there."""
    for option in ("label", "prediction", "score", "weights"):
        name = getattr(question, option)
        if name is not None and name not in frame.columns:
            what = option if option == "label" else f"--{option}"
            raise ValueError(missing_column_message(name, frame.columns, what))
    group = question.group
    names = [group] if group in frame.columns else group.split(",")
    names = list(dict.fromkeys(name.strip() for name in names))
    for name in names:
        if name not in frame.columns:
            raise ValueError(missing_column_message(name, frame.columns, "group"))
        if name == question.label:
            raise ValueError(
                f"label and group are the same column {name!r}; a group must be another "
                "column than the label."
            )
    return names


def _cuts(question: Question, columns: list[str]) -> dict[str, list[float] | int]:
    """Read ``age=18,40,65`` (edges) and ``age=4`` (so many parts of equal size)."""
    found: dict[str, list[float] | int] = {}
    for text in question.bins:
        name, _, values = text.rpartition("=")
        try:
            edges = [float(v) for v in values.split(",") if v.strip()]
            if not name or not edges or sorted(set(edges)) != edges:
                raise ValueError
        except ValueError:
            raise UsageError(
                f"--bin {text!r} must be a column and increasing edges, as "
                "'age=18,40,65', or a number of parts, as 'age=4'."
            ) from None
        if name not in columns:
            raise UsageError(
                f"--bin {text!r}: {name!r} is none of the group columns "
                f"{', '.join(columns)}."
            )
        parts = len(edges) == 1 and "," not in values
        if parts and not (edges[0].is_integer() and 2 <= edges[0] <= _FEW_BINS):
            raise UsageError(
                f"--bin {text!r}: give from 2 to {_FEW_BINS} parts, or an edge followed "
                "by a comma."
            )
        found[name] = int(edges[0]) if parts else edges
    return found


def _group(
    frame: Any, name: str, cut: Any, question: Question
) -> tuple[np.ndarray, list[str]]:
    """Return the codes ``[n]`` of a sensitive column, -1 for unknown, and their names."""
    column: Any = frame[name]
    if question.unknown:
        column = column.where(~column.astype(str).str.strip().isin(question.unknown))
    if cut is not None:
        try:
            read: Any = pd.to_numeric(column)
            values = read.to_numpy(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"--bin {name}: the column must hold numbers: {error}."
            ) from None
        if isinstance(cut, int):
            shares = np.arange(1, cut) / cut
            cut = np.unique(np.nanquantile(values, shares)).tolist()
        return cut_numbers(values, cut)
    merged = merge_spellings(column, f"group column {name!r}")
    place, found = pd.factorize(merged)
    values = found.tolist()
    if len(values) > _MOST_GROUPS:
        raise ValueError(
            f"group column {name!r} has {len(values)} values, too many (at most "
            f"{_MOST_GROUPS}); cut numbers into ranges with --bin {name}=4."
        )
    try:
        order = sorted(range(len(values)), key=lambda i: values[i])
    except TypeError:
        order = sorted(range(len(values)), key=lambda i: str(values[i]))
    codes = np.empty(len(values) + 1, int)
    codes[order] = np.arange(len(values))
    codes[-1] = -1
    names = [
        str(int(v)) if isinstance(v, float) and v.is_integer() else str(v)
        for v in (values[i] for i in order)
    ]
    return codes[place], names


def _decisions(frame: Any, question: Question) -> dict[str, Any]:
    """Return label, decisions, score and names as `count_rows` takes them."""
    score = label = truth = None
    if question.score is not None:
        score = numbers(frame[question.score], question.score)
    names: tuple[Any, ...] = ("refused", "accepted")
    favorable: int | None = 1
    if question.label is not None:
        truth = frame[question.label]
        label, names = label_codes(truth, question.label, question.positive)
        if len(names) > 2:
            favorable = None
        if score is not None and len(names) != 2:
            raise ValueError(
                f"--score {question.score}: the label has {len(names)} classes, and a "
                "score needs two; name the favorable one with --positive."
            )
    if question.prediction is None:
        assert score is not None, "the command checks that one of the two is given"
        said = (score >= question.threshold).astype(np.int64)
        if said.all() or not said.any():
            warnings.warn(
                f"--threshold {question.threshold:g}: {'every' if said.all() else 'no'} "
                f"row is accepted, for the scores go from {score.min():g} to "
                f"{score.max():g}; gaps of decisions are 0 whatever the scores are.",
                stacklevel=2,
            )
    elif label is None:
        said, names = label_codes(
            frame[question.prediction], question.prediction, question.positive
        )
        favorable = 1 if len(names) == 2 else None
        if favorable is None:
            raise ValueError(
                f"--prediction {question.prediction} has {len(names)} values; name the "
                "favorable one with --positive."
            )
    else:
        said = _predictions(
            frame[question.prediction], question.prediction, label, truth
        )
    return {
        "label": label,
        "prediction": said,
        "score": score,
        "label_names": names,
        "favorable": favorable,
    }


def _predictions(column: Any, name: str, label: np.ndarray, truth: Any) -> np.ndarray:
    """Return the codes of predictions, which are values of the label's own column."""
    # With --positive several values of the label share a code: each is compared itself.
    known = truth.drop_duplicates()
    codes = label[np.flatnonzero(~truth.duplicated().to_numpy())]
    what = f"--prediction {name} has what is no value of the label {truth.name!r}"
    place, found = pd.factorize(column)
    try:
        places = match_values(found.tolist(), known.tolist(), what)
    except ValueError as error:
        raise ValueError(f"{error} For scores use --score.") from None
    return np.array([codes[places[value]] for value in found.tolist()], int)[place]
