"""Bayes rules: from the cells' log-densities to expected costs and decisions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import einsum

RULES = ("group_aware", "group_blind")


def cost_matrix(cost: Any, n_classes: int, dtype: Any) -> Float[Array, "K K"]:
    """Return the cost matrix, 0/1 for None.

    Raises:
        ValueError: If the shape is not ``[K, K]``.
    """
    if cost is None:
        return 1 - jnp.eye(n_classes, dtype=dtype)
    if jnp.shape(cost) != (n_classes, n_classes):
        raise ValueError(
            f"cost must have shape [{n_classes}, {n_classes}], cost[j, i] of predicting "
            f"j where i is true, got {list(jnp.shape(cost))}; None is 0/1 cost."
        )
    return jnp.asarray(cost, dtype)


def log_priors(priors: Float[Array, "K G"]) -> Float[Array, "K G"]:
    """Logarithms of the priors; ``-inf``, with gradient 0, for empty cells."""
    positive = priors > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, priors, 1.0)), -jnp.inf)


def expected_costs(
    log_joint: Float[Array, "K ..."], cost: Float[Array, "K K"]
) -> Float[Array, "K ..."]:
    """Posterior expected cost of each prediction; 0 for all where nothing can be.

    Args:
        log_joint: Log of ``q_i f_i(x)``, the classes in front.
        cost: ``cost[j, i]`` of predicting ``j`` where ``i`` is true.
    """
    peak = jax.lax.stop_gradient(jnp.max(log_joint, 0))
    weight = jnp.exp(log_joint - jnp.where(jnp.isfinite(peak), peak, 0.0))
    total = jnp.sum(weight, 0)
    posterior = weight / jnp.where(total > 0, total, 1.0)
    return einsum("ji,i...->j...", cost, posterior)


def pooled(log_joint: Float[Array, "K G ..."]) -> Float[Array, "K ..."]:
    """Sum over groups: what a rule sees that does not see the group."""
    return jax.nn.logsumexp(log_joint, 1)
