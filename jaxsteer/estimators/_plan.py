"""The choice of an encoding for each column."""

from __future__ import annotations

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
