"""``jaxsteer audit``: rates and gaps of given decisions or scores, to be checked again."""

from __future__ import annotations

import dataclasses
import json
import math
import operator
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from jaxsteer import storage
from jaxsteer.audit_report import (
    PROFILES,
    audit_document,
    counts_csv,
    recompute_source,
    render_audit,
)
from jaxsteer.cli._audit_rows import Counted, counted_rows
from jaxsteer.cli._console import (
    collected_warnings,
    print_warnings,
    say,
    simple_table,
)
from jaxsteer.cli._errors import GateError, UsageError
from jaxsteer.cli._outputs import check_outputs
from jaxsteer.cli._rows import STREAM, Reading, write_text

TITLES = {
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
#: What a gate may ask for beside: the smallest ratio of a group to the highest one.
_RATIOS = {"impact_ratio": "selection_rate", "scoring_impact_ratio": "scoring_rate"}
_COMPARISONS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of the rows.

    Attributes:
        label: Column of the true label, or None.
        group: Sensitive column, or several joined by commas.
        prediction: Column of decisions, or None.
        score: Column of scores, or None.
        threshold: Scores of at least this are accepted where there are no decisions.
        positive: The favorable label, or None.
        weights: Column of sampling weights, or None.
        bins: Columns of numbers to cut, as ``"age=18,40,65"`` or ``"age=4"``.
        unknown: Texts that stand for an unknown group.
        suppress: Intersections with fewer rows are counted together.
        leave_out_small: Whether categories below 2% have no ratio.
        n_boot: Bootstrap draws for the metrics of the whole table.
        seed: Seed of the draws.
        profile: A key of `PROFILES`, or None.
    """

    label: str | None
    group: str
    prediction: str | None
    score: str | None
    threshold: float
    positive: str | None
    weights: str | None = None
    bins: Sequence[str] = ()
    unknown: Sequence[str] = ()
    suppress: int = 0
    leave_out_small: bool = False
    n_boot: int = 200
    seed: int = 0
    profile: str | None = None

    def check(self) -> None:
        """Raise `UsageError` if the options do not fit together."""
        if self.prediction is None and self.score is None:
            raise UsageError("Give --prediction COLUMN or --score COLUMN, or both.")
        if self.label is not None and self.label in (self.prediction, self.score):
            option = "prediction" if self.label == self.prediction else "score"
            raise UsageError(
                f"--label and --{option} are the same column {self.label!r}, which "
                "agrees with itself; name two columns, or leave --label out."
            )
        if math.isnan(self.threshold):
            raise UsageError("--threshold nan: give a number.")
        if self.n_boot < 1:
            raise UsageError(
                f"--n-boot {self.n_boot}: at least one resample is needed."
            )
        if not 0 <= self.seed < 2**32 - 1:
            raise UsageError(f"--seed {self.seed}: give a number from 0 to 4294967294.")
        if self.suppress < 0:
            raise UsageError(f"--suppress {self.suppress}: give a number of rows.")
        if self.profile is not None and self.profile not in PROFILES:
            raise UsageError(
                f"--profile {self.profile!r} is not known; choose one of "
                f"{', '.join(PROFILES)}."
            )


def audit(
    file: pathlib.Path,
    question: Question,
    *,
    out: pathlib.Path | None,
    fail_if: Sequence[str],
    force: bool,
    strict: bool,
    reading: Reading,
) -> dict[str, Any]:
    """Run ``jaxsteer audit``, and return the document, which ``--json`` prints."""
    question.check()
    if out is not None and out.suffix not in (".json", ".html"):
        raise UsageError(f"--out {out}: the ending must be .json or .html.")
    gates = [_gate(text) for text in fail_if]
    files = {} if out is None else outputs_of(out)
    if files:
        places = [path for name, path in files.items() if name != "recompute"]
        if not _is_ours(files["recompute"]):
            places.append(files["recompute"])
        check_outputs(places, [file], force=force)
    with collected_warnings() as notes:
        frame = reading.read(file, keep_text=False).frame
        counted = counted_rows(frame, question, strict=strict)
        document = make_document(counted, question, file, notes)
    if question.label is None:
        document["notes"].append(
            "Without --label only acceptance rates are compared: error rates need the "
            "true label."
        )
    document["notes"] += _notes_of_few(document)
    measured = measured_values(document)
    unknown = [name for name, _, _ in gates if name not in measured]
    if unknown:
        raise UsageError(
            f"--fail-if: {unknown[0]!r} is not measured here; measured are "
            f"{', '.join(measured)}."
        )
    document["files"] = {name: path.name for name, path in files.items()} or {
        "json": "audit.json",
        "counts": "counts.csv",
    }
    document["titles"] = TITLES
    texts = {}
    if files:
        texts = {"json": _json(document), "counts": counts_csv(counted.cells)}
        texts["recompute"] = recompute_source()
        if "html" in files:
            texts["html"] = render_audit(document)
    # Everything is made before the first file is written.
    for name, text in texts.items():
        write_text(files[name], text)
    say(_rich(document))
    # The first measure's; the others are in the page and in the JSON.
    sets = next(iter(document["measures"].values()), {"sets": ()})["sets"]
    for sentence in document["words"][: len(sets)]:
        say(sentence, markup=False)
    if len(document["words"]) > len(sets):
        say(
            f"{len(document['words']) - len(sets)} more sentences like these are in the "
            "page and in the JSON (--out audit.html)."
        )
    print_warnings(document["notes"])
    if files:
        listed = ", ".join(path.name for path in files.values())
        say(f"written: {listed}", markup=False)
    failed = [
        f"{name} is {measured[name]:.4g}, and --fail-if says {sign} {limit:g}"
        for name, sign, limit in gates
        if _COMPARISONS[sign](measured[name], limit)
    ]
    if failed:
        raise GateError("; ".join(failed) + ".")
    return document


def outputs_of(out: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the files of an audit: its twin, its counts and what recomputes it."""
    files = {"html": out} if out.suffix == ".html" else {}
    files["json"] = out.with_suffix(".json")
    files["counts"] = out.with_name(f"{out.stem}.counts.csv")
    files["recompute"] = out.with_name("recompute.py")
    return files


def make_document(
    counted: Counted, question: Question, file: pathlib.Path, notes: list[str]
) -> dict[str, Any]:
    """Return the document of counted rows."""
    data = {
        "file": "standard input" if file == STREAM else file.name,
        "sha256": "not known" if file == STREAM else storage.file_hash(file),
        "rows": counted.rows,
        "rows_counted": counted.rows_counted,
        "unknown": counted.unknown,
        "excluded": counted.excluded,
    }
    options: dict[str, Any] = dataclasses.asdict(question) | {"draws": 500}
    options |= {name: list(options[name]) for name in ("bins", "unknown")}
    hidden, places = counted.cells.suppressed
    if hidden:
        notes.append(
            f"{hidden:,} rows of {places} intersections with fewer than "
            f"{question.suppress} rows (of a label) are left out of every figure, of the "
            "margins too."
        )
    document = audit_document(
        counted.cells,
        data=data,
        options=options,
        notes=notes,
        profile=question.profile,
    )
    return document | {
        "rows": int(counted.cells.n.sum()),
        "group_names": list(counted.cells.group_names),
        "counts": counted.counts(),
    }


def measured_values(document: dict[str, Any]) -> dict[str, float]:
    """Return what a gate may ask for."""
    values = {name: found["value"] for name, found in document["metrics"].items()}
    for name, measure in _RATIOS.items():
        ratios = [
            row["ratio"]
            for one in document["measures"].get(measure, {"sets": []})["sets"]
            for row in one["rows"]
            if row.get("ratio") is not None
        ]
        if ratios:
            values[name] = min(ratios)
    return values


def _notes_of_few(document: dict[str, Any]) -> list[str]:
    """Say which figures rest on few rows, on some groups only, or are not there."""
    notes, metrics = [], document["metrics"]
    for name, found in metrics.items():
        rows = found["smallest_cell"]
        if found["few"] and rows:
            are = f"{rows} rows" if rows > 1 else "1 row"
            notes.append(f"{TITLES[name]} rests on {are} only.")
        elif found["few"]:
            notes.append(
                f"{TITLES[name]} leaves out the groups without rows of a label that it "
                "needs."
            )
    if "accuracy" in metrics:
        wanted = ["equalized_odds"]
        if document["favorable"] is not None:
            wanted += ["equal_opportunity"]
        if "auc" in metrics:
            wanted += ["sup_tpr_gap", "sup_fpr_gap"]
        gone = [TITLES[name] for name in wanted if name not in metrics]
        if gone:
            notes.append(
                f"Not measured: {', '.join(gone)}. Fewer than two groups have rows of a "
                "label that each needs, so nobody knows whether they are treated alike."
            )
    return notes


def _gate(text: str) -> tuple[str, str, float]:
    """Read a condition such as ``sup_tpr_gap > .1``."""
    match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
    try:
        if match is None or match[1] not in TITLES | _RATIOS:
            raise ValueError
        return match[1], match[2], float(match[3])
    except ValueError:
        raise UsageError(
            f"--fail-if {text!r} must be a metric, a comparison and a number, as "
            f"'sup_tpr_gap > .1'; the metrics are {', '.join(TITLES | _RATIOS)}."
        ) from None


def _is_ours(path: pathlib.Path) -> bool:
    return path.is_file() and path.read_bytes() == recompute_source().encode()


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _rich(document: dict[str, Any]):
    rows = []
    for name, found in document["metrics"].items():
        few = " few" if found["few"] else ""
        chance = found.get("by_chance")
        rows.append(
            [
                TITLES[name],
                f"{found['value']:.3f}",
                f"{found['low']:.3f} to {found['high']:.3f}",
                "" if chance is None else f"{chance:.3f}",
                f"{found['smallest_cell']:,}{few}",
            ]
        )
    groups = document["group_names"]
    shown = ", ".join(groups[:8]) + (", ..." if len(groups) > 8 else "")
    title = f"{document['rows']:,} rows, groups {shown}"
    headings = ["metric", "value", "95% interval", "by chance", "rests on"]
    return simple_table(title, headings, rows)
