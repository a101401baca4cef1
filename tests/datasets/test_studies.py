"""Files in the form of the published ones, made here."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from jaxsteer.datasets import load_study

N = 200
RNG = np.random.default_rng(0)


def compas():
    frame = pd.DataFrame(
        {
            "id": np.arange(N),
            "sex": RNG.choice(["Male", "Female"], N),
            "age": RNG.integers(18, 70, N),
            "race": RNG.choice(["African-American", "Caucasian", "Hispanic"], N),
            "juv_fel_count": 0,
            "juv_misd_count": 0,
            "juv_other_count": 0,
            "priors_count": RNG.integers(0, 9, N),
            "days_b_screening_arrest": RNG.choice([-1.0, 12.0, 90.0, np.nan], N),
            "c_charge_degree": RNG.choice(["F", "M", "O"], N, p=[0.5, 0.4, 0.1]),
            "is_recid": RNG.choice([0, 1, -1], N),
            "score_text": RNG.choice(["Low", "High"], N),
            "two_year_recid": RNG.integers(0, 2, N),
        }
    )
    kept = (
        frame["days_b_screening_arrest"].isin([-1.0, 12.0])
        & (frame["is_recid"] != -1)
        & (frame["c_charge_degree"] != "O")
        & (frame["race"] != "Hispanic")
    )
    return frame, kept, (frame["two_year_recid"] == 0), (frame["race"] == "Caucasian")


def law_school():
    frame = pd.DataFrame(
        {
            "race": RNG.choice(["White", "Black", "Asian"], N),
            "sex": RNG.integers(1, 3, N),
            "LSAT": RNG.normal(36, 5, N).round(1),
            "UGPA": RNG.normal(3.2, 0.4, N).round(1),
            "ZFYA": RNG.normal(size=N).round(2),
            "first_pf": RNG.choice([0.0, 1.0], N),
        }
    )
    everyone = np.ones(N, bool)
    return frame, everyone, frame["first_pf"] == 1, frame["race"] == "White"


def bank():
    frame = pd.DataFrame(
        {
            "age": RNG.integers(18, 80, N),
            **{
                name: RNG.choice(["a", "b"], N)
                for name in (
                    "job",
                    "marital",
                    "education",
                    "default",
                    "housing",
                    "loan",
                )
            },
            **{name: RNG.choice(["a", "b"], N) for name in ("contact", "poutcome")},
            "month": RNG.choice(["may", "jun"], N),
            **{
                name: RNG.integers(0, 30, N)
                for name in (
                    "balance",
                    "day",
                    "duration",
                    "campaign",
                    "pdays",
                    "previous",
                )
            },
            "y": RNG.choice(["no", "yes"], N),
        }
    )
    return frame, np.ones(N, bool), frame["y"] == "yes", frame["age"].between(25, 60)


@pytest.mark.parametrize(
    ("name", "make", "separator"),
    [("compas", compas, ","), ("law_school", law_school, ","), ("bank", bank, ";")],
)
@pytest.mark.filterwarnings("ignore:.*separator:UserWarning")
def test_rows_labels_and_groups(name, make, separator, tmp_path):
    frame, kept, label, group = make()
    path = tmp_path / f"{name}.csv"
    frame.to_csv(path, sep=separator, index=False)
    table = load_study(name, path)
    np.testing.assert_array_equal(table.label, label[kept])
    np.testing.assert_array_equal(table.group, group[kept])
    assert len(table.features) == len(table) == kept.sum()
    leaks = {table.label_column, *table.group_columns, "duration", "ZFYA", "id"}
    assert not leaks & set(table.features)
    assert table.train.any() and not table.train.all()
    assert table.attribution

    frame.drop(columns=table.label_column).to_csv(path, sep=separator, index=False)
    with pytest.raises(ValueError, match=f"no column '{table.label_column}'"):
        load_study(name, path)


def test_rows_without_a_label_are_left_out(tmp_path):
    frame, _, label, _ = law_school()
    frame.loc[3, "first_pf"] = np.nan
    frame.loc[5, "first_pf"] = 0.4
    frame.to_csv(tmp_path / "law.csv", index=False)
    table = load_study("law_school", tmp_path / "law.csv")
    np.testing.assert_array_equal(table.label, label.drop(index=[3, 5]))


def test_another_version_is_refused(tmp_path):
    frame, *_ = law_school()
    frame["race"] = "white"
    frame.to_csv(tmp_path / "law.csv", index=False)
    with pytest.raises(ValueError, match="another version"):
        load_study("law_school", tmp_path / "law.csv")
    with pytest.raises(ValueError, match="name='loans' is not known"):
        load_study("loans", tmp_path / "law.csv")
