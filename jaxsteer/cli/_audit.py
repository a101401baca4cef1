"""``jaxsteer audit``: metrics of given predictions or scores, with intervals."""

from __future__ import annotations

import json
import pathlib
from typing import Annotated, Any

import jax
import numpy as np
import pandas as pd
import typer

from jaxsteer import report as pages
from jaxsteer._frames import check_present, missing_column_message
from jaxsteer.audit.metrics import Interval, bootstrap
from jaxsteer.cli._console import (
    collected_warnings,
    console,
    friendly,
    print_warnings,
    simple_table,
)
from jaxsteer.compare import interval_record
from jaxsteer.datasets import Table, read_table, table_from_frame

_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "demographic_parity": "demographic parity gap",
    "equal_opportunity": "equal opportunity gap (TPR)",
    "equalized_odds": "equalized odds gap",
    "tpr_gap": "RMS TPR gap over classes",
    "auc": "AUC",
    "sup_tpr_gap": "largest TPR gap, all thresholds",
    "sup_fpr_gap": "largest FPR gap, all thresholds",
    "sup_dp_gap": "largest acceptance gap, all thresholds",
}
_ON_SCORES = ("auc", "sup_tpr_gap", "sup_fpr_gap", "sup_dp_gap")


@friendly
def audit(
    file: Annotated[pathlib.Path, typer.Argument(help="Rows: CSV or Parquet.")],
    label: Annotated[str, typer.Option(help="Column of the true label.")],
    group: Annotated[
        str, typer.Option(help="Sensitive column, or several joined by commas.")
    ],
    prediction: Annotated[
        str | None, typer.Option(help="Column of predicted labels.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(help="Column of scores of the favorable label.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Scores of at least this are accepted.")
    ] = 0.5,
    positive: Annotated[
        str | None, typer.Option(help="Favorable label; the last one if none.")
    ] = None,
    n_boot: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Write .json or .html too.")
    ] = None,
) -> None:
    """Measure accuracy and gaps between groups, with intervals."""
    if prediction is None and score is None:
        raise ValueError("Give --prediction COLUMN or --score COLUMN, or both.")
    if out is not None and out.suffix not in (".json", ".html"):
        raise ValueError(f"--out {out}: the ending must be .json or .html.")
    with collected_warnings() as notes:
        frame = read_table(file)
        for column, option in ((prediction, "--prediction"), (score, "--score")):
            if column is not None and column not in frame.columns:
                raise ValueError(missing_column_message(column, frame.columns, option))
        table = table_from_frame(frame, label=label, group=group, positive=positive)
        found = measure(
            table,
            frame,
            prediction=prediction,
            score=score,
            threshold=threshold,
            positive=positive,
            n_boot=n_boot,
            seed=seed,
        )
    notes += [
        f"{_TITLES[name]} rests on {int(interval.smallest_cell)} rows only."
        for name, interval in found.items()
        if bool(interval.few)
    ]
    console().print(_rich(found, table))
    print_warnings(notes)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".json":
            out.write_text(_json(found, table, notes), encoding="utf-8")
        else:
            pages.write_report(out, _page(found, table, notes, file.name, seed))
        console().print(f"written to {out}", markup=False)


def measure(
    table: Table,
    frame: pd.DataFrame,
    *,
    prediction: str | None,
    score: str | None,
    threshold: float,
    positive: str | None,
    n_boot: int,
    seed: int,
) -> dict[str, Interval]:
    """Return the intervals of every metric that can be measured."""
    scores = None if score is None else _scores(pd.Series(frame[score]), score, table)
    if prediction is not None:
        predicted = _predictions(
            pd.Series(frame[prediction]), prediction, table, positive
        )
    else:
        assert scores is not None, "the command checks that one of the two is given"
        predicted = (scores >= threshold).astype(np.int32)
    names = [
        name
        for name in _TITLES
        if (scores is not None or name not in _ON_SCORES)
        and (len(table.label_names) == 2 or name != "equal_opportunity")
    ]
    found = bootstrap(
        names,
        table.label,
        predicted,
        table.group,
        score=scores,
        key=jax.random.key(seed),
        n_boot=n_boot,
        n_classes=len(table.label_names),
        n_groups=len(table.group_names),
    )
    return {name: jax.device_get(found[name]) for name in names}


def _scores(column: pd.Series, name: str, table: Table) -> np.ndarray:
    if len(table.label_names) != 2:
        raise ValueError(
            f"--score {name}: the label has {len(table.label_names)} classes, and a "
            "score needs two; name the favorable one with --positive."
        )
    check_present(column, f"score column {name!r}")
    try:
        return column.to_numpy(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"--score {name}: the column must hold numbers, got {column.iloc[0]!r}."
        ) from None


def _predictions(
    column: pd.Series, name: str, table: Table, positive: str | None
) -> np.ndarray:
    check_present(column, f"prediction column {name!r}")
    # A column read from a file may say 1.0 where the label says 1.
    values = [_text(value) for value in column.tolist()]
    index = {_text(label): code for code, label in enumerate(table.label_names)}
    if positive is not None:
        return np.array([index.get(value, 0) for value in values], np.int32)
    unknown = sorted({value for value in values if value not in index})
    if unknown:
        raise ValueError(
            f"--prediction {name}: {', '.join(unknown[:5])} is no value of the label "
            f"{table.label_column!r}, whose values are {', '.join(index)}; for scores "
            "use --score."
        )
    return np.array([index[value] for value in values], np.int32)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _rich(found: dict[str, Interval], table: Table):
    rows = [
        [
            _TITLES[name],
            f"{float(i.value):.3f}",
            f"{float(i.low):.3f} to {float(i.high):.3f}",
            f"{int(i.smallest_cell):,}" + (" few" if bool(i.few) else ""),
        ]
        for name, i in found.items()
    ]
    title = f"{len(table):,} rows, groups {', '.join(map(str, table.group_names))}"
    return simple_table(title, ["metric", "value", "95% interval", "rests on"], rows)


def _json(found: dict[str, Interval], table: Table, notes: list[str]) -> str:
    content = {
        "metrics": {name: interval_record(i) for name, i in found.items()},
        "rows": len(table),
        "label_names": [str(name) for name in table.label_names],
        "group_names": [str(name) for name in table.group_names],
        "counts": table.counts().tolist(),
        "notes": notes,
    }
    return json.dumps(content, indent=1)


def _page(
    found: dict[str, Interval],
    table: Table,
    notes: list[str],
    source: str,
    seed: int,
) -> pages.Report:
    return pages.Report(
        title="Audit of predictions",
        subtitle=f"{source}: {len(table):,} rows.",
        asked=[
            (
                "label",
                f"{table.label_column}: {', '.join(map(str, table.label_names))}",
            ),
            ("group", f"{', '.join(table.group_columns)}"),
        ],
        warnings=notes,
        metrics={_TITLES[name]: interval for name, interval in found.items()},
        counts=table.counts(),
        label_names=table.label_names,
        group_names=table.group_names,
        seed=seed,
    )
