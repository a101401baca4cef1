"""Rows and fitted things on disk."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from jaxsteer import storage
from jaxsteer.cli._rows import write_text
from jaxsteer.cli._signals import check_interrupted
from jaxsteer.cli._use import fold_models, stored_score
from jaxsteer.storage._pipeline import load_skops

_MAPS, _ENCODER, _LEARNER = "maps.safetensors", "encoder.skops", "learner.skops"
_MANIFEST = "manifest.json"
# Named, so that nothing else is loaded to know which types are ours.
_ENCODER_TYPE = "jaxsteer.estimators._encoder.TabularEncoder"
#: What the folder holds; another number cannot be read.
FORMAT = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """What ``jaxsteer steer`` keeps, and ``jaxsteer apply`` needs.

    Attributes:
        steering: A `Steering`, an `AffineMap` (of each group, or one for all), or None.
        score: The fitted `FairScore` with the ROC channel, or None.
        certain: The same classifiers with the deterministic map, or None.
        encoder: The fitted encoder.
        metadata: Names of columns, groups and classes, the method and the seed.
    """

    steering: Any
    score: Any
    certain: Any
    encoder: Any
    metadata: dict[str, Any]


def fitted_paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the files that `save_fitted` may write."""
    return [folder / name for name in (_MAPS, _ENCODER, _LEARNER, _MANIFEST)]


def fitted_files(folder: pathlib.Path, fitted: Fitted) -> list[tuple[str, str]]:
    """Say which file of `save_fitted` holds what."""
    files = [
        (_MAPS, "maps, kernels and names (safetensors)"),
        (_ENCODER, "the fitted encoder (skops, no pickle)"),
        (_LEARNER, "the classifiers of the fair score, one for each fold"),
        (_MANIFEST, "hashes that tie these files together"),
    ]
    kept = [f for f in files if f[0] != _LEARNER or fitted.score is not None]
    return [(f"{folder.name}/{name}", what) for name, what in kept]


def save_fitted(
    folder: pathlib.Path, fitted: Fitted, report: pathlib.Path | None = None
) -> None:
    """Write the fitted things, after the page that tells of them.

    The manifest with the hashes of the others comes last: until it is there, the folder
    is refused, so files of two runs are never used together.
    """
    folder.mkdir(parents=True, exist_ok=True)
    objects = {
        "steering": fitted.steering,
        "channel": None if fitted.score is None else fitted.score.channel_,
        "quantiles": None if fitted.certain is None else fitted.certain.channel_,
    }
    check_interrupted()
    storage.save_pipeline(folder / _ENCODER, fitted.encoder)
    names = [_ENCODER, _MAPS]
    if fitted.score is not None:
        storage.save_pipeline(folder / _LEARNER, fold_models(fitted.score))
        names.append(_LEARNER)
    storage.save(folder / _MAPS, objects, metadata=fitted.metadata)
    hashes = {name: storage.file_hash(folder / name) for name in sorted(names)}
    manifest: dict[str, Any] = {"sha256": hashes}
    if report is not None:
        manifest["report"] = {_beside(report, folder): storage.file_hash(report)}
    write_text(folder / _MANIFEST, json.dumps(manifest, indent=1) + "\n")
    if fitted.score is None:
        (folder / _LEARNER).unlink(missing_ok=True)


def _beside(path: pathlib.Path, folder: pathlib.Path) -> str:
    """The path as seen from the folder, so that both can be moved together."""
    try:
        return pathlib.Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


def load_fitted(folder: pathlib.Path) -> tuple[dict[str, Any], Future[Fitted]]:
    """Read what `save_fitted` wrote.

    Returns:
        The metadata, and the rest once it is there: classifiers are loaded aside, while
        rows are read.

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
    metadata = stored.metadata
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"The folder {folder} was written by an earlier version of jaxsteer, whose "
            "scores and units were others; run steer again."
        )
    load_skops()
    pool = ThreadPoolExecutor(1)
    rest = pool.submit(_load_rest, folder, stored)
    pool.shutdown(wait=False)
    return metadata, rest


def _load_rest(folder: pathlib.Path, stored: Any) -> Fitted:
    metadata = stored.metadata
    channel, certain = stored.objects["channel"], stored.objects["quantiles"]
    models = None
    if channel is not None:
        models = storage.load_pipeline(folder / _LEARNER)
    seed = int(metadata["seed"])
    return Fitted(
        steering=stored.objects["steering"],
        score=models and stored_score(channel, "roc", models, seed=seed),
        certain=models and stored_score(certain, "quantiles", models, seed=seed),
        encoder=storage.load_pipeline(folder / _ENCODER, trusted=[_ENCODER_TYPE]),
        metadata=metadata,
    )


def _check_manifest(folder: pathlib.Path) -> None:
    path = folder / _MANIFEST
    if not path.is_file():
        raise ValueError(
            f"The folder {folder} has no {_MANIFEST}: steer was stopped before it was "
            "whole, or the file was lost. Run steer again."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        hashes, pages = dict(manifest["sha256"]), dict(manifest.get("report", {}))
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
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
    for name, digest in pages.items():
        page = folder / str(name)
        # A page may be taken elsewhere, but the one in its place must be its own.
        if page.is_file() and storage.file_hash(page) != digest:
            raise ValueError(
                f"The page {page} is not the one of the run that wrote {folder}: it is "
                "of another run, or was changed. Move it away, or run steer again."
            )
