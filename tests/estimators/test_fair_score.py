from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

import jaxsteer as js
from jaxsteer.estimators import FairScore, TabularEncoder
from jaxsteer.estimators._fold_models import row_values

from .helpers import make_frame, make_rows

X, Y, GROUPS = make_rows(4000)


def fit(**options):
    options = {"bins": 20, "repeats": 1, "random_state": 0, **options}
    return FairScore(**options).fit(X, Y, sensitive_features=GROUPS)


@pytest.fixture(scope="module")
def fitted():
    return fit(repeats=2)


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


def test_channel_is_that_of_out_of_fold_log_odds(fitted):
    label, group = (Y == "yes").astype(int), (GROUPS == "m").astype(int)
    base, odds = LogisticRegression(max_iter=1000), []
    shuffle = int(np.random.SeedSequence([0, 1]).generate_state(1)[0])
    for seed in (0, shuffle):
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        splits = list(folds.split(X, label * 2 + group))
        found = cross_val_predict(base, X, label, cv=splits, method="predict_proba")
        odds.append(np.log(found[:, 1]) - np.log(found[:, 0]))
    np.testing.assert_allclose(fitted.held_out_score_, np.mean(odds, 0), atol=1e-6)
    expected = js.roc_channel(fitted.held_out_score_, label, group, bins=20)
    np.testing.assert_array_equal(fitted.channel_.edges, expected.edges)
    np.testing.assert_allclose(fitted.channel_.atom_scores, expected.atom_scores)
    assert len(fitted.estimators_) == 10
    assert fitted.channel_.gap < 1e-6
    drawn = fitted.fair_training_score_
    atoms = np.asarray(expected.atom_scores, np.float32)
    assert set(drawn.astype(np.float32)) <= set(atoms)
    assert widest_gap(drawn, Y, GROUPS) < 0.06


@pytest.mark.parametrize(
    "estimator",
    [None, HistGradientBoostingClassifier(max_iter=15, random_state=0)],
    ids=["logistic", "boosted"],
)
def test_error_rates_are_alike_at_every_threshold_on_new_rows(estimator):
    rows, y, groups = make_rows(12_000, seed=1)
    model = FairScore(estimator, repeats=1, random_state=0)
    model.fit(*make_rows(12_000)[:2], sensitive_features=make_rows(12_000)[2])
    # Boosted trees stop early on more than 10,000 rows: a classifier fitted on all
    # rows would differ from those of the folds, and break the channel.
    raw = model.estimators_[0].predict_proba(rows)[:, 1]
    # Sampling noise of a rate over about 1,400 rows is .013, and its maximum more.
    assert widest_gap(raw, y, groups) > 0.15
    assert widest_gap(score(model, rows, groups), y, groups) < 0.06
    assert model.score(rows, y, sensitive_features=groups) > 0.75
    certain = model.with_options(method="quantiles")
    # What no increasing maps can mend, and the same noise.
    limit = float(certain.channel_.frechet_gap) + 0.06
    assert widest_gap(score(certain, rows, groups), y, groups) < limit
    assert widest_gap(raw, y, groups) > limit
    blind = model.with_options(method="blind", bins=(16, 4))
    guessed = blind.predict_proba(rows)[:, 1]
    assert widest_gap(guessed, y, groups) < 0.08
    # Each is as fair by its own means; what differs is how much it still tells.
    areas = [roc_auc_score(y, v) for v in (score(certain, rows, groups), guessed)]
    assert areas[0] > areas[1] > 0.75


def test_probabilities_and_predictions_agree(fitted):
    model = fitted
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
    assert np.array_equal(score(model), score(fit()))
    assert not np.array_equal(score(model), score(fit(random_state=1)))
    fresh = fit(random_state=None)
    assert not np.array_equal(score(fresh), score(fit(random_state=None)))
    # Settled at fit time: asking again changes nothing.
    assert np.array_equal(score(fresh), score(fresh))
    stream = fit(random_state=np.random.RandomState(0))
    assert np.array_equal(score(stream), score(stream))


def test_answers_belong_to_the_row(fitted):
    whole = score(fitted)
    order = np.random.default_rng(0).permutation(4000)[:300]
    np.testing.assert_array_equal(score(fitted, X[order], GROUPS[order]), whole[order])
    for i in range(5):
        alone = score(fitted, X[i : i + 1], GROUPS[i : i + 1])
        np.testing.assert_allclose(alone, whole[i], atol=1e-6)
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    text = table.assign(d=np.where(X[:, 0] > 0, "u", "v"))
    np.testing.assert_array_equal(row_values(table), X)
    hashes = row_values(text)
    assert len(np.unique(hashes)) == 4000
    np.testing.assert_array_equal(row_values(text.iloc[order]), hashes[order])
    changed = row_values(text.assign(d="u"))
    np.testing.assert_array_equal(changed == hashes, text["d"] == "u")
    assert row_values(np.array([[1, np.nan]]))[0, 0] == 1


def test_quantiles_are_those_of_the_channels(fitted):
    certain = fitted.with_options(method="quantiles")
    group = (GROUPS == "m").astype(int)
    label = (Y == "yes").astype(int)
    expected = js.balanced_quantiles(certain.held_out_score_, label, group)
    np.testing.assert_array_equal(certain.channel_.levels, expected.levels)
    u = expected.transport(certain.held_out_score_, group)
    np.testing.assert_allclose(certain.fair_training_score_, expected.calibrate(u))
    only = fitted.with_options(method="quantiles", class_weight=1.0)
    assert only.channel_.gaps[1] < 0.005 < certain.channel_.gaps[1]
    assert certain.estimators_[0] is fitted.estimators_[0]


def test_a_tolerance_keeps_more(fitted):
    loose = fitted.with_options(tolerance=0.02)
    assert 0.01 < loose.channel_.gap < 0.02 + 1e-6
    areas = [roc_auc_score(Y, score(model)) for model in (fitted, loose)]
    assert areas[1] > areas[0]


def test_small_groups_borrow_from_all(fitted):
    for method in ("roc", "quantiles"):
        plain = fitted.with_options(method=method)
        pooled = fitted.with_options(method=method, shrinkage=1.0)
        # Groups of thousands of rows that differ borrow nothing, and are exact.
        assert not np.any(plain.channel_.shrinkage)
        exact = fitted.with_options(method=method, shrinkage=0.0)
        np.testing.assert_array_equal(
            plain.fair_training_score_, exact.fair_training_score_
        )
        # Nothing is left of the groups: one map for all.
        one, other = (
            pooled._transport(np.linspace(-2, 2, 9), np.full(9, a), None, np.arange(9))
            for a in (0, 1)
        )
        np.testing.assert_allclose(one, other, atol=1e-6)
    with pytest.raises(ValueError, match="shrinkage='auto' has no meaning"):
        fitted.with_options(method="blind", shrinkage="auto")


def test_few_rows_borrow_where_nothing_else_is_said():
    rng = np.random.default_rng(0)
    label, groups = rng.integers(0, 2, 300), rng.choice(["f", "m"], 300, p=[0.3, 0.7])
    rows = label[:, None] + rng.normal(size=(300, 2))
    model = FairScore(repeats=1, random_state=0)
    model.fit(rows, label, sensitive_features=groups)
    group = (groups == "m").astype(int)
    smallest = np.unique(label * 2 + group, return_counts=True)[1].min()
    for method in ("roc", "quantiles"):
        given = model.with_options(method=method)
        # One law in both groups: what they differ by is chance.
        assert np.asarray(given.channel_.shrinkage).min() > 0.2
        auto = given.with_options(shrinkage="auto")
        np.testing.assert_array_equal(
            auto.fair_training_score_, given.fair_training_score_
        )
    assert model.channel_.kernels.shape[1] == int(2 * np.sqrt(smallest)) > 8
    assert model.with_options(shrinkage=0.0).channel_.gap < 1e-6 < model.channel_.gap
    blind = model.with_options(method="blind", bins=(4, 2))
    assert isinstance(blind.channel_, js.BlindChannel)


def test_blind_needs_no_group_and_takes_a_probe_of_its_own(fitted):
    blind = fitted.with_options(method="blind", bins=(10, 3))
    assert isinstance(blind.channel_, js.BlindChannel)
    found = blind.predict_proba(X)[:, 1]
    np.testing.assert_array_equal(found, score(blind))
    other = blind.with_options(group_estimator=LogisticRegression(C=1e-3))
    assert not np.array_equal(other.predict_proba(X)[:, 1], found)


def test_pickles_carry_no_training_rows(fitted):
    data = pickle.dumps(fitted)
    again = pickle.loads(data)
    np.testing.assert_array_equal(score(again), score(fitted))
    assert X[:50].tobytes() not in data and Y[:50].tobytes() not in data
    with pytest.raises(ValueError, match="training rows are not kept"):
        again.with_options(method="quantiles")


def test_cv_and_bins_change_the_channel():
    plain = fit()
    assert plain.with_options(bins=10).channel_.kernels.shape[1] == 10
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
        model = FairScore(estimator, bins=20, repeats=1, random_state=0).fit(
            make_frame(4000), Y, sensitive_features=GROUPS, sample_weight=given
        )
        plain = FairScore(estimator, bins=20, repeats=1, random_state=0).fit(
            make_frame(4000), Y, sensitive_features=GROUPS
        )
    heavy = model.estimators_[0].predict_proba(make_frame(4000))[:, 1]
    light = plain.estimators_[0].predict_proba(make_frame(4000))[:, 1]
    assert heavy.mean() > light.mean() + 0.1


def test_three_groups_and_two_columns():
    rng = np.random.default_rng(5)
    columns = pd.DataFrame({"sex": GROUPS, "old": rng.random(4000) < 0.3})
    model = FairScore(bins=10, repeats=1, random_state=0).fit(
        X, Y, sensitive_features=columns
    )
    assert len(model.groups_) == 4
    assert model.channel_.kernels.shape[0] == 4
    # Any codes, not only 0, 1, 2.
    three = np.where(rng.random(4000) < 0.3, 7, np.where(GROUPS == "m", 1, 0))
    model = FairScore(bins=10, repeats=1, random_state=0).fit(
        X, Y, sensitive_features=three
    )
    assert model.groups_.tolist() == [0, 1, 7]


def test_tables_with_text_through_a_pipeline():
    table = make_frame(4000).assign(job=np.where(X[:, 0] > 0, "p", "q"))
    base = make_pipeline(TabularEncoder(), LogisticRegression())
    model = FairScore(base, bins=20, repeats=1, random_state=0)
    model.fit(table, Y, sensitive_features=GROUPS)
    expected = score(model, table)
    assert model.n_features_in_ == 4
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "job"]
    polars = pytest.importorskip("polars", reason="polars is not installed")
    other = polars.DataFrame({name: table[name].to_list() for name in table})
    groups = polars.Series(GROUPS.tolist())
    again = FairScore(base, bins=20, repeats=1, random_state=0)
    again.fit(other, polars.Series(Y.tolist()), sensitive_features=groups)
    assert np.array_equal(score(again, other, groups), expected)


def test_pipelines_route_the_groups():
    table = make_frame(4000)
    with sklearn.config_context(enable_metadata_routing=True):
        model = FairScore(bins=20, repeats=1, random_state=0)
        model.set_fit_request(sensitive_features=True, sample_weight=False)
        model.set_predict_proba_request(sensitive_features=True)
        model.set_predict_request(sensitive_features=True)
        pipeline = make_pipeline(TabularEncoder(), model)
        pipeline.fit(table, Y, sensitive_features=GROUPS)
        routed = score(pipeline, table)
        pipeline.predict(table, sensitive_features=GROUPS)
    encoded = TabularEncoder().fit_transform(table)
    direct = FairScore(bins=20, repeats=1, random_state=0)
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
    fitted = fit(bins=9)
    with pytest.raises(ValueError, match=r"sensitive_features has values .* time: 'x'"):
        fitted.predict(X[:1], sensitive_features=["x"])
    with pytest.raises(ValueError, match="sensitive_features is missing"):
        fitted.predict(X)
    with pytest.raises(ValueError, match="X has 2 features, but"):
        fitted.predict(X[:, :2], sensitive_features=GROUPS)
    with pytest.raises(ValueError, match=r"NaN; encode the table.*TabularEncoder"):
        FairScore().fit(np.full_like(X, np.nan), Y, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="cv must be a whole number of at least 2"):
        fit(cv=1)
    with pytest.raises(
        ValueError, match="repeats must be a whole number of at least 1"
    ):
        fit(repeats=0)
    with pytest.raises(ValueError, match="method='meet' is not known"):
        fit(method="meet")
    with pytest.raises(ValueError, match=r"tolerance=0.1 .* pass method='roc'"):
        fit(method="quantiles", tolerance=0.1)
    with pytest.raises(ValueError, match=r"class_weight=1 .* pass method='quantiles'"):
        fit(class_weight=1)
    with pytest.raises(ValueError, match="option='cv' is not known"):
        fitted.with_options(cv=3)


@pytest.mark.parametrize("ids", [[None, 7], [np.nan, 7.0], [pd.NA, "a"]])
def test_people_without_an_id_do_not_share_a_draw(fitted, ids):
    with pytest.raises(ValueError, match="row_ids has 1 missing entries, the first in"):
        fitted.predict_proba(X[:2], sensitive_features=GROUPS[:2], row_ids=ids)
    with pytest.raises(ValueError, match="row_ids has 4000 missing entries"):
        FairScore().fit(X, Y, sensitive_features=GROUPS, row_ids=[None] * 4000)
