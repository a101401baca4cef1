"""The comparison table as dots with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxsteer.plots._style import AxesLike, clean, legend_below, mark_style, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxsteer.compare import Comparison

_PANELS = {
    "accuracy": "accuracy\n(more is better)",
    "sup_tpr_gap": "largest TPR gap over\nall thresholds (less is better)",
    "sup_fpr_gap": "largest FPR gap over\nall thresholds (less is better)",
}


def comparison_dots(
    comparison: Comparison,
    *,
    columns: Sequence[str] = tuple(_PANELS),
    ax: AxesLike = None,
) -> Figure:
    """Draw accuracy beside the largest gaps, one line a method, one mark a learner.

    Args:
        comparison: What :func:`jaxsteer.compare.compare` returned.
        columns: Keys of the columns to show, one panel each.
        ax: Axes to draw on, one for each column; None makes a new figure.

    Returns:
        The figure; hollow marks are gaps of one decision, not of all thresholds.

    Example:
        After a comparison of methods on one table::

            found = js.compare.compare(js.datasets.load_german())
            comparison_dots(found).savefig("comparison.png")
    """
    from matplotlib.lines import Line2D

    from jaxsteer.compare import COLUMNS, LEARNERS

    titles = list(dict.fromkeys((r.method, r.title) for r in comparison.rows))
    place = {method: len(titles) - 1 - i for i, (method, _) in enumerate(titles)}
    learners = comparison.learners
    step = 0.36 / max(1, len(learners) - 1)
    longest = max(len(title) for _, title in titles)
    width = max(2.2, 0.6 + 0.075 * longest) + 2.55 * len(columns)
    size = width, 0.38 * len(titles) + 1.5
    figure, grid = panels(ax, (1, len(columns)), size, sharey=True)
    for place_of, (one, column) in enumerate(zip(grid[0], columns, strict=True)):
        for row in comparison.rows:
            interval = row.metrics.get(column)
            if interval is None:
                continue
            i = learners.index(row.learner)
            y = place[row.method] + (0.18 - step * i if len(learners) > 1 else 0)
            style = mark_style(i)
            value = float(interval.value)
            one.plot(
                [float(interval.low), float(interval.high)],
                [y, y],
                color=style["color"],
                linewidth=1.6,
            )
            hollow = row.decision_only and column != "accuracy"
            one.plot(
                value,
                y,
                markerfacecolor="white" if hollow else style["color"],
                markersize=5.5,
                **style,
            )
        one.set_title(_PANELS.get(column, COLUMNS[column][0]), fontsize=9.5)
        clean(one)
        if column != "accuracy":
            # A little below 0, so that marks at 0 are whole.
            left = min(0.0, float(one.dataLim.x0))
            one.set_xlim(left=left - 0.02 * one.get_xlim()[1])
        one.set_yticks(
            [place[method] for method, _ in titles], [title for _, title in titles]
        )
        one.tick_params(labelleft=place_of == 0)
        one.set_ylim(-0.6, len(titles) - 0.4)
    handles = [
        Line2D(
            [],
            [],
            markersize=5.5,
            label=LEARNERS[name].title if name in LEARNERS else name,
            **mark_style(i),
        )
        for i, name in enumerate(learners)
    ]
    if any(row.decision_only for row in comparison.rows):
        handles.append(
            Line2D(
                [],
                [],
                color="#333333",
                marker="o",
                linestyle="",
                markerfacecolor="white",
                markersize=5.5,
                label="gap of one decision only",
            )
        )
    legend_below(figure, grid[0, -1], handles=handles)
    return figure
