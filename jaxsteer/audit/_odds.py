"""Equal opportunity and equalized odds: do groups meet the same errors?"""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsteer._types import Array, Float
from jaxsteer.audit._measure import measure
from jaxsteer.audit._metric import Metric
from jaxsteer.audit._table import divide, recall, spread

__all__ = [
    "EQUALIZED_ODDS",
    "EQUAL_OPPORTUNITY",
    "equal_opportunity",
    "equalized_odds",
]


def _equal_opportunity(table: Float[Array, "K K G"], positive: int) -> Float[Array, ""]:
    return spread(recall(table)[positive])


def _equalized_odds(table: Float[Array, "K K G"], positive: int) -> Float[Array, ""]:
    del positive
    return jnp.max(spread(divide(table, jnp.sum(table, axis=1, keepdims=True))))


EQUAL_OPPORTUNITY = Metric(
    name="equal_opportunity", support="positive", formula=_equal_opportunity
)
EQUALIZED_ODDS = Metric(name="equalized_odds", support="cells", formula=_equalized_odds)


def equal_opportunity(
    label: ArrayLike,
    prediction: ArrayLike,
    group: ArrayLike,
    *,
    positive: int = 1,
    weights: ArrayLike | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> Float[Array, ""]:
    """Return the largest difference of one class's true-positive rate between groups.

    `(max_a - min_a) P(prediction = i | label = i, group = a)`, `i` the positive class.

    Args:
        label: true class codes 0..K-1, `[n]`.
        prediction: predicted class codes 0..K-1, `[n]`.
        group: group codes 0..G-1, `[n]`.
        positive: code of the class whose members should be found.
        weights: non-negative row weights, `[n]`; None counts every row once.
        n_classes: K, needed under `jax.jit` and `jax.vmap`.
        n_groups: G, needed under `jax.jit` and `jax.vmap`.

    Returns:
        A scalar in 0..1, 0 where opportunity is equal; NaN under tracing where a
        group has no row of the positive class. Cost O(n).

    Raises:
        ValueError: the arrays are not codes of one length, `positive` is no class,
            there is a single group, or a group has no row of the positive class.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([1, 1, 1, 1]), np.array([0, 0, 1, 1])
        >>> print(equal_opportunity(label, np.array([0, 1, 1, 1]), group))
        0.5

    References:
        Hardt, Price and Srebro (2016), "Equality of opportunity in supervised
        learning".
    """
    return measure(
        EQUAL_OPPORTUNITY,
        label,
        group,
        prediction=prediction,
        weights=weights,
        n_classes=n_classes,
        n_groups=n_groups,
        positive=positive,
    )


def equalized_odds(
    label: ArrayLike,
    prediction: ArrayLike,
    group: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> Float[Array, ""]:
    """Return the largest difference of a confusion rate between two groups.

    `max_ij (max_a - min_a) P(prediction = j | label = i, group = a)`; with two classes
    the larger of the true-positive and the false-positive gap.

    Args:
        label: true class codes 0..K-1, `[n]`.
        prediction: predicted class codes 0..K-1, `[n]`.
        group: group codes 0..G-1, `[n]`.
        weights: non-negative row weights, `[n]`; None counts every row once.
        n_classes: K, needed under `jax.jit` and `jax.vmap`.
        n_groups: G, needed under `jax.jit` and `jax.vmap`.

    Returns:
        A scalar in 0..1, 0 where the odds are equal; NaN under tracing where a class
        has no row in a group. Cost O(n + K^2 G).

    Raises:
        ValueError: the arrays are not codes of one length, there is a single group,
            or a class has no row in a group.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
        >>> print(equalized_odds(label, np.array([0, 1, 1, 1]), group))
        1.0

    References:
        Hardt, Price and Srebro (2016), "Equality of opportunity in supervised
        learning".
    """
    return measure(
        EQUALIZED_ODDS,
        label,
        group,
        prediction=prediction,
        weights=weights,
        n_classes=n_classes,
        n_groups=n_groups,
    )
