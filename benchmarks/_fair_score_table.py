"""The tables of ``bench_fair_scores.py`` in Markdown."""

from __future__ import annotations

from typing import Any

import numpy as np

TITLES = {
    "adult": "Census income, published split, boosted trees, five fold seeds",
    "german": "German credit, five random splits, boosted trees",
    "surgeons": "Surgeons and nurses, five random splits, logistic regression",
    "politicians": "Wikipedia's politicians, five random splits, logistic regression",
}
#: Parts with tables of their own.
LAST = ("six_occupations", "one_at_a_time")


def markdown(figures: dict[str, Any]) -> str:
    """Mean and range over splits or fold seeds."""
    lines: list[str] = []
    for name, title in TITLES.items():
        if name in figures:
            lines += [f"**{title}**", "", *_gaps(figures[name]), ""]
            lines += [*_risks(figures[name]), ""]
    if "six_occupations" in figures:
        lines += ["**Six occupations, ten random splits, 64 bins**", ""]
        lines += [*_classes(figures["six_occupations"]), ""]
    if "one_at_a_time" in figures:
        lines += [_alone(figures["one_at_a_time"]), ""]
    lines.append(
        "Ratio: the larger gap over the larger chance level (mean of 100 shuffles of the "
        "groups within the label), of the same score. In parentheses the number of runs, "
        "in brackets the least and the largest of them. Random answers: means over three "
        "keys. An answer with * is a decision, not a score: its gap is the largest at "
        "the thresholds of its costs alone. Risk: c for a false positive, 1 - c for a "
        "false negative, a mean a row, scores being cut at c. Shrunk: shrinkage='auto', "
        "which FairScore takes where nothing else is said, as MulticlassScore does with "
        "soft counts; the rows without either are exact in sample."
    )
    return "\n".join(lines) + "\n"


def _spread(values: list[float], digits: int = 3) -> str:
    text = f"{np.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" [{min(values):.{digits}f}, {max(values):.{digits}f}]"
    return text


def _names(runs: list[dict]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run))


def _gaps(runs: list[dict]) -> list[str]:
    lines = [
        "| answer | TPR gap | chance | FPR gap | chance | ratio | AUC |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for answer in _names(runs):
        found = [run[answer] for run in runs if answer in run]
        if "auc" not in found[0]:
            continue
        cells = [f"{answer} ({len(found)})"]
        for key in ("tpr", "chance_tpr", "fpr", "chance_fpr", "ratio", "auc"):
            values = [one[key] for one in found]
            digits = 2 if key == "ratio" else 3
            cells.append(
                f"{np.mean(values):.3f}" if "chance" in key else _spread(values, digits)
            )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _risks(runs: list[dict]) -> list[str]:
    costs = list(runs[0]["raw"]["risk"])
    lines = [
        "| answer | "
        + " | ".join(f"risk, c = {c}" for c in costs)
        + " | largest gap |",
        "| --- |" + " ---: |" * (len(costs) + 1),
    ]
    for answer in _names(runs):
        found = [run[answer] for run in runs if answer in run]
        cells = [f"{answer} ({len(found)})"]
        for cost in costs:
            values = [one["risk"][cost] for one in found if cost in one["risk"]]
            cells.append(f"{np.mean(values):.4f}" if values else "")
        cells.append(_spread([one["decision_gap"] for one in found]))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _classes(runs: list[dict]) -> list[str]:
    lines = [
        "| answer | accuracy | largest gap of a confusion entry | chance | ratio |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for answer in _names(runs):
        found = [run[answer] for run in runs]
        cells = [
            _spread([one[key] for one in found], 2 if key == "ratio" else 3)
            for key in ("accuracy", "gap", "chance", "ratio")
        ]
        lines.append("| " + " | ".join([answer, *cells]) + " |")
    return lines


def _alone(found: dict[str, Any]) -> str:
    same = "the same answers as" if found["equal_to_the_batch"] else "NOT as"
    return (
        f"One row a call, {found['rows']:,} calls: {same} one batch (gaps "
        f"{found['gaps_one_at_a_time'][0]:.3f} TPR, "
        f"{found['gaps_one_at_a_time'][1]:.3f} FPR); "
        f"{found['milliseconds_a_call_by_score_and_group']:.3f} ms a call by score and "
        f"group, {found['milliseconds_a_call_by_features']:.3f} ms by "
        f"{found['columns']} features (processor time, the least of fifty blocks)."
    )
