"""What kind of values a column has, and how they become numbers or categories."""

from __future__ import annotations

import datetime
import decimal
import numbers
from typing import Any

import numpy as np
import pandas as pd

from jaxsteer._numerals import read_numerals

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

# An output column is near-discrete with at most this many distinct values, or when one
# value holds more than this share of the rows.
_DISCRETE_VALUES = 100
_DISCRETE_SHARE = 0.1


LARGEST = 1e150  # of a value whose square is still a number


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


def to_numbers(column: Any, kind: str, *, point: str | None = None) -> np.ndarray:
    """Return a column as float64 ``[n]``: numbers, or days for dates and durations.

    Dates count from 1970-01-01; missing values become NaN.

    Args:
        column: ``[n]`` values.
        kind: "number", "date" or "duration".
        point: "." or "," where the numbers are written as text with that decimal mark;
            what is no number becomes NaN then.

    Raises:
        ValueError: If a value is no number or date, is infinite, or beyond
            :data:`LARGEST`.
    """
    try:
        if kind == "date":
            values = _days(column)
        elif kind == "duration":
            days = pd.to_timedelta(column) / pd.Timedelta(days=1)
            values = days.to_numpy(float, na_value=np.nan)
        elif point is not None and _is_text(column):
            values = read_numerals(column.astype(object), point)
        else:
            if _is_text(column):
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
    vast = np.flatnonzero(np.abs(np.nan_to_num(values)) > LARGEST)
    if len(vast):
        raise ValueError(
            f"Column {column.name!r} has {len(vast)} values beyond {LARGEST:.0e}, the "
            f"first in row {vast[0]}, whose squares no number holds; give it in another "
            "unit."
        )
    return values


def to_categories(column: Any) -> np.ndarray:
    """Return a column as text ``[n]``, with a name of its own for missing values."""
    codes, names = category_codes(column)
    return names[codes]


def category_codes(column: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return codes ``[n]`` and the texts ``[m]`` that they stand for, -1 the last."""
    codes, values = pd.factorize(column, use_na_sentinel=True)
    return codes, np.array([*map(_text, values), MISSING], object)


def _is_text(column: Any) -> bool:
    return column.dtype == object or pd.api.types.is_string_dtype(column.dtype)


def _days(column: Any) -> np.ndarray:
    if _is_text(column):
        # Many people share a date, which is slow to read.
        codes, values = pd.factorize(column)
        return np.append(_days_of(pd.Series(values)), np.nan)[codes]
    return _days_of(column)


def _days_of(column: Any) -> np.ndarray:
    try:
        stamps = column
        if isinstance(column.dtype, pd.PeriodDtype):
            stamps = column.dt.to_timestamp()
        mixed = "ISO8601" if stamps.dtype.kind not in "Mm" else None
        stamps = pd.to_datetime(stamps, utc=True, format=mixed)
        # In seconds: nanoseconds end in the year 2262.
        start = pd.Timestamp("1970-01-01", tz="UTC").as_unit("s")
        days = (stamps - start).dt.total_seconds() / 86400
        return days.to_numpy(float, na_value=np.nan)
    except (pd.errors.OutOfBoundsDatetime, OverflowError):
        return np.array([_day(v) for v in column.astype(object).tolist()], float)


def _day(value: Any) -> float:
    """Return the days of one date, which Python keeps from the year 1 to 9999."""
    if value is None or value is pd.NaT or value is pd.NA or value != value:
        return np.nan
    if isinstance(value, pd.Period):
        value = str(value.asfreq("s", "start"))
    if isinstance(value, np.datetime64):
        value = str(value.astype("datetime64[us]"))
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value.strip())
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    zone = datetime.UTC
    value = value.replace(tzinfo=zone) if value.tzinfo is None else value
    start = datetime.datetime(1970, 1, 1, tzinfo=zone)
    return (value - start).total_seconds() / 86400


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | numbers.Real | np.bool_ | decimal.Decimal)


def _text(value: Any) -> str:
    # A missing entry turns a column of integers into floats: 1.0 must stay "1".
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def is_near_discrete(column: np.ndarray) -> bool:
    """Tell whether a column has few distinct values, or one in a tenth of the rows.

    An affine map for each group carries such values off the other groups', and a tree
    can then read the group there.

    Args:
        column: ``[n]`` numbers.
    """
    counts = np.unique(column, return_counts=True)[1]
    few = len(counts) <= min(_DISCRETE_VALUES, max(2, len(column) // 10))
    return bool(few or counts.max() > _DISCRETE_SHARE * max(len(column), 10))


def near_discrete_columns(X: np.ndarray) -> np.ndarray:
    """Tell which columns of ``X [n, d]`` are near-discrete, ``[d]``.

    A sample of the rows rules out most columns of representations, which may be
    thousands.
    """
    some = X[:: max(1, len(X) // 2000)]
    found = np.zeros(X.shape[1], bool)
    for place, column in enumerate(some.T):
        counts = np.unique(column, return_counts=True)[1]
        if len(counts) <= 2 * _DISCRETE_VALUES or counts.max() > len(some) / 20:
            found[place] = is_near_discrete(X[:, place])
    return found
