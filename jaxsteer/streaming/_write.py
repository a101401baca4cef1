"""Rows with new columns, written a batch at a time, the whole file or nothing.

From text to text of the same form rows are copied as they stand: no number is written
anew, so that 007, 1.50 and NA stay what they are, and only new columns cost time.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxsteer.storage import atomic_file
from jaxsteer.streaming._files import Batch, RowFiles, arrow, is_bytewise

_ENDINGS = (".parquet", ".pq", ".csv", ".tsv")
_BLOCK = 1 << 22  # bytes of text read at a time

# Values of a new column are an array, or an Arrow array of codes and their values.
Write = Callable[[Batch, Sequence[Any]], None]


def check_output(path: str | os.PathLike, *inputs: str | os.PathLike) -> None:
    """Raise unless rows can be written there without harm to what is read."""
    target = pathlib.Path(path)
    if target.suffix not in _ENDINGS:
        raise ValueError(
            f"out={str(path)!r} must end in one of {', '.join(_ENDINGS)}; compressed "
            f"text is not written in chunks, Parquet is compressed as it is."
        )
    for source in inputs:
        if target.exists() and os.path.samefile(target, source):
            raise ValueError(f"out={str(path)!r} is a file that is read; name another.")


def check_maps_file(path: Any, out: str | os.PathLike, *inputs: str) -> None:
    """Raise unless maps can be kept there without harm to rows."""
    if path is None:
        return
    target = pathlib.Path(path)
    if not target.parent.is_dir():
        raise ValueError(
            f"maps_file={str(path)!r}: there is no folder {target.parent}."
        )
    if target.resolve() == pathlib.Path(out).resolve():
        raise ValueError(f"maps_file={str(path)!r} is the file of the rows, out.")
    if target.exists() and any(os.path.samefile(target, source) for source in inputs):
        raise ValueError(
            f"maps_file={str(path)!r} is a file that is read; name another."
        )


@contextlib.contextmanager
def columns_writer(
    path: str | os.PathLike,
    files: RowFiles,
    names: Sequence[str],
    *,
    copied: bool | None = None,
) -> Iterator[Write]:
    """Open a writer of the rows of files with new columns behind their own.

    The file takes its name when the last batch is written and on the disk; on any
    error, a full disk too, there is no file, and one that was there stays as it was.

    Args:
        path: Ending in .parquet, .pq, .csv or .tsv.
        files: What is read.
        names: Of the new columns.
        copied: What :func:`copies_lines` said; None asks it.

    Yields:
        A function of a batch of all columns, or of any where lines are copied, and the
        new values; batches come in order, each once.
    """
    ending = pathlib.Path(path).suffix
    copied = copies_lines(path, files) if copied is None else copied
    try:
        with atomic_file(path) as file, contextlib.ExitStack() as stack:
            if copied:
                lines = [_Lines(path) for path in files.paths]
                yield _line_writer(file, files, names, lines)
                for own in lines:
                    own.check_end()
                file.write(b"\n")
                return
            writers: list[Any] = []

            def write(batch: Batch, values: Sequence[Any]) -> None:
                table = _joined(batch.table, names, values)
                if not writers:
                    writer = _table_writer(file, table.schema, ending)
                    writers.append(stack.enter_context(writer))
                writers[0].write_table(table)

            yield write
            if not writers:
                # No rows: a file that says which columns there would be.
                nothing = Batch(files.schema().empty_table(), 0, 0)
                write(nothing, [np.zeros(0, np.float32) for _ in names])
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        # A full disk does not say which file it was.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _table_writer(file: Any, schema: Any, ending: str) -> Any:
    if ending in (".parquet", ".pq"):
        parquet = arrow("pyarrow.parquet")
        return parquet.ParquetWriter(file, schema, write_page_checksum=True)
    writer = arrow("pyarrow.csv")
    return writer.CSVWriter(
        file,
        schema,
        write_options=writer.WriteOptions(
            delimiter=_separator(ending), quoting_style="needed"
        ),
    )


def _separator(ending: str) -> str:
    return "\t" if ending == ".tsv" else ","


def _joined(table: Any, names: Sequence[str], values: Sequence[Any]) -> Any:
    pa = arrow("pyarrow")
    arrays = [
        array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
        for array in _arrays(values)
    ]
    fields = [
        pa.field(name, array.type) for name, array in zip(names, arrays, strict=True)
    ]
    schema = pa.schema([*table.schema, *fields])
    return pa.Table.from_arrays([*table.columns, *arrays], schema=schema)


def _arrays(values: Sequence[Any]) -> list[Any]:
    """Arrow's arrays; what is not a number is missing."""
    pa = arrow("pyarrow")
    return [
        pa.array(np.ascontiguousarray(v), from_pandas=True)
        if isinstance(v, np.ndarray)
        else v
        for v in values
    ]


def copies_lines(path: str | os.PathLike, files: RowFiles) -> bool:
    """Whether rows are copied to a path: text in one order of columns, a line a row.

    Reads the files once, as fast as the disk gives them.
    """
    ending = pathlib.Path(path).suffix
    if files.kind != "csv" or ending not in (".csv", ".tsv"):
        return False
    if files.separator != _separator(ending) or not is_bytewise(files.encoding):
        return False
    headers = {_header_line(path) for path in files.paths}
    if len(headers) > 1 or not _is_one_row(headers.pop()):
        return False
    return all(_Lines(path).is_a_line_a_row() for path in files.paths)


def _is_one_row(line: bytes) -> bool:
    """Tell whether a header is not blank, ends with its line, and quotes to its end."""
    return bool(line.strip()) and b"\r" not in line and line.count(b'"') % 2 == 0


def _header_line(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.readline().rstrip(b"\r\n")


def _line_writer(
    file: Any, files: RowFiles, names: Sequence[str], lines: Sequence[_Lines]
) -> Write:
    pc = arrow("pyarrow.compute")
    separator = files.separator.encode()
    added = io.StringIO()
    csv.writer(added, delimiter=files.separator, lineterminator="").writerow(names)
    header = _header_line(files.paths[0])
    file.write(header + separator + added.getvalue().encode(files.encoding))

    def write(batch: Batch, values: Sequence[Any]) -> None:
        own = lines[batch.file].take(batch.table.num_rows)
        texts = [_texts(array) for array in _arrays(values)]
        # Each line begins with the end of the one before.
        rows = pc.binary_join_element_wise(own, *texts, separator)
        _, offsets, data = rows.buffers()
        bounds = np.frombuffer(offsets, np.int32)[rows.offset :][: len(rows) + 1]
        file.write(memoryview(data)[bounds[0] : bounds[-1]])

    return write


class Behind:
    """Writes in a thread of its own while the next batch is made, one at a time."""

    def __init__(self, write: Write):
        self.write, self.pool = write, ThreadPoolExecutor(1)
        self.last: Future | None = None

    def put(self, batch: Batch, values: Sequence[Any]) -> None:
        """Wait for the batch before, and start on this one; raises what that raised."""
        if self.last is not None:
            self.last.result()
        self.last = self.pool.submit(self.write, batch, values)

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.pool.shutdown(wait=True)
        if kind is None and self.last is not None:
            self.last.result()


def coded(codes: np.ndarray, values: np.ndarray) -> Any:
    """A new column of a few values, each written once: codes ``[n]``, -1 for missing."""
    pa = arrow("pyarrow")
    return pa.DictionaryArray.from_arrays(
        pa.array(codes, mask=codes < 0), pa.array(values.ravel())
    )


def _texts(values: Any) -> Any:
    """Arrow's array as bytes of text, the fewest that give each number back."""
    pa, pc = arrow("pyarrow"), arrow("pyarrow.compute")
    if pa.types.is_dictionary(values.type):
        # Each value is written once, however many rows have it.
        return _texts(values.dictionary).take(values.indices).fill_null(b"")
    texts = pc.cast(pc.cast(values, pa.string()), pa.binary())
    return pc.fill_null(texts, b"") if texts.null_count else texts


class _Lines:
    """The lines of a text file below its header, some at a time; blank ones are none.

    A line comes with the end of the line before it, in place of its own, so that new
    fields can be put behind it and all be written as it comes.
    """

    def __init__(self, path: str):
        self.path = path
        self.rest = b""  # from the end of a line on
        self.ends = np.zeros(0, np.int64)  # of lines, in `rest`
        self.blocks: Iterator[bytes] | None = None

    def take(self, count: int) -> Any:
        """Return the next lines, an Arrow array of bytes."""
        pa = arrow("pyarrow")
        if self.blocks is None:
            self.blocks = self._whole_lines()
        parts, held = [self.rest], len(self.ends)
        ends, size = [self.ends], len(self.rest)
        while held <= count:
            block = next(self.blocks, None)
            if block is None:
                raise ValueError(
                    f"{self.path} has fewer lines than rows, or changed in the meantime."
                )
            found = _places(block, b"\n") + size
            parts.append(block)
            ends.append(found)
            held, size = held + len(found), size + len(block)
        whole, bounds = b"".join(parts), np.concatenate(ends)
        if size > np.iinfo(np.int32).max:
            raise ValueError(
                f"{self.path}: {count} lines take {size} bytes, more than can be held; "
                f"read fewer at a time (batch_rows)."
            )
        cut = int(bounds[count])
        self.rest, self.ends = whole[cut:], bounds[count:] - cut
        offsets = pa.py_buffer(bounds[: count + 1].astype(np.int32))
        buffers = [None, offsets, pa.py_buffer(whole)]
        return pa.Array.from_buffers(pa.binary(), count, buffers)

    def check_end(self) -> None:
        """Raise if there are lines that no row was taken for."""
        if self.blocks is None:
            self.blocks = self._whole_lines()
        if len(self.rest) > 1 or any(len(block) > 1 for block in self.blocks):
            raise ValueError(
                f"{self.path} has more lines than rows, or changed in the meantime."
            )

    def is_a_line_a_row(self) -> bool:
        """Tell whether no field goes on in the next line: quotes come in pairs."""
        for block in self._whole_lines():
            if b"\r" in block:  # the end of a line, for readers of CSV
                return False
            if b'"' in block:
                marks = _places(block, b'\n"')
                ends = np.flatnonzero(np.frombuffer(block, np.uint8)[marks] == 10)
                # Marks between the ends of lines; the last lines' too, cut short.
                counts = np.diff(np.append(ends, len(marks))) - 1
                if (counts % 2).any():
                    return False
        return True

    def _whole_lines(self) -> Iterator[bytes]:
        """Blocks of lines, each behind the end of the one before; at last that alone."""
        with open(self.path, "rb") as file:
            file.readline()
            rest = b"\n"
            while block := file.read(_BLOCK):
                if block.endswith(b"\r"):
                    block += file.read(1)
                block = rest + block
                if b"\r\n" in block:
                    block = block.replace(b"\r\n", b"\n")
                if b"\n\n" in block:
                    block = re.sub(b"\n+", b"\n", block)
                cut = block.rindex(b"\n")
                rest = block[cut:]
                if cut:
                    yield block[:cut]
            if len(rest) > 1:
                yield rest
            yield b"\n"


def _places(block: bytes, marks: bytes) -> np.ndarray:
    """Where bytes are one of the marks."""
    values = np.frombuffer(block, np.uint8)
    found = values == marks[0]
    for mark in marks[1:]:
        found |= values == mark
    return np.flatnonzero(found)
