"""``jaxsteer steer``: steered features, sample weights and a fair score for a file."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxsteer import baselines
from jaxsteer._errors import check_choice
from jaxsteer.cli._console import (
    collected_warnings,
    print_warnings,
    progress_of,
    say,
)
from jaxsteer.cli._errors import UsageError, as_usage
from jaxsteer.cli._files import (
    FORMAT,
    Fitted,
    fitted_files,
    fitted_paths,
    save_fitted,
)
from jaxsteer.cli._fit import (
    FEATURE_FITS,
    FORMER_NAMES,
    fit_features,
    fit_score,
    moved_columns,
)
from jaxsteer.cli._memory import check_memory
from jaxsteer.cli._outputs import check_ending, check_outputs, stem
from jaxsteer.cli._rows import (
    STREAM,
    Reading,
    canonical_order,
    distinct_ids,
    write_text,
)
from jaxsteer.cli._steer_report import name_columns, steer_report
from jaxsteer.cli._units import steered_columns
from jaxsteer.cli._use import in_parts, significant, steer_moved
from jaxsteer.cli._verified import verification_json, verification_note, verified
from jaxsteer.cli._writing import check_names, write_with_columns
from jaxsteer.compare import get_learner
from jaxsteer.datasets import Table, stratified_split, table_from_frame
from jaxsteer.estimators import TabularEncoder
from jaxsteer.report import render_report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """Which columns to write."""

    features: bool
    weights: bool
    score: bool


def steer(
    file: pathlib.Path,
    *,
    label: str,
    group: str,
    out: pathlib.Path,
    positive: str | None,
    reference: str | None,
    method: str,
    learner: str,
    features: bool,
    sample_weights: bool,
    score: bool,
    drop: Sequence[str],
    row_id: str | None,
    weights: str | None,
    seed: int,
    maps: pathlib.Path | None,
    report: pathlib.Path | None,
    check: bool,
    force: bool,
    strict: bool,
    reading: Reading,
    suppress: int = 0,
) -> dict[str, Any]:
    """Run ``jaxsteer steer``, and return what ``--json`` prints."""
    if suppress < 0:
        raise UsageError(f"--suppress {suppress}: give a number of rows.")
    with as_usage():
        method = FORMER_NAMES.get(method, method)
        check_choice("--method", method, tuple(FEATURE_FITS))
        get_learner(learner)
    check_ending(out)
    beside = pathlib.Path("steered.csv") if out == STREAM else out
    report = (
        beside.with_name(f"{stem(beside)}.report.html") if report is None else report
    )
    folder = beside.with_name(f"{stem(beside)}.maps") if maps is None else maps
    check_outputs([out, report, *fitted_paths(folder)], [file], force=force)
    with collected_warnings() as notes, progress_of("steering") as tell:
        tell("reading", 0, 4)
        check_memory(file)
        source = reading.read(file)
        frame = source.frame
        n_rows = len(frame)
        ids = None if row_id is None else distinct_ids(source, row_id, notes)
        left_out = [*drop, row_id] if row_id is not None else drop
        known = without_unknown_groups(frame, group, strict, notes)
        table = table_from_frame(
            frame if known is None else frame.iloc[known],
            label=label,
            group=group,
            positive=positive,
            drop=left_out,
            weights=weights,
        )
        code = reference_code(table, reference)
        parts = chosen_parts(method, table, features, sample_weights, score, notes)
        tell("fitting", 1, 4)
        if parts.features or parts.score:
            notes += row_number_notes(table)
        order = canonical_order(source, known)
        mine = ids if ids is None or known is None else ids[known]
        table = _in_order(table, order)
        # What is not needed any more is as large as all that is still to be made.
        source = dataclasses.replace(source, frame=pd.DataFrame())
        source.forget()
        del frame
        with by_name(table):
            made = fit_columns(
                table,
                parts,
                method=method,
                learner=learner,
                reference=code,
                ids=None if mine is None else mine[order],
                seed=seed,
            )
        notes += verification_note(made.verification)
        name_columns(notes, made.fitted.metadata["feature_names"])
        made.fitted.metadata.update(
            id_column=row_id,
            weights_column=weights,
            missing=None if reading.missing is None else list(reading.missing),
        )
        names = list(made.columns)
        columns = {}
        for name in names:
            columns[name] = _back(made.columns[name], order)
            if name != "sample_weight":
                # Their names are all that the page needs.
                made.columns[name] = np.empty(0)
        check_names(columns, source.names)
        tell("measuring on held-out rows" if check else "making the page", 2, 4)
        files = [
            (
                "standard output" if out == STREAM else out.name,
                f"the {n_rows:,} rows with {len(names)} new "
                f"column{'s' if len(names) > 1 else ''}",
            )
        ]
        files += fitted_files(folder, made.fitted)
        page = render_report(
            steer_report(
                table,
                made,
                source=file.name,
                files=files,
                notes=notes,
                check=check,
                suppress=suppress,
            )
        )
        # Everything is made before the first file is written.
        tell("writing", 3, 4)
        write_with_columns(
            out, source, lambda some: {k: v[some] for k, v in columns.items()}, known
        )
        write_text(report, page)
        save_fitted(folder, made.fitted, report)
        tell("done", 4, 4)
    print_warnings(notes)
    files.append((report.name, "the page to read"))
    for name, what in files:
        say(f"{name}: {what}", markup=False)
    if made.verification is not None:
        say(str(made.verification), markup=False)
    return {
        "rows": n_rows,
        "rows_without_a_group": 0 if known is None else n_rows - len(known),
        "columns": names,
        "out": str(out),
        "maps": str(folder),
        "report": str(report),
        "verified": verification_json(made.verification),
        "notes": notes,
    }


def without_unknown_groups(
    frame: pd.DataFrame, group: str, strict: bool, notes: list[str]
) -> np.ndarray | None:
    """Return the rows that have a group, None if all have; say how many have none."""
    names = [group] if group in frame.columns else [c.strip() for c in group.split(",")]
    if not all(name in frame.columns for name in names):
        return None
    some: Any = frame[names]
    present = some.notna().all(axis=1).to_numpy()
    if present.all() or strict or not present.any():
        return None
    rows = np.flatnonzero(~present)
    notes.append(
        f"{len(rows):,} rows have no group in {', '.join(map(repr, names))}, the first is "
        f"row {rows[0]}, counted from 0: they are kept as they are, with empty new "
        "columns, and nothing is fitted to them (--strict refuses them)."
    )
    return np.flatnonzero(present)


def _in_order(table: Table, order: np.ndarray) -> Table:
    """Return the rows in an order that is not that of the file, split anew."""
    taken = table.take(order)
    train = stratified_split(taken.label, taken.group)
    return dataclasses.replace(taken, train=train)


def _back(values: Any, order: np.ndarray) -> Any:
    """Return the values of ordered rows in the order of the file."""
    out = np.empty(len(order), np.asarray(values).dtype)
    out[order] = values
    return out


def reference_code(table: Table, reference: str | None) -> int:
    """Return the code of the group that stays.

    Raises:
        UsageError: If no group has that name.
    """
    if reference is None:
        return int(np.bincount(table.group).argmax())
    names = [str(name) for name in table.group_names]
    if reference not in names:
        raise UsageError(
            f"--reference {reference!r} is no group; the groups are {', '.join(names)}."
        )
    return names.index(reference)


def chosen_parts(
    method: str,
    table: Table,
    features: bool,
    sample_weights: bool,
    score: bool,
    notes: list[str],
) -> Parts:
    """Return which columns to write: those asked for, else what the method makes."""
    binary = len(table.label_names) == 2
    steers = FEATURE_FITS[method] is not None
    if features and not steers:
        raise UsageError(
            f"--features: the method {method!r} steers no features; leave the flag out "
            "or choose another --method."
        )
    if score and not binary:
        raise UsageError(
            f"--score: the label has {len(table.label_names)} classes, and a fair "
            "score needs two; name the favorable one with --positive."
        )
    if features or sample_weights or score:
        return Parts(features=features, weights=sample_weights, score=score)
    if method == "roc_channel" and not binary:
        raise UsageError(
            f"--method roc_channel: the label has {len(table.label_names)} classes, and "
            "the channel needs two; name the favorable one with --positive."
        )
    if not binary and method != "reweigh":
        notes.append(
            f"The label has {len(table.label_names)} classes: no fair_score is written "
            "(it needs two; --positive VALUE makes it so)."
        )
    return Parts(
        features=steers,
        weights=method != "roc_channel",
        score=binary and method != "reweigh",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """What was made of a table.

    Attributes:
        columns: The new columns, ``[n]`` each.
        fitted: What to keep for ``jaxsteer apply``.
        x: ``[n, d]`` encoded rows.
        steered: ``[n, m]`` the same steered, None where no features are.
        verification: What was found when the maps' promises were checked anew, None
            where nothing is promised of them.
    """

    columns: dict[str, Any]
    fitted: Fitted
    x: np.ndarray
    steered: np.ndarray | None
    verification: Any


def fit_columns(
    table: Table,
    parts: Parts,
    *,
    method: str,
    learner: str,
    reference: int,
    ids: np.ndarray | None,
    seed: int,
) -> Made:
    """Fit on all rows; return the new columns and what to keep."""
    encoder = TabularEncoder()
    x = np.asarray(encoder.fit_transform(table.features))
    names = [str(name) for name in encoder.get_feature_names_out()]
    rows = x if ids is None else ids
    columns: dict[str, Any] = {}
    steering = score = certain = steered = None
    moved = list(range(x.shape[1]))
    if parts.features:
        moved = moved_columns(method, encoder)
        steering = fit_features(
            method,
            x[:, moved] if moved else x,
            table.label,
            table.group,
            reference=reference,
            n_groups=len(table.group_names),
            weights=table.weights,
        )
        n_groups = len(table.group_names)

        def work(some: slice) -> dict[str, np.ndarray]:
            mine = x[some], table.group[some]
            part = steer_moved(steering, *mine, rows[some], moved, seed=seed)
            found = steered_columns(encoder, steering, mine[0], part, mine[1], n_groups)
            # No column has an empty name; the picture needs no more digits.
            return {"": part.astype(np.float32), **found}

        columns |= in_parts(work, len(x))
        steered = columns.pop("")
    if parts.weights:
        columns["sample_weight"] = np.asarray(
            baselines.reweighing(table.label, table.group, weights=table.weights)
        )
    if parts.score:
        score, certain = fit_score(
            learner,
            x,
            table.label,
            table.group,
            rows,
            seed=seed,
            weights=table.weights,
        )
        columns["fair_score"] = significant(score.fair_training_score_)
    metadata = {
        "kind": "jaxsteer steer",
        "format": FORMAT,
        "method": method,
        "learner": learner,
        "seed": seed,
        "reference": reference,
        "label_column": table.label_column,
        "label_names": _plain(table.label_names),
        "group_columns": list(table.group_columns),
        "group_names": _plain(table.group_names),
        "feature_names": names,
        "moved": moved,
        "columns": list(columns),
    }
    fitted = Fitted(
        steering=steering,
        score=score,
        certain=certain,
        encoder=encoder,
        metadata=metadata,
    )
    return Made(
        columns=columns,
        fitted=fitted,
        x=x,
        steered=steered,
        verification=verified(steering),
    )


def row_number_notes(table: Table) -> list[str]:
    """Name the features that count the rows, as a number of a customer may."""
    found = []
    for name in table.features:
        column = pd.Series(table.features[name])
        if pd.api.types.is_integer_dtype(column.dtype) and not bool(
            column.isna().any()
        ):
            values = column.to_numpy(np.int64)
            is_count = values.max() - values.min() == len(values) - 1
            if is_count and len(values) > 2 and len(np.unique(values)) == len(values):
                found.append(repr(str(name)))
    if not found:
        return []
    return [
        f"{', '.join(found)}: whole numbers without a gap or repeat, as numbers of rows "
        "are, and steered like any other feature; leave them out with --drop."
    ]


@contextlib.contextmanager
def by_name(table: Table) -> Generator[None]:
    """Put the names of classes and groups for their codes in an error's text."""

    def cell(match: re.Match[str]) -> str:
        label, group = (int(code) for code in match.groups())
        if label >= len(table.label_names) or group >= len(table.group_names):
            return match[0]
        return f"({table.label_names[label]} in {table.group_names[group]})"

    try:
        yield
    except ValueError as error:
        text = re.sub(r"\(class (\d+), group (\d+)\)", cell, str(error))
        raise type(error)(text) from error


def _plain(names: tuple[Any, ...]) -> list[Any]:
    return [n if isinstance(n, str | int | float | bool) else str(n) for n in names]
