"""What the group maps do to each feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsteer._errors import check_codes, check_same_length
from jaxsteer.plots._style import (
    COLORS,
    AxesLike,
    clean,
    legend_below,
    panels,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def standardized_differences(
    x: np.ndarray,
    group: np.ndarray,
    *,
    reference: int = 1,
    weights: np.ndarray | None = None,
    scale: np.ndarray | None = None,
) -> np.ndarray:
    """Return the largest standardized mean difference to the reference group, ``[d]``.

    ``(mean_a - mean_reference) / s`` of the group with the largest absolute value.

    Args:
        x: Features, ``[n, d]``.
        group: Group codes, ``[n]``.
        reference: The group that the others are compared with.
        weights: Row weights, ``[n]``.
        scale: Standard deviations ``s``, ``[d]``; None takes those of `x`.

    Raises:
        ValueError: If lengths differ, codes are none, or `reference` is no group that has
            rows beside another one.

    Example:
        >>> x = np.array([[0.0], [2.0], [1.0], [3.0]])
        >>> group = np.array([0, 0, 1, 1])
        >>> standardized_differences(x, group, scale=np.ones(1)).tolist()
        [-1.0]
    """
    check_same_length(x=x, group=group)
    check_codes("group", group)
    x, group = np.asarray(x, np.float64), np.asarray(group)
    known = np.unique(group).tolist()
    if reference not in known or len(known) < 2:
        raise ValueError(
            f"reference={reference!r} must be a group that has rows beside another one; "
            f"the groups with rows are {', '.join(map(str, known))}."
        )
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    spread = x.std(axis=0) if scale is None else np.asarray(scale, np.float64)
    means = {
        int(a): np.average(x[group == a], axis=0, weights=weights[group == a])
        for a in np.unique(group)
    }
    others = [mean - means[reference] for a, mean in means.items() if a != reference]
    differences = np.stack(others) / np.where(spread > 0, spread, 1)
    largest = np.abs(differences).argmax(axis=0)
    return differences[largest, np.arange(x.shape[1])]


def group_differences(
    before: np.ndarray,
    after: np.ndarray,
    *,
    feature_names: Sequence[str],
    top: int = 15,
    ax: AxesLike = None,
) -> Figure:
    """Draw each feature's difference between groups before and after steering.

    Args:
        before: Standardized differences, ``[d]``
            (see :func:`standardized_differences`).
        after: The same after steering, in the same units, ``[d]``.
        feature_names: Names of the features, `d`.
        top: How many features to show, the largest differences first.
        ax: Axes to draw on; None makes a new figure.

    Returns:
        The figure.

    Example:
        >>> before, after = np.array([0.8, -0.3]), np.array([0.0, 0.1])
        >>> figure = group_differences(before, after, feature_names=["hours", "age"])
        >>> len(figure.axes)
        1
    """
    before, after = np.asarray(before), np.asarray(after)
    order = np.argsort(-np.maximum(np.abs(before), np.abs(after)), kind="stable")[:top]
    order = order[::-1]
    places = np.arange(len(order))
    figure, ((one,),) = panels(ax, (1, 1), (7.6, 0.27 * len(order) + 1.5))
    one.hlines(places, before[order], after[order], color="#c8c8c8", linewidth=2)
    one.plot(
        before[order],
        places,
        "o",
        color=COLORS[1],
        markerfacecolor="white",
        markeredgewidth=1.6,
        label="before",
    )
    one.plot(after[order], places, "s", color=COLORS[0], markersize=5, label="after")
    one.axvline(0, color="#333333", linewidth=0.8)
    one.set_yticks(places, shortened([str(feature_names[i]) for i in order], 34))
    one.set_ylim(-0.7, len(order) - 0.3)
    words = "mean difference to the reference group (standard deviations)"
    if top < len(before):
        words += f"\nthe {len(order)} largest of {len(before)} features"
    one.set_xlabel(words, fontsize=9)
    clean(one, grid="x")
    legend_below(figure, one)
    return figure
