"""The page of ``jaxsteer steer``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsteer import report as pages
from jaxsteer.cli._figures import comparison_figures, maps_figure, solve_facts
from jaxsteer.cli._files import Fitted
from jaxsteer.cli._fit import COMPARED_AS, LEAVE_DISCRETE
from jaxsteer.compare import Comparison, compare, split_table
from jaxsteer.datasets import Table

_LISTED = 12


def steer_report(
    table: Table,
    made: Any,
    *,
    source: str,
    files: list[tuple[str, str]],
    notes: list[str],
    check: bool,
    suppress: int = 0,
) -> pages.Report:
    """Return the page: choices, warnings, a held-out check, pictures and promises.

    Of cells with fewer rows than `suppress` no count is shown, and no picture is drawn.
    """
    fitted: Fitted = made.fitted
    columns = made.columns
    names = fitted.metadata
    counts = table.counts()
    held_out = _held_out(table, fitted, notes) if check else None
    warnings = list(notes)
    warnings += sample_warnings(counts, table, suppress)
    warnings += _discrete_warning(fitted)
    figures: list[tuple[str, Any]] = []
    pictures = not pages.hidden_cells(counts, suppress).any()
    if not pictures:
        warnings.append(
            f"Cells of fewer than {suppress} rows are hidden, and there are no pictures: "
            "curves of so few rows would show the rows."
        )
    if held_out is not None and pictures:
        figures += comparison_figures(held_out, names["learner"])
    if made.steered is not None and pictures:
        figure = maps_figure(
            made.x,
            made.steered,
            table.group,
            reference=names["reference"],
            feature_names=names["feature_names"],
            weights=columns.get("sample_weight"),
        )
        figures += [figure] if figure is not None else []
    return pages.Report(
        title="Steered rows",
        subtitle=f"{source}: {len(table):,} rows, {table.features.shape[1]} columns.",
        summary=summary(table, columns, names, held_out),
        asked=[
            ("label", _label_text(table)),
            ("group", f"{', '.join(table.group_columns)}: {_join(table.group_names)}"),
            ("group that stays", str(table.group_names[names["reference"]])),
            ("method", names["method"]),
            ("base learner of the fair score", names["learner"]),
            ("columns written", _columns_text(columns)),
        ],
        warnings=warnings,
        comparisons=[("Measured on held-out rows", held_out)] if held_out else [],
        figures=figures,
        solve=solve_facts(
            fitted.steering,
            None if fitted.score is None else fitted.score.channel_,
            made.verification,
        ),
        counts=counts,
        label_names=table.label_names,
        group_names=table.group_names,
        encoding=[_without_few(c, suppress) for c in fitted.encoder.describe()],
        promises=_promises(columns),
        files=files,
        seed=names["seed"],
        attribution=table.attribution,
        suppress=suppress,
    )


def summary(
    table: Table,
    columns: dict[str, np.ndarray],
    names: dict[str, Any],
    held_out: Comparison | None,
) -> list[str]:
    """Say in plain words what was done, to whom, what it costs and does not promise."""
    stays = str(table.group_names[names["reference"]])
    others = [str(name) for name in table.group_names if str(name) != stays]
    done = []
    steered = any(name.startswith("steered_") for name in columns)
    if steered and not names["moved"]:
        done.append("no feature was moved, as every column has few distinct values")
    elif steered:
        moved = f"the features of {_join(tuple(others[:8]))} were moved so that "
        moved += "the classes stand to each other as those of " + stays + " do"
        if names["method"] in ("all_groups", "gaussian_channel", "leace"):
            moved = "the features of every group were moved to a common ground"
        done.append(moved)
    if "sample_weight" in columns:
        done.append("every row got a weight with which label and group are independent")
    if "fair_score" in columns:
        done.append(
            "every row got a score whose errors are as frequent in one group as in the "
            "other, wherever the line is drawn"
        )
    text = (
        f"In these {len(table):,} rows {'; '.join(done)}. No row was added or dropped."
    )
    return [text, _cost(held_out, names["learner"]), _NOT_PROMISED]


_NOT_PROMISED = (
    "It does not promise that the labels are fair, that people who are alike are treated "
    "alike, or that groups that were not named are treated equally, and it is no legal "
    "advice."
)


def _cost(found: Comparison | None, learner: str) -> str:
    if found is None:
        return "What it costs in accuracy was not measured (--check measures it)."
    rows = {row.method: row for row in found.rows if row.learner == learner}
    raw = rows.pop("raw")
    best = rows.get("roc_channel") or rows.get("roc_channel_logistic")
    best = best or next(reversed(rows.values()))

    def said(row: Any) -> str:
        tpr, fpr, auc = (
            float(row.metrics[name].value)
            for name in ("sup_tpr_gap", "sup_fpr_gap", "auc")
        )
        gaps = f"gaps of at most {tpr:.3f} (TPR) and {fpr:.3f} (FPR)"
        return f"{gaps}, and an AUC of {auc:.3f}"

    return (
        f"On {len(found.label_test):,} rows that were held out, {best.title} leaves "
        f"{said(best)}; without any of this they are {said(raw)}."
    )


def _without_few(column: dict[str, Any], suppress: int) -> dict[str, Any]:
    """A column's description without a small number of missing values."""
    few = 0 < column["missing"] < suppress
    return {**column, "missing": f"under {suppress}"} if few else column


def sample_warnings(counts: np.ndarray, table: Table, suppress: int = 0) -> list[str]:
    """Say which cells are small, and how large a gap is noise."""
    hidden = pages.hidden_cells(counts, suppress)

    def said(i: int, a: int) -> str:
        return "A hidden number of" if hidden[i, a] else f"Only {counts[i, a]}"

    warnings = [
        f"{said(i, a)} rows of class {table.label_names[i]} in group "
        f"{table.group_names[a]}: its moments and rates are guesses."
        for i, a in np.argwhere(counts < pages.SMALL_CELL)
    ]
    # Two equal groups of m rows show about this much (Kolmogorov and Smirnov).
    least = max(1, suppress if hidden.any() else 0, counts.min())
    noise = 1.2 / np.sqrt(least)
    if noise > 0.05:
        size = f"fewer than {suppress}" if hidden.any() else f"{counts.min()}"
        warnings.append(
            f"The smallest cell has {size} rows, so the largest gap over all "
            f"thresholds is about {min(noise, 1):.2f} by chance alone, even in a fair "
            "score. Do not read differences smaller than that."
        )
    return warnings


def _discrete_warning(fitted: Fitted) -> list[str]:
    names = list(fitted.encoder.near_discrete_)
    if not names or fitted.steering is None:
        return []
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    if fitted.metadata["method"] in LEAVE_DISCRETE:
        moved = len(fitted.metadata["moved"])
        return [
            f"{len(names)} encoded columns have few distinct values ({listed}) and stay "
            "as they are: maps would carry them to other values in each group, where a "
            "tree reads the group. "
            + (f"The other {moved} were moved." if moved else "No column was moved.")
        ]
    return [
        f"{len(names)} encoded columns have few distinct values ({listed}). Maps that "
        "know the label would leak it there; the maps used here do not know it, but "
        "the normal model fits such columns poorly."
    ]


def name_columns(notes: list[str], names: Sequence[str]) -> None:
    """Put the names of encoded columns for their numbers, and drop repeats."""

    def put(match: re.Match[str]) -> str:
        places = [int(place) for place in match[1].split(",")]
        if max(places) >= len(names):
            return match[0]
        return f"the encoded columns {', '.join(repr(names[p]) for p in places)}"

    said = [re.sub(r"columns? (\d+(?:, \d+)*) of x", put, note) for note in notes]
    notes[:] = list(dict.fromkeys(said))


def _held_out(table: Table, fitted: Fitted, notes: list[str]) -> Comparison | None:
    names = fitted.metadata
    methods = ["raw", "reweighing"]
    if fitted.steering is not None:
        methods.append(COMPARED_AS[names["method"]])
    if fitted.score is not None:
        logistic = names["learner"] == "logistic"
        methods.append("roc_channel_logistic" if logistic else "roc_channel")
    try:
        split = split_table(table, reference=names["reference"])
        found = compare(
            split, learners=[names["learner"]], methods=methods, seed=names["seed"]
        )
        name_columns(notes, split.feature_names)
        return found
    except ValueError as error:
        notes.append(f"No held-out check could be made: {error}")
        return None


def _promises(columns: dict[str, np.ndarray]) -> list[str]:
    promises = []
    if any(name.startswith("steered_") for name in columns):
        promises.append(pages.FEATURES_PROMISE)
    if "sample_weight" in columns:
        promises.append(pages.WEIGHTS_PROMISE)
    if "fair_score" in columns:
        promises += [pages.SCORE_PROMISE, pages.RANDOM_PROMISE]
    return promises + list(pages.GENERAL_PROMISES)


def _label_text(table: Table) -> str:
    text = f"{table.label_column}: {_join(table.label_names)}"
    if len(table.label_names) == 2:
        text += f"; {table.label_names[1]} is the favorable one"
    return text


def _columns_text(columns: dict[str, np.ndarray]) -> str:
    steered = sum(name.startswith("steered_") for name in columns)
    parts = [f"{steered} steered features"] if steered else []
    return ", ".join(parts + [n for n in columns if not n.startswith("steered_")])


def _join(names: tuple[Any, ...]) -> str:
    return ", ".join(str(name) for name in names)
