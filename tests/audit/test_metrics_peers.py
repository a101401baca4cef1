"""Every metric against fairlearn and scikit-learn."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk

from jaxsteer.audit import metrics

TOL = 8 * float(jnp.finfo(jnp.result_type(float)).eps)
SIZES = [(2, 2), (2, 4), (3, 2), (5, 3)]


def close(ours, theirs, n=1):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOL * n**0.5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_accuracies_equal_sklearn(rows, size, weighted):
    d = rows(800, *size)
    weights = d["weights"] if weighted else None
    data = d["label"], d["prediction"], d["group"]
    close(
        metrics.accuracy(*data, weights=weights),
        sk.accuracy_score(*data[:2], sample_weight=weights),
    )
    close(
        metrics.balanced_accuracy(*data, weights=weights),
        sk.balanced_accuracy_score(*data[:2], sample_weight=weights),
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_groups", [2, 3, 5])
def test_binary_gaps_equal_fairlearn(rows, n_groups, weighted):
    fl = pytest.importorskip("fairlearn.metrics", reason="fairlearn is not installed")
    d = rows(900, 2, n_groups)
    weights = d["weights"] if weighted else None
    data = d["label"], d["prediction"], d["group"]
    theirs = {"sensitive_features": d["group"], "sample_weight": weights}
    for ours, peer in [
        (metrics.demographic_parity, fl.demographic_parity_difference),
        (metrics.equal_opportunity, fl.equal_opportunity_difference),
        (metrics.equalized_odds, fl.equalized_odds_difference),
    ]:
        close(ours(*data, weights=weights), peer(*data[:2], **theirs))


@pytest.mark.parametrize("size", SIZES)
def test_tpr_gaps_equal_fairlearn_class_by_class(rows, size):
    fl = pytest.importorskip("fairlearn.metrics", reason="fairlearn is not installed")
    d = rows(1000, *size)
    gaps = []
    for i in range(size[0]):
        frame = fl.MetricFrame(
            metrics=fl.true_positive_rate,
            y_true=d["label"] == i,
            y_pred=d["prediction"] == i,
            sensitive_features=d["group"],
        )
        rates = frame.by_group.to_numpy()
        gaps.append(rates[1] - rates[0] if size[1] == 2 else frame.difference())
    data = d["label"], d["prediction"], d["group"]
    close(metrics.tpr_gap_per_class(*data), gaps)
    close(metrics.tpr_gap(*data), np.sqrt(np.mean(np.square(gaps))))


@pytest.mark.parametrize("size", SIZES)
def test_gaps_of_many_classes_equal_their_definition(rows, size):
    n_classes, n_groups = size
    d = rows(700, *size)
    label, prediction, group = d["label"], d["prediction"], d["group"]
    parity = odds = 0.0
    for j in range(n_classes):
        rates = [np.mean(prediction[group == a] == j) for a in range(n_groups)]
        parity = max(parity, max(rates) - min(rates))
        for i in range(n_classes):
            cells = [(label == i) & (group == a) for a in range(n_groups)]
            rates = [np.mean(prediction[cell] == j) for cell in cells]
            odds = max(odds, max(rates) - min(rates))
    close(metrics.demographic_parity(label, prediction, group), parity)
    close(metrics.equalized_odds(label, prediction, group), odds)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_auc_equals_sklearn_with_ties_and_weights(rows, decimals, weighted):
    d = rows(1500)
    score = np.round(d["score"] + np.random.default_rng(1).normal(size=1500), decimals)
    weights = d["weights"] if weighted else None
    close(
        metrics.auc(d["label"], score, d["group"], weights=weights),
        sk.roc_auc_score(d["label"], score, sample_weight=weights),
        n=1500,
    )


def test_weighted_sums_keep_their_accuracy_on_many_rows(rows):
    d = rows(300_000)
    data = d["label"], d["prediction"], d["group"]
    weights = np.full(300_000, 0.1)
    close(
        metrics.accuracy(*data, weights=weights),
        sk.accuracy_score(*data[:2], sample_weight=weights),
    )
