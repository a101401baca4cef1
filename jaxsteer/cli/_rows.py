"""Rows in: read with their text, who a row is, and outputs that come whole or not."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import pathlib
import sys
import tempfile
from collections.abc import Generator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from jaxsteer import storage
from jaxsteer._frames import missing_column_message
from jaxsteer._spellings import match_values, unknown_message
from jaxsteer.cli._signals import check_interrupted
from jaxsteer.datasets import TextTable, read_table, read_text_table

ENDINGS = (".csv", ".csv.gz", ".csv.xz", ".tsv", ".parquet", ".pq")
#: Standard input or output, in place of a file.
STREAM = pathlib.Path("-")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read the rows of a text file.

    Attributes:
        encoding: The encoding of the text, None to find it.
        separator: What parts the fields, None to find it in the header.
        decimal: "." or ",", None to find it.
        missing: Texts that mean no value, None for the usual ones.
    """

    encoding: str | None = None
    separator: str | None = None
    decimal: str | None = None
    missing: Sequence[str] | None = None

    def read(self, path: pathlib.Path, *, keep_text: bool = True) -> TextTable:
        """Read the rows, typed and as they are written in the file or on the input.

        Args:
            path: The file, or `STREAM`.
            keep_text: Whether the text is needed, which takes as long again.
        """
        if path == STREAM:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "standard input.csv"
                path.write_bytes(sys.stdin.buffer.read())
                return self.read(path, keep_text=keep_text)
        options: dict[str, Any] = {
            "encoding": self.encoding,
            "separator": self.separator,
            "decimal": self.decimal,
            "missing": ("?",) if self.missing is None else tuple(self.missing),
            "usual_missing": self.missing is None,
        }
        if keep_text:
            return read_text_table(path, **options)
        table = read_table(path, **options)
        return TextTable(frame=table, text=table)


@contextlib.contextmanager
def output(path: pathlib.Path) -> Generator[BinaryIO]:
    """Open an output, which takes its name when it is whole and nobody objected."""
    check_interrupted()
    if path == STREAM:
        whole = io.BytesIO()
        yield whole
        check_interrupted()
        sys.stdout.buffer.write(whole.getbuffer())
        sys.stdout.buffer.flush()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with storage.atomic_file(path) as file:
            yield file
            check_interrupted()
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        # A full disk does not say which file it was.
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: pathlib.Path, text: str) -> None:
    """Write a whole text file."""
    with output(path) as file:
        file.write(text.encode("utf-8"))


def canonical_order(source: TextTable, known: np.ndarray | None = None) -> np.ndarray:
    """Return the order ``[n]`` of the rows by their content, as it is written.

    What is fitted to rows in this order does not depend on the order of the file.

    Args:
        source: The file.
        known: The rows to order, None for all.
    """
    width = len(source.names)
    total: Any = np.uint64(0x345678)
    factor = np.uint64(1000003)
    # One column at a time what pandas' hash of rows does with all of them.
    for place in range(width):
        column = source.column(place)
        column = column if known is None else column.iloc[known]
        column = column if _is_plain(column) else column.astype(str)
        hashes: Any = pd.util.hash_pandas_object(column, index=False)  # pyright: ignore[reportAttributeAccessIssue]
        total = (total ^ hashes.to_numpy()) * factor
        factor = factor + np.uint64(82520 + 2 * (width - place))
    return np.argsort(total + np.uint64(97531), kind="stable")


def _is_plain(column: pd.Series) -> bool:
    return column.dtype != object or pd.api.types.infer_dtype(column) == "string"


def row_ids(source: TextTable, column: str, option: str = "--id") -> np.ndarray:
    """Return the ids ``[n]`` of the rows as text.

    Raises:
        ValueError: If the column is not there, or a row has no id.
    """
    if column not in source.frame.columns:
        raise ValueError(missing_column_message(column, source.frame.columns, option))
    values = source.column(source.names.index(column))
    if pd.api.types.is_float_dtype(values):
        values = values.map(lambda v: int(v) if v == v and v == int(v) else v)
    empty = values.isna() | (values.astype(str).str.strip() == "")
    if empty.any():
        first = int(np.flatnonzero(empty)[0])
        raise ValueError(
            f"{option} {column}: {int(empty.sum())} rows have no id, the first is row "
            f"{first}, counted from 0; fill them in or name another column."
        )
    return values.astype(str).str.strip().to_numpy(str)


def distinct_ids(source: TextTable, column: str, notes: list[str]) -> np.ndarray:
    """Return the ids of the rows, and note how many rows share one."""
    ids = row_ids(source, column)
    repeats = len(ids) - len(np.unique(ids))
    if repeats:
        notes.append(
            f"--id {column}: {repeats:,} rows have an id that an earlier row has; rows of "
            "one id are one person, who gets one draw."
        )
    return ids


def group_codes(
    frame: pd.DataFrame, columns: Sequence[str], names: Sequence[Any]
) -> tuple[np.ndarray, str]:
    """Return the codes ``[n]`` of known groups, -1 for others, and which those are.

    Raises:
        ValueError: If a column is not there, or no row has a known group.
    """
    for column in columns:
        if column not in frame.columns:
            raise ValueError(missing_column_message(column, frame.columns, "group"))
    parts: Any = frame[list(columns)]
    present = parts.notna().all(axis=1).to_numpy()
    joined: Any = parts.iloc[:, 0]
    if len(columns) > 1:
        joined = _names(parts.iloc[:, 0])
        for i in range(1, len(columns)):
            joined = joined + " & " + _names(parts.iloc[:, i])
    place, found = pd.factorize(joined)
    codes = np.full(len(found), -1)
    unknown = []
    values = found.tolist()
    for i, value in enumerate(values):
        try:
            codes[i] = match_values([value], names, "group")[value]
        except ValueError:
            unknown.append(value)
    out = np.where(present & (place >= 0), codes[place], -1).astype(np.int32)
    if not (out >= 0).any():
        raise ValueError(
            unknown_message(unknown or ["(no value)"], names, "group")
            + " No row belongs to a group that was there at fit time."
        )
    said = []
    if unknown:
        said.append(unknown_message(unknown, names, "group"))
    if not present.all():
        said.append(f"{int((~present).sum()):,} rows have no group at all.")
    return out, " ".join(said)


def _names(column: pd.Series) -> np.ndarray:
    """Return the names ``[n]`` of values, in which 1.0 is 1."""
    place, found = pd.factorize(column)
    names = [
        str(int(v)) if isinstance(v, float) and v.is_integer() else str(v)
        for v in found.tolist()
    ]
    return np.array([*names, ""], object)[place]
