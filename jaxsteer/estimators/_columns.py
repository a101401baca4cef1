"""What kind of values a column has, and how they become numbers or categories."""

from __future__ import annotations

import decimal
import numbers
from typing import Any

import numpy as np
import pandas as pd

MISSING = "missing"

_ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?"
_KINDS = {
    "boolean": "category",
    "categorical": "category",
    "date": "date",
    "datetime": "date",
    "datetime64": "date",
    "decimal": "number",
    "empty": "empty",
    "floating": "number",
    "integer": "number",
    "mixed-integer-float": "number",
    "string": "text",
    "timedelta": "duration",
    "timedelta64": "duration",
}


def column_kind(column: Any) -> str:
    """Return "number", "date", "duration", "category", "text" or "empty".

    Raises:
        ValueError: If the values are lists, bytes or other things that are no feature.
    """
    if column.isna().all():
        return "empty"
    if isinstance(column.dtype, pd.PeriodDtype):
        return "date"
    inferred = pd.api.types.infer_dtype(column, skipna=True)
    kind = _KINDS.get(inferred)
    if kind == "text":
        text = column.dropna().astype(str)
        # The first value is asked alone: most text is no date.
        is_date = text.iloc[:1].str.fullmatch(_ISO_DATE).all()
        return "date" if is_date and text.str.fullmatch(_ISO_DATE).all() else "text"
    if kind is None:
        odd = next((v for v in column.dropna() if not _is_plain(v)), None)
        if odd is not None:
            raise ValueError(
                f"Column {column.name!r} holds values of type {type(odd).__name__}, "
                "which cannot be encoded; turn them into numbers or text, or drop it."
            )
        return "text"
    return kind


def to_numbers(column: Any, kind: str) -> np.ndarray:
    """Return a column as float64 ``[n]``: numbers, or days for dates and durations.

    Dates count from 1970-01-01; missing values become NaN.

    Raises:
        ValueError: If a value is no number or date, or is infinite.
    """
    try:
        if kind == "date":
            if isinstance(column.dtype, pd.PeriodDtype):
                column = column.dt.to_timestamp()
            mixed = "ISO8601" if column.dtype.kind not in "Mm" else None
            stamps = pd.to_datetime(column, utc=True, format=mixed)
            days = (stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
            values = days.to_numpy(float, na_value=np.nan)
        elif kind == "duration":
            days = pd.to_timedelta(column) / pd.Timedelta(days=1)
            values = days.to_numpy(float, na_value=np.nan)
        else:
            if column.dtype == object or pd.api.types.is_string_dtype(column.dtype):
                column = pd.Series(pd.to_numeric(column)).astype(float)
            values = column.to_numpy(float, na_value=np.nan)
    except (TypeError, ValueError, OverflowError, decimal.InvalidOperation) as error:
        raise ValueError(
            f"Column {column.name!r} must hold {kind}s, as it did at fit time: {error}"
        ) from error
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise ValueError(
            f"Column {column.name!r} has {len(infinite)} infinite values, the first in "
            f"row {infinite[0]}; replace them by a number or leave them missing."
        )
    return values


def to_categories(column: Any) -> np.ndarray:
    """Return a column as text ``[n]``, with a name of its own for missing values."""
    codes, values = pd.factorize(column, use_na_sentinel=True)
    names = [_text(value) for value in values]
    return np.array([*names, MISSING], object)[codes]


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | numbers.Real | np.bool_ | decimal.Decimal)


def _text(value: Any) -> str:
    # A missing entry turns a column of integers into floats: 1.0 must stay "1".
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
