"""Row files of any size, read batch by batch: Parquet and CSV through pyarrow."""

from __future__ import annotations

import codecs
import dataclasses
import glob
import importlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jaxsteer._types import PARQUET, PathLike

ENCODING_HINT = (
    "say how its text is spelled, encoding='latin-1' or 'cp1252' (--encoding from the "
    "shell)."
)
_CSV = (".csv", ".tsv")
ENDINGS = PARQUET + _CSV


def arrow(module: str) -> Any:
    """Import a module of pyarrow, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            "Reading row files needs pyarrow: pip install 'jaxsteer[stream]'."
        ) from error


def is_bytewise(encoding: str) -> bool:
    """Whether bytes below 128 stand for ASCII and for nothing else, as in UTF-8."""
    if encoding == "utf8":
        return True
    low = bytes(range(128)) + b"\x1b$B!!\x1b(B"  # in some, two bytes that are a letter
    try:
        same = low.decode(encoding) == low.decode("ascii")
    except UnicodeDecodeError:
        return False
    return same and len(bytes(range(128, 256)).decode(encoding, "replace")) == 128


class Piece(NamedTuple):
    """Rows ``first <= row < stop`` of one file; `stop` is None for all that follow."""

    file: int
    first: int
    stop: int | None


class Batch(NamedTuple):
    """Rows as a ``pyarrow.Table``, and where they stand."""

    table: Any
    file: int
    first: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowFiles:
    """Files of one schema, in a fixed order. Made by :func:`open_files`.

    Attributes:
        paths: The files.
        kind: "parquet" or "csv".
        types: Names and Arrow types of the columns, as text, in the order of the file.
        rows: Rows of each file, from its footer; None for CSV, which does not say.
        separator: What parts the fields of CSV.
        encoding: How bytes of CSV spell text.
    """

    paths: tuple[str, ...]
    kind: str
    types: dict[str, str]
    rows: tuple[int, ...] | None
    separator: str = ","
    encoding: str = "utf8"

    @property
    def total(self) -> int | None:
        """Number of rows in all files, None where it is not known."""
        return None if self.rows is None else sum(self.rows)

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise unless every column is there."""
        for name in columns:
            if name not in self.types:
                raise ValueError(
                    f"{self.paths[0]} has no column {name!r}; it has "
                    f"{', '.join(self.types)}."
                )

    def fingerprint(self) -> list[list[Any]]:
        """Name, size and time of change of each file, to tell whether it is the same."""
        found = []
        for path in self.paths:
            state = os.stat(path)
            found.append([os.path.abspath(path), state.st_size, state.st_mtime_ns])
        return found

    def pieces(self, piece_rows: int) -> list[Piece]:
        """Cut the files into pieces whose bounds depend on nothing but the files.

        Args:
            piece_rows: Rows of a piece of Parquet; a CSV file is one piece.
        """
        if self.rows is None:
            return [Piece(file, 0, None) for file in range(len(self.paths))]
        return [
            Piece(file, first, min(first + piece_rows, rows))
            for file, rows in enumerate(self.rows)
            for first in range(0, rows, piece_rows)
        ]

    def batches(
        self,
        columns: Sequence[str] | None,
        batch_rows: int,
        *,
        piece: Piece | None = None,
        start: tuple[int, int] = (0, 0),
    ) -> Iterator[Batch]:
        """Yield batches of `batch_rows` rows; the last one of a file may be shorter.

        Memory is a few batches, whatever the files' sizes. Bounds of batches are
        multiples of `batch_rows` in each file, wherever the reading starts.

        Args:
            columns: Which columns to read; None for all.
            batch_rows: Rows of a batch.
            piece: Read this piece only.
            start: File and row to start from.

        Raises:
            ValueError: If a file is damaged, cut off, or holds values of another type.
        """
        files = range(start[0], len(self.paths)) if piece is None else [piece.file]
        for file in files:
            first = piece.first if piece else start[1] if file == start[0] else 0
            stop = piece.stop if piece else None
            yield from self._of_file(file, columns, batch_rows, first, stop)

    def _of_file(
        self,
        file: int,
        columns: Sequence[str] | None,
        batch_rows: int,
        first: int,
        stop: int | None,
    ) -> Iterator[Batch]:
        pa = arrow("pyarrow")
        place, held, parts = first, 0, []
        for part in self._records(file, columns, batch_rows, first, stop):
            parts.append(part)
            held += part.num_rows
            while held >= batch_rows:
                table = pa.Table.from_batches(parts)
                yield Batch(table.slice(0, batch_rows), file, place)
                parts = table.slice(batch_rows).to_batches()
                place, held = place + batch_rows, held - batch_rows
        if held:
            yield Batch(pa.Table.from_batches(parts), file, place)

    def _records(
        self,
        file: int,
        columns: Sequence[str] | None,
        batch_rows: int,
        first: int,
        stop: int | None,
    ):
        """Record batches of the rows asked for, of whatever size they come."""
        pa = arrow("pyarrow")
        path, seen = self.paths[file], 0
        try:
            names = list(self.types if columns is None else columns)
            if self.kind == "csv":
                source, seen = self._text(path, names), 0
            else:
                source, seen = self._row_groups(path, names, batch_rows, first)
            for part in source:
                begin, end = seen, seen + part.num_rows
                seen = end
                if end <= first or part.num_rows == 0:
                    continue
                if stop is not None and begin >= stop:
                    return
                low = max(first - begin, 0)
                high = part.num_rows if stop is None else min(stop, end) - begin
                yield part.slice(low, high - low)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            raise ValueError(
                f"{path} cannot be read beyond row {seen} or so: {error}. "
                f"{_remedy(error, self.kind)}"
            ) from error

    def _text(self, path: str, columns: list[str]) -> Iterator[Any]:
        """Record batches of CSV, a block of text at a time.

        Not through ``pyarrow.dataset``, which with one thread reads the file to its end
        before it yields the first of them.
        """
        csv = arrow("pyarrow.csv")
        return csv.open_csv(
            path,
            csv.ReadOptions(encoding=self.encoding),
            csv.ParseOptions(delimiter=self.separator),
            csv.ConvertOptions(
                column_types=self.schema(),
                include_columns=columns,
                strings_can_be_null=True,
            ),
        )

    def _row_groups(
        self, path: str, columns: list[str], batch_rows: int, first: int
    ) -> tuple[Iterator[Any], int]:
        """Record batches of Parquet, and the rows before the first of them.

        Not through ``pyarrow.dataset``, nor buffered ahead: memory would grow with the
        file.
        """
        pa, skipped = arrow("pyarrow"), 0
        # Without checksums (or without asking) a damaged page is read as numbers.
        file = arrow("pyarrow.parquet").ParquetFile(
            path, page_checksum_verification=True, pre_buffer=False
        )
        rows = [
            file.metadata.row_group(index).num_rows
            for index in range(file.num_row_groups)
        ]
        # Row groups wholly before the start are not read at all.
        index = 0
        while index < len(rows) and skipped + rows[index] <= first:
            skipped, index = skipped + rows[index], index + 1
        schema = self.schema()
        schema = pa.schema([schema.field(name) for name in columns])

        def read() -> Iterator[Any]:
            with file:
                for batch in file.iter_batches(
                    batch_rows, list(range(index, len(rows))), columns
                ):
                    yield batch.select(columns).cast(schema)

        return read(), skipped

    def schema(self) -> Any:
        """Return the ``pyarrow.Schema`` of the files."""
        pa = arrow("pyarrow")
        return pa.schema([(n, _type_of(kind)) for n, kind in self.types.items()])


def open_files(
    source: PathLike | Sequence[PathLike],
    *,
    types: dict[str, str] | None = None,
    separator: str | None = None,
    encoding: str = "utf8",
) -> RowFiles:
    """Find row files and check that they go together, from their headers and footers.

    Args:
        source: A Parquet (``.parquet``, ``.pq``) or CSV (``.csv``, ``.tsv``) file, a
            folder or a pattern of them (in the order of their names), or a list of files
            and folders (in its order).
        types: Arrow types by column ("float64", "string", ...), where those that the
            first rows of a CSV file suggest do not hold for all.
        separator: What parts the fields of CSV; None for "," (and tabs in ``.tsv``).
        encoding: How bytes of CSV spell text, as Python names it: "latin-1", "cp1252".

    Returns:
        The files. Whole and part numbers (int64, float64) of CSV files go together;
        other types must agree.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If pyarrow is not installed.
        ValueError: If endings are mixed or not known, a file is named twice, damaged or
            cut off, a name stands twice in it, or a column is of another type in another
            file.

    Example:
        ::

            files = open_files("rows/*.parquet")
            files.types, files.rows
    """
    try:
        name = codecs.lookup(encoding).name
        # By this name pyarrow reads it itself, a mark at the front or none.
        encoding = "utf8" if name in ("utf-8", "utf-8-sig") else name
    except LookupError as error:
        raise ValueError(
            f"encoding={encoding!r} is not known; 'utf8', 'latin-1' and 'cp1252' are "
            f"usual."
        ) from error
    paths = _paths(source)
    kinds = {_kind(path) for path in paths}
    if len(kinds) > 1:
        raise ValueError(f"source mixes Parquet and CSV files: {', '.join(paths[:4])}.")
    kind = kinds.pop()
    named = separator is not None
    if separator is None:
        separator = "\t" if paths[0].lower().endswith(".tsv") else ","
    if len(separator) != 1 or separator in '"\r\n' or not separator.isascii():
        raise ValueError(f"separator={separator!r} must be one character, such as ';'.")
    found: dict[str, str] = {}
    rows = []
    for path in paths:
        schema, count = _header(path, kind, separator, encoding)
        _check_names(path, schema.names, None if named else separator)
        rows.append(count)
        _join_types(found, schema, paths[0], path, kind)
    for name in types or {}:
        if name not in found:
            raise ValueError(f"types names the column {name!r}, which is not there.")
    found |= types or {}
    return RowFiles(
        paths=tuple(paths),
        kind=kind,
        types=found,
        rows=tuple(rows) if kind == "parquet" else None,
        separator=separator,
        encoding=encoding,
    )


def _paths(source: Any) -> list[str]:
    if isinstance(source, str | os.PathLike):
        path = pathlib.Path(source)
        paths = _inside(path) if path.exists() else sorted(glob.glob(str(source)))
    else:
        paths = [path for one in source for path in _inside(pathlib.Path(one))]
    missing = [path for path in paths if not os.path.exists(path)]
    if missing or not paths:
        raise FileNotFoundError(f"No row file at {missing[0] if missing else source}.")
    seen: set[str] = set()
    for path in paths:
        place = os.path.realpath(path)
        if place in seen:
            raise ValueError(f"source names {path} twice; its rows would count twice.")
        seen.add(place)
    return paths


def _inside(path: pathlib.Path) -> list[str]:
    """The row files of a folder in the order of their names, or the file itself."""
    if not path.is_dir():
        return [str(path)]
    found = (p for p in path.iterdir() if p.suffix.lower() in ENDINGS)
    return sorted(str(p) for p in found if not p.name.startswith((".", "_")))


def _kind(path: str) -> str:
    ending = pathlib.Path(path).suffix.lower()
    if ending in PARQUET:
        return "parquet"
    if ending in _CSV:
        return "csv"
    raise ValueError(
        f"{path} ends in {ending!r}; row files end in .parquet, .pq, .csv or .tsv."
    )


def _header(path: str, kind: str, separator: str, encoding: str) -> tuple[Any, int]:
    pa = arrow("pyarrow")
    try:
        if kind == "parquet":
            file = arrow("pyarrow.parquet").ParquetFile(path)
            with file:
                return file.schema_arrow, file.metadata.num_rows
        csv = arrow("pyarrow.csv")
        options = csv.ParseOptions(delimiter=separator)
        convert = csv.ConvertOptions(strings_can_be_null=True)
        read = csv.ReadOptions(encoding=encoding)
        with csv.open_csv(path, read, options, convert) as file:
            return file.schema, 0
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{path} is damaged, cut off or no {kind} file: {error}"
        ) from error


def _check_names(path: str, names: Sequence[str], separator: str | None) -> None:
    """Raise if a name stands there twice, or the header is of another separator."""
    for name in names:
        if name and list(names).count(name) > 1:
            raise ValueError(
                f"{path} has more than one column named {name!r}, and it cannot be told "
                f"which is meant; rename or drop the repeats."
            )
    others = [mark for mark in ",;\t|" if mark != separator and mark in names[0]]
    if separator is not None and len(names) == 1 and others:
        raise ValueError(
            f"{path} has the one column {names[0]!r}; its fields seem to be parted by "
            f"{others[0]!r}: name it, separator={others[0]!r} (--separator from the "
            f"shell)."
        )


def _remedy(error: Exception, kind: str) -> str:
    """What to do about rows that cannot be read."""
    if kind == "csv" and ("UTF8" in str(error) or "utf-8" in str(error)):
        return f"It is not in UTF-8: {ENCODING_HINT}"
    return (
        "If a column changes its type, pass types={'column': 'float64'} or 'string'; if "
        "the file was cut off, copy it again."
    )


def _join_types(
    found: dict[str, str], schema: Any, first_path: str, path: str, kind: str
) -> None:
    """Enter a file's column types, or raise where they contradict those before."""
    own = {field.name: str(field.type) for field in schema}
    if not found:
        found |= own
        return
    if set(own) != set(found):
        odd = sorted(set(own) ^ set(found))
        raise ValueError(
            f"{path} and {first_path} have not the same columns: {', '.join(odd)} in one "
            f"of them only."
        )
    for name, kind_here in own.items():
        before = found[name]
        if kind_here == before or kind_here == "null":
            continue
        if before == "null" or (
            kind == "csv" and {before, kind_here} == {"int64", "double"}
        ):
            found[name] = "double" if before != "null" else kind_here
            continue
        raise ValueError(
            f"column {name!r} changes its type: {before} in {first_path} but {kind_here} "
            f"in {path}; write both alike"
            + (", or pass types={...}." if kind == "csv" else ".")
        )


def _type_of(name: str) -> Any:
    """The Arrow type that a text names, with those that Arrow does not read back."""
    pa = arrow("pyarrow")
    special = {
        "double": pa.float64(),
        "float": pa.float32(),
        "halffloat": pa.float16(),
        "date32[day]": pa.date32(),
        "timestamp[s]": pa.timestamp("s"),
        "timestamp[ms]": pa.timestamp("ms"),
        "timestamp[us]": pa.timestamp("us"),
        "timestamp[ns]": pa.timestamp("ns"),
        "time32[s]": pa.time32("s"),
    }
    if name in special:
        return special[name]
    if name.startswith("fixed_size_list<") and name.endswith("]"):
        inner, size = name[len("fixed_size_list<") :].rsplit(">[", 1)
        return pa.list_(_type_of(inner.split(": ", 1)[1]), int(size[:-1]))
    if name.startswith("dictionary<"):
        return pa.string()
    try:
        return pa.type_for_alias(name)
    except ValueError as error:
        raise ValueError(
            f"columns of type {name!r} are not read; write them as numbers or text."
        ) from error
