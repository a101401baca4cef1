"""The group as a column of X: what selects, calibrates, votes and measures works."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline

from jaxsteer import metrics
from jaxsteer.estimators import (
    FairScore,
    IdealSteering,
    MeanMatching,
    SteeredClassifier,
    TabularEncoder,
    make_fair_scorer,
)

from .helpers import make_frame, make_rows

_, Y, GROUPS = make_rows()
LABEL = (Y == "yes").astype(int)
TABLE = make_frame().assign(job=np.where(np.arange(1200) % 3, "cook", "clerk"))
TABLE.insert(0, "sex", GROUPS)


def steered(**options):
    return SteeredClassifier(
        encoder=TabularEncoder(), sensitive_columns=["sex"], **options
    )


def fair_score():
    base = make_pipeline(TabularEncoder(), LogisticRegression())
    return FairScore(
        base, method="quantiles", cv=2, repeats=1, random_state=0,
        sensitive_columns=["sex"],
    )  # fmt: skip


MODELS = {"steered": steered, "fair score": fair_score}


@pytest.fixture(scope="module", params=list(MODELS))
def model(request):
    return MODELS[request.param]()


@pytest.fixture(scope="module")
def fitted(model):
    return model.fit(TABLE, LABEL)


def test_the_column_gives_what_the_argument_gives():
    column = steered().fit(TABLE, Y)
    rest = TABLE.drop(columns="sex")
    beside = SteeredClassifier(encoder=TabularEncoder())
    beside.fit(rest, Y, sensitive_features=GROUPS)
    expected = beside.predict_proba(rest, sensitive_features=GROUPS)
    np.testing.assert_array_equal(column.predict_proba(TABLE), expected)
    assert column.feature_names_in_.tolist() == ["sex", "a", "b", "c", "job"]
    assert column.n_features_in_ == 5
    assert column.score(TABLE, Y) == beside.score(rest, Y, sensitive_features=GROUPS)


def test_grid_search_chooses_by_a_fairness_scorer():
    # Numbers only, so that each fold is steered without an encoder.
    table = TABLE.drop(columns="job")
    found = GridSearchCV(
        SteeredClassifier(sensitive_columns="sex"),
        {"use_weights": [True], "estimator__C": [1e-4, 1.0]}
        | {"estimator": [LogisticRegression()]},
        scoring={"gap": make_fair_scorer("sup_gap"), "accuracy": "accuracy"},
        refit="gap",
        cv=2,
        error_score="raise",
    ).fit(table, Y)
    results = found.cv_results_
    assert found.best_index_ == results["mean_test_gap"].argmax()
    assert (results["mean_test_gap"] < 0).all()
    assert set(found.predict(table)) == {"no", "yes"}
    assert 0.6 < found.best_estimator_.score(table, Y) < 1


def test_scorer_is_the_metric_on_the_column():
    plain = make_pipeline(TabularEncoder(), LogisticRegression()).fit(TABLE, Y)
    group = (GROUPS == "m").astype(int)
    score = plain.predict_proba(TABLE)[:, 1]
    options = {"sensitive_columns": ["sex"]}
    for rate in ("tpr", "fpr"):
        scorer = make_fair_scorer("sup_gap", rate=rate, **options)
        expected = float(metrics.sup_gap(LABEL, score, group, rate=rate))
        assert scorer(plain, TABLE, Y) == pytest.approx(-expected)
    odds = make_fair_scorer("equalized_odds", **options)(plain, TABLE, Y)
    decided = (plain.predict(TABLE) == "yes").astype(int)
    expected = float(metrics.equalized_odds(LABEL, decided, group))
    assert odds == pytest.approx(-expected)
    # More accuracy is better: no minus sign.
    named = make_fair_scorer("accuracy", **options)(plain, TABLE, Y)
    assert named == pytest.approx(plain.score(TABLE, Y))


def test_a_fair_estimator_scores_better_than_a_plain_one():
    plain = make_pipeline(TabularEncoder(), LogisticRegression())
    scorer = make_fair_scorer("sup_gap", sensitive_columns="sex")
    before, after = (
        cross_val_score(m, TABLE, Y, cv=2, scoring=scorer, error_score="raise").mean()
        for m in (plain, fair_score())
    )
    assert after > before + 0.05


def test_cross_val_predict_and_calibration(model):
    found = cross_val_predict(model, TABLE, Y, cv=2, method="predict_proba")
    assert found.shape == (1200, 2)
    calibrated = CalibratedClassifierCV(model, cv=2).fit(TABLE, Y)
    proba = calibrated.predict_proba(TABLE)[:, 1]
    assert abs(proba.mean() - LABEL.mean()) < 0.05
    assert np.mean(calibrated.predict(TABLE) == Y) > 0.65


def test_permutation_importance_of_columns_for_fairness(fitted):
    found = permutation_importance(
        fitted, TABLE, LABEL, n_repeats=1, random_state=0,
        scoring=make_fair_scorer("demographic_parity"),
    )  # fmt: skip
    assert found.importances_mean.shape == (5,)
    # Without the right group no row is steered as it should be.
    assert found.importances_mean[0] > 0.05


def test_votes(model):
    other = SteeredClassifier(
        encoder=TabularEncoder(), steering=MeanMatching(), sensitive_columns=["sex"]
    )
    vote = VotingClassifier([("one", model), ("two", other)], voting="soft")
    both = [m.fit(TABLE, LABEL).predict_proba(TABLE) for m in (model, other)]
    vote.fit(TABLE, LABEL)
    np.testing.assert_allclose(vote.predict_proba(TABLE), np.mean(both, 0))


def test_fairlearn_takes_the_estimators(fitted):
    pytest.importorskip("fairlearn", reason="fairlearn is not installed")
    from fairlearn.metrics import MetricFrame, selection_rate
    from fairlearn.postprocessing import ThresholdOptimizer

    predicted = fitted.predict(TABLE)
    frame = MetricFrame(
        metrics=selection_rate,
        y_true=LABEL,
        y_pred=predicted,
        sensitive_features=GROUPS,
    )
    for name in ("f", "m"):
        assert frame.by_group[name] == pytest.approx(predicted[name == GROUPS].mean())
    rule = ThresholdOptimizer(
        estimator=fitted, prefit=True, predict_method="predict_proba",
        constraints="demographic_parity",
    ).fit(TABLE, LABEL, sensitive_features=TABLE["sex"])  # fmt: skip
    decided = rule.predict(TABLE, sensitive_features=TABLE["sex"], random_state=0)
    rates = [decided[name == GROUPS].mean() for name in ("f", "m")]
    assert abs(rates[0] - rates[1]) < 0.05


def test_steering_in_a_pipeline_keeps_its_names():
    table = TABLE.drop(columns="job")
    steering = IdealSteering(sensitive_columns=["sex"]).set_output(transform="pandas")
    pipeline = make_pipeline(steering, LogisticRegression()).fit(table, Y)
    assert pipeline[-1].feature_names_in_.tolist() == ["a", "b", "c"]
    assert pipeline[:-1].get_feature_names_out().tolist() == ["a", "b", "c"]
    # The first step's columns are those of the caller.
    assert make_fair_scorer("demographic_parity")(pipeline, table, Y) < 0


def test_unusable_scorers_and_groups():
    with pytest.raises(ValueError, match="metric='gap' is not known"):
        make_fair_scorer("gap")
    plain = LogisticRegression().fit(TABLE[["a", "b"]], Y)
    with pytest.raises(ValueError, match="The groups are nowhere: name columns of X"):
        make_fair_scorer()(plain, TABLE[["a", "b"]], Y)
    with pytest.raises(ValueError, match="only the group 'f'"):
        make_fair_scorer(sensitive_columns=lambda X: ["f"] * len(X))(
            plain, TABLE[["a", "b"]], Y
        )
    with pytest.raises(ValueError, match=r"sensitive_columns of its own"):
        steered(steering=MeanMatching(sensitive_columns="sex")).fit(TABLE, Y)
    with pytest.raises(
        ValueError, match=r"must be a transformer of jaxsteer\.estimators"
    ):
        steered(steering=TabularEncoder()).fit(TABLE, Y)
