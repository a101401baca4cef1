"""Where the scores of each group and class lie, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsteer.plots._style import (
    COLORS,
    DASHES,
    clean,
    legend_below,
    names_or_codes,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def score_densities(
    scores: Mapping[str, np.ndarray],
    label: np.ndarray,
    group: np.ndarray,
    *,
    label_names: Sequence[object] = (0, 1),
    group_names: Sequence[object] = (),
    bins: int = 25,
) -> Figure:
    """Draw histograms of scores: a row of panels a score, a column a class.

    Args:
        scores: Scores in 0..1 by title, ``[n]`` each, such as before and after.
        label: Class codes, ``[n]``.
        group: Group codes, ``[n]``.
        label_names: Names of the classes, by code.
        group_names: Names of the groups, by code.
        bins: Number of bins of 0..1.

    Returns:
        The figure; in a fair one the groups' lines agree within each panel.
    """
    label, group = np.asarray(label), np.asarray(group)
    names = names_or_codes(group_names, int(group.max()) + 1)
    classes = range(len(label_names))
    edges = np.linspace(0, 1, bins + 1)
    figure = new_figure(3.9 * len(label_names), 2.5 * len(scores) + 0.5)
    axes = figure.subplots(
        len(scores), len(label_names), squeeze=False, sharex=True, sharey="col"
    )
    for row, (title, score) in enumerate(scores.items()):
        for i in classes:
            ax = axes[row, i]
            for a, name in enumerate(names):
                chosen = np.asarray(score)[(label == i) & (group == a)]
                counts, _ = np.histogram(chosen, edges)
                share = counts / max(1, counts.sum())
                color = COLORS[a % len(COLORS)]
                ax.stairs(share, edges, fill=True, color=color, alpha=0.12)
                ax.stairs(
                    share,
                    edges,
                    color=color,
                    linestyle=DASHES[a % len(DASHES)],
                    linewidth=1.5,
                    label=name,
                )
            ax.set_title(f"{title}: true class {label_names[i]}", fontsize=10)
            ax.set_xlim(0, 1)
            clean(ax)
        axes[row, 0].set_ylabel("share of the group's\nrows in a bin", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel(f"score of class {label_names[-1]}", fontsize=9)
    legend_below(figure, axes[0, 0])
    return figure
