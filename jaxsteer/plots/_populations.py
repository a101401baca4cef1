"""Populations of one feature: their densities, and what fairness costs on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsteer.plots._style import (
    AxesLike,
    clean,
    distinct,
    legend_below,
    line_style,
    names_or_codes,
    panels,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxsteer.audit import PriceOfFairness
    from jaxsteer.population import Population


def population_densities(
    populations: Mapping[str, Population],
    *,
    label_names: Sequence[object] = (),
    group_names: Sequence[object] = (),
    points: int = 400,
    ax: AxesLike = None,
) -> Figure:
    """Draw every cell's density, weighted by its prior: a panel a population.

    Args:
        populations: Populations of one continuous feature by title, such as before and
            after steering.
        label_names: Names of the classes, by code; a line style each.
        group_names: Names of the groups, by code; a color each.
        points: Points of each line.
        ax: Axes to draw on, one for each population; None makes a new figure.

    Returns:
        The figure; panels share their axes, so that what moved is seen. They reach from
        the .2% to the 99.8% quantile of all populations.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> cells = js.Normal(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.ones((2, 2)))
        >>> pop = js.Population(jnp.full((2, 2), 0.25), cells)
        >>> len(population_densities({"as it is": pop}, group_names=["f", "m"]).axes)
        1
    """
    pops = list(populations.values())
    spans = [_span(pop) for pop in pops]
    low, high = min(s[0] for s in spans), max(s[1] for s in spans)
    x = np.linspace(low, high, points)
    k, g = pops[0].priors.shape
    labels = distinct([str(name) for name in label_names])
    labels = labels or [f"class {i}" for i in range(k)]
    groups = names_or_codes(group_names, g)
    size = 3.4 * len(pops), 3.1
    figure, ((*axes,),) = panels(ax, (1, len(pops)), size, sharex=True, sharey=True)
    for one, (title, pop) in zip(axes, populations.items(), strict=True):
        for i in range(k):
            for a in range(g):
                law: Any = pop.cell(i, a)
                density = np.exp(np.asarray(law.log_prob(x)))
                one.plot(
                    x,
                    float(pop.priors[i, a]) * density,
                    linewidth=1.5,
                    label=f"{labels[i]}, {groups[a]}",
                    **line_style(a, dash=i, dashes=max(2, k)),
                )
        one.set_title(title, fontsize=10)
        one.set_xlabel("feature", fontsize=9)
        clean(one)
    axes[0].set_ylabel("prior times density", fontsize=9)
    legend_below(figure, axes[-1])
    return figure


def _span(pop: Any) -> tuple[float, float]:
    """Where the densities are: from the 0.2% to the 99.8% quantile of samples."""
    x, _, _ = pop.sample(jax.random.key(0), 4000)
    low, high = np.quantile(np.asarray(x), (0.002, 0.998))
    return float(low), float(high)


def price_curves(
    curve: PriceOfFairness, ratios: Sequence[float], *, ax: AxesLike = None
) -> Figure:
    """Draw what fairness costs over cost ratios, and the gaps that it removes.

    Args:
        curve: A :class:`jaxsteer.audit.PriceOfFairness` of as many costs.
        ratios: ``[C]`` what they stand for on the axis, such as the costs of a false
            positive beside a false negative's 1.
        ax: Two axes to draw on; None makes a new figure.

    Returns:
        The figure: risks on the source on the left, largest rate gaps on the right.

    Example:
        ::

            ratios = jnp.logspace(-1, 1, 20)  # cost of a false positive
            price_curves(js.price_of_fairness(pop, ratios / (1 + ratios)), ratios)
    """
    figure, ((left, right),) = panels(ax, (1, 2), (8.6, 3.4))
    rules = {
        "source's own rule": curve.source,
        "target's rule, on the source": curve.transferred,
        "target's rule, on the target": curve.target,
    }
    for index, (name, rates) in enumerate(rules.items()):
        style = line_style(index) | {"linewidth": 1.5, "label": name}
        left.plot(ratios, np.asarray(rates.risk), **style)
        gaps = np.asarray(jax.vmap(lambda one: one.rate_gaps.max())(rates))
        right.plot(ratios, gaps, **style)
    for one, title in ((left, "risk"), (right, "largest rate gap")):
        one.set_xscale("log")
        one.set_title(title, fontsize=10)
        one.set_xlabel("cost of a false positive / a false negative", fontsize=9)
        clean(one)
    legend_below(figure, left)
    return figure
