"""What a careful practitioner would do today instead: decisions, one for each cost.

A cost ``c`` in (0, 1) is that of a false positive, ``1 - c`` that of a false negative.
All post-process out-of-fold scores, as the channels do, and see the same training rows.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

COSTS = (0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9)


class Scored(NamedTuple):
    """Probabilities of class 1 out of fold and of new rows, by the same models.

    Attributes:
        score: ``[n]`` out of fold.
        label: ``[n]``.
        group: ``[n]``.
        score_test: ``[m]``.
        group_test: ``[m]``.
    """

    score: np.ndarray
    label: np.ndarray
    group: np.ndarray
    score_test: np.ndarray
    group_test: np.ndarray


class _Column(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose only feature is the probability itself."""

    classes_ = np.array([0, 1])
    is_fitted_ = True  # the attribute that scikit-learn looks for

    def fit(self, x: Any, y: Any) -> _Column:
        return self

    def predict_proba(self, x: Any) -> np.ndarray:
        score = np.asarray(x, float)[:, 0]
        return np.stack([1 - score, score], 1)


def threshold_optimizer(rows: Scored, seed: int) -> dict[float, np.ndarray]:
    """Fairlearn's randomized thresholds (Hardt et al. 2016), which know accuracy only."""
    from fairlearn.postprocessing import ThresholdOptimizer

    rule = ThresholdOptimizer(
        estimator=_Column(),
        constraints="equalized_odds",
        prefit=True,
        predict_method="predict_proba",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rule.fit(rows.score[:, None], rows.label, sensitive_features=rows.group)
        decision = rule.predict(
            rows.score_test[:, None],
            sensitive_features=rows.group_test,
            random_state=seed,
        )
    return {0.5: np.asarray(decision, int)}


def has_error_parity() -> bool:
    """Tell whether error-parity can be imported."""
    return importlib.util.find_spec("error_parity") is not None


def error_parity(rows: Scored, seed: int) -> dict[float, np.ndarray]:
    """Equalized odds by the groups' ROC hulls (Cruz & Hardt 2024), for each cost."""
    from error_parity import RelaxedThresholdOptimizer

    found = {}
    for cost in COSTS:
        rule = RelaxedThresholdOptimizer(
            predictor=lambda x: np.asarray(x)[:, 0],
            constraint="equalized_odds",
            tolerance=0.0,
            false_pos_cost=cost,
            false_neg_cost=1 - cost,
            seed=seed,
        )
        rule.fit(X=rows.score[:, None], y=rows.label, group=rows.group)
        found[cost] = np.asarray(
            rule.predict(rows.score_test[:, None], group=rows.group_test), int
        )
    return found


def joint_of_known_groups(rows: Scored) -> tuple[np.ndarray, np.ndarray]:
    """``p(a, y | x)`` of rows whose group is known: ``p(y | x, a)`` in its column.

    The scores, of models that do not see the group, are calibrated in each group by a
    logistic regression on their log odds, out of fold.

    Returns:
        ``[n, 2, G]`` of the training rows and ``[m, 2, G]`` of the new ones.
    """
    n_groups = int(rows.group.max()) + 1
    found = []
    for score, group in ((rows.score, rows.group), (rows.score_test, rows.group_test)):
        joint = np.zeros((len(score), 2, n_groups))
        for code in range(n_groups):
            seen, mine = rows.group == code, np.flatnonzero(group == code)
            odds = [
                np.log(np.clip(s, 1e-9, 1) / np.clip(1 - s, 1e-9, 1))[:, None]
                for s in (rows.score[seen], score[mine])
            ]
            model = LogisticRegression().fit(odds[0], rows.label[seen])
            joint[mine, :, code] = model.predict_proba(odds[1])
        found.append(joint)
    return found[0], found[1]


def linear_post(
    joint: np.ndarray,
    joint_test: np.ndarray,
    *,
    slack: float = 1e-3,
    noise: float = 0.01,
) -> dict[float, np.ndarray]:
    """Equalized odds by a linear rule on ``p(a, y | x)``, as LinearPost's.

    The decisions of the training rows solve a linear program; its multipliers are the
    rule's weights (Xian & Zhao 2024, the idea; this is no run of their code). Blind, or
    with known groups, where each row has one column (:func:`joint_of_known_groups`): the
    better-separated group then has to be answered at random, which a little noise on what
    a decision gains does, as theirs.

    Args:
        joint: ``[n, 2, G]`` probabilities of class and group out of fold.
        joint_test: ``[m, 2, G]`` of new rows.
        slack: Largest difference of rates that is allowed, as the model sees them.
        noise: Half the width of that noise, in costs.
    """
    n, _, n_groups = joint.shape
    totals = joint.sum(0)
    pairs = [(y, a) for y in (0, 1) for a in range(1, n_groups)]

    rng = np.random.default_rng(0)

    def away(table: np.ndarray) -> np.ndarray:
        rates = table * n / totals
        return np.stack([rates[:, y, a] - rates[:, y, 0] for y, a in pairs], 1)

    apart = away(joint)
    found = {}
    for cost in COSTS:
        gain, new = (
            (1 - cost) * table[:, 1].sum(1)
            - cost * table[:, 0].sum(1)
            + noise * rng.uniform(-1, 1, len(table))
            for table in (joint, joint_test)
        )
        solved = linprog(
            -gain,
            A_ub=np.concatenate([apart.T, -apart.T]),
            b_ub=np.full(2 * len(pairs), n * slack),
            bounds=(0, 1),
            method="highs",
        )
        upper, lower = solved.ineqlin.marginals.reshape(2, -1)
        # At the optimum a row is accepted where its reduced cost is negative.
        found[cost] = (new + away(joint_test) @ (upper - lower) > 0).astype(int)
    return found


def risk(decision: np.ndarray, label: np.ndarray, cost: float) -> float:
    """Mean cost of a decision."""
    false_positive = np.mean((decision == 1) & (label == 0))
    false_negative = np.mean((decision == 0) & (label == 1))
    return float(cost * false_positive + (1 - cost) * false_negative)


def decision_gap(decision: np.ndarray, label: np.ndarray, group: np.ndarray) -> float:
    """Larger of the TPR and FPR differences between groups of one decision."""
    gaps = []
    for y in (0, 1):
        rates = [
            decision[(label == y) & (group == a)].mean() for a in range(group.max() + 1)
        ]
        gaps.append(max(rates) - min(rates))
    return float(max(gaps))
