"""Accuracy, and accuracy with every class counting the same."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsteer._types import Array, Float
from jaxsteer.audit._measure import measure
from jaxsteer.audit._metric import Metric
from jaxsteer.audit._table import divide, recall

__all__ = ["ACCURACY", "BALANCED_ACCURACY", "accuracy", "balanced_accuracy"]


def _accuracy(table: Float[Array, "K K G"], positive: int) -> Float[Array, ""]:
    del positive
    return divide(jnp.einsum("iia->", table), jnp.sum(table))


def _balanced_accuracy(table: Float[Array, "K K G"], positive: int) -> Float[Array, ""]:
    del positive
    return jnp.mean(recall(jnp.sum(table, axis=2, keepdims=True)))


ACCURACY = Metric(name="accuracy", support="rows", formula=_accuracy, compares=False)
BALANCED_ACCURACY = Metric(
    name="balanced_accuracy",
    support="classes",
    formula=_balanced_accuracy,
    compares=False,
)


def accuracy(
    label: ArrayLike,
    prediction: ArrayLike,
    group: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> Float[Array, ""]:
    """Return the share of right predictions, `P(prediction = label)`.

    Args:
        label: true class codes 0..K-1, `[n]`.
        prediction: predicted class codes 0..K-1, `[n]`.
        group: group codes 0..G-1, `[n]`; they do not change the value, and are
            taken so that every metric is called the same way.
        weights: non-negative row weights, `[n]`; None counts every row once.
        n_classes: K, needed under `jax.jit` and `jax.vmap`.
        n_groups: G, needed under `jax.jit` and `jax.vmap`.

    Returns:
        A scalar in 0..1. Cost O(n).

    Raises:
        ValueError: the arrays are not codes of one length, or all weights are zero.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
        >>> print(accuracy(label, np.array([0, 1, 1, 1]), group))
        0.75
    """
    return measure(
        ACCURACY,
        label,
        group,
        prediction=prediction,
        weights=weights,
        n_classes=n_classes,
        n_groups=n_groups,
    )


def balanced_accuracy(
    label: ArrayLike,
    prediction: ArrayLike,
    group: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> Float[Array, ""]:
    """Return the mean of the recalls, `1/K sum_i P(prediction = i | label = i)`.

    Args:
        label: true class codes 0..K-1, `[n]`.
        prediction: predicted class codes 0..K-1, `[n]`.
        group: group codes 0..G-1, `[n]`; they do not change the value.
        weights: non-negative row weights, `[n]`; None counts every row once.
        n_classes: K, needed under `jax.jit` and `jax.vmap`.
        n_groups: G, needed under `jax.jit` and `jax.vmap`.

    Returns:
        A scalar in 0..1; NaN under tracing where a class has no row. Cost O(n).

    Raises:
        ValueError: the arrays are not codes of one length, or a class has no row.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1])
        >>> print(balanced_accuracy(label, np.array([0, 0, 0, 0]), group))
        0.5
    """
    return measure(
        BALANCED_ACCURACY,
        label,
        group,
        prediction=prediction,
        weights=weights,
        n_classes=n_classes,
        n_groups=n_groups,
    )
