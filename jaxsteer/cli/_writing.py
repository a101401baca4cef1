"""Rows out: new columns behind those of a file, which are copied as they stand.

Where the lines of the file are its rows and the output is text of the same form, lines
are copied whole and new columns are written behind them, some rows at a time: no field is
written anew, and no more than those rows is held. Else all fields are.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import lzma
import pathlib
from collections.abc import Callable, Generator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from jaxsteer.cli._memory import is_parquet
from jaxsteer.cli._rows import output
from jaxsteer.cli._signals import check_interrupted
from jaxsteer.cli._use import in_parts, in_window, parts_of
from jaxsteer.datasets import TextTable

Columns = dict[str, np.ndarray]


def write_rows(path: pathlib.Path, frame: pd.DataFrame) -> None:
    """Write rows as CSV, TSV or Parquet, by the ending; ``-`` is CSV."""
    if is_parquet(path):
        with output(path) as file:
            frame.to_parquet(file, index=False)
        return
    separator = _separator(path)
    header = _header([str(name) for name in frame.columns], separator)

    def lines(start: int, stop: int) -> list[Any]:
        rows = frame.iloc[start:stop]
        fields = [_fields(rows.iloc[:, i], separator) for i in range(rows.shape[1])]
        fields[0] = _together([_scalar("\n"), fields[0]], "")
        head = [header] if start == 0 else []
        return [*head, _bytes(_together(fields, separator))]

    write_lines(path, parts_of(lines, len(frame)))


def write_with_columns(
    path: pathlib.Path,
    source: TextTable,
    work: Callable[[slice], Columns],
    known: np.ndarray | None = None,
) -> list[str]:
    """Write the rows of a file with new columns behind their own.

    Args:
        path: The output.
        source: The file.
        work: Makes the new columns of some of the known rows.
        known: ``[m]`` the rows that have new columns, None for all; those of others stay
            empty.

    Returns:
        The names of the new columns.

    Raises:
        ValueError: If a column of that name is there already.
    """
    n_rows, lines = len(source.text), source.lines
    n_known = n_rows if known is None else len(known)
    separator = _separator(path)
    if lines is None or is_parquet(path) or separator != lines.separator:
        columns = in_parts(work, n_known)
        write_rows(path, with_columns(source.written, columns, known))
        return list(columns)
    source.forget()
    names: list[str] = []

    def joined(start: int, stop: int) -> list[Any]:
        columns = in_window(work, start, stop, n_known)
        first, last = start, stop
        if known is not None:
            # Rows without new columns go with the known row after them.
            first = int(known[start - 1]) + 1 if start else 0
            last = int(known[stop - 1]) + 1 if stop < n_known else n_rows
            places = known[start:stop] - first
            columns = {k: _spread(v, places, last - first) for k, v in columns.items()}
        head = []
        if start == 0:
            check_names(columns, source.names)
            names.extend(columns)
            head = [lines.header(), separator.encode(), _header(names, separator)]
        fields = [_fields(values, separator) for values in columns.values()]
        rows = _together([lines.some(first, last), *fields], separator)
        return [*head, _bytes(rows)]

    write_lines(path, parts_of(joined, n_known))
    return names


def write_lines(path: pathlib.Path, parts: Generator[list[Any]]) -> None:
    """Write a header and rows, each of which begins with the end of the line before."""
    with (
        contextlib.closing(parts),
        output(path) as file,
        _packed(path.suffix, file) as packed,
    ):
        for part in parts:
            for piece in part:
                packed.write(piece)
            check_interrupted()
        packed.write(b"\n")


def _separator(path: pathlib.Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _header(names: Sequence[str], separator: str) -> bytes:
    return separator.join(_quoted(name, separator) for name in names).encode()


def _spread(values: np.ndarray, places: np.ndarray, n: int) -> np.ndarray:
    """Return ``[n]`` values, of which those elsewhere than at the places are missing."""
    is_float = values.dtype.kind == "f"
    out = np.full(n, np.nan) if is_float else np.full(n, None, object)
    out[places] = values
    return out


def _together(fields: Sequence[Any], separator: str) -> Any:
    """Return each row's fields joined, an array of large bytes."""
    pa = importlib.import_module("pyarrow")
    parts = [field.cast(pa.large_binary()) for field in (*fields, _scalar(separator))]
    return _compute().binary_join_element_wise(*parts)


def _scalar(text: str) -> Any:
    pa = importlib.import_module("pyarrow")
    return pa.scalar(text, pa.large_string())


def _fields(values: pd.Series | np.ndarray, separator: str) -> Any:
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
    """Return the bytes of large strings of Arrow, one after the other."""
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
    check_names(columns, list(frame.columns))
    index = frame.index if rows is None else frame.index[rows]
    added = pd.DataFrame(columns, index=index)
    if rows is not None:
        added = added.reindex(frame.index)
    return pd.concat([frame, added], axis=1)


def check_names(columns: Columns, there: Sequence[Any]) -> None:
    """Raise if a new column has the name of one that is there already."""
    taken = [name for name in columns if name in there]
    if taken:
        raise ValueError(
            f"The file already has the column {taken[0]!r}, which is one of those to "
            "write; rename or drop it first."
        )
