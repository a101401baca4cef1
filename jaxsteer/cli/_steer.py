"""``jaxsteer steer``: steered features, sample weights and a fair score for a file."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Iterator, Sequence
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
    Fitted,
    Reading,
    check_ending,
    check_outputs,
    fitted_files,
    fitted_paths,
    save_fitted,
    stem,
    with_columns,
    write_rows,
    write_text,
)
from jaxsteer.cli._fit import (
    FEATURE_FITS,
    fair_scores,
    fit_features,
    fit_score,
    steer_features,
    steered_names,
)
from jaxsteer.cli._steer_report import steer_report
from jaxsteer.compare import get_learner
from jaxsteer.datasets import Table, table_from_frame
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
    weights: bool,
    score: bool,
    drop: Sequence[str],
    seed: int,
    report: pathlib.Path | None,
    check: bool,
    force: bool,
    reading: Reading,
) -> None:
    """Run ``jaxsteer steer``."""
    with as_usage():
        check_choice("--method", method, tuple(FEATURE_FITS))
        get_learner(learner)
    check_ending(out)
    report = out.with_name(f"{stem(out)}.report.html") if report is None else report
    folder = out.with_name(f"{stem(out)}.maps")
    check_outputs([out, report, *fitted_paths(folder)], [file], force=force)
    with collected_warnings() as notes, progress_of("steering") as tell:
        tell("reading", 0, 4)
        source = reading.read(file)
        frame = source.frame
        table = table_from_frame(
            frame, label=label, group=group, positive=positive, drop=drop
        )
        code = reference_code(table, reference)
        parts = chosen_parts(method, table, features, weights, score, notes)
        tell("fitting", 1, 4)
        if parts.features or parts.score:
            notes += row_number_notes(table)
        with by_name(table):
            columns, fitted, x = fit_columns(
                table, parts, method=method, learner=learner, reference=code, seed=seed
            )
        written = with_columns(source.written, columns)
        tell("measuring on held-out rows" if check else "making the page", 2, 4)
        files = [(out.name, f"the {len(frame):,} rows with {len(columns)} new columns")]
        files += fitted_files(folder, fitted)
        page = render_report(
            steer_report(
                table,
                fitted,
                columns,
                x,
                source=file.name,
                files=files,
                notes=notes,
                check=check,
            )
        )
        # Everything is made before the first file is written.
        tell("writing", 3, 4)
        write_rows(out, written)
        save_fitted(folder, fitted)
        write_text(report, page)
        tell("done", 4, 4)
    print_warnings(notes)
    for name, what in [*files, (report.name, "the page to read")]:
        say(f"{name}: {what}", markup=False)


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
    weights: bool,
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
    if features or weights or score:
        return Parts(features=features, weights=weights, score=score)
    if method == "meet" and not binary:
        raise UsageError(
            f"--method meet: the label has {len(table.label_names)} classes, and the "
            "ROC channel needs two; name the favorable one with --positive."
        )
    if not binary and method != "reweigh":
        notes.append(
            f"The label has {len(table.label_names)} classes: no fair_score is written "
            "(it needs two; --positive VALUE makes it so)."
        )
    return Parts(
        features=steers,
        weights=method != "meet",
        score=binary and method != "reweigh",
    )


def fit_columns(
    table: Table,
    parts: Parts,
    *,
    method: str,
    learner: str,
    reference: int,
    seed: int,
) -> tuple[dict[str, np.ndarray], Fitted, np.ndarray]:
    """Fit on all rows; return the new columns, what to keep, and encoded features."""
    encoder = TabularEncoder()
    x = np.asarray(encoder.fit_transform(table.features))
    names = [str(name) for name in encoder.get_feature_names_out()]
    columns: dict[str, Any] = {}
    steering = channel = model = None
    if parts.features:
        steering = fit_features(
            method,
            x,
            table.label,
            table.group,
            reference=reference,
            n_groups=len(table.group_names),
        )
        steered = steer_features(steering, x, table.group, seed=seed)
        titles = steered_names(steered.shape[1], names)
        columns |= dict(zip(titles, steered.T, strict=True))
    if parts.weights:
        columns["sample_weight"] = np.asarray(
            baselines.reweighing(table.label, table.group)
        )
    if parts.score:
        channel, model, held_out = fit_score(
            learner, x, table.label, table.group, seed=seed
        )
        columns["fair_score"] = fair_scores(channel, held_out, table.group, seed=seed)
    metadata = {
        "kind": "jaxsteer steer",
        "method": method,
        "learner": learner,
        "seed": seed,
        "reference": reference,
        "label_column": table.label_column,
        "label_names": _plain(table.label_names),
        "group_columns": list(table.group_columns),
        "group_names": _plain(table.group_names),
        "feature_names": names,
        "columns": list(columns),
    }
    fitted = Fitted(
        steering=steering,
        channel=channel,
        encoder=encoder,
        learner=model,
        metadata=metadata,
    )
    return columns, fitted, x


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
def by_name(table: Table) -> Iterator[None]:
    """Put the names of classes and groups for their codes in an error's text."""

    def cell(match: re.Match) -> str:
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
