"""The gap between groups at every threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsteer._errors import check_choice, check_finite, check_same_length
from jaxsteer.plots._style import (
    GRAY,
    AxesLike,
    clean,
    legend_below,
    line_style,
    panels,
    span,
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

    Args:
        label: ``[n]`` class codes 0 and 1.
        score: ``[n]`` scores.
        group: ``[n]`` group codes.
        thresholds: ``[m]``; a row whose score is at least one is accepted there.
        rate: "tpr", "fpr" or "dp".

    Raises:
        ValueError: If scores are not finite, lengths differ, or fewer than two groups
            have rows that the rate is of.

    Example:
        >>> label, group = np.array([1, 1, 1, 1]), np.array([0, 0, 1, 1])
        >>> score = np.array([0.2, 0.8, 0.7, 0.9])
        >>> gap_curve(label, score, group, np.array([0.1, 0.5])).tolist()
        [0.0, 0.5]
    """
    check_choice("rate", rate, tuple(_TITLES))
    check_same_length(label=label, score=score, group=group)
    check_finite("score", score)
    label, score, group = (np.asarray(part) for part in (label, score, group))
    keep = {"tpr": label == 1, "fpr": label == 0, "dp": np.ones(len(label), bool)}[rate]
    shares = []
    for a in np.unique(group):
        ordered = np.sort(score[keep & (group == a)])
        if len(ordered):
            below = np.searchsorted(ordered, thresholds, side="left")
            shares.append(1 - below / len(ordered))
    if len(shares) < 2:
        raise ValueError(
            f"the {_TITLES[rate]} needs rows of at least two groups, and "
            f"{len(shares)} have any; merge groups or leave the rate out."
        )
    return np.ptp(np.stack(shares), axis=0)


def gap_curves(
    scores: Mapping[str, np.ndarray],
    label: np.ndarray,
    group: np.ndarray,
    *,
    rates: Sequence[str] = ("tpr", "fpr"),
    ax: AxesLike = None,
) -> Figure:
    """Draw the gaps between groups over the threshold, one line a method.

    Args:
        scores: Scores by method, ``[n]`` each; the axis holds 0 to 1 and all of them.
        label: Class codes 0 and 1, ``[n]``.
        group: Group codes, ``[n]``.
        rates: One panel each: "tpr", "fpr", "dp".
        ax: Axes to draw on, one for each rate; None makes a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: As :func:`gap_curve`, before anything is drawn.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, (2, 200))
        >>> score = rng.uniform(size=200)
        >>> figure = gap_curves({"score": score}, label, group)
        >>> len(figure.axes)
        2
    """
    rates = [rates] if isinstance(rates, str) else list(rates)
    low, high = span(scores.values())
    thresholds = np.linspace(low, high, 501)
    curves = [
        [
            gap_curve(label, score, group, thresholds, rate=rate)
            for score in scores.values()
        ]
        for rate in rates
    ]
    size = 4.3 * len(rates), 3.9
    figure, ((*axes,),) = panels(ax, (1, len(rates)), size, sharey=True)
    for one, rate, gaps in zip(axes, rates, curves, strict=True):
        for i, (title, gap) in enumerate(zip(scores, gaps, strict=True)):
            one.plot(
                thresholds,
                gap,
                linewidth=1.5,
                label=title,
                drawstyle="steps-pre",
                **line_style(i),
            )
        one.axvline(0.5, color=GRAY, linewidth=0.8, zorder=0.5)
        one.set_title(f"gap in {_TITLES[rate]}", fontsize=10)
        one.set_xlabel("threshold on the score (gray: .5)", fontsize=9)
        one.set_xlim(low, high)
        clean(one)
    # Once all panels are drawn: the axis is shared, and a limit ends its scaling.
    for one in axes:
        one.set_ylim(bottom=0)
    axes[0].set_ylabel("largest difference between groups", fontsize=9)
    legend_below(figure, axes[-1])
    return figure
