"""``jaxsteer apply``: the fitted maps on new rows, without labels."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxsteer.cli._console import collected_warnings, print_warnings, say
from jaxsteer.cli._files import (
    Fitted,
    fitted_paths,
    load_fitted,
)
from jaxsteer.cli._memory import check_memory
from jaxsteer.cli._outputs import check_ending, check_outputs, stem
from jaxsteer.cli._rows import (
    STREAM,
    Reading,
    distinct_ids,
    group_codes,
)
from jaxsteer.cli._units import steered_columns
from jaxsteer.cli._use import fair_scores, significant, steer_moved
from jaxsteer.cli._writing import write_rows, write_with_columns
from jaxsteer.datasets import TextTable


def apply(
    maps: pathlib.Path,
    file: pathlib.Path,
    *,
    out: pathlib.Path,
    row_id: str | None,
    seed: int | None,
    deterministic: bool,
    force: bool,
    strict: bool,
    reading: Reading,
) -> dict[str, Any]:
    """Run ``jaxsteer apply``, and return what ``--json`` prints."""
    check_ending(out)
    aside = None
    if out != STREAM:
        aside = out.with_name(f"{stem(out)}.quarantine.csv")
    outputs = [out] if aside is None else [out, aside]
    check_outputs(outputs, [file, *fitted_paths(maps)], force=force)
    names, rest = load_fitted(maps)
    if reading.missing is None and names.get("missing") is not None:
        # What meant no value at fit time means none now.
        reading = dataclasses.replace(reading, missing=names["missing"])
    with collected_warnings() as notes:
        check_memory(file)
        source = reading.read(file)
        group, unknown = group_codes(
            source.frame, names["group_columns"], names["group_names"]
        )
        known = np.flatnonzero(group >= 0)
        n_unknown = len(group) - len(known)
        if n_unknown:
            first = int(np.flatnonzero(group < 0)[0])
            said = (
                f"{unknown} {n_unknown:,} rows belong to no group that was there at fit "
                f"time; the first in row {first}, counted from 0."
            )
            if strict:
                raise ValueError(
                    f"{said} Map them to a known group or leave those rows out."
                )
            where = "" if aside is None else f", and listed in {aside.name}"
            notes.append(
                f"{said} They are kept as they are, with empty new columns{where} "
                "(--strict refuses them)."
            )
        row_id = names.get("id_column") if row_id is None else row_id
        ids = None if row_id is None else distinct_ids(source, row_id, notes)[known]
        fitted = rest.result()
        if fitted.steering is None and fitted.score is None:
            raise ValueError(
                f"{maps} holds neither maps of features nor a fair score (sample "
                "weights need labels and cannot be applied to new rows)."
            )
        work = new_columns(
            fitted, source, known, group[known], ids, seed, deterministic
        )
        columns = write_with_columns(out, source, work, known if n_unknown else None)
    if n_unknown and aside is not None:
        rows = np.flatnonzero(group < 0)
        listed = source.written.iloc[rows].copy()
        title = "row"
        while title in listed:
            title += "_"
        listed.insert(0, title, rows)
        write_rows(aside, listed)
    print_warnings(notes)
    say(
        f"{len(group):,} rows and {len(columns)} new columns written to {out}",
        markup=False,
    )
    if deterministic and fitted.certain is not None:
        say(
            "fair_score_approximate is deterministic: the balanced quantiles of the "
            "score, only approximately fair."
        )
    return {
        "rows": len(group),
        "rows_without_a_known_group": n_unknown,
        "columns": columns,
        "out": str(out),
        "notes": notes,
    }


def new_columns(
    fitted: Fitted,
    source: TextTable,
    known: np.ndarray,
    group: np.ndarray,
    ids: np.ndarray | None,
    seed: int | None,
    deterministic: bool,
) -> Callable[[slice], dict[str, np.ndarray]]:
    """Return what makes the new columns of some of the rows whose group is known.

    Args:
        fitted: What ``steer`` kept.
        source: The file.
        known: Those rows, ``[m]``.
        group: Their group codes, ``[m]``.
        ids: Their ids, ``[m]`` text, or None.
        seed: Seed of the draws in place of that of the fit, or None.
        deterministic: Whether to take the deterministic score.
    """
    names = fitted.metadata
    frame = source.frame
    frame = frame if len(known) == len(frame) else frame.iloc[known]
    encoded = fitted.encoder.in_parts(frame)
    draw = int(names["seed"] if seed is None else seed)
    score = fitted.certain if deterministic else fitted.score
    if score is not None and seed is not None:
        # Another draw by the same classifiers of the same folds.
        score._seed = draw

    def work(some: slice) -> dict[str, np.ndarray]:
        columns: dict[str, np.ndarray] = {}
        x = encoded(some)
        mine = x, group[some], x if ids is None else ids[some]
        if fitted.steering is not None:
            moved = names.get("moved", range(x.shape[1]))
            steered = steer_moved(fitted.steering, *mine, moved, seed=draw)
            columns |= steered_columns(
                fitted.encoder,
                fitted.steering,
                x,
                steered,
                group[some],
                len(names["group_names"]),
            )
        if score is not None:
            title = "fair_score_approximate" if deterministic else "fair_score"
            columns[title] = significant(fair_scores(score, *mine))
        return columns

    return work
