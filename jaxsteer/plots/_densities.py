"""Where the scores of each group and class lie, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsteer._errors import check_codes, check_finite, check_same_length
from jaxsteer.plots._style import (
    AxesLike,
    clean,
    legend_below,
    line_style,
    names_or_codes,
    panels,
    span,
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
    ax: AxesLike = None,
) -> Figure:
    """Draw histograms of scores: a row of panels a score, a column a class.

    Args:
        scores: Scores by title, ``[n]`` each, such as before and after; the axis holds
            0 to 1 and all of them.
        label: Class codes, ``[n]``.
        group: Group codes, ``[n]``.
        label_names: Names of the classes, by code.
        group_names: Names of the groups, by code.
        bins: Number of bins of that axis.
        ax: Axes to draw on, ``[scores, classes]``; None makes a new figure.

    Returns:
        The figure; in a fair one the groups' lines agree within each panel.

    Raises:
        ValueError: If scores are not finite, lengths differ, or codes are none.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, (2, 200))
        >>> score = rng.uniform(size=200)
        >>> figure = score_densities({"score": score}, label, group, group_names=["f", "m"])
        >>> len(figure.axes)  # a panel a class
        2
    """
    check_codes("label", label, len(label_names))
    check_codes("group", group)
    for score in scores.values():
        check_same_length(label=label, score=score, group=group)
        check_finite("score", score)
    label, group = np.asarray(label), np.asarray(group)
    names = names_or_codes(group_names, int(group.max()) + 1)
    classes = range(len(label_names))
    low, high = span(scores.values())
    edges = np.linspace(low, high, bins + 1)
    shape = len(scores), len(label_names)
    size = 3.9 * shape[1], 2.5 * shape[0] + 0.5
    figure, axes = panels(ax, shape, size, sharex=True, sharey="col")
    for row, (title, score) in enumerate(scores.items()):
        for i in classes:
            one = axes[row, i]
            for a, name in enumerate(names):
                chosen = np.asarray(score)[(label == i) & (group == a)]
                counts, _ = np.histogram(chosen, edges)
                share = counts / max(1, counts.sum())
                style = line_style(a)
                if len(names) <= 3:  # more would hide each other
                    one.stairs(
                        share, edges, fill=True, color=style["color"], alpha=0.12
                    )
                one.stairs(share, edges, linewidth=1.5, label=name, **style)
            one.set_title(f"{title}: true class {label_names[i]}", fontsize=10)
            one.set_xlim(low, high)
            clean(one)
        axes[row, 0].set_ylabel("share of the group's\nrows in a bin", fontsize=9)
    for one in axes[-1]:
        one.set_xlabel(f"score of class {label_names[-1]}", fontsize=9)
    legend_below(figure, axes[0, -1])
    return figure
