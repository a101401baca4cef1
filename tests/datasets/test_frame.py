from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from jaxsteer.datasets import stratified_split, table_from_frame


def frame(n: int = 400) -> pd.DataFrame:
    row = np.arange(n)
    return pd.DataFrame(
        {
            "age": 20 + row % 40,
            "sex": np.where(row % 2, "male", "female"),
            "race": np.where(row % 4 < 2, "black", "white"),
            "grade": np.array(["low", "mid", "high"])[row % 3],
            "paid": row // 4 % 2,
            "weight": 1.0 + row % 5,
        }
    )


def test_columns_go_to_their_places():
    data = frame()
    table = table_from_frame(
        data, label="paid", group="sex", drop=["race"], weights="weight", name="mine"
    )
    assert list(table.features) == ["age", "grade"]
    assert table.label.tolist() == data["paid"].tolist()
    assert table.label_names == (0, 1)
    assert table.group_names == ("female", "male")
    assert table.weights.tolist() == data["weight"].tolist()
    assert (table.name, table.label_column, table.group_columns) == (
        "mine",
        "paid",
        ("sex",),
    )
    assert table.label.dtype == table.group.dtype == np.int32


def test_polars_frames_give_the_same_table():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    data = frame()
    ours = table_from_frame(data, label="grade", group="sex")
    other = table_from_frame(
        polars.DataFrame(data.to_dict("list")), label="grade", group="sex"
    )
    assert np.array_equal(ours.label, other.label)
    assert np.array_equal(ours.group, other.group)
    assert ours.label_names == other.label_names == ("high", "low", "mid")
    assert list(ours.features) == list(other.features)


@pytest.mark.parametrize("dtype", ["category", object, "string"])
def test_text_of_every_dtype(dtype):
    data = frame().astype({"sex": dtype, "grade": dtype})
    table = table_from_frame(data, label="grade", group="sex")
    assert table.group_names == ("female", "male")
    assert table.label_names == ("high", "low", "mid")


def test_booleans_and_whole_floats_are_classes():
    data = frame().assign(flag=lambda d: d["paid"] == 1, real=lambda d: d["paid"] * 1.0)
    assert table_from_frame(data, label="flag", group="sex").label_names == (
        False,
        True,
    )
    assert table_from_frame(data, label="real", group="sex").label_names == (0, 1)


def test_positive_makes_one_class_against_the_rest():
    table = table_from_frame(frame(), label="grade", group="sex", positive="mid")
    assert table.label_names == ("not mid", "mid")
    assert np.array_equal(table.label, frame()["grade"] == "mid")
    table = table_from_frame(frame(), label="paid", group="sex", positive=0)
    assert table.label_names == (1, 0)
    assert np.array_equal(table.label, frame()["paid"] == 0)
    # The text of a number, as a command line gives it.
    table = table_from_frame(frame(), label="paid", group="sex", positive="0")
    assert table.label_names == (1, 0)


@pytest.mark.parametrize("group", ["sex,race", "sex, race", ["sex", "race"]])
def test_several_sensitive_columns_are_joined(group):
    data = frame()
    table = table_from_frame(data, label="paid", group=group)
    assert table.group_names == (
        "female & black",
        "female & white",
        "male & black",
        "male & white",
    )
    names = np.array(table.group_names)[table.group]
    assert names.tolist() == (data["sex"] + " & " + data["race"]).tolist()
    assert not {"sex", "race"} & set(table.features)


def test_combinations_that_do_not_occur_are_no_groups():
    data = frame().query("not (sex == 'male' and race == 'white')")
    table = table_from_frame(data, label="grade", group="sex,race")
    assert table.group_names == ("female & black", "female & white", "male & black")
    assert sorted(set(table.group.tolist())) == [0, 1, 2]


def test_a_column_name_with_a_comma_is_found():
    data = frame().rename(columns={"sex": "sex,gender"})
    table = table_from_frame(data, label="paid", group="sex,gender")
    assert table.group_columns == ("sex,gender",)


def test_small_groups_and_empty_cells_warn():
    data = frame()
    data.loc[:9, "sex"] = "other"
    data.loc[:9, "paid"] = 0
    with pytest.warns(UserWarning) as caught:
        table_from_frame(data, label="paid", group="sex")
    texts = [str(w.message) for w in caught]
    assert any("1 of 3 groups" in t and "other (10)" in t for t in texts)
    assert any("no row in a group: 1 in other" in t for t in texts)
    assert all(w.filename == __file__ for w in caught)


def test_missing_columns_list_near_names():
    with pytest.raises(ValueError, match=r"label: there is no column 'Payd'.*'paid'"):
        table_from_frame(frame(), label="Payd", group="sex")
    with pytest.raises(ValueError, match=r"group: there is no column 'SEX'.*'sex'"):
        table_from_frame(frame(), label="paid", group="SEX")
    with pytest.raises(
        ValueError, match=r"drop: .*'zzzz'; the columns are 'age', 'sex'"
    ):
        table_from_frame(frame(), label="paid", group="sex", drop=["zzzz"])
    with pytest.raises(ValueError, match=r"weights: there is no column 'wait'"):
        table_from_frame(frame(), label="paid", group="sex", weights="wait")


@pytest.mark.parametrize("column", ["sex", "grade"])
def test_missing_labels_and_groups_say_how_many_and_where(column):
    data = frame().astype({column: object})
    data.loc[[3, 7, 11, 12, 13, 14, 15], column] = None
    with pytest.raises(
        ValueError,
        match=rf"'{column}' has 7 missing values, in rows 3, 7, 11, 12, 13, \.\.\.",
    ):
        table_from_frame(data, label="grade", group="sex")


def test_unusable_labels():
    data = frame().assign(one=1, real=np.linspace(0, 1, 400))
    with pytest.raises(ValueError, match="'one' has only the value 1"):
        table_from_frame(data, label="one", group="sex")
    with pytest.raises(ValueError, match="400 distinct values, too many for classes"):
        table_from_frame(data, label="real", group="sex")
    with pytest.raises(ValueError, match=r"positive='best' is no value.*'high', 'low'"):
        table_from_frame(data, label="grade", group="sex", positive="best")
    with pytest.raises(ValueError, match="same column 'sex'"):
        table_from_frame(data, label="sex", group="sex")


def test_unusable_groups():
    data = frame().assign(one="x", number=range(400))
    with pytest.raises(ValueError, match="'one' has only the value 'x'"):
        table_from_frame(data, label="paid", group="one")
    with pytest.raises(ValueError, match="400 groups, too many"):
        table_from_frame(data, label="paid", group="number")
    with pytest.raises(ValueError, match="group names no column"):
        table_from_frame(data, label="paid", group=[])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (-1.0, "at least 0 with a positive sum"),
        (np.inf, "finite numbers"),
        (np.nan, "1 missing values, in rows 0"),
        ("much", "must hold numbers"),
    ],
)
def test_unusable_weights(weights, message):
    data = frame().astype({"weight": object})
    data.loc[0, "weight"] = weights
    with pytest.raises(ValueError, match=message):
        table_from_frame(data, label="paid", group="sex", weights="weight")


def test_no_feature_left():
    with pytest.raises(ValueError, match="No feature column is left"):
        table_from_frame(frame()[["sex", "paid"]], label="paid", group="sex")


def test_train_mask_is_taken_or_drawn():
    data = frame()
    mask = np.arange(400) < 100
    table = table_from_frame(data, label="paid", group="sex", train=mask)
    assert np.array_equal(table.train, mask)
    drawn = table_from_frame(data, label="paid", group="sex")
    assert drawn.train.sum() == 280
    for wrong in (mask[:10], mask.astype(int)):
        with pytest.raises(ValueError, match="train must be a mask of 400 booleans"):
            table_from_frame(data, label="paid", group="sex", train=wrong)
    with pytest.raises(ValueError, match="selects no row"):
        table_from_frame(data, label="paid", group="sex", train=np.zeros(400, bool))


def test_take_keeps_names_and_rows_together():
    table = table_from_frame(frame(), label="paid", group="sex", weights="weight")
    rows = np.array([5, 2, 9])
    part = table.take(rows)
    assert len(part) == 3
    assert part.features["age"].tolist() == table.features["age"].iloc[rows].tolist()
    assert part.label.tolist() == table.label[rows].tolist()
    assert part.weights.tolist() == table.weights[rows].tolist()
    assert part.group_names == table.group_names
    with pytest.raises(dataclasses.FrozenInstanceError):
        part.name = "other"


def test_stratified_split_keeps_shares_and_obeys_its_options():
    rng = np.random.default_rng(0)
    label, group = rng.integers(0, 3, 1000), rng.integers(0, 2, 1000)
    train = stratified_split(label, group)
    for i in range(3):
        for a in range(2):
            cell = (label == i) & (group == a)
            assert train[cell].sum() == round(0.7 * cell.sum())
    assert np.array_equal(train, stratified_split(label, group))
    assert not np.array_equal(train, stratified_split(label, group, seed=1))
    assert stratified_split(label, group, train_share=0.2).mean() < 0.21
    assert stratified_split([0, 1], [0, 1], train_share=0.1).all()


@pytest.mark.parametrize("share", [0.0, 1.0, 70])
def test_stratified_split_refuses_odd_shares(share):
    with pytest.raises(ValueError, match="train_share must be between 0 and 1"):
        stratified_split([0, 1], [0, 1], train_share=share)


def test_stratified_split_refuses_names_and_other_lengths():
    with pytest.raises(ValueError, match="label must hold integer codes"):
        stratified_split(["a", "b"], [0, 1])
    with pytest.raises(ValueError, match="label has 2, group has 3"):
        stratified_split([0, 1], [0, 1, 1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label": ["paid"]}, r"label=\['paid'\] must be the name of a column"),
        ({"label": 3}, "label=3 must be the name of a column"),
        ({"group": None}, "group=None must be the name of a column, or several"),
        ({"group": [1]}, "group=1 must be the name of a column"),
        ({"drop": [None]}, "drop=None must be the name of a column"),
    ],
)
def test_columns_are_named_by_text(given, message):
    with pytest.raises(ValueError, match=message):
        table_from_frame(frame(), **{"label": "paid", "group": "sex", **given})


def test_one_letter_of_two_signs_is_one_spelling():
    data = frame()
    row = np.arange(len(data))
    data["sex"] = np.where(row % 2, "f", np.where(row % 4 < 2, "é", "e\u0301"))
    with pytest.warns(UserWarning, match="one value in several spellings"):
        table = table_from_frame(data, label="paid", group="sex")
    assert len(table.group_names) == 2
