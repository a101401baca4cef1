"""``jaxsteer steer``: steered features, sample weights and a fair score for a file."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated, Any

import numpy as np
import typer

from jaxsteer import baselines
from jaxsteer._errors import check_choice
from jaxsteer.cli._console import (
    collected_warnings,
    console,
    friendly,
    print_warnings,
    progress_of,
)
from jaxsteer.cli._files import (
    Fitted,
    check_ending,
    save_fitted,
    stem,
    with_columns,
    write_rows,
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
from jaxsteer.datasets import Table, read_table, table_from_frame
from jaxsteer.estimators import TabularEncoder
from jaxsteer.report import write_report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """Which columns to write."""

    features: bool
    weights: bool
    score: bool


@friendly
def steer(
    file: Annotated[pathlib.Path, typer.Argument(help="Rows: CSV or Parquet.")],
    label: Annotated[str, typer.Option(help="Column of the label.")],
    group: Annotated[
        str, typer.Option(help="Sensitive column, or several joined by commas.")
    ],
    out: Annotated[
        pathlib.Path, typer.Option(help="Where to write the rows (CSV or Parquet).")
    ],
    positive: Annotated[
        str | None, typer.Option(help="Favorable label; the last one if none.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Group that stays; the largest if none.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="One of " + ", ".join(FEATURE_FITS) + ".")
    ] = "affirmative",
    learner: Annotated[
        str, typer.Option(help="Base learner of the fair score: logistic or boosted.")
    ] = "boosted",
    features: Annotated[
        bool, typer.Option("--features", help="Write steered features only.")
    ] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Write sample weights only.")
    ] = False,
    score: Annotated[
        bool, typer.Option("--score", help="Write the fair score only.")
    ] = False,
    drop: Annotated[
        list[str] | None, typer.Option(help="Column that is no feature; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    report: Annotated[
        pathlib.Path | None,
        typer.Option(help="Where to write the page; beside OUT if none."),
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Measure on held-out rows, for the page.")
    ] = True,
) -> None:
    """Write a file's rows with steered features, sample weights and a fair score."""
    check_choice("--method", method, tuple(FEATURE_FITS))
    get_learner(learner)
    check_ending(out)
    report = out.with_name(f"{stem(out)}.report.html") if report is None else report
    with collected_warnings() as notes, progress_of("steering") as tell:
        tell("reading", 0, 4)
        frame = read_table(file)
        table = table_from_frame(
            frame, label=label, group=group, positive=positive, drop=drop or ()
        )
        code = reference_code(table, reference)
        parts = chosen_parts(method, table, features, weights, score, notes)
        tell("fitting", 1, 4)
        columns, fitted, x = fit_columns(
            table, parts, method=method, learner=learner, reference=code, seed=seed
        )
        written = with_columns(frame, columns)
        write_rows(out, written)
        folder = out.with_name(f"{stem(out)}.maps")
        files = [(out.name, f"the {len(frame):,} rows with {len(columns)} new columns")]
        files += save_fitted(folder, fitted)
        tell("measuring on held-out rows" if check else "writing the page", 2, 4)
        page = steer_report(
            table,
            fitted,
            columns,
            x,
            source=file.name,
            files=files,
            notes=notes,
            check=check,
        )
        write_report(report, page)
        tell("done", 4, 4)
    print_warnings(notes)
    out_console = console()
    for name, what in [*files, (report.name, "the page to read")]:
        out_console.print(f"{name}: {what}", markup=False)


def reference_code(table: Table, reference: str | None) -> int:
    """Return the code of the group that stays.

    Raises:
        ValueError: If no group has that name.
    """
    if reference is None:
        return int(np.bincount(table.group).argmax())
    names = [str(name) for name in table.group_names]
    if reference not in names:
        raise ValueError(
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
        raise ValueError(
            f"--features: the method {method!r} steers no features; leave the flag out "
            "or choose another --method."
        )
    if score and not binary:
        raise ValueError(
            f"--score: the label has {len(table.label_names)} classes, and a fair "
            "score needs two; name the favorable one with --positive."
        )
    if features or weights or score:
        return Parts(features=features, weights=weights, score=score)
    if method == "meet" and not binary:
        raise ValueError(
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


def _plain(names: tuple[Any, ...]) -> list[Any]:
    return [n if isinstance(n, str | int | float | bool) else str(n) for n in names]
