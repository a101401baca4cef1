"""Pareto fronts of the groups' losses, and metrics over the simplex of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsteer.plots._style import (
    GRAY,
    MARKERS,
    AxesLike,
    clean,
    legend_below,
    line_style,
    mark_style,
    names_or_codes,
    panels,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxsteer.pareto import FittedModel, ParetoSolution


def pareto_front(
    fronts: Mapping[str, FittedModel],
    points: Mapping[str, FittedModel | ParetoSolution] | None = None,
    *,
    group_names: Sequence[object] = (),
    metric_name: str = "unfairness",
    ax: AxesLike = None,
) -> Figure:
    """Draw fronts of two groups, such as those before and after steering.

    Left the losses of the two groups, one against the other; right the metric along
    each front. What lies above and to the right of a front is worse for both groups.

    Args:
        fronts: Names and sampled fronts (:func:`jaxsteer.pareto.sample_front`).
        points: Names and single models: anything with ``group_losses`` ``[2]``,
            ``value`` and ``group_weights``, as a solution or a baseline.
        group_names: Names of the two groups, by code.
        metric_name: What the right panel shows.
        ax: Two axes to draw on; None makes a new figure.

    Returns:
        A figure with two panels.

    Raises:
        ValueError: If a front has not two groups.

    Example:
        Before and after steering::

            fronts = {"before": sample_front(data, Logistic(), metric),
                      "after": sample_front(steered, Logistic(), metric)}
            pareto_front(fronts, group_names=["f", "m"])
    """
    for name, front in fronts.items():
        if np.shape(front.group_losses)[-1] != 2:
            raise ValueError(
                f"front {name!r} has {np.shape(front.group_losses)[-1]} groups; this "
                "figure needs two, simplex_map shows three."
            )
    names = names_or_codes(group_names, 2)
    figure, ((losses, values),) = panels(ax, (1, 2), (8.6, 4.2))
    for i, (name, front) in enumerate(fronts.items()):
        style = line_style(i) | {"linewidth": 1.8}
        both, weights = np.asarray(front.group_losses), np.asarray(front.group_weights)
        order = np.argsort(weights[:, 0])
        losses.plot(both[order, 0], both[order, 1], label=name, **style)
        values.plot(weights[order, 0], np.asarray(front.value)[order], **style)
    for i, (name, point) in enumerate((points or {}).items()):
        # In the colors that the fronts take last.
        style = mark_style(len(MARKERS) - 1 - i % len(MARKERS))
        style |= {"marker": mark_style(i)["marker"]}
        style |= {"linestyle": "none", "markersize": 7}
        x, y = np.asarray(point.group_losses)
        losses.plot([x], [y], label=name, **style)
        weight = float(np.asarray(point.group_weights)[0])
        values.plot([weight], [float(point.value)], **style)
    losses.set_xlabel(wrapped(f"loss of {names[0]}", 44), fontsize=9)
    losses.set_ylabel(wrapped(f"loss of {names[1]}", 40), fontsize=9)
    values.set_xlabel(wrapped(f"weight of {names[0]}", 44), fontsize=9)
    values.set_ylabel(metric_name, fontsize=9)
    for one in (losses, values):
        clean(one)
    legend_below(figure, losses)
    return figure


def simplex_map(
    front: FittedModel,
    points: Mapping[str, FittedModel | ParetoSolution] | None = None,
    *,
    group_names: Sequence[object] = (),
    metric_name: str = "unfairness",
    ax: AxesLike = None,
) -> Figure:
    """Draw a metric over the group weights of three groups, as a triangle.

    Args:
        front: A sampled front of three groups.
        points: Names and single models, marked where their weights are.
        group_names: Names of the three groups, by code.
        metric_name: What the colors show.
        ax: Axes to draw on; None makes a new figure.

    Returns:
        A figure with one panel.

    Raises:
        ValueError: If the front has not three groups.

    Example:
        Of a front of three groups, and where a solution lies on it::

            front = sample_front(data, Logistic(), metric)
            simplex_map(front, {"fairest": solve_badr(data, Logistic(), metric)})
    """
    weights = np.asarray(front.group_weights)
    if weights.shape[-1] != 3:
        raise ValueError(
            f"the front has {weights.shape[-1]} groups; this figure needs three, "
            "pareto_front shows two."
        )
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
    figure, ((one,),) = panels(ax, (1, 1), (5.4, 5.0))
    place = weights @ corners
    shown = one.tricontourf(
        place[:, 0], place[:, 1], np.asarray(front.value), levels=20, cmap="cividis"
    )
    outline = corners[[0, 1, 2, 0]]
    one.plot(outline[:, 0], outline[:, 1], color=GRAY, linewidth=1)
    for i, (name, point) in enumerate((points or {}).items()):
        x, y = np.asarray(point.group_weights) @ corners
        one.plot(
            [x],
            [y],
            label=name,
            color="white",
            markeredgecolor="black",
            marker=MARKERS[i % len(MARKERS)],
            linestyle="none",
            markersize=8,
        )
    for corner, name, side in zip(
        corners, names_or_codes(group_names, 3), (-1, -1, 1), strict=True
    ):
        text = one.annotate(
            wrapped(f"all on {name}", 20),
            corner,
            xytext=(0, 6 * side),
            textcoords="offset points",
            ha="center",
            va="bottom" if side > 0 else "top",
            fontsize=9,
        )
        # The room below and above the triangle is theirs: it does not shrink for them.
        text.set_in_layout(False)
    one.set(aspect="equal", xlim=(-0.27, 1.27), ylim=(-0.26, 1.08))
    one.axis("off")
    figure.colorbar(shown, ax=ax, shrink=0.7, label=metric_name)
    if points:
        legend_below(figure, one)
    return figure
