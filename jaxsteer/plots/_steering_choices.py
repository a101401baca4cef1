"""Where to steer, and how much: what :mod:`jaxsteer.nn`'s choices rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsteer.plots._style import COLORS, GRAY, clean, legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxsteer.nn._choose_layer import LayerChoice
    from jaxsteer.nn._choose_strength import StrengthChoice


def layer_choice(choice: LayerChoice) -> Figure:
    """Draw the figures of each layer; a panel for each that was computed.

    Training rows are hollow, the others filled; a line marks the chosen layer.

    Args:
        choice: What :func:`jaxsteer.nn.choose_layer` returned.

    Returns:
        The figure.
    """
    place = np.arange(len(choice.paths))
    count = 1 + (choice.left is not None) + bool(choice.strengths)
    figure = new_figure(4.3 * count, 3.9)
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    first = axes.pop(0)
    gap, low, high = (
        np.asarray(a) for a in (choice.gap_others, choice.low, choice.high)
    )
    first.vlines(place, low, high, color=COLORS[0], linewidth=1.5)
    _pair(first, place, choice.gap, gap)
    first.set_title(f"ideality gap ({choice.path} by {choice.rule})")
    first.set_ylabel("nats")
    panels = [first]
    if choice.left is not None and choice.unsteered is not None:
        ax = axes.pop(0)
        _pair(ax, place, choice.left, choice.left_others)
        ax.axhline(float(choice.unsteered[1]), color=GRAY, linestyle="--")
        ax.set_title("gap at the later layer, steered here")
        panels.append(ax)
    if choice.strengths:
        ax = axes.pop(0)
        seen, others = (
            np.array([_best(one, train) for one in choice.strengths])
            for train in (True, False)
        )
        _pair(ax, place, seen, others)
        ax.set_title("effect at the strength chosen")
        panels.append(ax)
    for ax in panels:
        clean(ax)
        ax.axvline(int(choice.best), color=GRAY, linewidth=0.8, zorder=0)
        ax.set_xticks(place, choice.paths, rotation=45, ha="right")
    legend_below(figure, first)
    return figure


def strength_choice(choice: StrengthChoice) -> Figure:
    """Draw effect, divergence and perplexity over the strength.

    Args:
        choice: What :func:`jaxsteer.nn.choose_strength` returned.

    Returns:
        The figure.
    """
    figure = new_figure(12.9, 3.9)
    axes = figure.subplots(1, 3)
    x = np.asarray(choice.strengths)
    seen, others = choice.summary(train=True), choice.summary()
    axes[0].fill_between(
        x, others["low"], others["high"], color=COLORS[0], alpha=0.2, linewidth=0
    )
    titles = {
        "effect": "effect",
        "kl": "divergence of the next token's law, nats",
        "perplexity": "perplexity, multiple of the plain one",
    }
    for ax, (name, title) in zip(axes, titles.items(), strict=True):
        _pair(ax, x, seen[name], others[name], line="-")
        ax.set_title(title)
        ax.set_xlabel("strength")
        clean(ax)
        if int(choice.best) >= 0:
            ax.axvline(choice.strength, color=GRAY, linewidth=0.8, zorder=0)
    legend_below(figure, axes[0])
    return figure


def _best(choice: Any, train: bool) -> float:
    effect = choice.summary(train=train)["effect"]
    return float(effect[choice.best]) if int(choice.best) >= 0 else 0.0


def _pair(ax: Any, x: Any, train: Any, others: Any, line: str = "none") -> None:
    style = {"linestyle": line, "marker": "o", "color": COLORS[0]}
    ax.plot(
        x, np.asarray(train), markerfacecolor="none", label="training rows", **style
    )
    ax.plot(x, np.asarray(others), label="other rows", **style)
