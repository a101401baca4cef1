"""The true-positive-rate gap of every class, and its root mean square."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsteer._types import Array, Float
from jaxsteer.audit._measure import measure
from jaxsteer.audit._metric import Metric
from jaxsteer.audit._table import recall, spread

__all__ = ["TPR_GAP", "TPR_GAP_PER_CLASS", "tpr_gap", "tpr_gap_per_class"]


def _tpr_gap_per_class(
    table: Float[Array, "K K G"], positive: int
) -> Float[Array, " K"]:
    del positive
    rates = recall(table)
    if table.shape[2] == 2:
        return rates[:, 1] - rates[:, 0]
    return spread(rates)


def _tpr_gap(table: Float[Array, "K K G"], positive: int) -> Float[Array, ""]:
    return jnp.sqrt(jnp.mean(jnp.square(_tpr_gap_per_class(table, positive))))


TPR_GAP = Metric(name="tpr_gap", support="cells", formula=_tpr_gap)
TPR_GAP_PER_CLASS = Metric(
    name="tpr_gap_per_class",
    support="cells",
    formula=_tpr_gap_per_class,
    per_class=True,
)


def tpr_gap(
    label: ArrayLike,
    prediction: ArrayLike,
    group: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> Float[Array, ""]:
    """Return the root mean square over classes of the true-positive-rate gap.

    `sqrt(1/K sum_i GAP_i^2)` with `GAP_i` as in `tpr_gap_per_class`.

    Args:
        label: true class codes 0..K-1, `[n]`.
        prediction: predicted class codes 0..K-1, `[n]`.
        group: group codes 0..G-1, `[n]`.
        weights: non-negative row weights, `[n]`; None counts every row once.
        n_classes: K, needed under `jax.jit` and `jax.vmap`.
        n_groups: G, needed under `jax.jit` and `jax.vmap`.

    Returns:
        A scalar in 0..1; NaN under tracing where a class has no row in a group.
        Cost O(n).

    Raises:
        ValueError: the arrays are not codes of one length, there is a single group,
            or a class has no row in a group.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
        >>> print(f"{tpr_gap(label, np.array([0, 1, 1, 1]), group):.4f}")
        0.7071

    References:
        De-Arteaga et al. (2019), "Bias in bios" (the gap per class); Ravfogel et al.
        (2020), "Null it out" (its root mean square).
    """
    return measure(
        TPR_GAP,
        label,
        group,
        prediction=prediction,
        weights=weights,
        n_classes=n_classes,
        n_groups=n_groups,
    )


def tpr_gap_per_class(
    label: ArrayLike,
    prediction: ArrayLike,
    group: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> Float[Array, " K"]:
    """Return every class's true-positive-rate gap.

    For two groups the signed `TPR_{i,1} - TPR_{i,0}`, so that a negative gap means
    that group 1 is found less often; for more groups, where no sign makes sense, the
    largest minus the smallest rate.

    Args:
        label: true class codes 0..K-1, `[n]`.
        prediction: predicted class codes 0..K-1, `[n]`.
        group: group codes 0..G-1, `[n]`.
        weights: non-negative row weights, `[n]`; None counts every row once.
        n_classes: K, needed under `jax.jit` and `jax.vmap`.
        n_groups: G, needed under `jax.jit` and `jax.vmap`.

    Returns:
        `[K]`, each in -1..1 for two groups and in 0..1 for more; NaN under tracing
        for a class without rows in some group. Cost O(n).

    Raises:
        ValueError: the arrays are not codes of one length, there is a single group,
            or a class has no row in a group.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
        >>> print(tpr_gap_per_class(label, np.array([0, 1, 1, 1]), group))
        [-1.  0.]

    References:
        De-Arteaga et al. (2019), "Bias in bios: a case study of semantic
        representation bias in a high-stakes setting".
    """
    return measure(
        TPR_GAP_PER_CLASS,
        label,
        group,
        prediction=prediction,
        weights=weights,
        n_classes=n_classes,
        n_groups=n_groups,
    )
