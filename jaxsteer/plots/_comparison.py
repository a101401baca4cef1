"""The comparison table as dots with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxsteer.plots._style import COLORS, MARKERS, clean, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxsteer.compare import Comparison

_PANELS = {
    "accuracy": "accuracy\n(more is better)",
    "sup_tpr_gap": "largest TPR gap over\nall thresholds (less is better)",
    "sup_fpr_gap": "largest FPR gap over\nall thresholds (less is better)",
}


def comparison_dots(
    comparison: Comparison, *, columns: Sequence[str] = tuple(_PANELS)
) -> Figure:
    """Draw accuracy beside the largest gaps, one line a method, one mark a learner.

    Args:
        comparison: What :func:`jaxsteer.compare.compare` returned.
        columns: Keys of the columns to show, one panel each.

    Returns:
        The figure; hollow marks are gaps of one decision, not of all thresholds.
    """
    from matplotlib.lines import Line2D

    from jaxsteer.compare import COLUMNS, LEARNERS

    titles = list(dict.fromkeys((r.method, r.title) for r in comparison.rows))
    place = {method: len(titles) - 1 - i for i, (method, _) in enumerate(titles)}
    learners = comparison.learners
    step = 0.36 / max(1, len(learners) - 1)
    figure = new_figure(2.2 + 2.55 * len(columns), 0.38 * len(titles) + 1.5)
    axes = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for ax, column in zip(axes, columns, strict=True):
        for row in comparison.rows:
            interval = row.metrics.get(column)
            if interval is None:
                continue
            i = learners.index(row.learner)
            y = place[row.method] + (0.18 - step * i if len(learners) > 1 else 0)
            color = COLORS[i % len(COLORS)]
            value = float(interval.value)
            ax.plot(
                [float(interval.low), float(interval.high)],
                [y, y],
                color=color,
                linewidth=1.6,
            )
            hollow = row.decision_only and column != "accuracy"
            ax.plot(
                value,
                y,
                marker=MARKERS[i % len(MARKERS)],
                color=color,
                markerfacecolor="white" if hollow else color,
                markersize=5.5,
            )
        ax.set_title(_PANELS.get(column, COLUMNS[column][0]), fontsize=9.5)
        clean(ax)
        if column != "accuracy":
            # A little below 0, so that marks at 0 are whole.
            ax.set_xlim(left=-0.02 * ax.get_xlim()[1])
    axes[0].set_yticks(
        [place[method] for method, _ in titles], [title for _, title in titles]
    )
    axes[0].set_ylim(-0.6, len(titles) - 0.4)
    handles = [
        Line2D(
            [],
            [],
            color=COLORS[i % len(COLORS)],
            marker=MARKERS[i % len(MARKERS)],
            markersize=5.5,
            label=LEARNERS[name].title if name in LEARNERS else name,
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
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
    )
    return figure
