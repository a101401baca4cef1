"""Rates of a rule on one discrete feature, by summing over its values."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.audit._bayes_quadrature import Scores
from jaxsteer.audit._bayes_rule import with_point_axis
from jaxsteer.families import Bernoulli, Categorical


def summed_rates(
    scores: Scores, cells: Any, n_values: int
) -> tuple[Float[Array, "J K G"], Float[Array, "J K G"]]:
    """Rates of a rule on each cell, and the mass that the sums left out.

    Args:
        scores: The costs of the decisions; see ``Scores``.
        cells: Laws of one discrete feature, batch ``[K, G]``.
        n_values: Counts ``0..n_values-1`` that are summed over; families of finitely
            many values take those.

    Returns:
        The rates, counts beyond the last being decided as the last one is, and how much
        of each rate is due to them.
    """
    n_groups = jnp.shape(next(iter(vars(cells).values())))[1]
    values = jnp.arange(_n_values(cells, n_values), dtype=jnp.float32)
    mass = jnp.exp(with_point_axis(cells).log_prob(values))
    x = jnp.broadcast_to(values, (n_groups, len(values))).astype(mass.dtype)
    cost = scores(x)
    chosen = jnp.argmin(cost, 0) == jnp.arange(len(cost))[:, None, None]
    inside = jnp.sum(jnp.where(chosen[:, None], mass, 0.0), -1)
    beyond = jnp.where(chosen[:, None, :, -1], 1 - jnp.sum(mass, -1), 0.0)
    if isinstance(cells, Bernoulli | Categorical):
        return inside, jnp.zeros_like(inside)
    beyond = jnp.maximum(beyond, 0.0)
    return inside + beyond, beyond


def _n_values(cells: Any, n_values: int) -> int:
    if isinstance(cells, Bernoulli):
        return 2
    if isinstance(cells, Categorical):
        return cells.logits.shape[-1]
    return n_values
