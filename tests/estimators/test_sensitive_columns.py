"""Groups as columns or beside X: found by name, put in order by index, or refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from jaxsteer.estimators import LEACE, IdealSteering, MeanMatching, Reweighing

from .helpers import make_frame, make_rows

X, Y, GROUPS = make_rows()
FRAME = make_frame()
OLD = np.arange(1200) % 2
SENSITIVE = pd.DataFrame({"sex": (GROUPS == "m").astype(int), "old": OLD})
EXPECTED = (
    MeanMatching(reference="m")
    .fit(X, sensitive_features=GROUPS)
    .transform(X, sensitive_features=GROUPS)
)


def matched(**options):
    return MeanMatching(reference="m", **options)


@pytest.mark.parametrize("columns", ["sex", ["sex"], ("sex",), [1], 1, [-3]])
def test_columns_by_name_or_position_are_left_out(columns):
    table = FRAME.copy()
    table.insert(1, "sex", GROUPS)
    model = matched(sensitive_columns=columns).fit(table)
    np.testing.assert_array_equal(model.transform(table), EXPECTED)
    assert model.get_feature_names_out().tolist() == ["a", "b", "c"]
    assert model.n_features_in_ == 4
    back = model.inverse_transform(EXPECTED, sensitive_features=table["sex"])
    np.testing.assert_allclose(back, X, atol=1e-14)
    framed = model.set_output(transform="pandas").transform(table)
    assert list(framed) == ["a", "b", "c"]


def test_arrays_take_positions_and_functions_take_rows():
    array = np.concatenate([X, (GROUPS == "m")[:, None]], 1)
    model = MeanMatching(reference=1, sensitive_columns=-1).fit(array)
    np.testing.assert_array_equal(model.transform(array), EXPECTED)
    text = array.astype(object)
    text[:, 3] = GROUPS
    model = matched(sensitive_columns=[3]).fit(text)
    np.testing.assert_array_equal(model.transform(text), EXPECTED)
    assert model.get_feature_names_out().tolist() == ["x0", "x1", "x2"]
    # A function leaves nothing out: age bands, say.
    banded = MeanMatching(sensitive_columns=lambda rows: rows[:, 0] > 0).fit(X)
    assert banded.transform(X).shape == X.shape
    assert banded.groups_.tolist() == [False, True]


def test_both_ways_at_once_and_wrong_names_are_refused():
    table = FRAME.assign(sex=GROUPS)
    with pytest.raises(ValueError, match="give one of the two"):
        matched(sensitive_columns="sex").fit(table, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="no column 'sx'; did you mean 'sex'"):
        matched(sensitive_columns="sx").fit(table)
    with pytest.raises(ValueError, match="none at position 4"):
        matched(sensitive_columns=4).fit(table)
    with pytest.raises(ValueError, match="X is an array without them"):
        matched(sensitive_columns="sex").fit(X)
    with pytest.raises(ValueError, match="each once"):
        matched(sensitive_columns=["sex", 3]).fit(table)
    with pytest.raises(ValueError, match=r"1 feature\(s\), all of them sensitive"):
        matched(sensitive_columns="sex").fit(table[["sex"]])
    model = matched(sensitive_columns="sex").fit(table)
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(FRAME.assign(gender=GROUPS))
    with pytest.raises(ValueError, match="sensitive columns are not among them"):
        model.inverse_transform(table.drop(columns="sex").assign(d=0, e=1),
                                sensitive_features=GROUPS)  # fmt: skip


def test_sensitive_columns_in_another_order_are_found_by_name():
    model = IdealSteering().fit(X, Y, sensitive_features=SENSITIVE)
    expected = model.transform(X, sensitive_features=SENSITIVE)
    other = SENSITIVE[["old", "sex"]]
    np.testing.assert_array_equal(
        model.transform(X, sensitive_features=other), expected
    )
    # What has other columns beside is read by name too, and what lacks one is refused.
    wide = other.assign(age=3)
    np.testing.assert_array_equal(model.transform(X, sensitive_features=wide), expected)
    with pytest.raises(ValueError, match=r"no column 'sex'; .*'old', 'gender'"):
        model.transform(X, sensitive_features=other.rename(columns={"sex": "gender"}))
    np.testing.assert_array_equal(
        model.sample_weight(Y, other), model.sample_weight(Y, SENSITIVE)
    )


def test_one_named_column_is_not_taken_for_another():
    model = matched().fit(X, sensitive_features=pd.Series(GROUPS, name="sex"))
    with pytest.raises(ValueError, match="no column 'sex'"):
        model.transform(X, sensitive_features=pd.Series(GROUPS, name="race"))
    for groups in (GROUPS, pd.Series(GROUPS), pd.DataFrame({"a": 1, "sex": GROUPS})):
        np.testing.assert_array_equal(
            model.transform(X, sensitive_features=groups), EXPECTED
        )


def test_rows_are_matched_by_index():
    order = np.random.default_rng(0).permutation(1200)
    shuffled = FRAME.iloc[order]
    groups, labels = pd.Series(GROUPS), pd.Series(Y)
    weights = pd.Series(np.where(Y == "yes", 3.0, 1.0))
    model = IdealSteering().fit(
        shuffled, labels, sensitive_features=groups, sample_weight=weights
    )
    straight = IdealSteering().fit(
        shuffled, Y[order], sensitive_features=GROUPS[order],
        sample_weight=weights.to_numpy()[order],
    )  # fmt: skip
    np.testing.assert_array_equal(model.sample_weight_, straight.sample_weight_)
    found = model.transform(shuffled, sensitive_features=groups)
    expected = straight.transform(shuffled, sensitive_features=GROUPS[order])
    np.testing.assert_array_equal(found, expected)
    beside = model.sample_weight(labels.iloc[order], groups)
    np.testing.assert_array_equal(beside, model.sample_weight(Y[order], GROUPS[order]))


def test_indexes_that_cannot_be_matched_are_refused():
    groups = pd.Series(GROUPS)
    moved = groups.set_axis(np.arange(1200) + 5)
    with pytest.raises(
        ValueError, match=r"X and sensitive_features have different indexes: 5 labels"
    ):
        matched().fit(FRAME, sensitive_features=moved)
    with pytest.raises(ValueError, match=r"pass y\.to_numpy\(\) if they are in one"):
        Reweighing().fit(FRAME, moved, sensitive_features=GROUPS)
    twice = groups.set_axis(np.arange(1200) % 600)
    with pytest.raises(ValueError, match="repeated labels"):
        matched().fit(FRAME, sensitive_features=twice)
    model = matched().fit(FRAME, sensitive_features=groups)
    with pytest.raises(ValueError, match="different indexes"):
        model.transform(FRAME, sensitive_features=moved)
    # Which order does the array have?
    with pytest.raises(ValueError, match="X has none to say which one it follows"):
        IdealSteering().fit(X, pd.Series(Y), sensitive_features=groups[::-1])
    with pytest.raises(ValueError, match="X has 1200, sensitive_features has 1199"):
        matched().fit(FRAME, sensitive_features=groups[1:])


def test_what_has_no_index_goes_by_place():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    table = polars.DataFrame({name: FRAME[name].to_list() for name in FRAME})
    groups = pd.Series(GROUPS, index=np.arange(1200)[::-1])
    model = matched().fit(table, sensitive_features=groups)
    np.testing.assert_array_equal(
        model.transform(table, sensitive_features=groups), EXPECTED
    )
    with_column = table.with_columns(polars.Series("sex", GROUPS.tolist()))
    model = matched(sensitive_columns=["sex"]).fit(with_column)
    np.testing.assert_array_equal(model.transform(with_column), EXPECTED)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_keep_their_precision(dtype):
    rows = (X + 1e4).astype(dtype)
    for model in (matched(), IdealSteering(), LEACE(kind="oracle")):
        steered = model.fit_transform(rows, Y, sensitive_features=GROUPS)
        assert steered.dtype == dtype
        back = model.inverse_transform(steered, sensitive_features=GROUPS)
        assert back.dtype == dtype
        np.testing.assert_allclose(back, rows, rtol=50 * np.finfo(dtype).eps)
    assert LEACE().fit_transform(rows, sensitive_features=GROUPS).dtype == dtype


@pytest.mark.parametrize("other", ["f ", "F", "f."])
def test_groups_that_differ_in_spelling_alone_are_named(other):
    groups = np.where(OLD == 1, GROUPS, np.where(GROUPS == "f", other, GROUPS))
    with pytest.warns(UserWarning, match=f"sensitive_features has .*{other}"):
        model = matched().fit(X, sensitive_features=groups)
    assert model.groups_.tolist() == sorted({"f", other, "m"})
    with pytest.warns(UserWarning, match="y has values that differ by blanks"):
        Reweighing().fit(X, groups, sensitive_features=np.arange(1200) // 3 % 2)


def test_groups_of_numbers_and_texts_stay_what_they_are(tmp_path):
    groups = [1 if name == "m" else name for name in GROUPS]
    model = MeanMatching(reference=1).fit(X, sensitive_features=groups)
    assert model.groups_.tolist() == [1, "f"]
    moved = model.transform(X, sensitive_features=groups)
    np.testing.assert_array_equal(moved, EXPECTED)


def test_two_groups_of_one_name_are_refused():
    parts = np.array([["a & b", "c"], ["a", "b & c"], ["d", "e"]], object)
    with pytest.raises(ValueError, match="two groups one name, 'a & b & c'"):
        matched().fit(X, sensitive_features=parts[np.arange(1200) % 3])


def test_a_name_that_stands_twice_is_refused():
    twice = FRAME.set_axis(["a", "b", "a"], axis=1)
    with pytest.raises(ValueError, match="X has more than one column named 'a'"):
        matched().fit(twice, sensitive_features=GROUPS)


def test_a_group_without_a_name_is_seen_in_messages():
    groups = np.where(GROUPS == "f", "", "m")
    with pytest.raises(ValueError, match=r"class yes in group '' \(0\)"):
        Reweighing().fit(X, np.where(GROUPS == "f", "no", Y), sensitive_features=groups)
