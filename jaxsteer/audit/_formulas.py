"""The formulas of all metrics: from counts, or from a score's curves, to a value.

A table of counts is ``[K true, K predicted, G]``; curves are those of
:func:`jaxsteer.audit._counts.curves`. How rows become counts, what is checked and how a
metric is called is said once, at :class:`jaxsteer.audit._metric.Metric`.
"""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, Float
from jaxsteer.audit._counts import Ties, divide, recall, spread
from jaxsteer.audit._metric import metric


@metric(support="rows", compares=False)
def accuracy(table: Float[Array, "K K G"], positive: int) -> Float[Array, ""]:
    """Return the share of right predictions, `P(prediction = label)`, in 0..1.

    Called as :class:`Metric` says; the groups do not change the value.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
        >>> print(accuracy(label, np.array([0, 1, 1, 1]), group))
        0.75
    """
    return divide(jnp.einsum("iia->", table), jnp.sum(table))


@metric(support="classes", compares=False)
def balanced_accuracy(table: Float[Array, "K K G"], positive: int) -> Float[Array, ""]:
    """Return the mean of the recalls, `1/K sum_i P(prediction = i | label = i)`.

    In 0..1, and called as :class:`Metric` says; the groups do not change the value.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1])
        >>> print(balanced_accuracy(label, np.array([0, 0, 0, 0]), group))
        0.5
    """
    return jnp.mean(recall(jnp.sum(table, axis=2, keepdims=True)))


@metric(support="groups")
def demographic_parity(table: Float[Array, "K K G"], positive: int) -> Float[Array, ""]:
    """Return the largest difference of a selection rate between two groups.

    `max_i (max_a - min_a) P(prediction = i | group = a)`, in 0..1 and 0 where parity
    holds; with two classes this is the familiar difference of the positive rates. Called
    as :class:`Metric` says; of the label only the number of classes matters.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
        >>> print(demographic_parity(label, np.array([0, 1, 1, 1]), group))
        0.5

    References:
        Dwork, Hardt, Pitassi, Reingold and Zemel (2012), "Fairness through awareness".
    """
    chosen = jnp.sum(table, axis=0)
    return jnp.max(spread(divide(chosen, jnp.sum(chosen, axis=0, keepdims=True))))


@metric(support="positive")
def equal_opportunity(table: Float[Array, "K K G"], positive: int) -> Float[Array, ""]:
    """Return the largest difference of one class's true-positive rate between groups.

    `(max_a - min_a) P(prediction = i | label = i, group = a)`, `i` the class `positive`;
    in 0..1, and 0 where opportunity is equal. Called as :class:`Metric` says.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([1, 1, 1, 1]), np.array([0, 0, 1, 1])
        >>> print(equal_opportunity(label, np.array([0, 1, 1, 1]), group))
        0.5

    References:
        Hardt, Price and Srebro (2016), "Equality of opportunity in supervised
        learning".
    """
    return spread(recall(table)[positive])


@metric(support="cells")
def equalized_odds(table: Float[Array, "K K G"], positive: int) -> Float[Array, ""]:
    """Return the largest difference of a confusion rate between two groups.

    `max_ij (max_a - min_a) P(prediction = j | label = i, group = a)`, in 0..1 and 0 where
    the odds are equal; with two classes the larger of the true-positive and the
    false-positive gap. Called as :class:`Metric` says.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
        >>> print(equalized_odds(label, np.array([0, 1, 1, 1]), group))
        1.0

    References:
        Hardt, Price and Srebro (2016), "Equality of opportunity in supervised
        learning".
    """
    return jnp.max(spread(divide(table, jnp.sum(table, axis=1, keepdims=True))))


def _tpr_gaps(table: Float[Array, "K K G"]) -> Float[Array, " K"]:
    rates = recall(table)
    return rates[:, 1] - rates[:, 0] if table.shape[2] == 2 else spread(rates)


@metric(support="cells")
def tpr_gap(table: Float[Array, "K K G"], positive: int) -> Float[Array, ""]:
    """Return the root mean square over classes of the true-positive-rate gap.

    `sqrt(1/K sum_i GAP_i^2)` with `GAP_i` as in `tpr_gap_per_class`; in 0..1. Called as
    :class:`Metric` says.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
        >>> print(f"{tpr_gap(label, np.array([0, 1, 1, 1]), group):.4f}")
        0.7071

    References:
        De-Arteaga et al. (2019), "Bias in bios" (the gap per class); Ravfogel et al.
        (2020), "Null it out" (its root mean square).
    """
    return jnp.sqrt(jnp.mean(jnp.square(_tpr_gaps(table))))


@metric(support="cells", per_class=True)
def tpr_gap_per_class(
    table: Float[Array, "K K G"], positive: int
) -> Float[Array, " K"]:
    """Return every class's true-positive-rate gap, `[K]`.

    For two groups the signed `TPR_{i,1} - TPR_{i,0}` in -1..1, so that a negative gap
    means that group 1 is found less often; for more groups, where no sign makes sense,
    the largest minus the smallest rate. Called as :class:`Metric` says.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
        >>> print(tpr_gap_per_class(label, np.array([0, 1, 1, 1]), group))
        [-1.  0.]

    References:
        De-Arteaga et al. (2019), "Bias in bios: a case study of semantic
        representation bias in a high-stakes setting".
    """
    return _tpr_gaps(table)


@metric(support="classes", classes=(0, 1), compares=False)
def auc(curve: dict[int, Float[Array, "G n"]], ties: Ties) -> Float[Array, ""]:
    """Return the area under the ROC curve, equal scores counting one half.

    `P(s1 > s0) + P(s1 = s0) / 2` for scores `s1` of class 1 and `s0` of class 0; in 0..1.
    Called as :class:`ScoreMetric` says; the groups do not change the value.

    Example:
        >>> import numpy as np
        >>> label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
        >>> print(auc(label, np.array([0.1, 0.4, 0.4, 0.9]), group))
        0.875

    References:
        Hanley and McNeil (1982), "The meaning and use of the area under a receiver
        operating characteristic (ROC) curve".
    """
    negative, positive = jnp.sum(curve[0], axis=0), jnp.sum(curve[1], axis=0)
    before = jnp.where(ties.before >= 0, negative[ties.before], 0)
    above = divide((before + negative[ties.last]) / 2, negative[-1:])
    step = jnp.diff(positive, prepend=jnp.zeros(1, positive.dtype))
    return divide(jnp.sum(step * (1 - above)), positive[-1])


def _sup(curve: Float[Array, "G n"], ties: Ties) -> Float[Array, ""]:
    rates = divide(curve, curve[:, -1:])
    return jnp.max(jnp.where(ties.is_last, spread(rates.T), 0))


@metric(support="ones", classes=(1,), reflected=True)
def sup_tpr_gap(curve: dict[int, Float[Array, "G n"]], ties: Ties) -> Float[Array, ""]:
    """`sup_gap` of the true-positive rates."""
    return _sup(curve[1], ties)


@metric(support="zeros", classes=(0,), reflected=True)
def sup_fpr_gap(curve: dict[int, Float[Array, "G n"]], ties: Ties) -> Float[Array, ""]:
    """`sup_gap` of the false-positive rates."""
    return _sup(curve[0], ties)


@metric(support="groups", classes=(0, 1), reflected=True)
def sup_dp_gap(curve: dict[int, Float[Array, "G n"]], ties: Ties) -> Float[Array, ""]:
    """`sup_gap` of the selection rates."""
    return _sup(curve[0] + curve[1], ties)


_BY_RATE = {"tpr": sup_tpr_gap, "fpr": sup_fpr_gap, "dp": sup_dp_gap}


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
    return _BY_RATE[rate](label, score, group, weights=weights, n_groups=n_groups)


#: All metrics, by the names that `bootstrap` and `chance_level` know.
METRICS = {
    one.name: one
    for one in (
        accuracy,
        balanced_accuracy,
        demographic_parity,
        equal_opportunity,
        equalized_odds,
        tpr_gap,
        tpr_gap_per_class,
        auc,
        sup_tpr_gap,
        sup_fpr_gap,
        sup_dp_gap,
    )
}
