"""``jaxsteer audit``: metrics of given predictions or scores, with intervals."""

from __future__ import annotations

import json
import operator
import pathlib
import re
from collections.abc import Sequence

import jax
import numpy as np
import pandas as pd

from jaxsteer import report as pages
from jaxsteer._frames import check_present, missing_column_message
from jaxsteer._spellings import match_values
from jaxsteer.audit.metrics import Interval, bootstrap
from jaxsteer.cli._console import (
    collected_warnings,
    print_warnings,
    say,
    simple_table,
)
from jaxsteer.cli._errors import GateError, UsageError
from jaxsteer.cli._files import check_outputs
from jaxsteer.cli._rows import Reading, write_text
from jaxsteer.compare import interval_record
from jaxsteer.datasets import Table, table_from_frame

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


# What needs no true label, and the column of decisions that a threshold makes.
_WITHOUT_LABEL = ("demographic_parity", "sup_dp_gap")
_DECISION = "decision"
_COMPARISONS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def audit(
    file: pathlib.Path,
    *,
    label: str | None,
    group: str,
    prediction: str | None,
    score: str | None,
    threshold: float,
    positive: str | None,
    n_boot: int,
    seed: int,
    out: pathlib.Path | None,
    fail_if: Sequence[str],
    force: bool,
    reading: Reading,
) -> None:
    """Run ``jaxsteer audit``."""
    if prediction is None and score is None:
        raise UsageError("Give --prediction COLUMN or --score COLUMN, or both.")
    if out is not None and out.suffix not in (".json", ".html"):
        raise UsageError(f"--out {out}: the ending must be .json or .html.")
    if n_boot < 1:
        raise UsageError(f"--n-boot {n_boot}: at least one resample is needed.")
    gates = [_gate(text) for text in fail_if]
    if out is not None:
        check_outputs([out], [file], force=force)
    with collected_warnings() as notes:
        frame = reading.read(file).frame
        for column, option in ((prediction, "--prediction"), (score, "--score")):
            if column is not None and column not in frame.columns:
                raise ValueError(missing_column_message(column, frame.columns, option))
        decision = label or prediction
        if decision is None:
            assert score is not None, "asked above"
            accepted = numbers(pd.Series(frame[score]), score) >= threshold
            decision = _DECISION
            while decision in frame:
                decision += "_"
            frame = frame.assign(
                **{decision: np.where(accepted, "accepted", "refused")}
            )
            positive = "accepted"
        table = table_from_frame(
            frame, label=decision, group=group, positive=positive, need_features=False
        )
        found = measure(
            table,
            frame,
            prediction=prediction,
            score=score,
            threshold=threshold,
            n_boot=n_boot,
            seed=seed,
            names=tuple(_TITLES) if label is not None else _WITHOUT_LABEL,
        )
    if label is None:
        notes.append(
            "Without --label only acceptance rates are compared: error rates need the "
            "true label."
        )
    notes += [
        f"{_TITLES[name]} rests on {int(interval.smallest_cell)} rows only."
        for name, interval in found.items()
        if bool(interval.few)
    ]
    unknown = [name for name, _, _ in gates if name not in found]
    if unknown:
        raise UsageError(
            f"--fail-if: {unknown[0]!r} is not measured here; measured are "
            f"{', '.join(found)}."
        )
    if out is not None:
        if out.suffix == ".json":
            write_text(out, _json(found, table, notes))
        else:
            page = _page(found, table, notes, file.name, seed)
            write_text(out, pages.render_report(page))
    say(_rich(found, table))
    print_warnings(notes)
    if out is not None:
        say(f"written to {out}", markup=False)
    failed = [
        f"{name} is {float(found[name].value):.4g}, and --fail-if says {sign} {limit:g}"
        for name, sign, limit in gates
        if _COMPARISONS[sign](float(found[name].value), limit)
    ]
    if failed:
        raise GateError("; ".join(failed) + ".")


def _gate(text: str) -> tuple[str, str, float]:
    """Read a condition such as ``sup_tpr_gap > .1``."""
    match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
    try:
        if match is None or match[1] not in _TITLES:
            raise ValueError
        return match[1], match[2], float(match[3])
    except ValueError:
        raise UsageError(
            f"--fail-if {text!r} must be a metric, a comparison and a number, as "
            f"'sup_tpr_gap > .1'; the metrics are {', '.join(_TITLES)}."
        ) from None


def measure(
    table: Table,
    frame: pd.DataFrame,
    *,
    prediction: str | None,
    score: str | None,
    threshold: float,
    n_boot: int,
    seed: int,
    names: Sequence[str] = tuple(_TITLES),
) -> dict[str, Interval]:
    """Return the intervals of those of the metrics that can be measured."""
    scores = None if score is None else _scores(pd.Series(frame[score]), score, table)
    if prediction is not None:
        predicted = _predictions(
            pd.Series(frame[prediction]),
            prediction,
            table,
            pd.Series(frame[table.label_column]),
        )
    else:
        assert scores is not None, "the command checks that one of the two is given"
        predicted = (scores >= threshold).astype(np.int32)
    measured = [
        name
        for name in names
        if (scores is not None or name not in _ON_SCORES)
        and (len(table.label_names) == 2 or name != "equal_opportunity")
    ]
    found = bootstrap(
        measured,
        table.label,
        predicted,
        table.group,
        score=scores,
        key=jax.random.key(seed),
        n_boot=n_boot,
        n_classes=len(table.label_names),
        n_groups=len(table.group_names),
    )
    return {name: jax.device_get(found[name]) for name in measured}


def _scores(column: pd.Series, name: str, table: Table) -> np.ndarray:
    if len(table.label_names) != 2:
        raise ValueError(
            f"--score {name}: the label has {len(table.label_names)} classes, and a "
            "score needs two; name the favorable one with --positive."
        )
    return numbers(column, name)


def numbers(column: pd.Series, name: str) -> np.ndarray:
    """Return a column of scores as float64 ``[n]``."""
    check_present(column, f"score column {name!r}")
    try:
        return column.to_numpy(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"--score {name}: the column must hold numbers, got {column.iloc[0]!r}."
        ) from None


def _predictions(
    column: pd.Series, name: str, table: Table, truth: pd.Series
) -> np.ndarray:
    """Return the codes of predictions, which are values of the label's own column."""
    check_present(column, f"prediction column {name!r}")
    # With --positive several values of the label share a code: each is compared itself.
    known = truth.drop_duplicates()
    codes = table.label[np.flatnonzero(~truth.duplicated().to_numpy())]
    what = f"--prediction {name} has what is no value of the label {truth.name!r}"
    try:
        places = match_values(column.unique().tolist(), known.tolist(), what)
    except ValueError as error:
        raise ValueError(f"{error} For scores use --score.") from None
    return np.array([codes[places[value]] for value in column.tolist()], np.int32)


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
