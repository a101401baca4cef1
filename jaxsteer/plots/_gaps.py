"""The gap between groups at every threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsteer.plots._style import (
    COLORS,
    DASHES,
    GRAY,
    clean,
    legend_below,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLES = {
    "tpr": "true-positive rate",
    "fpr": "false-positive rate",
    "dp": "share accepted",
}


def gap_curve(
    label: np.ndarray,
    score: np.ndarray,
    group: np.ndarray,
    thresholds: np.ndarray,
    *,
    rate: str = "tpr",
) -> np.ndarray:
    """Return the largest difference between two groups at each threshold, ``[m]``.

    Example:
        >>> label, group = np.array([1, 1, 1, 1]), np.array([0, 0, 1, 1])
        >>> score = np.array([0.2, 0.8, 0.7, 0.9])
        >>> gap_curve(label, score, group, np.array([0.1, 0.5])).tolist()
        [0.0, 0.5]
    """
    label, score, group = (np.asarray(part) for part in (label, score, group))
    keep = {"tpr": label == 1, "fpr": label == 0, "dp": np.ones(len(label), bool)}[rate]
    shares = []
    for a in np.unique(group):
        ordered = np.sort(score[keep & (group == a)])
        if len(ordered):
            below = np.searchsorted(ordered, thresholds, side="left")
            shares.append(1 - below / len(ordered))
    return np.ptp(np.stack(shares), axis=0)


def gap_curves(
    scores: Mapping[str, np.ndarray],
    label: np.ndarray,
    group: np.ndarray,
    *,
    rates: Sequence[str] = ("tpr", "fpr"),
) -> Figure:
    """Draw the gaps between groups over the threshold, one line a method.

    Args:
        scores: Scores in 0..1 by method, ``[n]`` each; at most seven are told apart.
        label: Class codes 0 and 1, ``[n]``.
        group: Group codes, ``[n]``.
        rates: One panel each: "tpr", "fpr", "dp".

    Returns:
        The figure.
    """
    thresholds = np.linspace(0, 1, 501)
    figure = new_figure(4.3 * len(rates), 3.9)
    axes = figure.subplots(1, len(rates), squeeze=False, sharey=True)[0]
    for ax, rate in zip(axes, rates, strict=True):
        for i, (title, score) in enumerate(scores.items()):
            ax.plot(
                thresholds,
                gap_curve(label, score, group, thresholds, rate=rate),
                color=COLORS[i % len(COLORS)],
                linestyle=DASHES[i % len(DASHES)],
                linewidth=1.5,
                label=title,
                drawstyle="steps-pre",
            )
        ax.axvline(0.5, color=GRAY, linewidth=0.8, zorder=0.5)
        ax.set_title(f"gap in {_TITLES[rate]}", fontsize=10)
        ax.set_xlabel("threshold on the score (gray: .5)", fontsize=9)
        ax.set_xlim(0, 1)
        clean(ax)
    # Once all panels are drawn: the axis is shared, and a limit ends its scaling.
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("largest difference between groups", fontsize=9)
    legend_below(figure, axes[0], columns=3)
    return figure
