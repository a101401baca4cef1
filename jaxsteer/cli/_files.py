"""Rows and fitted things on disk."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxsteer import storage
from jaxsteer._frames import encode_groups, missing_column_message

_ENDINGS = (".csv", ".csv.gz", ".csv.xz", ".tsv", ".parquet", ".pq")
_MAPS, _ENCODER, _LEARNER = "maps.safetensors", "encoder.skops", "learner.skops"


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
        raise ValueError(
            f"--out {path}: the ending must be one of {', '.join(_ENDINGS)}."
        )


def stem(path: pathlib.Path) -> str:
    """Return the name without the endings that `check_ending` knows."""
    ending = max((e for e in _ENDINGS if path.name.endswith(e)), key=len, default="")
    return path.name[: len(path.name) - len(ending)]


def write_rows(path: pathlib.Path, frame: pd.DataFrame) -> None:
    """Write rows as CSV, TSV or Parquet, by the ending."""
    check_ending(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".parquet", ".pq"):
        frame.to_parquet(path, index=False)
        return
    # The time in a gzip header would make two equal runs differ.
    compression: Any = {".gz": {"method": "gzip", "mtime": 0}, ".xz": "xz"}
    frame.to_csv(
        path,
        index=False,
        sep="\t" if path.suffix == ".tsv" else ",",
        compression=compression.get(path.suffix),
        lineterminator="\n",
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


def save_fitted(folder: pathlib.Path, fitted: Fitted) -> list[tuple[str, str]]:
    """Write the fitted things, and say which file holds what."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (_MAPS, _ENCODER, _LEARNER):
        (folder / name).unlink(missing_ok=True)
    objects = {"steering": fitted.steering, "channel": fitted.channel}
    storage.save(folder / _MAPS, objects, metadata=fitted.metadata)
    storage.save_pipeline(folder / _ENCODER, fitted.encoder)
    files = [
        (f"{folder.name}/{_MAPS}", "maps, kernels and names (safetensors)"),
        (f"{folder.name}/{_ENCODER}", "the fitted encoder (skops, no pickle)"),
    ]
    if fitted.learner is not None:
        storage.save_pipeline(folder / _LEARNER, fitted.learner)
        files.append(
            (f"{folder.name}/{_LEARNER}", "the base learner of the fair score")
        )
    return files


def load_fitted(folder: pathlib.Path) -> Fitted:
    """Read what `save_fitted` wrote.

    Raises:
        FileNotFoundError: If the folder or one of its files is not there.
    """
    if not (folder / _MAPS).is_file():
        raise FileNotFoundError(
            f"{folder} is no folder of fitted maps ({_MAPS} is not in it); give the "
            "folder ending in .maps that jaxsteer steer wrote."
        )
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
    index = {str(name): code for code, name in enumerate(names)}
    unknown = [a for a, name in enumerate(found) if str(name) not in index]
    if unknown:
        rows = np.flatnonzero(np.isin(codes, unknown))
        listed = ", ".join(repr(str(found[a])) for a in unknown[:5])
        raise ValueError(
            f"group: {len(rows)} rows belong to groups that were not there at fit time "
            f"({listed}; the first in row {rows[0]}, counted from 0); known are "
            f"{', '.join(map(str, names))}. Map them to a known group or leave those "
            "rows out."
        )
    lookup = np.array([index[str(name)] for name in found], np.int32)
    return lookup[codes]
