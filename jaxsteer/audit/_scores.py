"""Metrics on a score: the largest gap over all thresholds, and the area under ROC."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, Float
from jaxsteer.audit._curves import Ties
from jaxsteer.audit._measure import measure
from jaxsteer.audit._metric import Metric
from jaxsteer.audit._table import divide, spread

__all__ = ["AUC", "SUP_DP_GAP", "SUP_FPR_GAP", "SUP_TPR_GAP", "auc", "sup_gap"]


def _sup(curve: Float[Array, "G n"], ties: Ties) -> Float[Array, ""]:
    rates = divide(curve, curve[:, -1:])
    return jnp.max(jnp.where(ties.is_last, spread(rates.T), 0))


def _sup_tpr_gap(curve: dict[int, Float[Array, "G n"]], ties: Ties) -> Array:
    return _sup(curve[1], ties)


def _sup_fpr_gap(curve: dict[int, Float[Array, "G n"]], ties: Ties) -> Array:
    return _sup(curve[0], ties)


def _sup_dp_gap(curve: dict[int, Float[Array, "G n"]], ties: Ties) -> Array:
    return _sup(curve[0] + curve[1], ties)


def _auc(curve: dict[int, Float[Array, "G n"]], ties: Ties) -> Float[Array, ""]:
    negative, positive = jnp.sum(curve[0], axis=0), jnp.sum(curve[1], axis=0)
    before = jnp.where(ties.before >= 0, negative[ties.before], 0)
    above = divide((before + negative[ties.last]) / 2, negative[-1:])
    step = jnp.diff(positive, prepend=jnp.zeros(1, positive.dtype))
    return divide(jnp.sum(step * (1 - above)), positive[-1])


SUP_TPR_GAP = Metric(
    name="sup_tpr_gap",
    support="ones",
    formula=_sup_tpr_gap,
    classes=(1,),
    reflected=True,
)
SUP_FPR_GAP = Metric(
    name="sup_fpr_gap",
    support="zeros",
    formula=_sup_fpr_gap,
    classes=(0,),
    reflected=True,
)
SUP_DP_GAP = Metric(
    name="sup_dp_gap",
    support="groups",
    formula=_sup_dp_gap,
    classes=(0, 1),
    reflected=True,
)
AUC = Metric(
    name="auc", support="classes", formula=_auc, classes=(0, 1), compares=False
)

_BY_RATE = {"tpr": SUP_TPR_GAP, "fpr": SUP_FPR_GAP, "dp": SUP_DP_GAP}


def sup_gap(
    label: ArrayLike,
    score: ArrayLike,
    group: ArrayLike,
    *,
    rate: Literal["tpr", "fpr", "dp"] = "tpr",
    weights: ArrayLike | None = None,
    n_groups: int | None = None,
) -> Float[Array, ""]:
    """Return the largest gap between two groups over every threshold on a score.

    `max_t (max_a - min_a) P(score >= t | rows, group = a)`, where `rows` are those of
    class 1 ("tpr"), of class 0 ("fpr") or all ("dp"). Every cost-sensitive risk has
    its Bayes rule at some threshold on the posterior, so this bounds them all. Exact:
    thresholds fall between different scores, and equal scores pass together.

    Args:
        label: binary class codes, 0 or 1, `[n]`.
        score: real scores, higher for class 1, `[n]`; infinite ones are allowed.
        group: group codes 0..G-1, `[n]`.
        rate: the rate to compare.
        weights: non-negative row weights, `[n]`; None counts every row once.
        n_groups: G, needed under `jax.jit` and `jax.vmap`.

    Returns:
        A scalar in 0..1; NaN under tracing where a group has no such row, or a score
        is NaN. Cost O(n log n + G n). A sample's value is biased upwards: two equal
        groups of m rows each show about `1.2 / sqrt(m)`.

    Raises:
        ValueError: the arrays are not of one length, the label is not binary, a score
            is NaN, there is a single group, or a group has no row that counts.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([1, 1, 1, 1]), np.array([0, 0, 1, 1])
        >>> print(sup_gap(label, np.array([0.1, 0.4, 0.3, 0.9]), group))
        0.5

    References:
        For two groups and one class this is the two-sample statistic of Kolmogorov
        and Smirnov.
    """
    check_choice("rate", rate, tuple(_BY_RATE))
    return measure(
        _BY_RATE[rate], label, group, score=score, weights=weights, n_groups=n_groups
    )


def auc(
    label: ArrayLike,
    score: ArrayLike,
    group: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    n_groups: int | None = None,
) -> Float[Array, ""]:
    """Return the area under the ROC curve, equal scores counting one half.

    `P(s1 > s0) + P(s1 = s0) / 2` for scores `s1` of class 1 and `s0` of class 0.

    Args:
        label: binary class codes, 0 or 1, `[n]`.
        score: real scores, higher for class 1, `[n]`; infinite ones are allowed.
        group: group codes 0..G-1, `[n]`; they do not change the value.
        weights: non-negative row weights, `[n]`; None counts every row once.
        n_groups: G, needed under `jax.jit` and `jax.vmap`.

    Returns:
        A scalar in 0..1; NaN under tracing where a class has no row, or a score is
        NaN. Cost O(n log n).

    Raises:
        ValueError: the arrays are not of one length, the label is not binary, a score
            is NaN, or a class has no row.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
        >>> print(auc(label, np.array([0.1, 0.4, 0.4, 0.9]), group))
        0.875

    References:
        Hanley and McNeil (1982), "The meaning and use of the area under a receiver
        operating characteristic (ROC) curve".
    """
    return measure(AUC, label, group, score=score, weights=weights, n_groups=n_groups)
