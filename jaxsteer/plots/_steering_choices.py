"""Where to steer, and how much: what :mod:`jaxsteer.nn`'s choices rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsteer.plots._style import (
    COLORS,
    GRAY,
    AxesLike,
    clean,
    legend_below,
    panels,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxsteer.nn._choose_layer import LayerChoice
    from jaxsteer.nn._choose_strength import StrengthChoice


def layer_choice(choice: LayerChoice, *, ax: AxesLike = None) -> Figure:
    """Draw the figures of each layer; a panel for each that was computed.

    Training rows are hollow, the others filled; a line marks the chosen layer.

    Args:
        choice: What :func:`jaxsteer.nn.choose_layer` returned.
        ax: Axes to draw on, one for each panel; None makes a new figure.

    Returns:
        The figure.

    Example:
        ::

            choice = choose_layer(model, paths, tokens, label, group, train=train, key=key)
            layer_choice(choice).savefig("layers.png")
    """
    place = np.arange(len(choice.paths))
    count = 1 + (choice.left is not None) + bool(choice.strengths)
    names = shortened([str(path) for path in choice.paths], 30)
    # Names stand at 45 degrees below the panels.
    size = 4.3 * count, 3.3 + 0.05 * max(map(len, names))
    figure, ((first, *axes),) = panels(ax, (1, count), size)
    panes = [first, *axes]
    gap, low, high = (
        np.asarray(a) for a in (choice.gap_others, choice.low, choice.high)
    )
    first.vlines(place, low, high, color=COLORS[0], linewidth=1.5)
    _pair(first, place, choice.gap, gap)
    first.set_title(f"ideality gap ({choice.path} by {choice.rule})")
    first.set_ylabel("nats")
    if choice.left is not None and choice.unsteered is not None:
        one = axes.pop(0)
        _pair(one, place, choice.left, choice.left_others)
        one.axhline(float(choice.unsteered[1]), color=GRAY, linestyle="--")
        one.set_title("gap at the later layer, steered here")
    if choice.strengths:
        one = axes.pop(0)
        seen, others = (
            np.array([_best(one, train) for one in choice.strengths])
            for train in (True, False)
        )
        _pair(one, place, seen, others)
        one.set_title("effect at the strength chosen")
    for one in panes:
        clean(one)
        one.axvline(int(choice.best), color=GRAY, linewidth=0.8, zorder=0)
        one.set_xticks(place, names, rotation=45, ha="right")
    legend_below(figure, first)
    return figure


def strength_choice(choice: StrengthChoice, *, ax: AxesLike = None) -> Figure:
    """Draw effect, divergence and perplexity over the strength.

    Args:
        choice: What :func:`jaxsteer.nn.choose_strength` returned.
        ax: Three axes to draw on; None makes a new figure.

    Returns:
        The figure.

    Example:
        ::

            choice = choose_strength(model, tokens, effect, strengths=s, train=train)
            strength_choice(choice).savefig("strength.png")
    """
    figure, ((*axes,),) = panels(ax, (1, 3), (12.9, 3.9))
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
    for one, (name, title) in zip(axes, titles.items(), strict=True):
        _pair(one, x, seen[name], others[name], line="-")
        one.set_title(title)
        one.set_xlabel("strength")
        clean(one)
        if int(choice.best) >= 0:
            one.axvline(choice.strength, color=GRAY, linewidth=0.8, zorder=0)
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
