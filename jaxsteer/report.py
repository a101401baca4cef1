"""One self-contained HTML page: what was asked, done, measured and promised."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.resources
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsteer._types import PathLike
from jaxsteer.storage import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxsteer.audit.metrics import Interval
    from jaxsteer.compare import Comparison

#: Below this many rows a class in a group is marked as small.
SMALL_CELL = 30

_VERSIONS = ("jaxsteer", "jax", "numpy", "scikit-learn", "pandas", "fairlearn")

#: What every page says, whatever was made.
GENERAL_PROMISES = (
    "Fair means here: equal error rates and equal shares accepted between the groups "
    "named above, for every cost of the two errors. Groups that were not named, and "
    "parts of a group, may still be treated unequally.",
    "Equal error rates between groups do not mean that similar people are treated "
    "alike, that the labels themselves are fair, or that a use is lawful. In many "
    "places a decision that depends on a protected group, as these maps do, is "
    "forbidden or needs a legal basis: ask before use.",
)
FEATURES_PROMISE = (
    "Steered features: the Bayes rule is exactly fair on the steered population of the "
    "model (normal classes in each group with the moments fitted here). Real data is "
    "not normal, so on it fairness is measured, not promised; the table says how much."
)
WEIGHTS_PROMISE = (
    "Sample weights: they make label and group independent in these rows. Use them "
    "when a model is trained on the steered rows."
)
SCORE_PROMISE = (
    "Fair score: in the rows that it was fitted on, its law given the label is the "
    "same in every group, so every threshold and every cost gives equal true- and "
    "false-positive rates. On new rows this holds up to sampling and binning."
)
RANDOM_PROMISE = (
    "Exactness at every threshold needs randomization: two people with the same "
    "features may get different fair scores, and another seed gives other scores. Do "
    "not use it where a decision must be repeatable or explained from the person's own "
    "data; the deterministic expected score is only approximately fair."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What a page shows; what is left empty is left out of it.

    Attributes:
        title: Heading of the page.
        subtitle: One line below it.
        summary: The first paragraphs: what was done, to whom, and what it costs, in
            plain words.
        asked: Name and value of every choice.
        warnings: What a reader must know before the figures.
        comparisons: Heading and table of each comparison.
        metrics: Intervals by title, for an audit of given predictions.
        figures: Caption and figure of each picture.
        solve: Name and value of each fact of the fit.
        counts: Rows by class and group, ``[K, G]``.
        label_names: Names of the classes.
        group_names: Names of the groups.
        encoding: What `TabularEncoder.describe` returns.
        promises: Sentences on what holds and what does not.
        files: Name and content of each file that was written.
        seed: The seed.
        attribution: Source and license of the data.
        suppress: Counts below this are shown as "under N", with a second one where one
            alone could be told from the total, and figures that rest on fewer rows not
            at all; 0 shows everything. Pictures and warnings are the caller's.
    """

    title: str
    subtitle: str = ""
    summary: Sequence[str] = ()
    asked: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    comparisons: Sequence[tuple[str, Comparison]] = ()
    metrics: Mapping[str, Interval] = dataclasses.field(default_factory=dict)
    figures: Sequence[tuple[str, Figure]] = ()
    solve: Sequence[tuple[str, str]] = ()
    counts: np.ndarray | None = None
    label_names: Sequence[Any] = ()
    group_names: Sequence[Any] = ()
    encoding: Sequence[Mapping[str, Any]] = ()
    promises: Sequence[str] = GENERAL_PROMISES
    files: Sequence[tuple[str, str]] = ()
    seed: int | None = None
    attribution: str = ""
    suppress: int = 0


def write_report(path: PathLike, report: Report) -> pathlib.Path:
    """Write one HTML file that needs no other file and no network.

    Text is escaped, pictures are inside the file, and the page carries no date: the
    same input and seed give the same bytes.

    Args:
        path: Where to write.
        report: What to show.

    Returns:
        The path.

    Example:
        >>> import tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> page = write_report(folder / "page.html", Report(title="A <b>title</b>"))
        >>> "A &lt;b&gt;title&lt;/b&gt;" in page.read_text()
        True
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render_report(report))
    return path


def render_report(report: Report) -> str:
    """Return the page as text.

    Raises:
        ImportError: If jinja2 is not installed.
    """
    template = page_template("report.html")
    from jaxsteer.plots import figure_uri

    comparisons = [
        (heading, table, _learner_tables(table, report.suppress))
        for heading, table in report.comparisons
    ]
    return template.render(
        report=report,
        style=page_style(),
        comparisons=comparisons,
        few=any(
            interval.few
            for _, table in report.comparisons
            for row in table.rows
            for interval in row.metrics.values()
        ),
        metrics=[
            _cell(i, least=report.suppress) | {"title": title}
            for title, i in report.metrics.items()
        ],
        figures=[(caption, figure_uri(figure)) for caption, figure in report.figures],
        counts=_counts(report),
        versions=versions(),
    )


def page_template(name: str, **filters: Any) -> Any:
    """Return a page's jinja2 template, in which all that is filled in is escaped.

    Args:
        name: Its file in the folder of templates.
        **filters: Functions that the template calls by name.

    Raises:
        ImportError: If jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(
            "Reports need jinja2: pip install 'jaxsteer[cli]'."
        ) from error
    source = importlib.resources.files("jaxsteer").joinpath("templates", name)
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.from_string(source.read_text(encoding="utf-8"))


def page_style() -> Any:
    """Return the style sheet of every page: light, dark, narrow and on paper."""
    from markupsafe import Markup

    place = importlib.resources.files("jaxsteer").joinpath("templates/page.css")
    return Markup(place.read_text(encoding="utf-8"))


def versions() -> list[tuple[str, str]]:
    """Return name and version of Python and of the packages that matter here."""
    found = [("Python", platform.python_version())]
    for name in _VERSIONS:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cell(interval: Interval, chance: Any = None, *, least: int = 0) -> dict[str, Any]:
    if int(interval.smallest_cell) < least:
        hidden = dict.fromkeys(("chance", "value", "low", "high"), "")
        return {**hidden, "rests_on": f"under {least}", "few": True, "hidden": True}
    return {
        "chance": None
        if chance is None
        else f"{float(chance.mean):.3f} ({float(chance.high):.3f})",
        "value": f"{float(interval.value):.3f}",
        "low": f"{float(interval.low):.3f}",
        "high": f"{float(interval.high):.3f}",
        "rests_on": f"{int(interval.smallest_cell):,}",
        "hidden": False,
        "few": bool(interval.few),
    }


def _learner_tables(
    table: Comparison, least: int
) -> list[tuple[str, list[str], list[dict[str, Any]]]]:
    from jaxsteer.compare import COLUMNS, LEARNERS

    headings = [heading for heading, _ in COLUMNS.values()]
    tables = []
    for learner in table.learners:
        rows = [
            {
                "title": row.title,
                "decision_only": row.decision_only,
                "cells": [
                    _cell(row.metrics[key], row.chance.get(key), least=least)
                    if key in row.metrics
                    else None
                    for key in COLUMNS
                ],
            }
            for row in table.rows
            if row.learner == learner
        ]
        title = LEARNERS[learner].title if learner in LEARNERS else learner
        tables.append((title[:1].upper() + title[1:], headings, rows))
    return tables


def _counts(report: Report) -> dict[str, Any] | None:
    if report.counts is None:
        return None
    counts = np.asarray(report.counts)
    hidden = hidden_cells(counts, report.suppress)
    shares = counts[-1] / np.maximum(counts.sum(axis=0), 1)
    return {
        "groups": [str(name) for name in report.group_names],
        "rows": [
            (
                str(name),
                [
                    (
                        "hidden" if gone else f"{int(cell):,}",
                        bool(cell < SMALL_CELL) and not gone,
                    )
                    for cell, gone in zip(cells, out, strict=True)
                ],
            )
            for name, cells, out in zip(report.label_names, counts, hidden, strict=True)
        ],
        "shares": [
            "hidden" if gone else f"{share:.1%}"
            for share, gone in zip(shares, np.asarray(hidden.any(axis=0)), strict=True)
        ],
        "limit": SMALL_CELL,
        "suppress": report.suppress if hidden.any() else 0,
    }


def hidden_cells(counts: np.ndarray, suppress: int) -> np.ndarray:
    """Say which cells a page leaves out.

    Args:
        counts: ``[K, G]`` rows by class and group.
        suppress: Cells with fewer rows are left out. One alone could be told from the
            number of all rows, so the next smallest goes with it.

    Returns:
        ``[K, G]`` booleans.

    Example:
        >>> hidden_cells(np.array([[40, 3], [25, 60]]), 10).tolist()
        [[False, True], [True, False]]
    """
    hidden = counts < suppress
    if hidden.sum() == 1 and hidden.size > 1:
        rest = np.where(hidden, np.inf, counts)
        hidden = hidden | (
            np.arange(hidden.size).reshape(hidden.shape) == rest.argmin()
        )
    return hidden
