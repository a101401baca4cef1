"""Rows written batch by batch into a file that appears when it is whole."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from jaxsteer.storage import atomic_file
from jaxsteer.streaming._files import arrow

_ENDINGS = (".parquet", ".pq", ".csv", ".tsv")


def check_output(path: str | os.PathLike, *inputs: str) -> None:
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


@contextlib.contextmanager
def row_writer(path: str | os.PathLike) -> Iterator[Any]:
    """Open a writer of ``pyarrow.Table`` batches.

    The file takes its name when the last batch is written and on the disk; on any
    error, a full disk too, there is no file, and one that was there stays as it was.

    Args:
        path: Ending in .parquet, .pq, .csv or .tsv.

    Yields:
        A function that writes one table; all must have the schema of the first.
    """
    try:
        with atomic_file(path) as file, contextlib.ExitStack() as stack:
            writers: list[Any] = []

            def write(table: Any) -> None:
                if not writers:
                    writer = _writer(file, table.schema, pathlib.Path(path).suffix)
                    writers.append(stack.enter_context(writer))
                writers[0].write_table(table)

            yield write
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        # A full disk does not say which file it was.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _writer(file: Any, schema: Any, ending: str) -> Any:
    if ending in (".parquet", ".pq"):
        parquet = arrow("pyarrow.parquet")
        return parquet.ParquetWriter(file, schema, write_page_checksum=True)
    csv = arrow("pyarrow.csv")
    separator = "\t" if ending == ".tsv" else ","
    return csv.CSVWriter(
        file,
        schema,
        write_options=csv.WriteOptions(delimiter=separator, quoting_style="needed"),
    )
