"""sup_gap and auc against loops over every threshold and every pair."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxsteer.audit import metrics

TOL = 100 * float(jnp.finfo(jnp.result_type(float)).eps)
PICK = {
    "tpr": lambda label: label == 1,
    "fpr": lambda label: label == 0,
    "dp": lambda label: label >= 0,
}


def sup_by_loop(label, score, group, rate, weights=None):
    weights = np.ones(len(label)) if weights is None else weights
    counts = PICK[rate](label)
    worst = 0.0
    for t in np.unique(score):
        rates = []
        for a in np.unique(group):
            of_group = counts & (group == a)
            passed = weights[of_group & (score >= t)].sum()
            rates.append(passed / weights[of_group].sum())
        worst = max(worst, max(rates) - min(rates))
    return worst


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rate", PICK)
@pytest.mark.parametrize("n_groups", [2, 3])
def test_sup_gap_equals_a_loop_over_thresholds(rows, n_groups, rate, weighted):
    d = rows(400, 2, n_groups)
    weights = d["weights"] if weighted else None
    data = d["label"], d["score"], d["group"]
    ours = metrics.sup_gap(*data, rate=rate, weights=weights)
    np.testing.assert_allclose(ours, sup_by_loop(*data, rate, weights), atol=TOL)


def test_sup_gap_of_two_groups_is_the_kolmogorov_smirnov_statistic(rows):
    d = rows(500)
    label, score, group = d["label"], d["score"] ** 3, d["group"]
    theirs = stats.ks_2samp(
        score[(label == 1) & (group == 0)], score[(label == 1) & (group == 1)]
    ).statistic
    np.testing.assert_allclose(metrics.sup_gap(label, score, group), theirs, atol=TOL)


def test_sup_gap_bounds_the_gap_at_each_threshold(rows):
    d = rows(600)
    label, score, group = d["label"], d["score"], d["group"]
    sup = metrics.sup_gap(label, score, group)
    gaps = [
        float(metrics.equal_opportunity(label, (score >= t).astype(int), group))
        for t in np.quantile(score, [0.1, 0.3, 0.5, 0.7, 0.9])
    ]
    assert max(gaps) <= sup + TOL
    assert min(gaps) < sup - 0.01


def test_equal_scores_pass_together():
    # Between the two 0.5 of group 0 and those of group 1 lies no threshold, in
    # whatever order the rows came.
    label, group = np.ones(4, int), np.array([0, 0, 1, 1])
    assert metrics.sup_gap(label, np.full(4, 0.5), group) == 0
    for order in ([0, 1, 2, 3], [2, 3, 0, 1]):
        score = np.array([0.5, 0.2, 0.5, 0.1])[order]
        assert metrics.sup_gap(label, score, group[order]) == 0.5


def test_scores_that_differ_in_float64_only_stay_different():
    score = 1.0 + np.arange(8) * 1e-14
    assert np.unique(score.astype(np.float32)).size == 1
    label, group = np.tile([0, 1], 4), np.repeat([0, 1], 4)
    np.testing.assert_allclose(metrics.sup_gap(label, score, group), 1.0, atol=TOL)
    np.testing.assert_allclose(metrics.auc(label, score, group), 10 / 16, atol=TOL)


def test_infinite_scores_keep_their_place():
    label, group = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    score = np.array([-np.inf, 0.0, 0.0, np.inf])
    assert metrics.auc(label, score, group) == 0.875
    assert metrics.sup_gap(label, score, group) == 1.0


def test_auc_equals_a_loop_over_pairs(rows):
    d = rows(200)
    label, score, w = d["label"], d["score"], d["weights"]
    high, low = score[label == 1][:, None], score[label == 0][None]
    wins = (high > low) + 0.5 * (high == low)
    pair = w[label == 1][:, None] * w[label == 0][None]
    theirs = (wins * pair).sum() / pair.sum()
    ours = metrics.auc(label, score, d["group"], weights=w)
    np.testing.assert_allclose(ours, theirs, atol=TOL)


@pytest.mark.parametrize("rate", PICK)
def test_rates_differ(rows, rate):
    d = rows(300)
    data = d["label"], d["score"], d["group"]
    others = [metrics.sup_gap(*data, rate=r) for r in PICK if r != rate]
    assert all(metrics.sup_gap(*data, rate=rate) != other for other in others)
