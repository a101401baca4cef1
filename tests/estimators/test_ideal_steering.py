from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import jaxsteer as js
from jaxsteer.estimators import IdealSteering, TabularEncoder

from .helpers import make_frame, make_rows, mean_gap

X, Y, GROUPS = make_rows()


def fit(**options):
    return IdealSteering(**options).fit(X, Y, sensitive_features=GROUPS)


def test_rows_are_those_of_the_library():
    steering = fit(reference="m")
    label, group = (Y == "yes").astype(int), (GROUPS == "m").astype(int)
    population = js.fit_population(X, label, group)
    found = js.nearest_ideal(population, reference=1, maps="shared_covariance")
    expected = np.asarray(found.transport(X, group))
    steered = steering.transform(X, sensitive_features=GROUPS)
    tolerance = 100 * np.finfo(expected.dtype).eps
    np.testing.assert_allclose(steered, expected, rtol=0, atol=tolerance)
    weights = np.asarray(found.cell_weights)[label, group]
    np.testing.assert_allclose(steering.sample_weight_, weights, rtol=1e-5)
    assert steering.classes_.tolist() == ["no", "yes"]
    assert steering.groups_.tolist() == ["f", "m"]
    assert steering.reference_ == "m"


def test_groups_come_closer():
    steered = fit().transform(X, sensitive_features=GROUPS)
    assert mean_gap(X, Y, GROUPS) > 1
    assert mean_gap(steered, Y, GROUPS) < 0.5 * mean_gap(X, Y, GROUPS)


def test_reference_stays_and_none_takes_the_largest_group():
    assert fit().reference_ == "m"
    for name in ("f", "m"):
        steered = fit(reference=name).transform(X, sensitive_features=GROUPS)
        moved = np.abs(steered - X).max(1)
        assert moved[name == GROUPS].max() < 1e-4
        assert moved[name != GROUPS].max() > 0.1
    with pytest.raises(ValueError, match=r"reference='x' is no group; .* 'f', 'm'"):
        fit(reference="x")


def test_labels_and_groups_may_be_anything():
    expected = fit(reference="m").transform(X, sensitive_features=GROUPS)
    y, groups = np.where(Y == "yes", 7, -2), np.where(GROUPS == "m", 30, 10)
    steering = IdealSteering(reference=30).fit(X, y, sensitive_features=groups)
    assert steering.classes_.tolist() == [-2, 7]
    assert steering.groups_.tolist() == [10, 30]
    for kind in (list, pd.Series, lambda v: v.astype(float)):
        steered = steering.transform(X, sensitive_features=kind(groups))
        assert np.array_equal(steered, expected)


def test_several_sensitive_columns_are_joined():
    rng = np.random.default_rng(1)
    columns = pd.DataFrame({"sex": GROUPS, "old": rng.random(len(Y)) < 0.5})
    steering = IdealSteering().fit(X, Y, sensitive_features=columns)
    assert steering.groups_.tolist() == [
        "f & False",
        "f & True",
        "m & False",
        "m & True",
    ]
    joined = (columns["sex"] + " & " + columns["old"].astype(str)).to_numpy()
    left = steering.transform(X, sensitive_features=columns)
    assert np.array_equal(left, steering.transform(X, sensitive_features=joined))
    again = IdealSteering().fit(X, Y, sensitive_features=columns.to_numpy())
    assert again.groups_.tolist() == steering.groups_.tolist()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("method", "all_groups"),
        ("maps", "diagonal"),
        ("priors", "reference"),
        ("family", "diagonal_normal"),
        ("shrinkage", 0.5),
        ("covariance", "low_rank"),
        ("strength", 0.5),
    ],
)
def test_every_option_changes_the_result(option, value):
    options = {"maps": "diagonal"} if option == "method" else {}
    changed = fit(**{**options, option: value})
    plain = fit(**options)
    if option == "priors":
        assert not np.allclose(changed.sample_weight_, plain.sample_weight_)
    else:
        left = plain.transform(X, sensitive_features=GROUPS)
        right = changed.transform(X, sensitive_features=GROUPS)
        assert np.abs(left - right).max() > 1e-3


def test_discrete_columns_stay_unless_told():
    counts = np.random.default_rng(0).poisson(2 + (GROUPS == "m"))
    rows = np.column_stack([X[:, 0], X[:, 1] > 0, X[:, 1:], counts]).astype(float)
    of = {"sensitive_features": GROUPS}
    steering = IdealSteering(reference="m").fit(rows, Y, **of)
    assert steering.moved_.tolist() == [True, False, True, True, False]
    steered = steering.transform(rows, **of)
    expected = fit(reference="m").transform(X, **of)
    np.testing.assert_allclose(steered[:, [0, 2, 3]], expected, atol=1e-6)
    np.testing.assert_array_equal(steered[:, [1, 4]], rows[:, [1, 4]])
    back = steering.inverse_transform(steered, **of)
    np.testing.assert_allclose(back, rows, atol=1e-4)
    every = IdealSteering(discrete="move").fit(rows, Y, **of)
    assert every.moved_.all()
    assert len(np.unique(every.transform(rows, **of)[:, 1])) > 2
    with pytest.warns(UserWarning, match="All columns of X have few distinct values"):
        none = IdealSteering().fit(rows[:, [1, 4]], Y, **of)
    np.testing.assert_array_equal(
        none.transform(rows[:, [1, 4]], **of), rows[:, [1, 4]]
    )
    np.testing.assert_allclose(none.sample_weight_, fit().sample_weight_, rtol=1e-4)
    with pytest.raises(ValueError, match="discrete='keep' is not known"):
        fit(discrete="keep")


def test_strength_interpolates():
    none = fit(strength=0.0).transform(X, sensitive_features=GROUPS)
    half = fit(strength=0.5).transform(X, sensitive_features=GROUPS)
    full = fit().transform(X, sensitive_features=GROUPS)
    np.testing.assert_allclose(none, X, atol=1e-5)
    np.testing.assert_allclose(half, (X + full) / 2, atol=1e-4)
    with pytest.raises(ValueError, match=r"strength must be from 0 to 1, got 1\.5"):
        fit(strength=1.5)


def test_sample_weights_enter_the_fit_and_the_weights():
    given = np.where(Y == "yes", 3.0, 1.0)
    steering = IdealSteering().fit(X, Y, sensitive_features=GROUPS, sample_weight=given)
    cells = steering.sample_weight(Y, GROUPS)
    np.testing.assert_allclose(steering.sample_weight_, cells * given)
    weighted = pd.Series(steering.sample_weight_).groupby([Y, GROUPS]).sum()
    # Independent after weighing: a rank-one table.
    assert abs(np.linalg.det(weighted.unstack().to_numpy() / len(Y))) < 1e-5
    assert not np.allclose(cells, fit().sample_weight_)


def test_sample_weight_of_new_rows():
    steering = fit()
    assert np.array_equal(steering.sample_weight(Y, GROUPS), steering.sample_weight_)
    assert len(steering.sample_weight(["yes", "no"], ["m", "f"])) == 2
    with pytest.raises(ValueError, match=r"y has values that were not there.*perhaps"):
        steering.sample_weight(["yes", "perhaps"], ["m", "f"])


def test_tables_of_every_library_keep_their_names():
    table = make_frame()
    steering = IdealSteering().fit(table, Y, sensitive_features=pd.Series(GROUPS))
    expected = fit().transform(X, sensitive_features=GROUPS)
    assert steering.feature_names_in_.tolist() == ["a", "b", "c"]
    assert steering.get_feature_names_out().tolist() == ["a", "b", "c"]
    framed = steering.set_output(transform="pandas").transform(
        table, sensitive_features=GROUPS
    )
    assert list(framed) == ["a", "b", "c"]
    assert np.array_equal(framed, expected)
    polars = pytest.importorskip("polars", reason="polars is not installed")
    other = IdealSteering().fit(
        polars.DataFrame({name: table[name].to_list() for name in table}),
        polars.Series(Y.tolist()),
        sensitive_features=polars.DataFrame({"sex": GROUPS.tolist()}),
    )
    assert other.feature_names_in_.tolist() == ["a", "b", "c"]
    steered = other.transform(
        polars.DataFrame({name: table[name].to_list() for name in table}),
        sensitive_features=polars.Series(GROUPS.tolist()),
    )
    assert np.array_equal(steered, expected)


def test_sklearn_conventions():
    steering = IdealSteering(method="all_groups", strength=0.5)
    assert clone(steering).get_params() == steering.get_params()
    with pytest.raises(sklearn.exceptions.NotFittedError):
        steering.transform(X, sensitive_features=GROUPS)
    whole = IdealSteering().fit_transform(X, Y, sensitive_features=GROUPS)
    assert np.array_equal(whole, fit().transform(X, sensitive_features=GROUPS))


def test_pipelines_route_the_groups():
    table = make_frame().assign(job=np.where(X[:, 0] > 0, "p", "q"))
    with sklearn.config_context(enable_metadata_routing=True):
        steering = (
            IdealSteering()
            .set_fit_request(sensitive_features=True, sample_weight=False)
            .set_transform_request(sensitive_features=True)
        )
        pipeline = make_pipeline(TabularEncoder(), steering, LogisticRegression())
        pipeline.fit(table, Y, sensitive_features=GROUPS)
        routed = pipeline.predict_proba(table, sensitive_features=GROUPS)
    encoded = TabularEncoder().fit_transform(table)
    steered = IdealSteering().fit_transform(encoded, Y, sensitive_features=GROUPS)
    direct = LogisticRegression().fit(steered, Y).predict_proba(steered)
    np.testing.assert_allclose(routed, direct, atol=1e-5)


def test_groups_must_be_known_complete_and_there():
    steering = fit()
    with pytest.raises(
        ValueError, match=r"sensitive_features has values .* time: 'x';"
    ):
        steering.transform(X[:2], sensitive_features=["x", "m"])
    with pytest.raises(ValueError, match="'sensitive_features' has 1 missing values"):
        steering.transform(X[:2], sensitive_features=[None, "m"])
    with pytest.raises(ValueError, match=r"sensitive_features is missing.*set_fit_req"):
        steering.transform(X)
    with pytest.raises(ValueError, match="X has 1200, sensitive_features has 2"):
        steering.transform(X, sensitive_features=["m", "f"])
    with pytest.raises(ValueError, match="only the group 'm'"):
        IdealSteering().fit(X, Y, sensitive_features=["m"] * len(Y))
    with pytest.raises(ValueError, match="sensitive_features is missing"):
        IdealSteering().fit(X, Y)


def test_labels_must_be_complete_and_there():
    with pytest.raises(ValueError, match="y is missing"):
        IdealSteering().fit(X, None, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="y has only one class, 'no'"):
        IdealSteering().fit(X, ["no"] * len(Y), sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="y has 1 missing values, in rows 3"):
        y = Y.astype(object)
        y[3] = None
        IdealSteering().fit(X, y, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match=r"y must have shape \[n\], got \(1200, 2\)"):
        IdealSteering().fit(X, np.stack([Y, Y], 1), sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="X has 1200, y has 5"):
        IdealSteering().fit(X, Y[:5], sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="y has no rows"):
        IdealSteering().fit(X, [], sensitive_features=GROUPS)


def test_empty_cells_are_named():
    y = np.where(GROUPS == "m", "no", Y)
    with pytest.raises(
        ValueError, match=r"fewer than 1 rows: class yes in group m \(0"
    ):
        IdealSteering().fit(X, y, sensitive_features=GROUPS)


def test_features_must_be_finite_numbers_of_the_same_width():
    with pytest.raises(ValueError, match=r"X has 2 features, .* expecting 3"):
        fit().transform(X[:, :2], sensitive_features=GROUPS)
    for value in (np.nan, np.inf):
        bad = X.copy()
        bad[4, 1] = value
        with pytest.raises(ValueError, match=r"row 4, column 1; .*TabularEncoder\(\)"):
            IdealSteering().fit(bad, Y, sensitive_features=GROUPS)
        with pytest.raises(ValueError, match="TabularEncoder"):
            fit().transform(bad, sensitive_features=GROUPS)
    text = make_frame().assign(job="cook")
    with pytest.raises(ValueError, match=r"values that are no numbers.*TabularEncoder"):
        IdealSteering().fit(text, Y, sensitive_features=GROUPS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "x"}, "'x' is not known"),
        ({"maps": "x"}, "maps='x' is not known"),
        ({"priors": "x"}, "priors='x' is not known"),
        ({"family": "x"}, "family='x' is not known"),
    ],
)
def test_unknown_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)
