"""``steer_file`` and ``apply_file``: files larger than memory, steered batch by batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxsteer import storage
from jaxsteer._types import PathLike
from jaxsteer.ideal import nearest_ideal
from jaxsteer.ideal._programs import choose
from jaxsteer.moments import MomentState, finish
from jaxsteer.moments._shrinkage import check_shrinkage
from jaxsteer.steering import Steering
from jaxsteer.streaming._encoder import RowEncoder, codes_of, is_wrong, row_encoder
from jaxsteer.streaming._files import ENCODING_HINT, RowFiles, open_files
from jaxsteer.streaming._kept import KEPT_BYTES, keep_columns
from jaxsteer.streaming._pass import MomentPass, run_pass
from jaxsteer.streaming._progress import Meter, Tell
from jaxsteer.streaming._statistics import is_numeric, table_statistics
from jaxsteer.streaming._write import (
    Behind,
    check_maps_file,
    check_output,
    coded,
    columns_writer,
    copies_lines,
)

_KIND = "jaxsteer stream"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SteeredFile:
    """What was fitted, and what was written.

    Attributes:
        steering: The steering, or what was read back.
        encoder: Of the features.
        label_names: Values of the label, in the order of their codes; none after
            :func:`apply_file`.
        group_names: Values of the group, likewise.
        rows: Rows written, all that were read.
        left_out: Rows that did not count in the fit, by reason (see
            :class:`PassState`); the features of those that cannot be steered are
            written as missing.
        columns: Names of the new columns.
    """

    steering: Steering
    encoder: RowEncoder
    label_names: tuple[str, ...]
    group_names: tuple[str, ...]
    rows: int
    left_out: dict[str, int]
    columns: tuple[str, ...]


def steer_file(
    source: PathLike | Sequence[PathLike],
    *,
    label: str,
    group: str,
    out: PathLike,
    maps_file: PathLike | None = None,
    reference: str | None = None,
    maps: str = "shared_covariance",
    intervention: str = "affirmative",
    shrinkage: str | float | None = "oas",
    weight: str | None = None,
    drop: Sequence[str] = (),
    types: dict[str, str] | None = None,
    encoding: str = "utf8",
    separator: str | None = None,
    batch_rows: int = 65_536,
    kept_bytes: int = KEPT_BYTES,
    checkpoint: PathLike | None = None,
    progress: Tell | None = None,
) -> SteeredFile:
    """Steer a file of any size: the rows as they were, and steered features beside them.

    Three passes in constant memory: columns (means, scales, categories), moments of the
    encoded rows, and the writing. A row of text is copied as it stands into text of the
    same separator, whatever its unused columns hold. The columns written are
    ``steered_NAME`` for each encoded feature, and ``sample_weight``, which makes label
    and group independent.

    Args:
        source: As for :func:`open_files`.
        label: Column of the label, with two or more values.
        group: Column of the group.
        out: File to write, ending in .parquet, .pq, .csv or .tsv.
        maps_file: Where to keep the encoder and the maps for :func:`apply_file`; None
            keeps none.
        reference: Group that stays; None for the largest.
        maps: As for :func:`jaxsteer.nearest_ideal`.
        intervention: Likewise.
        shrinkage: As for :func:`jaxsteer.moments.finish`.
        weight: Column of sample weights, or None.
        drop: Columns that are no features.
        types: As for :func:`open_files`.
        encoding: Likewise; lines are copied in it, other output is UTF-8.
        separator: Likewise.
        batch_rows: Rows held at a time.
        kept_bytes: Most bytes of disk, in the folder of `out`, for what the first pass
            over text has read; without, every pass parses the text.
        checkpoint: As for :func:`run_pass`, for the pass that takes moments.
        progress: Called with a :class:`Progress`.

    Returns:
        What was fitted and written.

    Raises:
        FileNotFoundError: If a file is not there.
        ImportError: If pyarrow or safetensors is not installed.
        SolveError: If the solve did not converge.
        ValueError: If files are damaged or do not go together, columns are missing, a
            cell has no rows, or `out` is unusable. Nothing is written then.

    Example:
        ::

            steer_file("rows.csv", label="paid", group="sex", out="steered.csv",
                       maps_file="maps.safetensors")
    """
    # Asked before hours of reading, not after.
    choose(
        None,
        np.float32,
        intervention=intervention,
        maps=maps,
        allow_reflection=False,
        differentiate="none",
    )
    check_shrinkage(shrinkage)
    _check_batch(batch_rows)
    files = open_files(source, types=types, encoding=encoding, separator=separator)
    drop = [drop] if isinstance(drop, str) else drop
    others = [name for name in (label, group, weight) if name is not None]
    if len(set(others)) < len(others):
        raise ValueError(
            f"label={label!r}, group={group!r} and weight={weight!r} must be different "
            f"columns."
        )
    files.check_columns([*others, *drop])
    if weight is not None and not is_numeric(files.types[weight]):
        raise ValueError(
            f"weight={weight!r} is a column of {files.types[weight]}, not of numbers."
        )
    check_output(out, *files.paths)
    check_maps_file(maps_file, out, *files.paths)
    features = [n for n in files.types if n not in (*others, *drop)]
    used = [*features, *others]
    files = _text_columns(files, used, types)
    with keep_columns(files, used, beside=out, limit=kept_bytes) as files:
        statistics = table_statistics(
            files,
            [*features, label, group],
            batch_rows=batch_rows,
            as_values=(label, group),
            progress=progress,
        )
        if not statistics.rows:
            raise ValueError(f"{files.paths[0]} has no rows below its header.")
        copied = copies_lines(out, files, statistics.rows)
        encoder = row_encoder(statistics, features)
        columns = _new_columns(files, encoder, weights=True)
        if reference is not None:
            _code(statistics.names([group]), reference)
        job = MomentPass(
            files=files,
            encoder=encoder,
            label=label,
            label_names=statistics.names([label]),
            group=group,
            group_names=statistics.names([group]),
            weight=weight,
            batch_rows=batch_rows,
            piece_rows=4 * batch_rows,
        )
        before = files.fingerprint()
        state = run_pass(job, checkpoint=checkpoint, progress=progress)
        if sum(state.left_out.values()) >= state.rows:
            raise ValueError(
                f"no row of {files.paths[0]} counts; left out for their: "
                f"{', '.join(f'{r} {n}' for r, n in state.left_out.items() if n)}."
            )
        population = finish(_on_device(state.moments), shrinkage=shrinkage)
        code = int(np.asarray(population.priors).sum(0).argmax())
        if reference is not None:
            code = _code(job.group_names, reference)
        steering = nearest_ideal(
            population, maps=maps, intervention=intervention, reference=code
        ).require()
        steering = jax.tree.map(np.asarray, steering)
        table = _balancing(np.asarray(population.priors))
        meter = Meter("writing rows", progress, files.total)
        with (
            columns_writer(out, files, columns, copied=copied) as write,
            Behind(write) as later,
        ):
            for batch in files.batches(job.columns if copied else None, batch_rows):
                x, y, a, _, why = job.read(batch.table)
                steered = _steered(steering, x, a, batch_rows)
                weights = coded(np.where(why > 0, -1, y * table.shape[1] + a), table)
                later.put(batch, [*steered, weights])
                meter.add(batch.table.num_rows)
            if meter.rows != state.rows or files.fingerprint() != before:
                raise ValueError(
                    f"{files.paths[0]}: {meter.rows} rows in the last pass and "
                    f"{state.rows} before; the files changed in the meantime."
                )
        meter.now()
    if maps_file is not None:
        storage.save(
            maps_file,
            {"steering": steering},
            metadata={
                "kind": _KIND,
                "encoder": encoder.to_json(),
                "group": group,
                "group_names": list(job.group_names),
                "label": label,
                "label_names": list(job.label_names),
                "reference": job.group_names[code],
            },
        )
    return SteeredFile(
        steering=steering,
        encoder=encoder,
        label_names=job.label_names,
        group_names=job.group_names,
        rows=meter.rows,
        left_out=state.left_out,
        columns=tuple(columns),
    )


def apply_file(
    maps_file: PathLike,
    source: PathLike | Sequence[PathLike],
    *,
    out: PathLike,
    types: dict[str, str] | None = None,
    encoding: str = "utf8",
    separator: str | None = None,
    batch_rows: int = 65_536,
    progress: Tell | None = None,
) -> SteeredFile:
    """Steer new rows, without labels, by the maps that :func:`steer_file` kept.

    Args:
        maps_file: The file that it wrote.
        source: As for :func:`open_files`.
        out: File to write.
        types: As for :func:`open_files`.
        encoding: Likewise; lines are copied in it, other output is UTF-8.
        separator: Likewise.
        batch_rows: Rows held at a time.
        progress: Called with a :class:`Progress`.

    Returns:
        What was read back, and what was written. Rows of an unknown group or with
        infinite features are written with missing steered features, and counted in
        `left_out`; missing features are filled as in the fit.

    Raises:
        ValueError: If `maps_file` is no such file, or as :func:`steer_file`.

    Example:
        ::

            apply_file("maps.safetensors", "tomorrow.csv", out="steered.csv")
    """
    _check_batch(batch_rows)
    stored = storage.load(maps_file)
    known = stored.metadata
    if known.get("kind") != _KIND:
        raise ValueError(
            f"maps_file={str(maps_file)!r} was not written by steer_file; the maps of "
            f"the command line are applied by 'jaxsteer apply'."
        )
    encoder = RowEncoder.from_json(known["encoder"])
    files = open_files(source, types=types, encoding=encoding, separator=separator)
    used = [*encoder.columns, known["group"]]
    files.check_columns(used)
    check_output(out, *files.paths, maps_file)
    files = _text_columns(files, used, types)
    copied = copies_lines(out, files)
    steering = stored["steering"]
    columns = _new_columns(files, encoder, weights=False)
    left_out = {"group": 0, "features": 0}
    meter = Meter("writing rows", progress, files.total)
    with (
        columns_writer(out, files, columns, copied=copied) as write,
        Behind(write) as later,
    ):
        for batch in files.batches(used if copied else None, batch_rows):
            x = encoder(batch.table)
            a = codes_of(batch.table.column(known["group"]), known["group_names"])
            wrong = is_wrong(x)
            left_out["group"] += int((a < 0).sum())
            left_out["features"] += int((wrong & (a >= 0)).sum())
            later.put(batch, list(_steered(steering, x, a, batch_rows)))
            meter.add(batch.table.num_rows)
    meter.now()
    return SteeredFile(
        steering=steering,
        encoder=encoder,
        label_names=(),
        group_names=tuple(known["group_names"]),
        rows=meter.rows,
        left_out=left_out,
        columns=tuple(columns),
    )


def _check_batch(batch_rows: Any) -> None:
    if not isinstance(batch_rows, int | np.integer) or batch_rows < 1:
        raise ValueError(f"batch_rows={batch_rows!r} must be a whole number above 0.")


def _text_columns(
    files: RowFiles, used: Sequence[str], types: dict[str, str] | None
) -> RowFiles:
    """Files of text whose unused columns stay text: 007 names another person than 7."""
    if files.kind != "csv":
        return files
    kept = dict(files.types)
    for name, kind in files.types.items():
        if name in (types or {}):
            continue
        if name not in used:
            kept[name] = "string"
        elif kind == "binary":
            raise ValueError(
                f"column {name!r} of {files.paths[0]} is not in UTF-8: {ENCODING_HINT}"
            )
    return dataclasses.replace(files, types=kept)


def _on_device(state: MomentState) -> MomentState:
    return jax.tree.map(jax.numpy.asarray, state)


def _code(names: Sequence[str], reference: str) -> int:
    if str(reference) not in names:
        raise ValueError(
            f"reference={reference!r} is no group; the groups are {', '.join(names)}."
        )
    return list(names).index(str(reference))


def _balancing(priors: np.ndarray) -> np.ndarray:
    """Weights by cell that make class and group independent, ``[K, G]``."""
    dtype, priors = priors.dtype, priors.astype(np.float64)
    table = priors.sum(1, keepdims=True) * priors.sum(0, keepdims=True) / priors
    return table.astype(dtype)  # more digits would say nothing


def _new_columns(files: RowFiles, encoder: RowEncoder, *, weights: bool) -> list[str]:
    names = [f"steered_{name}" for name in encoder.names]
    names += ["sample_weight"] * weights
    taken = [name for name in names if name in files.types]
    if taken:
        raise ValueError(
            f"{files.paths[0]} has a column {taken[0]!r} already, which is one of those "
            f"to write; rename or drop it first."
        )
    return names


@jax.jit
def _move(steering: Steering, x: Any, group: Any) -> Any:
    # Columns, each in one piece, as they are written.
    return steering.transport(x, group).T


def _steered(
    steering: Steering, x: np.ndarray, group: np.ndarray, length: int
) -> np.ndarray:
    """Steer a batch, filled up to one length so that one program serves all.

    Returns:
        ``[d, n]``, NaN for rows of no group or with a feature that is not finite.
    """
    n, missing = len(x), length - len(x)
    wrong = (group < 0) | is_wrong(x)
    some = bool(wrong.any())
    if some:
        x, group = np.nan_to_num(x), np.maximum(group, 0)
    if missing:
        x, group = np.pad(x, ((0, missing), (0, 0))), np.pad(group, (0, missing))
    steered = np.asarray(_move(steering, x, group))[:, :n]
    return np.where(wrong, np.nan, steered) if some else steered
