"""Values that differ by blanks, case, a dot or type: matched with a note, or refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from jaxsteer._spellings import match_values, merge_spellings, plain
from jaxsteer.datasets import load_adult, read_table, table_from_frame
from jaxsteer.estimators import IdealSteering

SEX = ["F"] * 200 + ["M"] * 200


@pytest.mark.parametrize(
    ("values", "positive"),
    [
        ([">50K", "<=50K", ">50K.", "<=50K."], ">50K"),
        ([">50K", "<=50K", ">50K.", "<=50K."], ">50K."),
        (["yes", "no", "yes ", "no "], "yes"),
        (["yes", "no", "Yes", "No"], "yes"),
        (["yes", "no", "Yes", "No"], "YES"),
        (["1", "0", 1, 0], 1),
        (["yes", "no", "Yes", "No"], None),
    ],
)
def test_the_label_in_two_spellings_is_one(values, positive):
    frame = pd.DataFrame({"x": range(400), "sex": SEX, "y": values * 100})
    with pytest.warns(UserWarning, match="'y' has one value in several spellings"):
        table = table_from_frame(frame, label="y", group="sex", positive=positive)
    assert table.counts().tolist() == [[100, 100], [100, 100]]


def test_booleans_and_ones_are_one_value_to_pandas_already():
    frame = pd.DataFrame({"x": range(400), "sex": SEX, "y": [True, False, 1, 0] * 100})
    with pytest.warns(UserWarning, match="'1' as True"):
        table = table_from_frame(frame, label="y", group="sex", positive="1")
    assert table.counts().tolist() == [[100, 100], [100, 100]]


def test_groups_in_two_spellings_are_one():
    frame = pd.DataFrame(
        {
            "x": range(400),
            "sex": ["F", "F ", "M", "m"] * 100,
            "y": ["n"] * 200 + ["y"] * 200,
        }
    )
    with pytest.warns(UserWarning, match=r"'F' \(100 rows\) and 'F ' \(100 rows\)"):
        table = table_from_frame(frame, label="y", group="sex")
    assert table.group_names == ("F", "M")
    assert table.counts().tolist() == [[100, 100], [100, 100]]


def test_values_that_differ_by_more_are_kept_apart(recwarn):
    column = pd.Series(["a", "b", "-1", "1", "1.5", "15", "no", "none"])
    assert merge_spellings(column, "x") is column
    assert not recwarn


def test_the_published_test_file_of_adult(tmp_path):
    """Half of the rows carry the dots of the published test file."""
    table = load_adult()
    label = np.array(table.label_names)[table.label]
    dotted = np.where(np.arange(len(table)) % 3 == 0, np.char.add(label, "."), label)
    frame = pd.DataFrame(
        {
            "age": table.features["age"],
            "sex": np.array(table.group_names)[table.group],
            "income": dotted,
        }
    )
    frame.to_csv(tmp_path / "adult.csv", index=False)
    with pytest.warns(UserWarning, match="one value in several spellings"):
        found = table_from_frame(
            read_table(tmp_path / "adult.csv"),
            label="income",
            group="sex",
            positive=">50K",
        )
    assert found.counts().tolist() == table.counts().tolist()


def test_blanks_around_fields_are_no_part_of_them(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,yes \n2, no\n3,yes\n")
    assert read_table(tmp_path / "a.csv")["y"].tolist() == ["yes", "no", "yes"]


def test_matching():
    names = ("no", "yes", 1, "M")
    with pytest.warns(UserWarning, match="'Yes ' as 'yes', 'm' as 'M'"):
        found = match_values(["Yes ", 1.0, "no", "m"], names, "g")
    assert found == {"Yes ": 1, 1.0: 2, "no": 0, "m": 3}
    with pytest.raises(ValueError, match=r"g: not known: 'yess'; did you mean 'yes'\?"):
        match_values(["yess"], names, "g")
    with pytest.raises(
        ValueError, match="not known: 'q'; known are 'no', 'yes', 1, 'M'"
    ):
        match_values(["q"], names, "g")
    assert plain(True) == plain(1) == plain("1") == plain(1.0) != plain(0)


def test_a_positive_value_that_is_nearly_one():
    frame = pd.DataFrame({"x": range(400), "sex": SEX, "y": ["good", "bad"] * 200})
    with pytest.raises(
        ValueError, match=r"values are 'bad', 'good'; did you mean 'good'"
    ):
        table_from_frame(frame, label="y", group="sex", positive="goood")


def test_types_are_shown_where_they_are_what_differs():
    rng = np.random.default_rng(0)
    X, y, sex = rng.normal(size=(300, 2)), rng.integers(0, 2, 300), np.arange(300) % 2
    fitted = IdealSteering().fit(X, y, sensitive_features=sex)
    with pytest.raises(ValueError, match="fit time: '0', '1'; known are 0, 1"):
        fitted.transform(X, sensitive_features=sex.astype(str))
