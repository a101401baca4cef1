"""Bayes rules: from the cells' log-densities to expected costs and decisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.families import (
    DiagonalNormal,
    LowRankNormal,
    MultivariateNormal,
    Normal,
    SharedBijection,
    traits_of,
)
from jaxsteer.linalg import einsum


class Cells(NamedTuple):
    """A population's cells, and the way back to rows of data.

    Attributes:
        law: The cells, batch ``[K, G]``, without the bijection that all share: it moves
            rows but changes no probability.
        to_rows: From points ``[n]`` or ``[n, d]`` in `law`'s coordinates to rows of
            data.
    """

    law: Any
    to_rows: Callable[[Array], Array]

    @property
    def discrete(self) -> bool:
        """Whether the feature is a count or a code."""
        traits = traits_of(self.law)
        return traits is not None and traits.discrete

    @property
    def on_line(self) -> bool:
        """Whether the features are one continuous number with a variance."""
        if self.discrete:
            return False
        spread = getattr(self.law, "cov", None)
        return spread is not None and jnp.ndim(spread) == 2


def base_cells(conditionals: Any) -> Cells:
    """Strip a shared bijection; a single feature becomes univariate."""
    law, to_rows = conditionals, _same
    if isinstance(law, SharedBijection):
        law, to_rows = law.base, law.bijection.forward
    if isinstance(law, LowRankNormal):
        law = law.to_dense()
    if isinstance(law, MultivariateNormal | DiagonalNormal) and law.mean.shape[-1] == 1:
        forward = to_rows
        scale = jnp.sqrt(law.cov[..., 0, 0])
        return Cells(Normal(law.mean[..., 0], scale), lambda z: forward(z[..., None]))
    return Cells(law, to_rows)


def _same(z: Array) -> Array:
    return z


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
    """Logarithms of the priors; ``-inf``, with gradient 0, for empty cells.

    NaN where a prior is no share.
    """
    positive = priors > 0
    empty = jnp.where(priors == 0, -jnp.inf, jnp.nan).astype(priors.dtype)
    return jnp.where(positive, jnp.log(jnp.where(positive, priors, 1.0)), empty)


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


def line_costs(
    law: Any, weights: Float[Array, "K G"], cost: Float[Array, "J K"]
) -> Callable[[Array], Array]:
    """Expected costs ``[J, G, n]`` at points ``[G, n]`` of the line, group by group.

    Args:
        law: Univariate laws, batch ``[K, G]``.
        weights: ``[K, G]`` weights of the laws, not negative.
        cost: ``cost[j, i]`` of predicting ``j`` where ``i`` is true.
    """
    law, log_weight = with_point_axis(law), log_priors(weights)[..., None]
    return lambda x: expected_costs(law.log_prob(x) + log_weight, cost)


def with_point_axis(law: Any) -> Any:
    """Laws with batch ``[C, B]`` as ``[C, B, 1]``: points ``[B, n]`` broadcast."""
    return jax.tree.map(lambda leaf: leaf[:, :, None], law)


def shares_in_group(priors: Float[Array, "K G"]) -> Float[Array, "K G"]:
    """Class shares of each group; 0 in an empty one."""
    size = jnp.sum(priors, 0)
    return priors / jnp.where(size > 0, size, 1.0)


def pooled(log_joint: Float[Array, "K G ..."]) -> Float[Array, "K ..."]:
    """Sum over groups: what a rule sees that does not see the group."""
    return jax.nn.logsumexp(log_joint, 1)
