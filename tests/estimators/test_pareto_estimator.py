from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxsteer import pareto
from jaxsteer.estimators._pareto import ParetoFair, ParetoFairRegressor

from .helpers import make_frame, make_rows

X, Y, GROUPS = make_rows(600)
QUICK = pareto.LoopOptions(max_steps=100, check_every=25)


@pytest.fixture(scope="module")
def fitted():
    model = ParetoFair(method="gd", options=QUICK)
    return model.fit(X * 50 + 3, Y, sensitive_features=GROUPS)


def _gap(decided):
    return abs(np.diff([np.mean(decided[g == GROUPS]) for g in ("f", "m")])[0])


def test_it_is_fairer_than_plain_logistic_regression(fitted):
    plain = LogisticRegression().fit(X, Y).predict(X)
    fair = fitted.predict(X * 50 + 3)
    assert _gap(fair == "yes") < _gap(plain == "yes")
    assert fitted.score(X * 50 + 3, Y) > 0.6
    assert fitted.group_weights_.sum() == pytest.approx(1, abs=1e-5)
    assert float(fitted.solution_.value) < float(fitted.solution_.start_value)


def test_outputs_go_together(fitted):
    rows = X[:40] * 50 + 3
    proba = fitted.predict_proba(rows)
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-6)
    score = fitted.decision_function(rows)
    np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-score)), atol=1e-5)
    assert (fitted.classes_[(score > 0).astype(int)] == fitted.predict(rows)).all()
    assert fitted.classes_.tolist() == ["no", "yes"]
    assert fitted.groups_.tolist() == ["f", "m"]


def test_sklearn_conventions():
    model = ParetoFair(pareto.SmoothSVM(), metric=pareto.HSIC(), method="gd")
    assert clone(model).get_params().keys() == model.get_params().keys()
    assert not hasattr(model, "predict_proba")
    with pytest.raises(sklearn.exceptions.NotFittedError):
        ParetoFair().predict(X)


@pytest.mark.slow
def test_in_a_pipeline_with_a_table_and_sgd():
    with sklearn.config_context(enable_metadata_routing=True):
        last = ParetoFair(method="sgd", options=QUICK, random_state=0)
        last.set_fit_request(sensitive_features=True)
        pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), last)
        pipeline.fit(make_frame(600), Y, sensitive_features=GROUPS)
    assert pipeline[-1].feature_names_in_.tolist() == ["a", "b", "c"]
    assert set(pipeline.predict(make_frame(600))) <= {"no", "yes"}


@pytest.mark.slow
def test_several_classes_and_weights():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    rows = X + y[:, None]
    model = ParetoFair(metric="equalized_odds", method="gd", options=QUICK)
    model.fit(rows, y, sensitive_features=GROUPS, sample_weight=np.ones(600))
    assert model.predict_proba(rows).shape == (600, 3)
    assert model.score(rows, y) > 0.5


@pytest.mark.slow
def test_regression_is_in_the_units_of_the_target():
    y = 1000 + 50 * (X[:, 0] + (GROUPS == "m"))
    model = ParetoFairRegressor(
        metric="group_loss_variance", method="gd", options=QUICK
    )
    model.fit(X, y, sensitive_features=GROUPS)
    assert model.predict(X).mean() == pytest.approx(y.mean(), rel=0.02)
    assert model.score(X, y) > 0.5
    again = ParetoFairRegressor(
        metric="group_loss_variance", method="gd", options=QUICK
    )
    again.fit(X, 2 * y, sensitive_features=GROUPS)
    np.testing.assert_allclose(again.predict(X), 2 * model.predict(X), rtol=1e-3)


def test_unusable_arguments():
    with pytest.raises(ValueError, match="metric='fair' is not known"):
        ParetoFair(metric="fair").fit(X, Y, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="sensitive_features is missing"):
        ParetoFair().fit(X, Y)
    with pytest.raises(ValueError, match="Ridge needs a target of kind regression"):
        ParetoFair(pareto.Ridge()).fit(X, Y, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match=r"X has 600, y has 599"):
        ParetoFair().fit(X, Y[1:], sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="y must be finite numbers"):
        ParetoFairRegressor().fit(X, np.full(600, np.nan), sensitive_features=GROUPS)
