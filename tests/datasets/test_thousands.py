"""Points in files of semicolons: marks of thousands or of decimals, told by the others."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsteer.datasets import read_table
from jaxsteer.datasets._read import read_text_table

INCOMES = ["950", "12.500", "1.000", ""]
WANTED = [950.0, 12500.0, 1000.0, np.nan]
AS_POINTS = [950.0, 12.5, 1.0, np.nan]


def written(path, **columns):
    rows = zip(*columns.values(), strict=True)
    text = "\n".join([";".join(columns), *map(";".join, rows)])
    path.write_text(text + "\n")
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows.csv"


@pytest.mark.parametrize("read", [read_table, read_text_table])
def test_thousands_beside_decimal_commas(path, read):
    share = ["0,5", "3,75", "2,25", "1,5"] * 3
    written(path, income=INCOMES * 3, share=share)
    with pytest.warns(UserWarning, match="mark thousands in 'income'"):
        found = read(path)
    frame = getattr(found, "frame", found)
    np.testing.assert_array_equal(frame["income"], WANTED * 3)
    np.testing.assert_array_equal(frame["share"], [0.5, 3.75, 2.25, 1.5] * 3)


def test_thousands_beside_whole_numbers(path):
    with pytest.warns(UserWarning, match="mark thousands in 'income'"):
        found = read_table(written(path, income=INCOMES, sex=list("fmfm")))
    np.testing.assert_array_equal(found["income"], WANTED)


def test_decimal_points_beside_others_like_them(path):
    columns = {"size": ["1.500", "2.250", "200"], "rate": ["3.5", "12.25", "1"]}
    found = read_table(written(path, **columns))
    np.testing.assert_array_equal(found["size"], [1.5, 2.25, 200.0])
    np.testing.assert_array_equal(found["rate"], [3.5, 12.25, 1.0])


@pytest.mark.parametrize(
    "texts", [["0.500", "1.250"], ["1.5", "12.500"], ["1234.500", "1.000"], ["7", "8"]]
)
def test_what_cannot_be_thousands_is_left_without_a_word(path, texts, recwarn):
    found = read_table(written(path, size=texts, sex=["f", "m"]), separator=";")
    np.testing.assert_array_equal(found["size"], [float(text) for text in texts])
    assert not recwarn.list


def test_what_may_be_either_is_said_and_can_be_named(path):
    written(path, size=["1.500", "2.250"], sex=["f", "m"])
    with pytest.warns(UserWarning, match="'size' were read as decimal points, but may"):
        found = read_table(path, separator=";")
    assert found["size"].tolist() == [1.5, 2.25]
    found = read_table(path, separator=";", decimal=",")
    assert found["size"].tolist() == [1500, 2250]


def test_a_decimal_point_that_is_named_stays_one(path, recwarn):
    found = read_table(
        written(path, income=INCOMES, sex=list("fmfm")), separator=";", decimal="."
    )
    np.testing.assert_array_equal(found["income"], AS_POINTS)
    assert not recwarn.list
