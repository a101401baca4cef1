"""What an encoder says of the columns that it did not take as they are."""

from __future__ import annotations

import datetime
import warnings

import numpy as np

from jaxsteer.estimators._plan import DROPPED, Plan

# Days since 1970 of dates that stand for "no date", "no end" or "before all dates".
_PLACEHOLDERS = {
    (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days: text
    for text in (
        *("0001-01-01", "1753-01-01", "1899-12-30", "1900-01-01", "1970-01-01"),
        *("2099-12-31", "2999-12-31", "9999-01-01", "9999-12-31"),
    )
}


def warn_of_dropped(plans: dict[str, Plan]) -> None:
    """Say which columns are left out, and why."""
    for kind, reason in DROPPED.items():
        names = [name for name, plan in plans.items() if plan.kind == kind]
        if names:
            warnings.warn(
                f"Columns left out ({reason}): {', '.join(map(repr, names))}.",
                stacklevel=4,
            )


def warn_of_numerals(plans: dict[str, Plan]) -> None:
    """Say which texts were read as numbers, and how they are written."""
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


def warn_of_placeholders(plans: dict[str, Plan]) -> None:
    """Say which dates may stand for no date."""
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
