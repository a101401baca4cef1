"""Rates of a rule on cells of any family, by simulation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float, Key
from jaxsteer.audit._bayes_rule import expected_costs, log_priors, pooled
from jaxsteer.population import Population


def mc_rates(
    pop: Population,
    decider: Population | None,
    cost: Float[Array, "K K"],
    rule: str | Callable,
    to_rows: Callable[[Array], Array],
    key: Key[Array, ""],
    *,
    n_points: int,
) -> tuple[Float[Array, "J K G"], Float[Array, "J K G"]]:
    """Rates of a rule on each cell and their standard errors.

    Args:
        pop: The population to measure on, without a shared bijection.
        decider: The population whose Bayes rule it is; None for a rule that is a
            function.
        cost: The cost matrix.
        rule: "group_aware", "group_blind", or the function itself.
        to_rows: From points to rows, for a function.
        key: Randomness of the samples.
        n_points: Samples of each cell.

    Returns:
        Shares of the samples and their binomial standard errors.
    """
    k, g = pop.priors.shape

    def log_joint(decider: Population, i, a, x):
        return decider.cell(i, a).log_prob(x) + log_priors(decider.priors)[i, a]

    def decide(x, a):
        if decider is None:
            assert callable(rule)
            return rule(to_rows(x), a)
        classes, groups = jnp.arange(k), jnp.arange(g)
        in_group = jax.vmap(partial(log_joint, decider, x=x), (0, None))
        if rule == "group_aware":
            logs = in_group(classes, a)
        else:
            logs = pooled(jax.vmap(in_group, (None, 0), 1)(classes, groups))
        return jnp.argmin(expected_costs(logs, cost), 0)

    def one(item):
        i, a, own_key = item
        decision = decide(pop.cell(i, a).sample(own_key, (n_points,)), a)
        hit = decision == jnp.arange(k)[:, None]
        return jnp.mean(hit, -1, dtype=pop.priors.dtype)

    i, a = (code.ravel() for code in jnp.meshgrid(jnp.arange(k), jnp.arange(g)))
    rates = jax.lax.map(one, (i, a, jax.random.split(key, k * g)))
    rates = jnp.swapaxes(rates.reshape(g, k, k), 0, 2)
    return rates, jnp.sqrt(rates * (1 - rates) / n_points)
