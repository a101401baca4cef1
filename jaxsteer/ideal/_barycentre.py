"""Programs of families on which no map acts: ideal means equal across groups.

The law that all groups get minimizes ``sum_a w_a KL(f || f_a)``: within an exponential
family its natural parameters are the weighted mean of theirs.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.families import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Geometric,
    Poisson,
    VonMises,
)
from jaxsteer.ideal._orbit import Orbit, closed_form_orbit
from jaxsteer.ideal._stacks import at
from jaxsteer.maps import IdentityMap


def _same(law):
    return law


def _from_circle(point):
    across, along = point
    return VonMises(jnp.arctan2(across, along), jnp.hypot(across, along))


def _from_log_failure(log_failure):
    # p = 1 - exp(log_failure); its logit is log(p) - log_failure.
    return Geometric(jnp.log(-jnp.expm1(log_failure)) - log_failure)


# To natural parameters (up to what the mean does not see) and back.
NATURAL = {
    Bernoulli: (_same, _same),
    Beta: (_same, _same),
    Categorical: (
        lambda law: Categorical(jax.nn.log_softmax(law.logits, -1)),
        lambda law: Categorical(jax.nn.log_softmax(law.logits, -1)),
    ),
    Dirichlet: (_same, _same),
    Geometric: (lambda law: -jax.nn.softplus(law.logits), _from_log_failure),
    Poisson: (
        lambda law: jnp.log(law.rate),
        lambda log_rate: Poisson(jnp.exp(log_rate)),
    ),
    VonMises: (
        lambda law: (
            law.concentration * jnp.sin(law.loc),
            law.concentration * jnp.cos(law.loc),
        ),
        _from_circle,
    ),
}


def barycentre(laws: Any, share: Float[Array, "K G"]) -> Any:
    """The law ``f_i`` of least ``sum_a share_ia KL(f_i || f_ia)`` within the family.

    Args:
        laws: Batch ``[K, G]``, of a family in :data:`NATURAL`.
        share: ``[K, G]`` weights; each row sums to 1.

    Returns:
        Batch ``[K]``.

    References:
        Banerjee et al. 2005, "Clustering with Bregman divergences", proposition 1, for
        the divergence with its arguments exchanged.
    """
    to_natural, from_natural = NATURAL[type(laws)]

    def mean(leaf: Array) -> Array:
        own = share.reshape(share.shape + (1,) * (leaf.ndim - 2))
        # A value that no group allows has the natural parameter -inf.
        return jnp.sum(jnp.where(own > 0, own * leaf, 0.0), 1)

    return from_natural(jax.tree.map(mean, to_natural(laws)))


def common_orbit(
    cells: Any, weights: Float[Array, "K G"], reference: int, *, all_groups: bool
) -> Orbit:
    """Every group gets one law: the reference group's, or the barycentre."""
    template = at(cells, slice(None), reference)
    if all_groups:
        template = barycentre(cells, weights / jnp.sum(weights, 1, keepdims=True))
    maps = IdentityMap(jnp.zeros(weights.shape[1], weights.dtype))
    return closed_form_orbit(template, maps, weights.dtype)
