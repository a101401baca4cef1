"""Rows in and out: read with their text, written as they were, and who a row is."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import importlib
import io
import lzma
import os
import pathlib
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        return TextTable(frame=table, written=table)


@contextlib.contextmanager
def output(path: pathlib.Path) -> Iterator[BinaryIO]:
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


def write_rows(path: pathlib.Path, frame: pd.DataFrame) -> None:
    """Write rows as CSV, TSV or Parquet, by the ending; ``-`` is CSV."""
    with output(path) as file:
        if path.suffix in (".parquet", ".pq"):
            frame.to_parquet(file, index=False)
            return
        with _packed(path.suffix, file) as packed:
            write_lines(packed, frame, "\t" if path.suffix == ".tsv" else ",")


_AT_A_TIME = 100_000


def write_lines(file: Any, frame: pd.DataFrame, separator: str) -> None:
    """Write a header and one line a row, quoted where that is needed.

    By columns of pyarrow, some rows at a time and in threads.
    """
    header = separator.join(_quoted(str(name), separator) for name in frame.columns)
    file.write(f"{header}\n".encode())
    workers = min(4, os.cpu_count() or 1)
    waiting: deque[Any] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for start in range(0, len(frame), _AT_A_TIME):
            rows = frame.iloc[start : start + _AT_A_TIME]
            waiting.append(pool.submit(_lines, rows, separator))
            if len(waiting) > workers:
                file.write(waiting.popleft().result())
                check_interrupted()
        for lines in waiting:
            file.write(lines.result())
            check_interrupted()
    finally:
        pool.shutdown(cancel_futures=True)


def _lines(rows: pd.DataFrame, separator: str) -> memoryview:
    """Return the lines of some rows, each with its end."""
    import pyarrow as pa

    pc = _compute()
    fields = [_fields(rows.iloc[:, i], separator) for i in range(rows.shape[1])]
    parting, end, none = (
        pa.scalar(text, pa.large_string()) for text in (separator, "\n", "")
    )
    fields[-1] = pc.binary_join_element_wise(fields[-1], end, none)
    return _bytes(pc.binary_join_element_wise(*fields, parting))


def _fields(values: pd.Series, separator: str) -> Any:
    """Return the fields of a column as they are written."""
    import pyarrow as pa

    pc = _compute()
    column: Any = pa.array(values, from_pandas=True)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not pa.types.is_floating(column.type):
        text = pc.fill_null(column.cast(pa.large_string()), "")
        found = bytes(_bytes(text))
        if not any(mark.encode() in found for mark in ('"', "\r", "\n", separator)):
            return text
        mark, none = (pa.scalar(t, pa.large_string()) for t in ('"', ""))
        doubled = pc.replace_substring(text, '"', '""')
        quoted = pc.binary_join_element_wise(mark, doubled, mark, none)
        odd = pc.match_substring_regex(text, f'["\r\n{separator}]')
        return pc.if_else(odd, quoted, text)
    if len(column.slice(0, _GLANCE).unique()) * 4 < min(len(column), _GLANCE):
        # Few distinct numbers are told from each other sooner than written.
        coded = column.dictionary_encode()
        numbers = coded.dictionary.cast(pa.large_string())
        return pc.fill_null(numbers.take(coded.indices), "")
    return pc.fill_null(column.cast(pa.large_string()), "")


_GLANCE = 2048


def _compute() -> Any:
    """Return pyarrow's functions, made as it is loaded, which type checkers cannot see."""
    return importlib.import_module("pyarrow.compute")


def _bytes(text: Any) -> memoryview:
    """Return the bytes of large strings of pyarrow, one after the other."""
    _, offsets, data = text.buffers()
    places = np.frombuffer(offsets, np.int64)
    start, stop = places[text.offset], places[text.offset + len(text)]
    return memoryview(data)[start:stop] if data is not None else memoryview(b"")


def _quoted(text: str, separator: str) -> str:
    if any(mark in text for mark in ('"', "\r", "\n", separator)):
        return '"' + text.replace('"', '""') + '"'
    return text


def _packed(ending: str, file: BinaryIO) -> contextlib.AbstractContextManager[Any]:
    if ending == ".gz":
        # The name and the time in the header would make two equal runs differ.
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
    return (
        lzma.LZMAFile(file, "wb") if ending == ".xz" else contextlib.nullcontext(file)
    )


def with_columns(
    frame: pd.DataFrame, columns: dict[str, Any], rows: np.ndarray | None = None
) -> pd.DataFrame:
    """Return the frame with new columns at its end.

    Args:
        frame: The rows.
        columns: The new columns.
        rows: The rows that the columns are of, None for all; others stay empty there.

    Raises:
        ValueError: If a column of that name is there already.
    """
    taken = [name for name in columns if name in frame.columns]
    if taken:
        raise ValueError(
            f"The file already has the column {taken[0]!r}, which is one of those to "
            "write; rename or drop it first."
        )
    index = frame.index if rows is None else frame.index[rows]
    added = pd.DataFrame(columns, index=index)
    if rows is not None:
        added = added.reindex(frame.index)
    return pd.concat([frame, added], axis=1)


def canonical_order(written: pd.DataFrame) -> np.ndarray:
    """Return the order ``[n]`` of the rows by their content.

    What is fitted to rows in this order does not depend on the order of the file.
    """
    text = written.set_axis([str(i) for i in range(written.shape[1])], axis=1)
    text = text.apply(lambda c: c if _is_plain(c) else c.astype(str))
    hashes = pd.util.hash_pandas_object(text, index=False)  # pyright: ignore[reportAttributeAccessIssue]
    return np.argsort(np.asarray(hashes), kind="stable")


def _is_plain(column: pd.Series) -> bool:
    return column.dtype != object or pd.api.types.infer_dtype(column) == "string"


def row_ids(source: TextTable, column: str, option: str = "--id") -> np.ndarray:
    """Return the ids ``[n]`` of the rows as text.

    Raises:
        ValueError: If the column is not there, or a row has no id.
    """
    if column not in source.frame.columns:
        raise ValueError(missing_column_message(column, source.frame.columns, option))
    place = list(source.written.columns).index(column)
    values = source.written.iloc[:, place]
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
