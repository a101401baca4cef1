from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxsteer.estimators import (
    RomeClassifier,
    RomeMoEClassifier,
    RomeMoERegressor,
    RomeRegressor,
)
from jaxsteer.latent import fit_rome_em

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 2))
S = pd.DataFrame({"age": RNG.normal(size=300), "race": RNG.choice(["a", "b"], 300)})
SIDE = np.where(S["age"] > 0, 1.0, -1.0)
Y = SIDE * X[:, 0] + 0.1 * RNG.normal(size=300)
NAMES = np.where(Y > 0, "yes", "no")
FAST = {"restarts": 4, "max_steps": 60}
SMALL = {"hidden": 8, "gate_hidden": 4, "n_experts": 2, "epochs": 3}


@pytest.fixture(scope="module")
def regressor():
    return RomeRegressor(**FAST).fit(X, Y, sensitive_features=S)


def test_finds_the_groups(regressor):
    right = (regressor.responsibilities_.argmax(1) == (SIDE > 0)).mean()
    assert max(right, 1 - right) > 0.9
    assert regressor.score(X, Y, sensitive_features=S) > 0.9
    share = regressor.group_probabilities(S)
    assert share.shape == (300, 2) and np.allclose(share.sum(1), 1, atol=1e-5)


def test_is_the_librarys_fit(regressor):
    s = regressor.sensitive_encoder_.transform(S)
    x = np.concatenate([X, s], 1)
    found = fit_rome_em(Y, x, s, 2, init=regressor.responsibilities_, max_steps=60)
    np.testing.assert_allclose(
        found.predict(x, s), regressor.predict(X, sensitive_features=S), atol=0.02
    )


def test_maximin_may_do_without_sensitive_columns():
    model = RomeRegressor(aggregate="maximin", sensitive_in_outcome=False, **FAST)
    model.fit(X, Y, sensitive_features=S)
    found = model.predict(X)
    # The groups disagree in sign: nothing but little is safe for both.
    assert np.abs(found).mean() < 0.3 * np.abs(Y).mean()
    with pytest.raises(ValueError, match="sensitive_features is missing"):
        RomeRegressor(**FAST).fit(X, Y)
    near = clone(model).set_params(radius=0.01).fit(X, Y, sensitive_features=S)
    shares = np.asarray(near.fit_.shares)
    assert np.abs(np.asarray(near.aggregate_.weights) - shares).max() < 0.011


@pytest.mark.slow
def test_bic_chooses_the_number_of_groups():
    model = RomeRegressor(n_groups=(1, 2), **FAST).fit(X, Y, sensitive_features=S)
    assert model.fit_.n_groups == 2 and len(model.selection_.fits) == 2


@pytest.mark.slow
def test_classes_of_any_name():
    model = RomeClassifier(ridge=0.1, **FAST).fit(X, NAMES, sensitive_features=S)
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.score(X, NAMES, sensitive_features=S) > 0.9
    proba = model.predict_proba(X, sensitive_features=S)
    assert np.allclose(proba.sum(1), 1, atol=1e-5)
    three = np.where(Y > 1, "much", NAMES)
    model = RomeClassifier(ridge=1.0, **FAST).fit(X, three, sensitive_features=S)
    assert model.predict_proba(X, sensitive_features=S).shape == (300, 3)


@pytest.mark.slow
def test_mixtures_of_experts():
    model = RomeMoERegressor(**{**SMALL, "epochs": 40, "hidden": 16})
    model.fit(X, Y, sensitive_features=S)
    assert model.score(X, Y, sensitive_features=S) > 0.4
    other = RomeMoEClassifier(**SMALL).fit(X, NAMES, sensitive_features=S)
    assert set(other.predict(X, sensitive_features=S)) <= {"no", "yes"}
    again = RomeMoEClassifier(**SMALL).fit(X, NAMES, sensitive_features=S)
    left, right = (m.predict_proba(X, sensitive_features=S) for m in (other, again))
    np.testing.assert_array_equal(left, right)
    assert 0 <= other.score(X, NAMES, sensitive_features=S) <= 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("n_groups", 3),
        ("aggregate", "maximin"),
        ("sensitive_in_outcome", False),
        ("restarts", 16),
        ("ridge", 50.0),
        ("max_steps", 1),
        ("random_state", 7),
        ("variance", "group"),
    ],
)
@pytest.mark.slow
def test_every_option_changes_the_prediction(option, value):
    options = {"restarts": 2, "max_steps": 3}
    plain = RomeRegressor(**options).fit(X, Y, sensitive_features=S)
    changed = RomeRegressor(**{**options, option: value}).fit(
        X, Y, sensitive_features=S
    )
    left, right = (m.predict(X, sensitive_features=S) for m in (plain, changed))
    assert np.abs(left - right).max() > 1e-6


def test_sklearn_conventions(regressor):
    for model in (
        RomeRegressor(n_groups=3, variance="group"),
        RomeClassifier(radius=0.1),
        RomeMoERegressor(alpha=0.2),
        RomeMoEClassifier(variant="fair_s"),
    ):
        assert clone(model).get_params() == model.get_params()
        with pytest.raises(sklearn.exceptions.NotFittedError):
            model.predict(X, sensitive_features=S)
    assert regressor.n_features_in_ == 2
    with pytest.raises(ValueError, match="features"):
        regressor.predict(X[:, :1], sensitive_features=S)
    with pytest.raises(ValueError, match="one entry a row"):
        regressor.predict(X, sensitive_features=S[:-1])
    with pytest.raises(ValueError, match="aggregate='mean' is not known"):
        RomeRegressor(aggregate="mean").fit(X, Y, sensitive_features=S)


def test_in_a_pipeline():
    with sklearn.config_context(enable_metadata_routing=True):
        model = RomeRegressor(**FAST)
        model.set_fit_request(sensitive_features=True, sample_weight=True)
        model.set_predict_request(sensitive_features=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, model)
        pipeline.fit(X, Y, sensitive_features=S, sample_weight=np.ones(300))
        found = pipeline.predict(X, sensitive_features=S)
    assert np.mean((found - Y) ** 2) < 0.2 * Y.var()
