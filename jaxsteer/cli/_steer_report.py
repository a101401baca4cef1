"""The page of ``jaxsteer steer``."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxsteer import report as pages
from jaxsteer.cli._figures import comparison_figures, maps_figure, solve_facts
from jaxsteer.cli._files import Fitted
from jaxsteer.cli._fit import COMPARED_AS
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
) -> pages.Report:
    """Return the page: choices, warnings, a held-out check, pictures and promises."""
    fitted: Fitted = made.fitted
    columns = made.columns
    names = fitted.metadata
    counts = table.counts()
    warnings = list(notes)
    warnings += sample_warnings(counts, table)
    warnings += _discrete_warning(fitted)
    held_out = _held_out(table, fitted, columns, warnings) if check else None
    figures: list[tuple[str, Any]] = []
    if held_out is not None:
        figures += comparison_figures(held_out, names["learner"])
    if made.steered is not None:
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
            fitted.steering, None if fitted.score is None else fitted.score.channel_
        ),
        counts=counts,
        label_names=table.label_names,
        group_names=table.group_names,
        encoding=fitted.encoder.describe(),
        promises=_promises(columns),
        files=files,
        seed=names["seed"],
        attribution=table.attribution,
    )


def sample_warnings(counts: np.ndarray, table: Table) -> list[str]:
    """Say which cells are small, and how large a gap is noise."""
    warnings = [
        f"Only {counts[i, a]} rows of class {table.label_names[i]} in group "
        f"{table.group_names[a]}: its moments and rates are guesses."
        for i, a in np.argwhere(counts < pages.SMALL_CELL)
    ]
    # Two equal groups of m rows show about this much (Kolmogorov and Smirnov).
    noise = 1.2 / np.sqrt(max(1, counts.min()))
    if noise > 0.05:
        warnings.append(
            f"The smallest cell has {counts.min()} rows, so the largest gap over all "
            f"thresholds is about {min(noise, 1):.2f} by chance alone, even in a fair "
            "score. Do not read differences smaller than that."
        )
    return warnings


def _discrete_warning(fitted: Fitted) -> list[str]:
    names = list(fitted.encoder.near_discrete_)
    if not names or fitted.steering is None:
        return []
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    return [
        f"{len(names)} encoded columns have few distinct values ({listed}). Maps that "
        "know the label would leak it there; the maps used here do not know it, but "
        "the normal model fits such columns poorly."
    ]


def _held_out(
    table: Table,
    fitted: Fitted,
    columns: dict[str, np.ndarray],
    warnings: list[str],
) -> Comparison | None:
    names = fitted.metadata
    methods = ["raw", "reweighing"]
    if fitted.steering is not None:
        methods.append(COMPARED_AS[names["method"]])
    if fitted.score is not None:
        logistic = names["learner"] == "logistic"
        methods.append("roc_channel_logistic" if logistic else "roc_channel")
    try:
        split = split_table(table, reference=names["reference"])
        return compare(
            split, learners=[names["learner"]], methods=methods, seed=names["seed"]
        )
    except ValueError as error:
        warnings.append(f"No held-out check could be made: {error}")
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
