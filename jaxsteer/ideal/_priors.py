"""New priors ``q~_ia = p_i s_a``: how class and group become independent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer._varying import vary_together
from jaxsteer.linalg import log_or_zero
from jaxsteer.solvers import Differentiate, FixedPoint, at_root, fixed_point

PRIORS = ("reweigh", "balanced", "reference", "joint", "keep")
TILT = 6.0  # in nats: a factor of 400 for the class or group that is favored
MOST_STEPS = 1000
UNROLLED_STEPS = 100  # from the end of the search, so that derivatives have settled


class NewPriors(NamedTuple):
    """New priors ``[K, G]``, and how the search for them ended."""

    weights: Float[Array, "K G"]
    residual: Float[Array, ""]
    steps: Array


def joint_priors(
    priors: Float[Array, "K G"],
    cell_costs: Callable[[Array, Any], Array],
    args: Any,
    *,
    differentiate: Differentiate,
) -> NewPriors:
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
        The new priors; their residual is the largest change of a log-share.
    """
    n_classes = priors.shape[0]

    def log_weights_of(x: Array) -> Array:
        return x[:n_classes, None] + x[n_classes:]

    def step(x: Array, args: Any) -> Array:
        return step_and_total(x, args)[0]

    def step_and_total(x: Array, args: Any) -> tuple[Array, Array]:
        priors, inner = args
        log_weights = log_weights_of(x)
        weights = jnp.exp(log_weights)
        utility = log_or_zero(priors) - cell_costs(weights, inner)
        total = jnp.sum(weights * (log_weights - utility))
        log_share = jax.nn.log_softmax(utility @ jnp.exp(x[n_classes:]))
        log_size = jax.nn.log_softmax(jnp.exp(log_share) @ utility)
        return jnp.concatenate([log_share, log_size]), total

    limit = 100 * float(jnp.finfo(priors.dtype).eps)
    given = (priors, args)
    fixed = jax.lax.stop_gradient(given)

    def alternate(state: Any) -> Any:
        x, _, _, count = state
        new, total = step_and_total(x, fixed)
        return new, total, jnp.max(jnp.abs(new - x)), count + 1

    def unfinished(state: Any) -> Array:
        _, _, change, count = state
        return (change > limit) & (count < MOST_STEPS)

    def run(start: Array) -> Any:
        far = jnp.full((), jnp.inf, priors.dtype)
        state = vary_together((start, far, far, jnp.zeros((), jnp.int32)), fixed)
        return jax.lax.while_loop(unfinished, alternate, state)

    # The feature program stands once in all of these, and is by far the largest part.
    ends, totals, changes, counts = jax.lax.map(run, _starts(fixed[0]))
    best = jnp.argmin(jnp.where(jnp.isfinite(totals), totals, jnp.inf))
    found = FixedPoint(ends[best], changes[best], counts[best])
    if differentiate == "unroll":
        found = fixed_point(
            step, found.x, given, max_steps=UNROLLED_STEPS, differentiate="unroll"
        )
    elif differentiate == "implicit":
        found = found._replace(x=at_root(lambda x: step(x, given) - x, found.x))
    return NewPriors(jnp.exp(log_weights_of(found.x)), found.change, found.steps)


def _starts(priors: Float[Array, "K G"]) -> Float[Array, "S m"]:
    """Log-shares of classes and groups: the source's, and tilted to each in turn."""
    k, g = priors.shape
    own = jnp.concatenate([jnp.sum(priors, 1), jnp.sum(priors, 0)])
    tilt = jnp.concatenate([jnp.zeros((1, k + g)), TILT * jnp.eye(k + g)])
    logs = jnp.log(own) + tilt.astype(priors.dtype)
    return jnp.concatenate(
        [jax.nn.log_softmax(logs[:, :k], -1), jax.nn.log_softmax(logs[:, k:], -1)], -1
    )
