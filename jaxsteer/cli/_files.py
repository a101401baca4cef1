"""Rows and fitted things on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import lzma
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from jaxsteer import storage
from jaxsteer._frames import encode_groups, missing_column_message
from jaxsteer._spellings import match_values, unknown_message
from jaxsteer.cli._errors import UsageError
from jaxsteer.cli._signals import check_interrupted
from jaxsteer.datasets import TextTable, read_text_table

_ENDINGS = (".csv", ".csv.gz", ".csv.xz", ".tsv", ".parquet", ".pq")
_MAPS, _ENCODER, _LEARNER = "maps.safetensors", "encoder.skops", "learner.skops"
_MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read the rows of a text file.

    Attributes:
        encoding: The encoding of the text.
        separator: What parts the fields, None to find it in the header.
        missing: Texts that mean no value, None for the usual ones.
    """

    encoding: str = "utf-8"
    separator: str | None = None
    missing: Sequence[str] | None = None

    def read(self, path: pathlib.Path) -> TextTable:
        """Read the rows, typed and as they are written in the file."""
        return read_text_table(
            path,
            encoding=self.encoding,
            separator=self.separator,
            missing=("?",) if self.missing is None else tuple(self.missing),
            usual_missing=self.missing is None,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """What ``jaxsteer steer`` keeps, and ``jaxsteer apply`` needs.

    Attributes:
        steering: A `Steering`, an `AffineMap` (of each group, or one for all), or None.
        channel: A `RocChannel`, or None.
        encoder: The fitted encoder.
        learner: The fitted base learner of the fair score, or None.
        metadata: Names of columns, groups and classes, the method and the seed.
    """

    steering: Any
    channel: Any
    encoder: Any
    learner: Any
    metadata: dict[str, Any]


def check_ending(path: pathlib.Path) -> None:
    """Raise unless rows can be written to a file of that ending."""
    if not path.name.endswith(_ENDINGS):
        raise UsageError(
            f"--out {path}: the ending must be one of {', '.join(_ENDINGS)}."
        )


def stem(path: pathlib.Path) -> str:
    """Return the name without the endings that `check_ending` knows."""
    ending = max((e for e in _ENDINGS if path.name.endswith(e)), key=len, default="")
    return path.name[: len(path.name) - len(ending)]


def check_outputs(
    outputs: Sequence[pathlib.Path], inputs: Sequence[pathlib.Path], *, force: bool
) -> None:
    """Raise if an output is an input, exists already, or is named twice.

    Asked before the work, so that nobody waits for a refusal.
    """
    known = {path.resolve(): path for path in inputs}
    seen: set[pathlib.Path] = set()
    for path in outputs:
        place = path.resolve()
        same = known.get(place) or next(
            (i for i in inputs if path.exists() and i.exists() and path.samefile(i)),
            None,
        )
        if same is not None:
            raise UsageError(
                f"{path} is the input {same}, which is never overwritten; name another "
                "file."
            )
        if place in seen:
            raise UsageError(f"{path} is named for two outputs; name two files.")
        seen.add(place)
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name a file.")
        if path.exists() and not force:
            raise UsageError(
                f"{path} exists already; name another file, or give --force to replace "
                "it."
            )


@contextlib.contextmanager
def output(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Open an output, which takes its name when it is whole and nobody objected."""
    check_interrupted()
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
    """Write rows as CSV, TSV or Parquet, by the ending."""
    check_ending(path)
    with output(path) as file:
        if path.suffix in (".parquet", ".pq"):
            frame.to_parquet(file, index=False)
            return
        with _packed(path.suffix, file) as packed:
            frame.to_csv(
                packed,
                index=False,
                sep="\t" if path.suffix == ".tsv" else ",",
                lineterminator="\n",
                encoding="utf-8",
            )


def _packed(ending: str, file: BinaryIO) -> contextlib.AbstractContextManager[Any]:
    if ending == ".gz":
        # The name and the time in the header would make two equal runs differ.
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
    return (
        lzma.LZMAFile(file, "wb") if ending == ".xz" else contextlib.nullcontext(file)
    )


def with_columns(frame: pd.DataFrame, columns: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return the frame with new columns at its end.

    Raises:
        ValueError: If a column of that name is there already.
    """
    taken = [name for name in columns if name in frame.columns]
    if taken:
        raise ValueError(
            f"The file already has the column {taken[0]!r}, which is one of those to "
            "write; rename or drop it first."
        )
    added = pd.DataFrame(columns, index=frame.index)
    return pd.concat([frame, added], axis=1)


def fitted_paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the files that `save_fitted` may write."""
    return [folder / name for name in (_MAPS, _ENCODER, _LEARNER, _MANIFEST)]


def fitted_files(folder: pathlib.Path, fitted: Fitted) -> list[tuple[str, str]]:
    """Say which file of `save_fitted` holds what."""
    files = [
        (_MAPS, "maps, kernels and names (safetensors)"),
        (_ENCODER, "the fitted encoder (skops, no pickle)"),
        (_LEARNER, "the base learner of the fair score"),
        (_MANIFEST, "hashes that tie these files together"),
    ]
    kept = [f for f in files if f[0] != _LEARNER or fitted.learner is not None]
    return [(f"{folder.name}/{name}", what) for name, what in kept]


def save_fitted(folder: pathlib.Path, fitted: Fitted) -> None:
    """Write the fitted things.

    The manifest with the hashes of the others comes last: until it is there, the folder
    is refused, so files of two runs are never used together.
    """
    folder.mkdir(parents=True, exist_ok=True)
    objects = {"steering": fitted.steering, "channel": fitted.channel}
    check_interrupted()
    storage.save_pipeline(folder / _ENCODER, fitted.encoder)
    names = [_ENCODER, _MAPS]
    if fitted.learner is not None:
        storage.save_pipeline(folder / _LEARNER, fitted.learner)
        names.append(_LEARNER)
    storage.save(folder / _MAPS, objects, metadata=fitted.metadata)
    hashes = {name: storage.file_hash(folder / name) for name in sorted(names)}
    write_text(folder / _MANIFEST, json.dumps({"sha256": hashes}, indent=1) + "\n")
    if fitted.learner is None:
        (folder / _LEARNER).unlink(missing_ok=True)


def load_fitted(folder: pathlib.Path) -> Fitted:
    """Read what `save_fitted` wrote.

    Raises:
        FileNotFoundError: If the folder or one of its files is not there.
        ValueError: If its files are of two runs, or one was changed.
    """
    if not (folder / _MAPS).is_file():
        raise FileNotFoundError(
            f"{folder} is no folder of fitted maps ({_MAPS} is not in it); give the "
            "folder ending in .maps that jaxsteer steer wrote."
        )
    _check_manifest(folder)
    stored = storage.load(folder / _MAPS)
    channel = stored.objects["channel"]
    return Fitted(
        steering=stored.objects["steering"],
        channel=channel,
        encoder=storage.load_pipeline(folder / _ENCODER),
        learner=storage.load_pipeline(folder / _LEARNER)
        if channel is not None
        else None,
        metadata=stored.metadata,
    )


def _check_manifest(folder: pathlib.Path) -> None:
    path = folder / _MANIFEST
    if not path.is_file():
        # A folder of jaxsteer 0.1 has none.
        return
    try:
        hashes = dict(json.loads(path.read_text(encoding="utf-8"))["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"The file {path} is damaged; run steer again.") from error
    for name in (_MAPS, _ENCODER, _LEARNER):
        there = (folder / name).is_file()
        if there != (name in hashes) or (
            there and storage.file_hash(folder / name) != hashes[name]
        ):
            raise ValueError(
                f"The file {folder / name} is not the one that {_MANIFEST} tells of: "
                "the folder mixes two runs, or the file was changed. Run steer again."
            )


def group_codes(
    frame: pd.DataFrame, columns: Sequence[str], names: Sequence[Any]
) -> np.ndarray:
    """Return the codes of known groups, ``[n]`` int32.

    Raises:
        ValueError: If a column is not there, a value is missing, or a group is not one
            of `names`.
    """
    for column in columns:
        if column not in frame.columns:
            raise ValueError(missing_column_message(column, frame.columns, "group"))
    codes, found = encode_groups(frame[list(columns)])
    place, unknown = {}, []
    for code, name in enumerate(found):
        try:
            place[code] = match_values([name], names, "group")[name]
        except ValueError:
            unknown.append(code)
    if unknown:
        rows = np.flatnonzero(np.isin(codes, unknown))
        listed = unknown_message([found[a] for a in unknown], names, "group")
        raise ValueError(
            f"{listed} {len(rows):,} rows belong to such groups, which were not there at "
            f"fit time; the first in row {rows[0]}, counted from 0. Map them to a known "
            "group or leave those rows out."
        )
    lookup = np.array([place[code] for code in range(len(found))], np.int32)
    return lookup[codes]
