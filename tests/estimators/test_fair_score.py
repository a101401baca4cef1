from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

import jaxsteer as js
from jaxsteer.estimators import FairScore, TabularEncoder

from .helpers import make_frame, make_rows

X, Y, GROUPS = make_rows(4000)


def fit(**options):
    options = {"bins": 20, "random_state": 0, **options}
    return FairScore(**options).fit(X, Y, sensitive_features=GROUPS)


def score(model, rows=X, groups=GROUPS):
    return model.predict_proba(rows, sensitive_features=groups)[:, 1]


def widest_gap(values, y, groups) -> float:
    """Return the largest TPR or FPR gap over all thresholds."""
    cuts = np.unique(values)
    rates = [
        [(values[(y == c) & (groups == g)][:, None] >= cuts).mean(0) for g in "fm"]
        for c in ("no", "yes")
    ]
    return float(np.abs(np.diff(rates, axis=1)).max())


def test_channel_is_that_of_out_of_fold_scores():
    model = fit()
    label, group = (Y == "yes").astype(int), (GROUPS == "m").astype(int)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    splits = list(folds.split(X, label * 2 + group))
    base = LogisticRegression(max_iter=1000)
    held_out = cross_val_predict(base, X, label, cv=splits, method="predict_proba")
    expected = js.roc_channel(held_out[:, 1], label, group, bins=20)
    np.testing.assert_allclose(model.channel_.edges, expected.edges, atol=1e-6)
    np.testing.assert_allclose(model.channel_.atom_scores, expected.atom_scores)
    assert len(model.estimators_) == 5
    assert model.channel_.gap < 1e-6


@pytest.mark.parametrize(
    "estimator",
    [None, HistGradientBoostingClassifier(max_iter=15, random_state=0)],
    ids=["logistic", "boosted"],
)
def test_error_rates_are_alike_at_every_threshold_on_new_rows(estimator):
    rows, y, groups = make_rows(12_000, seed=1)
    model = FairScore(estimator, random_state=0)
    model.fit(*make_rows(12_000)[:2], sensitive_features=make_rows(12_000)[2])
    # Boosted trees stop early on more than 10,000 rows: a classifier fitted on all
    # rows would differ from those of the folds, and break the channel.
    raw = model.estimators_[0].predict_proba(rows)[:, 1]
    # Sampling noise of a rate over about 1,400 rows is .013, and its maximum more.
    assert widest_gap(raw, y, groups) > 0.15
    assert widest_gap(score(model, rows, groups), y, groups) < 0.06
    assert model.score(rows, y, sensitive_features=groups) > 0.75


def test_probabilities_and_predictions_agree():
    model = fit()
    both = model.predict_proba(X, sensitive_features=GROUPS)
    assert both.shape == (4000, 2)
    np.testing.assert_allclose(both.sum(1), 1)
    assert both.min() >= 0
    predicted = model.predict(X, sensitive_features=GROUPS)
    assert np.array_equal(predicted == "yes", both[:, 1] > 0.5)
    assert model.classes_.tolist() == ["no", "yes"]
    accuracy = model.score(X, Y, sensitive_features=GROUPS)
    assert accuracy == np.mean(predicted == Y)
    only = (Y == "yes").astype(float)
    weighted = model.score(X, Y, sensitive_features=GROUPS, sample_weight=only)
    np.testing.assert_allclose(weighted, np.mean(predicted[Y == "yes"] == "yes"))


def test_random_state_decides_on_the_choice():
    model = fit()
    assert np.array_equal(score(model), score(model))
    assert np.array_equal(score(model), score(fit()))
    assert not np.array_equal(score(model), score(fit(random_state=1)))
    fresh = fit(random_state=None)
    assert not np.array_equal(score(fresh), score(fresh))
    stream = fit(random_state=np.random.RandomState(0))
    assert not np.array_equal(score(stream), score(stream))


def test_deterministic_gives_the_mean():
    model = fit(deterministic=True)
    group = (GROUPS == "m").astype(int)
    expected = [
        model.channel_.expected_score(base.predict_proba(X)[:, 1], group)
        for base in model.estimators_
    ]
    np.testing.assert_allclose(score(model), np.mean(expected, axis=0), rtol=1e-5)
    drawn = fit()
    draws = [score(drawn.set_params(random_state=seed)) for seed in range(20)]
    # A score in [0, 1]: 20 draws are within 4.5 standard errors of the mean.
    error = np.abs(np.mean(draws, axis=0) - score(model))
    assert error.max() < 4.5 * 0.5 / np.sqrt(20)
    assert error.mean() < 0.07


def test_cv_and_bins_change_the_channel():
    plain = fit()
    assert fit(bins=10).channel_.kernels.shape[1] == 10
    assert plain.channel_.kernels.shape[1] == 20
    other = fit(cv=3)
    assert not np.array_equal(plain.channel_.edges, other.channel_.edges)


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize(
    "estimator", [None, make_pipeline(TabularEncoder(), LogisticRegression())]
)
def test_sample_weights_reach_the_classifier(estimator, routing):
    given = np.where(Y == "yes", 3.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=routing):
        model = FairScore(estimator, bins=20, random_state=0).fit(
            make_frame(4000), Y, sensitive_features=GROUPS, sample_weight=given
        )
        plain = FairScore(estimator, bins=20, random_state=0).fit(
            make_frame(4000), Y, sensitive_features=GROUPS
        )
    heavy = model.estimators_[0].predict_proba(make_frame(4000))[:, 1]
    light = plain.estimators_[0].predict_proba(make_frame(4000))[:, 1]
    assert heavy.mean() > light.mean() + 0.1


def test_three_groups_and_two_columns():
    rng = np.random.default_rng(5)
    columns = pd.DataFrame({"sex": GROUPS, "old": rng.random(4000) < 0.3})
    model = FairScore(bins=10, random_state=0).fit(X, Y, sensitive_features=columns)
    assert len(model.groups_) == 4
    assert model.channel_.kernels.shape[0] == 4
    # Any codes, not only 0, 1, 2.
    three = np.where(rng.random(4000) < 0.3, 7, np.where(GROUPS == "m", 1, 0))
    model = FairScore(bins=10, random_state=0).fit(X, Y, sensitive_features=three)
    assert model.groups_.tolist() == [0, 1, 7]


def test_tables_with_text_through_a_pipeline():
    table = make_frame(4000).assign(job=np.where(X[:, 0] > 0, "p", "q"))
    base = make_pipeline(TabularEncoder(), LogisticRegression())
    model = FairScore(base, bins=20, random_state=0)
    model.fit(table, Y, sensitive_features=GROUPS)
    expected = score(model, table)
    assert model.n_features_in_ == 4
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "job"]
    polars = pytest.importorskip("polars", reason="polars is not installed")
    other = polars.DataFrame({name: table[name].to_list() for name in table})
    groups = polars.Series(GROUPS.tolist())
    again = FairScore(base, bins=20, random_state=0)
    again.fit(other, polars.Series(Y.tolist()), sensitive_features=groups)
    assert np.array_equal(score(again, other, groups), expected)


def test_pipelines_route_the_groups():
    table = make_frame(4000)
    with sklearn.config_context(enable_metadata_routing=True):
        model = FairScore(bins=20, random_state=0)
        model.set_fit_request(sensitive_features=True, sample_weight=False)
        model.set_predict_proba_request(sensitive_features=True)
        model.set_predict_request(sensitive_features=True)
        pipeline = make_pipeline(TabularEncoder(), model)
        pipeline.fit(table, Y, sensitive_features=GROUPS)
        routed = score(pipeline, table)
        pipeline.predict(table, sensitive_features=GROUPS)
    encoded = TabularEncoder().fit_transform(table)
    direct = FairScore(bins=20, random_state=0)
    direct.fit(encoded, Y, sensitive_features=GROUPS)
    assert np.array_equal(score(direct, encoded), routed)


def test_conventions_and_messages():
    model = FairScore(LogisticRegression(C=2.0), cv=3, bins=7)
    assert clone(model).get_params()["estimator__C"] == 2.0
    with pytest.raises(sklearn.exceptions.NotFittedError):
        model.predict(X, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="y has 3 classes, but a fair score needs 2"):
        model.fit(X, np.arange(4000) % 3, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="sensitive_features is missing"):
        model.fit(X, Y)
    with pytest.raises(ValueError, match="RidgeClassifier has no predict_proba"):
        FairScore(RidgeClassifier()).fit(X, Y, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="takes no sample_weight"):
        FairScore(KNeighborsClassifier()).fit(
            X, Y, sensitive_features=GROUPS, sample_weight=np.ones(4000)
        )
    few = np.where(np.arange(4000) < 6, "x", GROUPS)
    with pytest.raises(ValueError, match=r"fewer than 5 rows: class \w+ in group x"):
        FairScore().fit(X, Y, sensitive_features=few)
    with pytest.raises(ValueError, match="X has 4000, y has 4000, sensitive_features"):
        FairScore().fit(X, Y, sensitive_features=["f", "m"])
    fitted = fit()
    with pytest.raises(ValueError, match=r"sensitive_features has values .* time: x"):
        fitted.predict(X[:1], sensitive_features=["x"])
    with pytest.raises(ValueError, match="sensitive_features is missing"):
        fitted.predict(X)
    with pytest.raises(ValueError, match="X has 2 features, but"):
        fitted.predict(X[:, :2], sensitive_features=GROUPS)
    with pytest.raises(ValueError, match=r"NaN; encode the table.*TabularEncoder"):
        FairScore().fit(np.full_like(X, np.nan), Y, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="cv must be a whole number of at least 2"):
        fit(cv=1)
