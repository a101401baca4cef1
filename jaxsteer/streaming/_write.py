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
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxsteer._types import PARQUET, PathLike
from jaxsteer.storage import atomic_file
from jaxsteer.streaming._files import ENDINGS, Batch, RowFiles, arrow, is_bytewise

# Parts the only field of a line from nothing: no text file has it.
_NOWHERE = "\x01"
_BLOCK = 1 << 22  # bytes of text read at a time

# Values of a new column are an array, or an Arrow array of codes and their values.
Write = Callable[[Batch, Sequence[Any]], None]


def check_output(path: PathLike, *inputs: PathLike) -> None:
    """Raise unless rows can be written there without harm to what is read."""
    target = pathlib.Path(path)
    if target.suffix not in ENDINGS:
        raise ValueError(
            f"out={str(path)!r} must end in one of {', '.join(ENDINGS)}; compressed "
            f"text is not written in chunks, Parquet is compressed as it is."
        )
    for source in inputs:
        if target.exists() and os.path.samefile(target, source):
            raise ValueError(f"out={str(path)!r} is a file that is read; name another.")


def check_maps_file(path: Any, out: PathLike, *inputs: str) -> None:
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
    path: PathLike,
    files: RowFiles,
    names: Sequence[str],
    *,
    copied: bool | None = None,
) -> Generator[Write]:
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
                pool = stack.enter_context(ThreadPoolExecutor(2))
                yield _line_writer(file, files, names, lines, pool)
                for own in lines:
                    own.check_end()
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
    if ending in PARQUET:
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


def copies_lines(path: PathLike, files: RowFiles, rows: int | None = None) -> bool:
    """Whether rows are copied to a path: text in one order of columns, a line a row.

    Args:
        path: To be written.
        files: What is read, once more here.
        rows: How many rows there are, if that is known: as a row takes a line or more,
            counting lines then serves.
    """
    ending = pathlib.Path(path).suffix
    if files.kind != "csv" or ending not in (".csv", ".tsv"):
        return False
    if files.separator != _separator(ending) or not is_bytewise(files.encoding):
        return False
    headers = {_header_line(path) for path in files.paths}
    if len(headers) > 1 or not _is_one_row(headers.pop()):
        return False
    lines = [_Lines(path) for path in files.paths]
    if rows is None:
        return all(own.is_a_line_a_row() for own in lines)
    counts = [own.count() for own in lines]
    return min(counts) >= 0 and sum(counts) == rows


def _is_one_row(line: bytes) -> bool:
    """Tell whether a header is not blank, ends with its line, and quotes to its end."""
    return bool(line.strip()) and b"\r" not in line and line.count(b'"') % 2 == 0


def _header_line(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.readline().rstrip(b"\r\n")


def _line_writer(
    file: Any,
    files: RowFiles,
    names: Sequence[str],
    lines: Sequence[_Lines],
    pool: ThreadPoolExecutor,
) -> Write:
    pa, pc = arrow("pyarrow"), arrow("pyarrow.compute")
    # Arrow's own pool hands memory back to the system and asks for it again.
    memory = pa.system_memory_pool()
    separator = files.separator.encode()
    added = io.StringIO()
    csv.writer(added, delimiter=files.separator, lineterminator="").writerow(names)
    header = _header_line(files.paths[0])
    file.write(header + separator + added.getvalue().encode(files.encoding) + b"\n")

    def write(batch: Batch, values: Sequence[Any]) -> None:
        own = lines[batch.file].take(batch.table.num_rows)
        *arrays, last = _arrays(values)
        # The end of the line goes with the last field, often one of a few.
        # Numbers to text is most of the work, which Arrow does without Python's lock.
        texts = [*pool.map(_texts, arrays), _texts(last, end=b"\n")]
        rows = pc.binary_join_element_wise(own, *texts, separator, memory_pool=memory)
        _, offsets, data = rows.buffers()
        bounds = np.frombuffer(offsets, np.int32)[rows.offset :][: len(rows) + 1]
        file.write(memoryview(data)[bounds[0] : bounds[-1]])

    return write


class Behind:
    """Writes in a thread of its own while the next batch is made, one at a time."""

    def __init__(self, write: Write):
        self.write, self.pool = write, ThreadPoolExecutor(1)
        self.last: Future[None] | None = None

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


def _texts(values: Any, *, end: bytes = b"") -> Any:
    """Arrow's array as bytes of text, the fewest that give each number back."""
    pa, pc = arrow("pyarrow"), arrow("pyarrow.compute")
    if pa.types.is_dictionary(values.type):
        # Each value is written once, however many rows have it.
        return _texts(values.dictionary, end=end).take(values.indices).fill_null(end)
    texts = pc.cast(values, pa.string(), memory_pool=pa.system_memory_pool())
    texts = pc.cast(texts, pa.binary())
    if texts.null_count:
        texts = pc.fill_null(texts, b"")
    return pc.binary_join_element_wise(texts, b"", end) if end else texts


class _Lines:
    """The lines of a text file below its header, some at a time."""

    def __init__(self, path: str):
        self.path, self.parts, self.held = path, [], 0
        self.batches: Any = None

    def take(self, count: int) -> Any:
        """Return the next lines, an Arrow array of bytes without their ends."""
        pa = arrow("pyarrow")
        if self.batches is None:
            self.batches = iter(self._open())
        try:
            while self.held < count:
                part = next(self.batches).column(0)
                self.parts.append(part)
                self.held += len(part)
        except (StopIteration, pa.ArrowInvalid) as error:
            raise ValueError(
                f"{self.path} has fewer lines than rows, or changed in the meantime."
            ) from error
        whole = pa.concat_arrays(self.parts)
        self.parts, self.held = [whole[count:]], self.held - count
        return pa.concat_arrays([whole[:count]])

    def check_end(self) -> None:
        """Raise if there are lines that no row was taken for."""
        rest = sum(part.num_rows for part in self.batches or ())
        if rest or self.held:
            raise ValueError(
                f"{self.path} has more lines than rows, or changed in the meantime."
            )

    def count(self) -> int:
        """Number of lines that are not blank, at the speed of the disk.

        Returns:
            The number; -1 where a byte ends lines, or parts them, for one reader of
            CSV and not for another.
        """
        count, ended = 0, True
        with open(self.path, "rb") as file:
            file.readline()
            while block := file.read(_BLOCK):
                if block.endswith(b"\r"):
                    block += file.read(1)
                if b"\r" in block:
                    block = block.replace(b"\r\n", b"\n")
                if b"\r" in block or _NOWHERE.encode() in block:
                    return -1
                ends = np.frombuffer(block, np.uint8) == ord("\n")
                # A line's end behind another one ends nothing.
                blank = np.count_nonzero(ends[1:] & ends[:-1]) + (ended and ends[0])
                count += int(np.count_nonzero(ends) - blank)
                ended = bool(ends[-1])
        return count + (not ended)

    def is_a_line_a_row(self) -> bool:
        """Tell whether no field goes on in the next line: quotes come in pairs."""
        pa, pc = arrow("pyarrow"), arrow("pyarrow.compute")
        try:
            for part in self._open():
                quotes = pc.count_substring(part.column(0), '"')
                odd = pc.bit_wise_and(quotes, pa.scalar(1, quotes.type))
                if pc.any(pc.equal(odd, 1)).as_py():
                    return False
        except pa.ArrowInvalid:  # no rows, or a byte that no text has
            return False
        return True

    def _open(self) -> Any:
        pa, reader = arrow("pyarrow"), arrow("pyarrow.csv")
        return reader.open_csv(
            self.path,
            read_options=reader.ReadOptions(column_names=["line"], skip_rows=1),
            parse_options=reader.ParseOptions(delimiter=_NOWHERE, quote_char=False),
            convert_options=reader.ConvertOptions(
                check_utf8=False,
                column_types={"line": pa.binary()},
                strings_can_be_null=False,
            ),
        )
