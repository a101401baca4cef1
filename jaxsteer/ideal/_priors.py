"""New priors ``q~_ia = p_i s_a``: how class and group become independent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import log_or_zero
from jaxsteer.solvers import Differentiate, FixedPoint, fixed_point

PRIORS = ("reweigh", "balanced", "reference", "joint", "keep")
TILT = 6.0  # in nats: a factor of 400 for the class or group that is favored
UNROLLED_STEPS = 100  # from the end of the search, so that derivatives have settled


class JointPriors(NamedTuple):
    """Priors that minimize the total divergence together with the features."""

    weights: Float[Array, "K G"]
    search: FixedPoint


def joint_priors(
    priors: Float[Array, "K G"],
    cell_costs: Callable[[Array, Any], Array],
    args: Any,
    *,
    differentiate: Differentiate,
) -> JointPriors:
    """Minimize the divergence over class shares, group sizes and features together.

    Alternates ``p_i ~ exp(sum_a s_a (log q_ia - k_ia))``, the same for ``s``, and the
    feature program at the new weights, whose cell costs are ``k``. Each step lowers the
    total, which has several minima: a class or group that is costly to move may be
    given almost no weight instead. So the alternation runs from the source's shares and
    from shares tilted to each class and each group, and the lowest end is kept.

    Args:
        priors: ``[K, G]`` source priors, positive.
        cell_costs: From weights and `args` to ``[K, G]`` divergences ``KL(f~ || f)``.
        args: Everything differentiable that `cell_costs` needs.
        differentiate: How derivatives pass through the alternation.

    Returns:
        The new priors and how the alternation ended.
    """
    n_classes = priors.shape[0]

    def step(x: Array, args: Any):
        priors, inner = args
        log_share, log_size = x[:n_classes], x[n_classes:]
        weights = jnp.exp(log_share[:, None] + log_size)
        utility = log_or_zero(priors) - cell_costs(weights, inner)
        log_share = jax.nn.log_softmax(utility @ jnp.exp(log_size))
        log_size = jax.nn.log_softmax(jnp.exp(log_share) @ utility)
        return jnp.concatenate([log_share, log_size])

    def total(x: Array, args: Any):
        priors, inner = args
        weights = jnp.exp(x[:n_classes, None] + x[n_classes:])
        costs = jnp.log(weights) - log_or_zero(priors) + cell_costs(weights, inner)
        return jnp.sum(weights * costs)

    limit = 100 * float(jnp.finfo(priors.dtype).eps)
    given = (priors, args)
    fixed = jax.lax.stop_gradient(given)
    ends = jax.lax.map(
        lambda x: fixed_point(step, x, fixed, tolerance=limit, differentiate="none").x,
        _starts(priors),
    )
    totals = jax.lax.map(lambda x: total(x, fixed), ends)
    best = ends[jnp.argmin(jnp.where(jnp.isfinite(totals), totals, jnp.inf))]
    most = UNROLLED_STEPS if differentiate == "unroll" else 1000
    found = fixed_point(
        step,
        best,
        given,
        max_steps=most,
        tolerance=limit,
        differentiate=differentiate,
    )
    log_share, log_size = found.x[:n_classes], found.x[n_classes:]
    return JointPriors(jnp.exp(log_share[:, None] + log_size), found)


def _starts(priors: Float[Array, "K G"]) -> Float[Array, "S m"]:
    """Log-shares of classes and groups: the source's, and tilted to each in turn."""
    k, g = priors.shape
    own = jnp.concatenate([jnp.sum(priors, 1), jnp.sum(priors, 0)])
    tilt = jnp.concatenate([jnp.zeros((1, k + g)), TILT * jnp.eye(k + g)])
    logs = jnp.log(own) + tilt.astype(priors.dtype)
    return jnp.concatenate(
        [jax.nn.log_softmax(logs[:, :k], -1), jax.nn.log_softmax(logs[:, k:], -1)], -1
    )
