"""Demographic parity: do groups receive the same predictions?"""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsteer._types import Array, Float
from jaxsteer.audit._measure import measure
from jaxsteer.audit._metric import Metric
from jaxsteer.audit._table import divide, spread

__all__ = ["DEMOGRAPHIC_PARITY", "demographic_parity"]


def _demographic_parity(
    table: Float[Array, "K K G"], positive: int
) -> Float[Array, ""]:
    del positive
    chosen = jnp.sum(table, axis=0)
    return jnp.max(spread(divide(chosen, jnp.sum(chosen, axis=0, keepdims=True))))


DEMOGRAPHIC_PARITY = Metric(
    name="demographic_parity", support="groups", formula=_demographic_parity
)


def demographic_parity(
    label: ArrayLike,
    prediction: ArrayLike,
    group: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> Float[Array, ""]:
    """Return the largest difference of a selection rate between two groups.

    `max_i (max_a - min_a) P(prediction = i | group = a)`; with two classes this is
    the familiar difference of the positive rates.

    Args:
        label: true class codes 0..K-1, `[n]`; only their number matters here.
        prediction: predicted class codes 0..K-1, `[n]`.
        group: group codes 0..G-1, `[n]`.
        weights: non-negative row weights, `[n]`; None counts every row once.
        n_classes: K, needed under `jax.jit` and `jax.vmap`.
        n_groups: G, needed under `jax.jit` and `jax.vmap`.

    Returns:
        A scalar in 0..1, 0 where parity holds; NaN under tracing where a group has no
        row. Cost O(n).

    Raises:
        ValueError: the arrays are not codes of one length, there is a single group,
            or a group has no row.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
        >>> print(demographic_parity(label, np.array([0, 1, 1, 1]), group))
        0.5

    References:
        Dwork, Hardt, Pitassi, Reingold and Zemel (2012), "Fairness through awareness".
    """
    return measure(
        DEMOGRAPHIC_PARITY,
        label,
        group,
        prediction=prediction,
        weights=weights,
        n_classes=n_classes,
        n_groups=n_groups,
    )
