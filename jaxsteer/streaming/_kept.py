"""Columns of text files kept as numbers on the disk, so that passes parse them once."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from jaxsteer._types import PathLike
from jaxsteer.streaming._files import Batch, Piece, RowFiles, arrow

#: Most bytes that are kept unless the caller says otherwise.
KEPT_BYTES = 8 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptFiles(RowFiles):
    """Files whose columns, once read to their end, are read back as they were typed.

    Made by :func:`keep_columns`. The first whole pass writes them down beside what it
    yields; where they take too many bytes, or the disk is full, they are given up and
    every pass reads the files.

    Attributes:
        columns: What is kept.
        store: Where.
    """

    columns: tuple[str, ...]
    store: _Store

    def batches(
        self,
        columns: Sequence[str] | None,
        batch_rows: int,
        *,
        piece: Piece | None = None,
        start: tuple[int, int] = (0, 0),
    ) -> Iterator[Batch]:
        """Yield batches as :meth:`RowFiles.batches`; columns asked for, or more."""
        store = self.store
        known = columns is not None and set(columns) <= set(self.columns)
        if piece is not None or not known:
            yield from super().batches(columns, batch_rows, piece=piece, start=start)
        elif store.whole and store.batch_rows == batch_rows:
            yield from store.read(start)
        elif store.file is None or store.whole or start != (0, 0):
            yield from super().batches(columns, batch_rows, start=start)
        else:
            store.begin(batch_rows)
            for batch in super().batches(self.columns, batch_rows):
                store.add(batch)
                yield batch
            store.finish()


class _Store:
    """Batches in an Arrow file that has no name and ends with the process."""

    def __init__(self, file: Any, limit: int):
        self.limit, self.batch_rows, self.whole = limit, 0, False
        self.file: Any = file
        self.places: list[tuple[int, int]] = []
        self.writer: Any = None
        self.reader: Any = None

    def begin(self, batch_rows: int) -> None:
        """Start anew: a pass that was left before its end kept nothing."""
        self.writer, self.places, self.batch_rows = None, [], batch_rows
        self.file.seek(0)
        self.file.truncate()

    def add(self, batch: Batch) -> None:
        """Write a batch down, unless that has been given up."""
        if self.file is None:
            return
        try:
            (record,) = batch.table.combine_chunks().to_batches()
            if self.writer is None:
                ipc = arrow("pyarrow.ipc")
                self.writer = ipc.new_file(self.file, record.schema)
            self.writer.write_batch(record)
            self.places.append((batch.file, batch.first))
            if self.file.tell() > self.limit:
                self.drop()
        except OSError:  # a full disk: the pass itself goes on
            self.drop()

    def finish(self) -> None:
        """Note that all rows are there."""
        if self.file is None or self.writer is None:
            return
        try:
            self.writer.close()
            self.reader = arrow("pyarrow.ipc").open_file(self.file)
        except OSError:
            self.drop()
            return
        self.whole = True

    def read(self, start: tuple[int, int]) -> Iterator[Batch]:
        """Yield the batches from a file and row on."""
        pa = arrow("pyarrow")
        for index, (file, first) in enumerate(self.places):
            if (file, first) >= start:
                record = self.reader.get_batch(index)
                yield Batch(pa.Table.from_batches([record]), file, first)

    def drop(self) -> None:
        """Give the disk its room back."""
        if self.file is not None:
            # Closing writes the end of the Arrow file, for which there may be no room.
            with contextlib.suppress(OSError):
                self.file.close()
        self.file = self.writer = self.reader = None
        self.whole = False


@contextlib.contextmanager
def keep_columns(
    files: RowFiles,
    columns: Sequence[str],
    *,
    beside: PathLike,
    limit: int = KEPT_BYTES,
) -> Generator[RowFiles]:
    """Keep columns of text files, typed, on the disk of another file for a while.

    Args:
        files: What is read. Those of Parquet, typed as they are, are left alone.
        columns: What later passes need.
        beside: A path in the folder that has room. The file there has no name, so that
            nothing is left however the process ends.
        limit: Most bytes; 0 keeps nothing.

    Yields:
        Files that give the same batches.
    """
    if files.kind != "csv" or limit <= 0:
        yield files
        return
    plain = {f.name: getattr(files, f.name) for f in dataclasses.fields(RowFiles)}
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(
                tempfile.TemporaryFile(dir=pathlib.Path(beside).parent)
            )
        except OSError:  # no room, or not allowed: what is written later says so
            yield files
            return
        store = _Store(file, limit)
        stack.callback(store.drop)
        yield KeptFiles(**plain, columns=tuple(dict.fromkeys(columns)), store=store)
