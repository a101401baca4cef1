"""Columns of any kind to float32 rows, from statistics taken batch by batch."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsteer._numerals import find_numerals
from jaxsteer.streaming._files import RowFiles, arrow
from jaxsteer.streaming._statistics import (
    MISSING,
    ColumnStatistics,
    TableStatistics,
    is_numeric,
    numbers_of,
    texts_of,
)

RARE = "rare"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnCode:
    """How one column is encoded.

    Attributes:
        column: Its name.
        kind: "number" (standardized), "plain" (as it is) or "category" (0/1 columns).
        mean: Of a number; missing values get it, that is 0 after standardizing.
        scale: Its standard deviation.
        flagged: Whether a 0/1 column tells missing values.
        values: Of a category, those with a 0/1 column each, as text; "missing" stands
            for rows without a value.
        rare: Whether one more column is for the values that are rare.
        common: The value without a column.
        width: Numbers a row of a "plain" column: more than one where it holds lists of
            one length, as embeddings are.
    """

    column: str
    kind: str
    mean: float = 0.0
    scale: float = 1.0
    flagged: bool = False
    values: tuple[str, ...] = ()
    rare: bool = False
    common: str | None = None
    width: int = 1

    @property
    def outputs(self) -> list[str]:
        """Names of the columns it becomes."""
        if self.width > 1:
            return [f"{self.column}[{j}]" for j in range(self.width)]
        if self.kind != "category":
            return [self.column] + [f"{self.column}={MISSING}"] * self.flagged
        names = [*self.values] + [RARE] * self.rare
        return [f"{self.column}={name}" for name in names]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowEncoder:
    """Encodes batches of a table as float32 ``[n, d]``; plain data, storable as JSON.

    It makes the columns that :class:`jaxsteer.estimators.TabularEncoder` makes, with
    two differences, for what cannot be known exactly without holding all rows: missing
    numbers get the mean, not the median, and numbers written as text are categories.

    Attributes:
        codes: How each column is encoded.
    """

    codes: tuple[ColumnCode, ...]

    @property
    def names(self) -> list[str]:
        """Names of the output columns, ``[d]``."""
        return [name for code in self.codes for name in code.outputs]

    @property
    def columns(self) -> list[str]:
        """Names of the columns that are read."""
        return [code.column for code in self.codes]

    def __call__(self, table: Any) -> np.ndarray:
        """Encode the rows of a ``pyarrow.Table``.

        Returns:
            ``[n, d]`` float32, NaN in rows with an infinite number.
        """
        x = np.zeros((table.num_rows, len(self.names)), np.float32)
        place = 0
        for code in self.codes:
            width = len(code.outputs)
            _encode(code, table.column(code.column), x[:, place : place + width])
            place += width
        return x

    def to_json(self) -> list[dict[str, Any]]:
        """Return plain data that :meth:`from_json` takes."""
        return [dataclasses.asdict(code) for code in self.codes]

    @classmethod
    def from_json(cls, data: list[dict[str, Any]]) -> RowEncoder:
        """Make the encoder that :meth:`to_json` wrote down."""
        return cls(
            codes=tuple(
                ColumnCode(**{**code, "values": tuple(code["values"])}) for code in data
            )
        )

    @classmethod
    def as_they_are(cls, files: RowFiles, columns: Sequence[str]) -> RowEncoder:
        """Take columns of numbers, or of lists of one length, as features, unchanged.

        Missing values are NaN.

        Raises:
            ValueError: If a column is not there, or holds no numbers.
        """
        files.check_columns(columns)
        codes = []
        for name in columns:
            kind, width = files.types[name], 1
            if kind.startswith("fixed_size_list<"):
                width = int(kind[kind.rindex("[") + 1 : -1])
            elif not is_numeric(kind):
                raise ValueError(
                    f"column {name!r} holds {kind}, no numbers; encode the table "
                    f"(row_encoder) instead."
                )
            codes.append(ColumnCode(column=name, kind="plain", width=width))
        return cls(codes=tuple(codes))


def row_encoder(
    statistics: TableStatistics,
    columns: Sequence[str],
    *,
    min_frequency: float = 0.005,
) -> RowEncoder:
    """Choose how columns are encoded.

    Args:
        statistics: From :func:`table_statistics`.
        columns: Which columns are features.
        min_frequency: Values in a smaller share of the rows are rare.

    Returns:
        The encoder.

    Raises:
        ValueError: If no column is left.

    Example:
        ::

            files = open_files("rows.parquet")
            columns = ["age", "hours"]
            encoder = row_encoder(table_statistics(files, columns), columns)

    Warns:
        UserWarning: If columns are left out: constant ones, and text with too many
            values, which names the row; and if numbers are written in such a way that
            they are taken as categories.
    """
    codes, dropped, written = [], [], []
    for name in columns:
        code = _code(name, statistics.columns[name], min_frequency)
        if isinstance(code, str):
            dropped.append(f"{name!r} ({code})")
        else:
            codes.append(code)
            values = statistics.columns[name].values
            if code.kind == "category" and values and find_numerals(list(values)):
                written.append(repr(name))
    if written:
        warnings.warn(
            f"Numbers written as text are taken as categories: {', '.join(written)}. "
            "Write them plainly, as 1234.5, or drop the columns.",
            stacklevel=2,
        )
    if dropped:
        warnings.warn(f"Columns left out: {', '.join(dropped)}.", stacklevel=2)
    if not codes:
        raise ValueError("no column is left to encode: all are constant or name rows.")
    return RowEncoder(codes=tuple(codes))


def _code(
    name: str, column: ColumnStatistics, min_frequency: float
) -> ColumnCode | str:
    if column.numeric and column.values is None:
        if column.squares <= 0:
            return "constant"
        return ColumnCode(
            column=name,
            kind="number",
            mean=column.mean,
            scale=float(np.sqrt(column.squares / column.count)),
            flagged=column.missing > 0,
        )
    if column.values is None:
        return "too many values"
    counts = dict(column.values)
    if column.missing:
        counts[MISSING] = counts.get(MISSING, 0) + column.missing
    if len(counts) < 2:
        return "constant" if counts else "empty"
    fewest = min_frequency * column.rows
    rare = {value for value, rows in counts.items() if rows < fewest}
    common = max(sorted(counts), key=lambda value: counts[value])
    kept = sorted(v for v in counts if v not in rare and v != common)
    return ColumnCode(
        column=name,
        kind="category",
        values=tuple(kept),
        rare=bool(rare - {common}),
        common=common,
    )


def is_wrong(x: np.ndarray) -> np.ndarray:
    """Tell which rows ``[n, d]`` have a number that is not finite."""
    if _all_finite(x):  # nearly always, and ten times as fast
        return np.zeros(len(x), bool)
    return np.logical_not(np.isfinite(x).all(axis=1))


def _all_finite(values: np.ndarray) -> bool:
    """Tell whether all numbers are finite; False too where their sum is not."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(values.sum()))


def _encode(code: ColumnCode, column: Any, out: np.ndarray) -> None:
    """Write the encoded column into ``out [n, outputs]``."""
    if code.width > 1:
        whole = column.combine_chunks()
        flat = np.asarray(whole.flatten().to_numpy(zero_copy_only=False), np.float32)
        out[:] = np.nan  # rows without a list
        out[~np.asarray(whole.is_null())] = flat.reshape(-1, code.width)
        return
    if code.kind in ("number", "plain"):
        values = numbers_of(column)
        if code.kind == "plain":
            out[:, 0] = values
            return
        scaled = values - code.mean
        scaled /= code.scale
        if not _all_finite(scaled):
            scaled[np.isinf(values)] = np.nan
            scaled[np.isnan(values)] = 0.0
        out[:, 0] = scaled
        if code.flagged:
            out[:, 1] = np.isnan(values)
        return
    known = [*code.values] + ([] if code.common is None else [code.common])
    codes = codes_of(column, known, missing=MISSING)
    for j in range(len(code.values)):
        out[:, j] = codes == j
    if code.rare:
        out[:, -1] = codes < 0


def codes_of(
    column: Any, names: Sequence[str], *, missing: str | None = None
) -> np.ndarray:
    """Return the place of each value among `names`, -1 where it is none of them.

    Args:
        column: A ``pyarrow.ChunkedArray``.
        names: Values as text.
        missing: The name that rows without a value go by, if any.
    """
    pa, pc = arrow("pyarrow"), arrow("pyarrow.compute")
    text = texts_of(column)
    if missing is not None and text.null_count:
        text = pc.fill_null(text, missing)
    found = pc.index_in(text, value_set=pa.array(list(names), pa.string()))
    return pc.fill_null(found, -1).to_numpy().astype(np.int32)
