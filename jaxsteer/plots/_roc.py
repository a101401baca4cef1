"""The groups' ROC hulls, the meet under them and what was reached on new rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsteer.plots._style import (
    AxesLike,
    clean,
    legend_below,
    line_style,
    names_or_codes,
    panels,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def roc_points(label: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the ROC curve of a score, ``[m, 2]`` false- and true-positive rates.

    Equal scores pass together. NaN where a class has no row.

    Example:
        >>> roc_points(np.array([0, 1, 1]), np.array([0.1, 0.4, 0.4])).tolist()
        [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    """
    label, score = np.asarray(label), np.asarray(score)
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    with np.errstate(invalid="ignore"):
        fpr, tpr = (
            np.append(0.0, np.cumsum(hits)[last] / hits.sum())
            for hits in (label[order] == 0, label[order] == 1)
        )
    return np.stack([fpr, tpr], axis=1)


def roc_meet(
    hulls: Sequence[np.ndarray],
    roc: np.ndarray,
    *,
    achieved: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    group_names: Sequence[object] = (),
    achieved_title: str = "reached on new rows",
    ax: AxesLike = None,
) -> Figure:
    """Draw each group's ROC hull, the meet curve and the operating curves reached.

    Args:
        hulls: One ``[m, 2]`` array of (FPR, TPR) knots a group (`RocChannel.hulls`).
        roc: Knots of the meet curve, ``[T + 1, 2]`` (`RocChannel.roc`).
        achieved: Label, fair score and group of other rows, ``[n]`` each.
        group_names: Names of the groups, by code.
        achieved_title: Title of the second panel.
        ax: Axes to draw on, one for each panel; None makes a new figure.

    Returns:
        A figure with one panel, or two where `achieved` is given.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, (2, 200))
        >>> score = rng.uniform(size=200)
        >>> import jaxsteer as js
        >>> channel = js.roc_channel(score + 0.2 * label, label, group, bins=10)
        >>> len(roc_meet(channel.hulls, channel.roc, group_names=["f", "m"]).axes)
        1
    """
    names = names_or_codes(group_names, len(hulls))
    count, width = (1, 4.6) if achieved is None else (2, 8.6)
    figure, ((*axes,),) = panels(ax, (1, count), (width, 4.9))
    for one in axes:
        one.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8)
    for a, hull in enumerate(hulls):
        knots = np.asarray(hull)
        axes[0].plot(
            knots[:, 0],
            knots[:, 1],
            linewidth=1.6,
            label=names[a],
            **line_style(a),
        )
    meet = np.asarray(roc)
    for one in axes:
        one.plot(
            meet[:, 0],
            meet[:, 1],
            color="black",
            linewidth=3.5,
            alpha=0.35,
            label="meet: what every group can reach",
            zorder=1.5,
        )
    axes[0].set_title("ROC hull of each group, training rows", fontsize=10)
    if achieved is not None:
        label, score, group = (np.asarray(part) for part in achieved)
        for a in range(len(hulls)):
            rows = group == a
            if rows.any():
                points = roc_points(label[rows], score[rows])
                axes[1].plot(points[:, 0], points[:, 1], linewidth=1.6, **line_style(a))
        axes[1].set_title(f"fair score, {achieved_title}", fontsize=10)
    for one in axes:
        clean(one)
        one.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        one.set_xlabel("false-positive rate", fontsize=9)
        one.set_ylabel("true-positive rate", fontsize=9)
    legend_below(figure, axes[0])
    return figure
