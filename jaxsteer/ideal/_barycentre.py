"""Programs of families on which no map acts: ideal means equal across groups.

The law that all groups get minimizes ``sum_a w_a KL(f || f_a)``: within an exponential
family its natural parameters are the weighted mean of theirs.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.families import Natural
from jaxsteer.ideal._orbit import Orbit, closed_form_orbit
from jaxsteer.ideal._stacks import at
from jaxsteer.maps import IdentityMap


def barycentre(laws: Any, share: Float[Array, "K G"], natural: Natural) -> Any:
    """The law ``f_i`` of least ``sum_a share_ia KL(f_i || f_ia)`` within the family.

    Args:
        laws: Batch ``[K, G]``, of an exponential family.
        share: ``[K, G]`` weights; each row sums to 1.
        natural: The family's natural parameters.

    Returns:
        Batch ``[K]``.

    References:
        Banerjee et al. 2005, "Clustering with Bregman divergences", proposition 1, for
        the divergence with its arguments exchanged.
    """

    def mean(leaf: Array) -> Array:
        own = share.reshape(share.shape + (1,) * (leaf.ndim - 2))
        # A value that no group allows has the natural parameter -inf.
        return jnp.sum(jnp.where(own > 0, own * leaf, 0.0), 1)

    return natural.law(jax.tree.map(mean, natural.of(laws)))


def common_orbit(
    cells: Any,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    natural: Natural,
    all_groups: bool,
) -> Orbit:
    """Every group gets one law: the reference group's, or the barycentre."""
    template = at(cells, slice(None), reference)
    if all_groups:
        share = weights / jnp.sum(weights, 1, keepdims=True)
        template = barycentre(cells, share, natural)
    maps = IdentityMap(jnp.zeros(weights.shape[1], weights.dtype))
    return closed_form_orbit(template, maps, weights.dtype)
