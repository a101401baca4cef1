from __future__ import annotations

import datetime

import numpy as np
import pytest

from jaxsteer import encode_labels


@pytest.mark.parametrize(
    ("values", "codes", "names"),
    [
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        ([7, -3, 7, 100], [1, 0, 1, 2], (-3, 7, 100)),
        ([True, False, True], [1, 0, 1], (False, True)),
        ([2.0, 1.0], [1, 0], (1, 2)),
        ([0.5, 2.0], [0, 1], (0.5, 2.0)),
        ([1.0, np.inf], [0, 1], (1.0, np.inf)),
        ([1e300, 1.0], [1, 0], (1.0, 1e300)),
        (np.array([3, 1], np.uint8), [1, 0], (1, 3)),
        (np.array(["x", "w"], object), [1, 0], ("w", "x")),
        ([], [], ()),
    ],
)
def test_codes_and_names(values, codes, names):
    found, known = encode_labels(values)
    assert found.dtype == np.int32
    assert found.tolist() == codes
    assert known == names
    assert [type(n) for n in known] == [type(n) for n in names]


@pytest.mark.parametrize("values", [[2, "a", 2], np.array([2, "a", 2], object)])
def test_mixed_types_keep_their_types(values):
    codes, names = encode_labels(values)
    assert names == (2, "a")
    assert codes.tolist() == [0, 1, 0]
    with pytest.raises(
        ValueError, match="not there at fit time: '2'; known are 2, 'a'"
    ):
        encode_labels(["2"], names=names)


def test_given_names_decide_the_codes():
    codes, names = encode_labels(["a", "c"], names=("c", "b", "a"))
    assert codes.tolist() == [2, 0]
    assert names == ("c", "b", "a")
    # Whole numbers come back as floats from many readers.
    assert encode_labels([1.0, 0.0], names=(0, 1))[0].tolist() == [1, 0]


def test_unknown_values_are_named():
    with pytest.raises(
        ValueError,
        match=r"group has values that were not there at fit time: 'd', 'e'; known are 'a'",
    ):
        encode_labels(["a", "e", "d", "d"], names=("a", "b"), what="group")
    with pytest.raises(ValueError, match=r"fit time: 2, 3, 4, 5, 6, \.\.\.; known"):
        encode_labels(range(9), names=(0, 1))


@pytest.mark.parametrize(
    "values",
    [
        ["a", None, "b", None],
        ["a", float("nan"), "b", np.nan],
        [1.0, np.nan, 2.0, np.nan],
        np.array(["a", np.nan, "b", None], object),
        [datetime.date(2020, 1, 1), np.datetime64("NaT"), 0, None],
    ],
)
def test_missing_values_are_counted_and_placed(values):
    with pytest.raises(
        ValueError, match=r"label has 2 missing entries, the first in row 1; fill them"
    ):
        encode_labels(values, what="label")


def test_missing_values_of_tables():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    with pytest.raises(ValueError, match="1 missing entries, the first in row 1"):
        encode_labels(pd.Series(["a", pd.NA], dtype="string"))
    codes, names = encode_labels(pd.Series(["b", "a"], dtype="category"))
    assert (codes.tolist(), names) == ([1, 0], ("a", "b"))


@pytest.mark.parametrize("values", [np.zeros((2, 1)), "abc", 3])
def test_other_shapes_are_refused(values):
    with pytest.raises(ValueError, match=r"values must have shape \[n\], got \("):
        encode_labels(values)


def test_a_name_has_one_code():
    with pytest.raises(ValueError, match="has a name twice"):
        encode_labels(["a", "b"], names=["a", "b", "a"])
