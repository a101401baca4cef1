"""``price_of_fairness``: what exact fairness costs, over a range of cost ratios."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._compilation import broadcasting
from jaxsteer._errors import check_finite
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float
from jaxsteer.audit._rates import BayesRates, bayes_rates
from jaxsteer.ideal import nearest_ideal
from jaxsteer.population import Population, check_population
from jaxsteer.steering import Steering


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PriceOfFairness:
    """Three rules over a range of costs, each as :class:`BayesRates` with axis ``C``.

    Attributes:
        costs: ``[C, K, K]`` the cost matrices.
        source: The source's Bayes rule on the source: the least risk there is.
        target: The ideal target's Bayes rule on the target, where it is exactly fair.
        transferred: The target's rule on the source: what is had by using the fair rule
            on data that were not steered class by class.
    """

    costs: Float[Array, "C K K"]
    source: BayesRates
    target: BayesRates
    transferred: BayesRates

    @property
    def price(self) -> Float[Array, " C"]:
        """Risk of the target's rule on the source above the least possible there."""
        return self.transferred.risk - self.source.risk


@broadcasting
def price_of_fairness(
    pop: Population,
    costs: Float[ArrayLike, " C"] | Float[ArrayLike, "C K K"],
    steering: Steering | None = None,
    *,
    method: str = "auto",
    n_points: int = 2**14,
    **options: Any,
) -> PriceOfFairness:
    """Risk, error and gaps before and after steering, for each of many costs.

    Args:
        pop: The population.
        costs: ``[C, K, K]`` matrices as for :func:`jaxsteer.bayes_rates`, or for two
            classes ``[C]`` ratios: the cost of a false positive, that of a false
            negative being 1.
        steering: A solved problem for `pop`; None solves it here.
        method: As for :func:`jaxsteer.bayes_rates`.
        n_points: Likewise.
        **options: For :func:`jaxsteer.nearest_ideal`, where `steering` is None.

    Returns:
        The curves; ``rate_gaps`` (for two classes FPR and TPR) and ``selection_gap`` of
        each are the largest differences between groups. One cost after the other, so
        that memory is that of one call.

    Raises:
        ValueError: If `costs` has another shape, options come with a steering, or the
            steering is a channel.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> cells = js.Normal(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.ones((2, 2)))
        >>> pop = js.Population(jnp.full((2, 2), 0.25), cells)
        >>> curve = js.audit.price_of_fairness(pop, jnp.array([0.5, 1.0, 2.0]))
        >>> bool((curve.price >= 0).all()), bool((curve.target.rate_gaps < 1e-5).all())
        (True, True)
    """
    check_population(pop)
    if steering is None:
        steering = nearest_ideal(pop, **options)
    elif options:
        raise ValueError(
            f"{', '.join(sorted(options))}: options are for the solve, and a steering "
            "was given; leave one of the two out."
        )
    if steering.noise is not None:
        raise ValueError(
            "steering is a channel, whose target is not in the coordinates of pop; use "
            "jaxsteer.nearest_ideal."
        )
    matrices = _matrices(costs, pop)
    target = steering.target
    source, ideal, transferred = _rules(
        pop, target, matrices, method=method, n_points=n_points
    )
    return PriceOfFairness(
        costs=matrices, source=source, target=ideal, transferred=transferred
    )


@partial(jax.jit, static_argnames=("method", "n_points"))
def _rules(
    pop: Population, target: Population, matrices: Array, **settings: Any
) -> tuple[BayesRates, BayesRates, BayesRates]:
    """Rates of the source's rules, the target's, and the target's on the source."""

    def rules(cost: Array):
        return (
            bayes_rates(pop, cost, **settings),
            bayes_rates(target, cost, **settings),
            bayes_rates(pop, cost, rule=target, **settings),
        )

    return jax.lax.map(rules, matrices)


def _matrices(costs: Any, pop: Population) -> Float[Array, "C K K"]:
    check_finite("costs", costs)
    costs = jnp.asarray(costs, pop.priors.dtype)
    k = pop.n_classes
    if costs.ndim == 1 and k == 2:
        zero, one = jnp.zeros_like(costs), jnp.ones_like(costs)
        rows = (jnp.stack([zero, one], -1), jnp.stack([costs, zero], -1))
        return jnp.stack(rows, -2)
    if costs.ndim != 3 or costs.shape[1:] != (k, k):
        short = " or [C] ratios" if k == 2 else ""
        raise ValueError(
            f"costs must have shape [C, {k}, {k}]{short}, got {list(costs.shape)}."
        )
    return costs
