from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxsteer.estimators import Reweighing, TabularEncoder, fair_weights

from .helpers import make_frame, make_rows

X, Y, GROUPS = make_rows()


def test_weights_make_label_and_group_independent():
    model = Reweighing().fit(X, Y, sensitive_features=GROUPS)
    table = pd.Series(model.sample_weight_).groupby([Y, GROUPS]).sum().unstack()
    shares = table.to_numpy() / len(Y)
    product = np.outer(shares.sum(1), shares.sum(0))
    np.testing.assert_allclose(shares, product, atol=1e-6)
    counts = pd.crosstab(Y, GROUPS).to_numpy() / len(Y)
    np.testing.assert_allclose(shares.sum(1), counts.sum(1), atol=1e-6)


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        HistGradientBoostingClassifier(max_iter=5, random_state=0),
    ],
)
def test_the_classifier_is_fitted_with_the_weights(estimator, routing):
    with sklearn.config_context(enable_metadata_routing=routing):
        model = Reweighing(estimator).fit(X, Y, sensitive_features=GROUPS)
    direct = clone(estimator)
    name = "sample_weight"
    if hasattr(direct, "steps"):
        name = f"{direct.steps[-1][0]}__sample_weight"
    direct.fit(X, Y, **{name: model.sample_weight_})
    np.testing.assert_allclose(
        model.predict_proba(X), direct.predict_proba(X), atol=1e-6
    )
    assert model.predict(X).tolist() == direct.predict(X).tolist()
    plain = clone(estimator).fit(X, Y).predict_proba(X)
    assert np.abs(model.predict_proba(X) - plain).max() > 0.01


def test_given_weights_multiply():
    given = np.where(Y == "yes", 3.0, 1.0)
    model = Reweighing().fit(X, Y, sensitive_features=GROUPS, sample_weight=given)
    plain = Reweighing().fit(X, Y, sensitive_features=GROUPS)
    ratio = model.sample_weight_ / plain.sample_weight_
    assert ratio[Y == "yes"].min() > ratio[Y == "no"].max()


def test_sklearn_conventions():
    model = Reweighing(make_pipeline(TabularEncoder(), LogisticRegression()))
    assert clone(model).get_params().keys() == model.get_params().keys()
    with pytest.raises(sklearn.exceptions.NotFittedError):
        model.predict(X)
    table = make_frame().assign(job=np.where(X[:, 0] > 0, "p", "q"))
    model.fit(table, Y, sensitive_features=GROUPS)
    assert model.n_features_in_ == 4
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "job"]
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.score(table, Y) > 0.7
    polars = pytest.importorskip("polars", reason="polars is not installed")
    other = polars.DataFrame({name: table[name].to_list() for name in table})
    assert model.predict(other).tolist() == model.predict(table).tolist()


def test_more_classes_and_groups():
    rng = np.random.default_rng(0)
    y, groups = rng.integers(5, 8, 900), rng.choice(["a", "b", "c"], 900)
    model = Reweighing().fit(
        rng.normal(size=(900, 2)) + y[:, None], y, sensitive_features=groups
    )
    assert model.predict_proba(np.zeros((2, 2))).shape == (2, 3)
    assert set(model.predict(np.full((4, 2), 7.0))) == {7}


def test_text_and_gaps_point_at_the_encoder():
    bad = X.copy()
    bad[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"NaN; encode the table.*TabularEncoder"):
        Reweighing().fit(bad, Y, sensitive_features=GROUPS)
    table = make_frame().assign(job="cook")
    with pytest.raises(ValueError, match=r"convert string.*TabularEncoder"):
        Reweighing().fit(table, Y, sensitive_features=GROUPS)
    # Trees that take gaps as they are get them.
    boosted = HistGradientBoostingClassifier(max_iter=3)
    assert Reweighing(boosted).fit(bad, Y, sensitive_features=GROUPS).predict(bad).size


def test_unusable_arguments():
    with pytest.raises(ValueError, match="KNeighborsClassifier takes no sample_weight"):
        Reweighing(KNeighborsClassifier()).fit(X, Y, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="sensitive_features is missing"):
        Reweighing().fit(X, Y)
    with pytest.raises(ValueError, match="class yes in group m"):
        y = np.where(GROUPS == "m", "no", Y)
        Reweighing().fit(X, y, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match=r"X has 1200, y has 1200, .* has 2"):
        Reweighing().fit(X, Y, sensitive_features=["f", "m"])


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_weights_beyond_float32_are_named(scale):
    weights = np.full(len(Y), scale)
    with pytest.raises(ValueError, match="sample_weight has a largest value of 1e"):
        fair_weights(Y, sensitive_features=GROUPS, sample_weight=weights)
    found = fair_weights(Y, sensitive_features=GROUPS, sample_weight=weights / scale)
    assert np.isfinite(found).all()
