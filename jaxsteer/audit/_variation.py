"""Total variation between laws: bounds from KL divergences, exact on the line."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.audit._bayes_normal import heavier
from jaxsteer.audit._bayes_quadrature import region_masses
from jaxsteer.audit._bayes_rule import line_costs
from jaxsteer.families import Normal


def variation_bound(kl: Float[Array, "..."]) -> Float[Array, "..."]:
    """``min(sqrt(KL / 2), sqrt(1 - exp(-KL)))``, at least the total variation.

    References:
        Pinsker's inequality; Bretagnolle and Huber 1979.
    """
    kl = jnp.maximum(kl, 0.0)
    return jnp.sqrt(jnp.minimum(kl / 2, -jnp.expm1(-kl)))


def excess_mass(
    first: Any,
    second: Any,
    first_weight: Float[Array, "K G"],
    second_weight: Float[Array, "K G"],
    *,
    nodes: int,
) -> Float[Array, "K G"]:
    """``integral (second_weight second - first_weight first)_+``, cell by cell.

    With weights 1 this is the total variation. Exact for normals, by quadrature for
    other univariate families.
    """
    if isinstance(first, Normal):
        region = heavier(first, second, first_weight, second_weight)
        masses = region.mass(second), region.mass(first)
    else:
        # Every cell is a problem of its own: two laws, batch [2, K G].
        both = jax.tree.map(
            lambda a, b: jnp.stack([a, b]).reshape(2, -1, *a.shape[2:]), first, second
        )
        weights = jnp.stack([first_weight, second_weight]).reshape(2, -1)
        scores = line_costs(both, weights, 1 - jnp.eye(2, dtype=weights.dtype))
        chosen = region_masses(scores, both, [both], nodes=nodes)[1]
        chosen = chosen.reshape(2, *first_weight.shape)
        masses = chosen[1], chosen[0]
    return second_weight * masses[0] - first_weight * masses[1]


def mixture_variation(
    first: Any,
    second: Any,
    first_share: Float[Array, "K G"],
    second_share: Float[Array, "K G"],
    *,
    nodes: int,
) -> Float[Array, " G"]:
    """Total variation of the groups' mixtures over classes, by quadrature.

    Args:
        first: Univariate cells, batch ``[K, G]``.
        second: Cells of the same family.
        first_share: ``[K, G]``, columns that sum to 1.
        second_share: Likewise.
        nodes: Grid nodes for each cell.
    """
    cells = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    shares = jnp.concatenate([first_share, second_share])
    k = len(first_share)
    # Predicting one mixture is wrong where the other one is true.
    cost = jnp.repeat(1 - jnp.eye(2, dtype=shares.dtype), k, axis=1)
    scores = line_costs(cells, shares, cost)
    masses = region_masses(scores, cells, [cells], nodes=nodes)
    signed = jnp.concatenate([-first_share, second_share])
    return jnp.maximum(jnp.sum(signed * masses[1], 0), 0.0)
