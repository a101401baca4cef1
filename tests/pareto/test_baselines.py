"""Baselines do what their names say, and fits agree with scikit-learn's."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from jaxsteer import pareto

from .problems import draw, make

METRIC = pareto.DemographicParity()
WEIGHTS = np.array([0.3, 0.7])


def _row_weights(group, weights=WEIGHTS):
    return (weights / np.bincount(group))[group]


def test_logistic_is_scikit_learns():
    x, y, group = draw(1)
    found = pareto.fit_group_weights(
        pareto.group_data(x, y, group), pareto.Logistic(0.1), METRIC, WEIGHTS
    )
    peer = LogisticRegression(C=1 / 0.1, tol=1e-10, max_iter=1000)
    peer.fit(x, y, sample_weight=_row_weights(group))
    np.testing.assert_allclose(found.params["coef"], peer.coef_[0], atol=1e-4)
    np.testing.assert_allclose(found.params["intercept"], peer.intercept_[0], atol=1e-4)


def test_ridge_is_least_squares():
    x, y, group = draw(1, kind="regression")
    data = pareto.group_data(x, y, group)
    found = pareto.fit_group_weights(data, pareto.Ridge(0.0), METRIC, WEIGHTS)
    peer = LinearRegression().fit(x, y, sample_weight=_row_weights(group))
    np.testing.assert_allclose(found.params["coef"], peer.coef_, atol=1e-4)
    np.testing.assert_allclose(found.params["intercept"], peer.intercept_, atol=1e-4)
    np.testing.assert_allclose(found.predict(x), peer.predict(x), atol=1e-3)


def test_svm_is_the_one_of_scikit_learn():
    x, y, group = draw(1)
    data = pareto.group_data(x, y, group)
    model = pareto.SmoothSVM(0.1, intercept=False)
    found = pareto.fit_group_weights(data, model, METRIC, WEIGHTS)
    peer = LinearSVC(C=1 / 0.1, fit_intercept=False, tol=1e-10, max_iter=100_000)
    peer.fit(x, y, sample_weight=_row_weights(group))
    np.testing.assert_allclose(found.params["coef"], peer.coef_[0], atol=1e-4)


def test_softmax_is_scikit_learns():
    x, y, group = draw(1, kind="classes")
    data = pareto.group_data(x, y, group)
    found = pareto.fit_group_weights(data, pareto.Softmax(0.1), METRIC, WEIGHTS)
    peer = LogisticRegression(C=1 / 0.1, tol=1e-10, max_iter=1000)
    peer.fit(x, y, sample_weight=_row_weights(group))
    np.testing.assert_allclose(found.params["coef"], peer.coef_.T, atol=1e-3)
    assert (found.predict(x) == peer.predict(x)).all()


def test_weights_of_the_baselines():
    data, model = make(2, sizes=(100, 50)), pareto.Logistic(0.05)
    erm = pareto.fit_erm(data, model, METRIC)
    balanced = pareto.fit_balanced(data, model, METRIC)
    np.testing.assert_allclose(erm.group_weights, [2 / 3, 1 / 3], rtol=1e-5)
    assert balanced.group_weights.tolist() == [0.5, 0.5]
    alone = pareto.fit_best_group(data, model, METRIC)
    corners = pareto.sample_front(data, model, METRIC, group_weights=np.eye(2))
    assert alone.value == corners.value.min()
    assert float(alone.group_weights.max()) == 1.0


def test_minimax_has_the_least_worst_loss():
    data, model = make(3, sizes=(60, 50, 40)), pareto.Logistic(0.05)
    found = pareto.fit_minimax(data, model, METRIC)
    front = pareto.sample_front(data, model, METRIC, points=120)
    least = float(front.group_losses.max(1).min())
    worst = float(found.group_losses.max())
    assert worst <= least + 1e-4
    # Slack groups have no weight, the others all the same loss.
    used = np.asarray(found.group_weights) > 1e-2
    np.testing.assert_allclose(found.group_losses[used], worst, atol=2e-3)


def test_regularization_path_is_a_minimum():
    data, model = make(4, sizes=(100, 50)), pareto.Logistic(0.05)
    strengths = [0.0, 1.0, 100.0]
    path = pareto.fit_regularization_path(data, model, METRIC, strengths)
    erm = pareto.fit_erm(data, model, METRIC)
    np.testing.assert_allclose(path.value[0], erm.value, atol=1e-4)
    assert np.all(np.diff(path.value) < 0)
    x, y, group = draw(4, sizes=(100, 50))

    def objective(theta):
        s = x @ theta[:3] + theta[3]
        loss = np.logaddexp(0, np.where(y > 0, -s, s)).mean()
        p = 1 / (1 + np.exp(-s))
        z = (p[group == 0].mean() - p[group == 1].mean()) / 0.2
        gap = 0.2 * np.log(np.cosh(z))
        return loss + 0.025 * (theta[:3] ** 2).sum() + gap

    peer = minimize(objective, np.zeros(4), tol=1e-12)
    np.testing.assert_allclose(path.params["coef"][1], peer.x[:3], atol=2e-3)


def test_unusable_arguments():
    data, model = make(0), pareto.Logistic()
    with pytest.raises(ValueError, match="strengths must have shape"):
        pareto.fit_regularization_path(data, model, METRIC, jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="sum to 1"):
        pareto.fit_group_weights(data, model, METRIC, np.ones(2))
