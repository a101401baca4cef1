"""A text file whose rows are its lines: fields read on demand, lines copied as they stand.

A table has to be read as text too where rows are to come out as they went in. Where every
row is one line of as many fields as the header, that is seen from the places of
separators and quotes, and nothing more has to be read: a line is copied whole, and the
text of a column is read only where somebody asks for it.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

_MARK = b"\xef\xbb\xbf"
_END, _QUOTE, _BLANKS = 10, 34, (9, 32)
# Bytes that are looked at together: they stay in a core's own memory.
_AT_A_TIME = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lines:
    """The lines of a file, each of which is a row.

    Attributes:
        data: The bytes of the file without a byte order mark, every line with its end.
        ends: ``[n + 1]`` places of the ends of the header and of every row.
        separator: What parts the fields.
        names: What the header calls the columns.
        kept: Holds the text once it was asked for.
    """

    data: bytes
    ends: np.ndarray
    separator: str
    names: tuple[str, ...]
    kept: list[Any] = dataclasses.field(default_factory=list, repr=False)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ends) - 1

    def header(self) -> bytes:
        """Return the first line, without its end."""
        return self.data[: self.ends[0]]

    def some(self, start: int, stop: int) -> Any:
        """Return rows as Arrow's bytes, each after the end of the line before it.

        So they lie side by side in the file, and nothing is copied.
        """
        pa = importlib.import_module("pyarrow")
        places = np.ascontiguousarray(self.ends[start : stop + 1], np.int64)
        buffers = [None, pa.py_buffer(places), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.large_binary(), stop - start, buffers)

    def column(self, place: int) -> pd.Series:
        """Return the text of a column, ``[n]``."""
        return self.table().column(place).to_pandas().rename(self.names[place])

    def table(self) -> Any:
        """Return the text of all columns as Arrow's table, kept until `forget`."""
        if not self.kept:
            pa, reader = (importlib.import_module(f"pyarrow{m}") for m in ("", ".csv"))
            names = [str(i) for i in range(len(self.names))]
            found = reader.read_csv(
                pa.py_buffer(self.data),
                read_options=reader.ReadOptions(column_names=names, skip_rows=1),
                parse_options=reader.ParseOptions(delimiter=self.separator),
                convert_options=reader.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.large_string()),
                    strings_can_be_null=False,
                ),
            )
            if found.num_rows != len(self):
                raise ValueError(f"{found.num_rows} rows in {len(self)} lines.")
            self.kept.append(found)
        return self.kept[0]

    def forget(self) -> None:
        """Let go of the text, which is read anew where it is asked for again."""
        self.kept.clear()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table, and its rows as they are written in their file.

    Attributes:
        frame: The table with typed columns.
        text: The same rows and columns; for a text file every field as its text, or the
            lines of the file, of which that is read where it is asked for.
    """

    frame: pd.DataFrame
    text: pd.DataFrame | Lines

    @property
    def names(self) -> list[str]:
        """The names of the columns, as they stand in the file."""
        text = self.text
        return list(text.names if isinstance(text, Lines) else text.columns)

    @property
    def lines(self) -> Lines | None:
        """The lines of the file where each is a row, to be copied whole."""
        return self.text if isinstance(self.text, Lines) else None

    @property
    def written(self) -> pd.DataFrame:
        """The rows; for a text file every field as its text.

        So ``03833``, ``NA`` and ``4`` come out of a copy as they went in.
        """
        if isinstance(self.text, Lines):
            columns = [self.text.column(i) for i in range(len(self.names))]
            return pd.concat(columns, axis=1)
        return self.text

    def column(self, place: int) -> pd.Series:
        """Return one column as it is written, ``[n]``."""
        return text_of(self.text, place)

    def forget(self) -> None:
        """Let go of the text of fields that can be read anew from lines."""
        if self.lines is not None:
            self.lines.forget()


def text_of(text: pd.DataFrame | Lines, place: int) -> pd.Series:
    """Return the text of one column, ``[n]``."""
    return text.column(place) if isinstance(text, Lines) else text.iloc[:, place]


def read_lines(
    path: pathlib.Path, separator: str, names: Sequence[str]
) -> Lines | None:
    """Return the lines of a UTF-8 file, None where they are not its rows as they stand.

    Args:
        path: The file.
        separator: What parts the fields, one character.
        names: Of the columns, in the order of the header.

    Returns:
        The lines, if every row is one of them and has all its fields, quotes stand at
        both ends of a field or are doubled, and no field begins with a blank.
    """
    is_plain = len(separator.encode()) == 1 and separator not in '"\r\n '
    if len(names) < 2 or not is_plain:
        return None
    try:
        importlib.import_module("pyarrow.csv")
    except ModuleNotFoundError:
        return None
    data = path.read_bytes().removeprefix(_MARK)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    if b"\r" in data or b"\0" in data or not data:
        return None
    if not data.endswith(b"\n"):
        data += b"\n"
    whole = np.frombuffer(data, np.uint8)
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        starts = range(0, len(whole), _AT_A_TIME)
        found = pool.map(
            lambda s: s + np.flatnonzero(whole[s : s + _AT_A_TIME] == _END), starts
        )
        ends = np.concatenate(list(found))
        if len(ends) < 2:
            return None
        # Blocks that end with a line.
        cuts = np.searchsorted(ends, [*starts[1:], len(whole) - 1])
        cuts = np.unique(np.append(-1, cuts)).tolist()
        blocks = list(itertools.pairwise(cuts))
        mark, width = ord(separator), len(names)
        same = pool.map(
            lambda block: _are_rows(whole, ends, block[0], block[1], mark, width),
            blocks,
        )
        if not all(same):
            return None
    lines = Lines(data=data, ends=ends, separator=separator, names=tuple(names))
    try:
        lines.table()
    except (ValueError, OSError):  # pyarrow reads it in another way
        return None
    return lines


def _are_rows(
    whole: np.ndarray, ends: np.ndarray, first: int, last: int, mark: int, width: int
) -> bool:
    """Tell whether lines ``first + 1 .. last`` are rows of `width` plain fields."""
    start = 0 if first < 0 else int(ends[first]) + 1
    part = whole[start : int(ends[last]) + 1]
    stops = ends[first + 1 : last + 1] - start
    part_ends = part == mark
    quotes = np.flatnonzero(part == _QUOTE)
    if len(quotes):
        if len(quotes) % 2 or (np.searchsorted(quotes, stops) % 2).any():
            return False
        around = np.zeros(256, bool)
        around[[mark, _END, _QUOTE]] = True
        opening, closing = quotes[::2], quotes[1::2]
        if not (around[part[opening - 1]] & around[part[closing + 1]]).all():
            return False
        # Separators between two quotes part nothing.
        inside = np.zeros(len(part), np.int8)
        inside[opening], inside[closing] = 1, -1
        part_ends &= np.add.accumulate(inside, dtype=np.int8) == 0
    parts = np.flatnonzero(part_ends)
    if len(parts) != len(stops) * (width - 1):
        return False
    parts = parts.reshape(len(stops), width - 1)
    begins = np.append(0, stops[:-1] + 1)
    if (parts[:, 0] < begins).any() or (parts[:, -1] > stops).any():
        return False
    firsts = np.concatenate([part[begins], part[parts.reshape(-1) + 1]])
    return not np.isin(firsts, _BLANKS if mark != _BLANKS[0] else _BLANKS[1:]).any()
