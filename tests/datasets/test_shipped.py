from __future__ import annotations

import hashlib
import pathlib
from importlib import resources

import numpy as np
import pandas as pd
import pytest

from jaxsteer.datasets import load_adult, load_german

SHARED = pathlib.Path(__file__).parents[2].parent / "shared" / "data"


def test_adult_counts():
    table = load_adult()
    assert len(table) == 48_842
    assert table.train.sum() == 32_561
    assert table.label_names == ("<=50K", ">50K")
    assert table.group_names == ("Female", "Male")
    # Rows of (class, group), counted in the published files.
    assert table.counts().tolist() == [[14_423, 22_732], [1_769, 9_918]]
    train = table.take(table.train)
    assert train.counts().tolist() == [[9_592, 15_128], [1_179, 6_662]]
    assert train.features["age"].iloc[:3].tolist() == [39, 50, 38]
    assert train.weights[:2].tolist() == [77_516.0, 83_311.0]
    assert train.train.all()


def test_adult_features():
    table = load_adult()
    assert list(table.features) == [
        "age",
        "workclass",
        "education",
        "education_num",
        "marital_status",
        "occupation",
        "relationship",
        "race",
        "capital_gain",
        "capital_loss",
        "hours_per_week",
        "native_country",
    ]
    missing = table.features.isna().sum()
    assert missing[missing > 0].to_dict() == {
        "workclass": 2_799,
        "occupation": 2_809,
        "native_country": 857,
    }
    assert not (table.features == "?").any().any()
    assert "10.24432/C5XW20" in table.attribution


def test_german_counts():
    table = load_german()
    assert len(table) == 1_000
    assert table.label_names == ("bad", "good")
    assert table.label.sum() == 700
    assert (table.group == 0).sum() == 310
    assert table.counts().tolist() == [[109, 191], [201, 499]]
    assert {"age", "credit_amount"} <= set(table.features)
    assert not {"credit", "status_sex"} & set(table.features)
    assert table.weights is None


def test_german_split_is_fixed_and_stratified():
    table = load_german()
    train, whole = table.take(table.train).counts(), table.counts()
    assert train.tolist() == np.round(0.7 * whole).astype(int).tolist()
    # A pinned digest: figures measured on this split stay comparable.
    digest = hashlib.sha256(np.packbits(table.train).tobytes()).hexdigest()
    assert digest.startswith("b2fce7f914209b26")
    assert np.array_equal(table.train, load_german().train)


@pytest.mark.parametrize(
    ("folder", "label", "loader"),
    [("adult", "income", load_adult), ("german", "credit", load_german)],
)
def test_shipped_files_equal_the_source(folder, label, loader):
    source = SHARED / folder / f"{folder}.csv.gz"
    if not source.exists():
        pytest.skip(f"the source table {folder}.csv.gz is not beside the checkout")
    raw, table = pd.read_csv(source), loader()
    favorable = {"adult": ">50K", "german": 1}[folder]
    assert np.array_equal(table.label, raw[label] == favorable)
    if folder == "adult":
        assert np.array_equal(table.group, raw["sex"] == "Male")
        assert np.array_equal(table.train, raw["part"] == "train")
        assert np.array_equal(table.weights, raw["fnlwgt"])
    else:
        assert np.array_equal(
            table.group, raw["status_sex"].isin(["A91", "A93", "A94"])
        )
    for column in table.features:
        expected = raw[column].replace("?", np.nan)
        pd.testing.assert_series_equal(
            table.features[column], expected, check_dtype=False
        )


def test_attribution_is_shipped():
    text = (
        resources.files("jaxsteer.datasets")
        .joinpath("data", "ATTRIBUTION.md")
        .read_text()
    )
    for needle in ("10.24432/C5XW20", "10.24432/C5NC77", "CC BY 4.0", "Changes:"):
        assert needle in text
