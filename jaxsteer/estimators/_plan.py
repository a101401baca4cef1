"""The choice of an encoding for each column."""

from __future__ import annotations

import datetime
import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxsteer._numerals import Numerals, find_numerals
from jaxsteer.estimators._columns import column_kind, to_categories, to_numbers

# A text column in which more than this share of the values is distinct names its rows.
_IDENTIFIER_SHARE = 0.9
_IDENTIFIER_ROWS = 20

DROPPED = {
    "constant": "one value in every row",
    "empty": "no value at all",
    "identifier": "text that differs in nearly every row, as names and numbers of rows",
    "rare": "no value reaches min_frequency",
}


class Plan(NamedTuple):
    """One column: its kind (or why it is dropped), its values, and their counts."""

    kind: str
    values: np.ndarray
    missing: int
    categories: int = 0
    most_frequent: str = ""
    numerals: Numerals | None = None


def plan_column(
    column: Any, *, min_frequency: int | float | None, max_discrete: int
) -> Plan:
    """Choose how to encode a column.

    Args:
        column: ``[n]`` values, n > 0.
        min_frequency: See :class:`jaxsteer.estimators.TabularEncoder`.
        max_discrete: See there.

    Returns:
        A plan of kind "number", "date", "duration", "category", or a key of `DROPPED`.
    """
    missing = int(column.isna().sum())
    kind = column_kind(column)
    if kind == "empty":
        return Plan("empty", np.empty(0), missing)
    if kind == "text" and not isinstance(column.dtype, pd.CategoricalDtype):
        present = column.dropna()
        is_text = present.map(lambda value: isinstance(value, str)).all()
        found = find_numerals(present) if is_text else None
        if found is not None:
            values = to_numbers(column, "number", point=found.decimal)
            missing = int(np.isnan(values).sum())
            return Plan("number", values, missing, numerals=found)
    if kind in ("number", "date", "duration"):
        values = to_numbers(column, kind)
        distinct = len(np.unique(values[~np.isnan(values)]))
        if distinct == 1 and missing == 0:
            return Plan("constant", values, missing)
        # One value beside missing ones tells only which rows are missing.
        if distinct > (max(1, max_discrete) if kind == "number" else 1):
            return Plan(kind, values, missing)
    values = to_categories(column)
    names, counts = np.unique(values.astype(str), return_counts=True)
    if len(names) == 1:
        return Plan("constant", values, missing)
    present = len(column) - missing
    if (
        kind == "text"
        and present >= _IDENTIFIER_ROWS
        and column.nunique() > _IDENTIFIER_SHARE * present
    ):
        return Plan("identifier", values, missing, len(names))
    if isinstance(min_frequency, float):
        limit = min_frequency * len(column)
    else:
        limit = min_frequency or 0
    if counts.max() < limit:
        return Plan("rare", values, missing, len(names))
    return Plan("category", values, missing, len(names), str(names[counts.argmax()]))


def warn_of_dropped(plans: dict[str, Plan]) -> None:
    """Warn of the columns that are left out, and why."""
    for kind, reason in DROPPED.items():
        names = [name for name, plan in plans.items() if plan.kind == kind]
        if names:
            warnings.warn(
                f"Columns left out ({reason}): {', '.join(map(repr, names))}.",
                stacklevel=4,
            )


def warn_of_numerals(plans: dict[str, Plan]) -> None:
    """Warn of texts that were read as numbers."""
    notes = [
        f"{name!r} ({plan.numerals.note()})"
        for name, plan in plans.items()
        if plan.numerals is not None
    ]
    if notes:
        warnings.warn(
            f"Text read as numbers: {', '.join(notes)}. Make such a column categorical "
            "(astype('category')) to keep its texts.",
            stacklevel=4,
        )


# Days since 1970 of dates that stand for "no date", "no end" or "before all dates".
_PLACEHOLDERS = {
    (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days: text
    for text in (
        *("0001-01-01", "1753-01-01", "1899-12-30", "1900-01-01", "1970-01-01"),
        *("2099-12-31", "2999-12-31", "9999-01-01", "9999-12-31"),
    )
}


def warn_of_placeholders(plans: dict[str, Plan]) -> None:
    """Warn of dates that often stand for none."""
    found = []
    for name, plan in plans.items():
        if plan.kind == "date":
            days = np.floor(plan.values)
            for day, text in _PLACEHOLDERS.items():
                rows = int((days == day).sum())
                if rows > 1 and rows < (~np.isnan(days)).sum():
                    found.append(f"{name!r} has {text} in {rows} rows")
    if found:
        warnings.warn(
            f"Dates that often stand for no date were taken as dates: {'; '.join(found)}. "
            "Leave them empty (or name them as missing) if they do.",
            stacklevel=4,
        )
