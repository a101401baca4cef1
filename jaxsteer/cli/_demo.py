"""``jaxsteer demo``: the comparison table on census income, and its page."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from jaxsteer import baselines
from jaxsteer import report as pages
from jaxsteer.cli._console import (
    collected_warnings,
    console,
    print_warnings,
    progress_of,
    say,
    simple_table,
)
from jaxsteer.cli._figures import comparison_figures, maps_figure, solve_facts
from jaxsteer.cli._rows import write_text
from jaxsteer.cli._verified import verification_note, verified
from jaxsteer.compare import (
    CHANCE_FOOTNOTE,
    COLUMNS,
    DEFAULT_METHODS,
    LEARNERS,
    Comparison,
    Row,
    Split,
    compare,
    format_interval,
    split_table,
)
from jaxsteer.datasets import Table, load_adult
from jaxsteer.estimators import TabularEncoder

_QUICK_ROWS = 6000
# What to look at first: the deterministic answer, the exact one, and what is given up.
_FIRST = ("balanced_quantiles", "roc_channel")
_METHODS = (*_FIRST, *(n for n in DEFAULT_METHODS if n not in _FIRST))
_QUICK_METHODS = tuple(n for n in _METHODS if n != "exponentiated_gradient")


def demo(out: pathlib.Path, *, quick: bool, seed: int) -> None:
    """Run ``jaxsteer demo``."""
    table = load_adult()
    if quick:
        rows = np.random.default_rng(seed).permutation(len(table))[:_QUICK_ROWS]
        table = table.take(np.sort(rows))
    with collected_warnings() as notes, progress_of("comparing") as tell:
        encoder = TabularEncoder()
        split = split_table(table, encoder=encoder)
        found = compare(
            split,
            methods=_QUICK_METHODS if quick else _METHODS,
            seed=seed,
            n_boot=50 if quick else 200,
            progress=tell,
        )
    if quick:
        notes.append(
            f"--quick: {len(table):,} of the rows only, so the intervals are wide."
        )
    write_text(out / "table.md", found.to_markdown())
    write_text(out / "table.json", found.to_json())
    files = [
        ("table.md", "the table with intervals, Markdown"),
        ("table.json", "the same as JSON"),
    ]
    verification = verified(found.row("steering", "logistic").fitted)
    notes += verification_note(verification)
    page = _page(table, encoder, split, found, notes, files, seed, verification)
    write_text(out / "report.html", pages.render_report(page))
    print_warnings(notes)
    for line in headline(found):
        say(line, markup=False)
    print_comparison(found)
    say(str(verification), markup=False)
    say(f"written to {out}: report.html, table.md, table.json", markup=False)


def headline(found: Comparison, learner: str = "boosted") -> list[str]:
    """Say first what the two fair scores reach, and what they cost.

    Args:
        found: The comparison.
        learner: The learner that they stand on.

    Returns:
        A sentence for each of the two that is in the table.
    """
    rows = {row.method: row for row in found.rows if row.learner == learner}
    raw = rows.get("raw")
    lines = []
    for method, kind in zip(_FIRST, ("deterministic", "randomized"), strict=True):
        row = rows.get(method)
        if row is None:
            continue
        text = (
            f"{row.title.partition(' (')[0]} ({kind}): largest gap over all thresholds "
            f"{_gaps(row)}"
        )
        if row.chance:
            text += (
                f" (by chance {float(row.chance['sup_tpr_gap'].mean):.3f} / "
                f"{float(row.chance['sup_fpr_gap'].mean):.3f})"
            )
        if raw is not None:
            auc, before = (float(r.metrics["auc"].value) for r in (row, raw))
            text += (
                f", raw {_gaps(raw)}; it costs {before - auc:.3f} of AUC "
                f"({before:.3f} to {auc:.3f})"
            )
        lines.append(text + ".")
    return lines


def _gaps(row: Row) -> str:
    tpr, fpr = (float(row.metrics[f"sup_{r}_gap"].value) for r in ("tpr", "fpr"))
    return f"TPR {tpr:.3f}, FPR {fpr:.3f}"


def print_comparison(found: Comparison) -> None:
    """Print one table a learner, with intervals where the terminal is wide enough."""
    screen = console()
    wide = screen.is_terminal and screen.width >= 130
    titles = [heading for heading, _ in COLUMNS.values()]
    if screen.width < 110:
        titles = ["acc", "bal acc", "AUC", "EO gap", "TPR gap", "FPR gap", "DP gap"]
    headings = ["method", *titles]
    for learner in found.learners:
        rows = []
        for row in found.rows:
            if row.learner == learner:
                cells = [
                    format_interval(row.metrics.get(key), intervals=wide).replace(
                        " [", "\n["
                    )
                    for key in COLUMNS
                ]
                rows.append([row.title + "*" * row.decision_only, *cells])
        say(simple_table(LEARNERS[learner].title, headings, rows))
    for note in found.footnotes:
        if note == CHANCE_FOOTNOTE:
            continue  # chance levels stand in the page's table
        say(note, markup=False)
    say(
        f"Fitted on {found.n_train:,} rows, measured on {len(found.label_test):,} "
        "others, whose labels only the metrics saw. Intervals and levels of chance are "
        "in the page."
    )


def _page(
    table: Table,
    encoder: TabularEncoder,
    split: Split,
    found: Comparison,
    notes: list[str],
    files: list[tuple[str, str]],
    seed: int,
    verification: Any,
) -> pages.Report:
    steering = found.row("steering", "logistic").fitted
    picture = maps_figure(
        split.x_train,
        np.asarray(steering.transport(split.x_train, split.group_train)),
        split.group_train,
        reference=split.reference,
        feature_names=list(split.feature_names),
        weights=np.asarray(baselines.reweighing(split.label_train, split.group_train)),
    )
    figures = comparison_figures(found, "boosted")
    return pages.Report(
        title="Ways to be fair on census income",
        subtitle="Does a person earn more than 50,000 dollars a year? Groups by sex.",
        summary=headline(found),
        asked=[
            ("label", "income: <=50K, >50K; >50K is the favorable one"),
            ("group", "sex: Female, Male; Male is the group that stays"),
            ("rows", f"{len(table):,} ({found.n_train:,} to fit on)"),
        ],
        warnings=notes,
        comparisons=[("The table", found)],
        figures=[*figures, picture] if picture is not None else figures,
        solve=solve_facts(
            steering, found.row("roc_channel", "boosted").fitted, verification
        ),
        counts=table.counts(),
        label_names=table.label_names,
        group_names=table.group_names,
        encoding=encoder.describe(),
        promises=[
            pages.FEATURES_PROMISE,
            pages.WEIGHTS_PROMISE,
            pages.SCORE_PROMISE,
            pages.RANDOM_PROMISE,
            *pages.GENERAL_PROMISES,
        ],
        files=files,
        seed=seed,
        attribution=table.attribution,
    )
