"""What an encoder must know of a table's columns, from statistics that merge."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxsteer._spellings import warn_of_spellings
from jaxsteer.streaming._files import RowFiles, arrow
from jaxsteer.streaming._progress import Meter, Tell

MISSING = "missing"
# Labels and groups with more values than these are taken for a mistake.
MOST_LABELS = 100


@dataclasses.dataclass(kw_only=True)
class ColumnStatistics:
    """What has been seen of one column.

    Attributes:
        numeric: Whether it holds numbers (or dates, as days).
        rows: Rows seen.
        missing: Rows without a value (null or NaN).
        infinite: Rows with an infinite value.
        mean: Of the finite values, float64.
        squares: Sum of squares about the mean.
        values: Rows by value, as text, while there are few; None when too many.
        limit: Most distinct values that are counted.
    """

    numeric: bool
    limit: int
    rows: int = 0
    missing: int = 0
    infinite: int = 0
    mean: float = 0.0
    squares: float = 0.0
    values: Counter[Any] | None = dataclasses.field(default_factory=Counter)

    @property
    def count(self) -> int:
        """Rows with a finite value."""
        return self.rows - self.missing - self.infinite

    def update(self, column: Any) -> None:
        """Add the rows of a ``pyarrow.ChunkedArray``."""
        self.merge(_column_statistics(column, self.numeric, self.limit))

    def merge(self, other: ColumnStatistics) -> None:
        """Add what has been seen elsewhere (Chan's formula, in float64)."""
        count, more = self.count, other.count
        if more:
            shift = other.mean - self.mean
            self.mean += shift * more / (count + more)
            self.squares += other.squares + shift**2 * count * more / (count + more)
        self.rows += other.rows
        self.missing += other.missing
        self.infinite += other.infinite
        if self.values is not None and other.values is not None:
            self.values.update(other.values)
            if len(self.values) > self.limit:
                self.values = None
        else:
            self.values = None


@dataclasses.dataclass(kw_only=True)
class TableStatistics:
    """Statistics of columns by name; those of two parts of the rows merge."""

    columns: dict[str, ColumnStatistics]

    @property
    def rows(self) -> int:
        """Rows seen."""
        return max((c.rows for c in self.columns.values()), default=0)

    def merge(self, other: TableStatistics) -> None:
        """Add the rows that another one has seen."""
        for name, column in other.columns.items():
            self.columns[name].merge(column)

    def names(self, columns: Sequence[str]) -> tuple[Any, ...]:
        """Return the sorted values of a label or group column, as text.

        Raises:
            ValueError: If there are too many, or a single one.

        Warns:
            UserWarning: If some differ by case or a trailing dot alone.
        """
        (name,) = columns
        values = self.columns[name].values
        if values is None or len(values) < 2:
            found = "more than can be" if values is None else str(len(values))
            rows = self.columns[name].missing
            none = f" ({rows} rows have none)" if rows else ""
            raise ValueError(
                f"column {name!r} has {found} values{none}; a label or group column has "
                f"a few, at least two."
            )
        ordered = tuple(sorted(values, key=_in_order))
        warn_of_spellings(ordered, f"column {name!r}")
        return ordered


def _in_order(text: str) -> tuple[int, float, str]:
    """Numbers by size, before text by letters."""
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def table_statistics(
    files: RowFiles,
    columns: Sequence[str],
    *,
    batch_rows: int = 65_536,
    as_values: Sequence[str] = (),
    max_values: int = 1_000,
    progress: Tell | None = None,
) -> TableStatistics:
    """Run once through the files and take the statistics of some columns.

    Args:
        files: From :func:`open_files`.
        columns: Which ones.
        batch_rows: Rows held at a time.
        as_values: Labels and groups, whose values are counted whatever their type, up
            to 100 of them.
        max_values: Most distinct values of a column of text that are counted; of other
            numbers, two are told from more.
        progress: Called with a :class:`Progress`.

    Returns:
        The statistics, in constant memory.

    Raises:
        ValueError: If a column is not there or a file cannot be read.
    """
    files.check_columns(columns)
    numeric = {name: is_numeric(files.types[name]) for name in columns}
    kinds = {
        name: ColumnStatistics(
            numeric=numeric[name],
            limit=MOST_LABELS
            if name in as_values
            else (2 if numeric[name] else max_values),
        )
        for name in columns
    }
    meter = Meter("reading columns", progress, files.total)
    for batch in files.batches(columns, batch_rows):
        for name, column in kinds.items():
            column.update(batch.table.column(name))
        meter.add(batch.table.num_rows)
    meter.now()
    return TableStatistics(columns=kinds)


def is_numeric(kind: str) -> bool:
    """Tell whether an Arrow type, as text, is read as numbers."""
    return kind.startswith(("int", "uint", "float", "double", "half", "date", "timest"))


def numbers_of(column: Any) -> np.ndarray:
    """Return a column as float64 with NaN for nulls; dates as days since 1970."""
    pa, pc = arrow("pyarrow"), arrow("pyarrow.compute")
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        stamps = pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64())
        return _float64(stamps) / 86_400e6
    return _float64(column)


def _float64(column: Any) -> np.ndarray:
    pa, pc = arrow("pyarrow"), arrow("pyarrow.compute")
    if column.type != pa.float64():
        column = pc.cast(column, pa.float64(), safe=False)
    return np.asarray(column.to_numpy(), np.float64)


def texts_of(column: Any) -> Any:
    """Return a column as an Arrow array of text (whole numbers without a point)."""
    pa, pc = arrow("pyarrow"), arrow("pyarrow.compute")
    if pa.types.is_floating(column.type):
        values = column.to_numpy()
        if np.all((values == np.round(values)) | np.isnan(values)):
            column = pc.cast(pc.if_else(pc.is_nan(column), None, column), pa.int64())
    if pa.types.is_boolean(column.type):
        return pc.utf8_capitalize(pc.cast(column, pa.string()))  # as Python writes them
    is_text = pa.types.is_string(column.type)
    if not is_text:
        is_text = pa.types.is_large_string(column.type)
        is_text |= pa.types.is_dictionary(column.type)
        column = pc.cast(column, pa.string())
    if is_text:
        # Blanks around a field are no part of it, and nothing else is no value.
        column = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    return column


def _column_statistics(column: Any, numeric: bool, limit: int) -> ColumnStatistics:
    found = ColumnStatistics(numeric=numeric, limit=limit, rows=len(column))
    if numeric:
        values = numbers_of(column)
        found.missing = int(np.count_nonzero(np.isnan(values)))
        is_finite = np.isfinite(values)
        finite = values if is_finite.all() else values[is_finite]
        found.infinite = found.rows - found.missing - len(finite)
        if len(finite):
            found.mean = float(finite.mean())
            away = finite - found.mean
            found.squares = float(away @ away)
        if _more_than(values, limit):
            found.values = None
            return found
    found.values = Counter(_counts(column))
    if not numeric:
        found.missing = found.rows - sum(found.values.values())
    if len(found.values) > limit:
        found.values = None
    return found


def _more_than(values: np.ndarray, limit: int) -> bool:
    """Tell early, from the first rows, that there are many values."""
    head = values[: 4 * limit + 64]
    return len(np.unique(head[~np.isnan(head)])) > limit


def _counts(column: Any) -> Iterable[Any]:
    pa, pc = arrow("pyarrow"), arrow("pyarrow.compute")
    counted = pc.value_counts(column.combine_chunks())
    # Only the few that differ are made text.
    texts = texts_of(pa.chunked_array([counted.field("values")])).to_pylist()
    found: Counter[Any] = Counter()
    for text, count in zip(texts, counted.field("counts").to_pylist(), strict=True):
        if text is not None:
            found[text] += count
    return found
