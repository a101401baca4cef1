"""What is missing is missing in every container; dates are days in every year."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from jaxsteer.datasets import read_table, read_text_table
from jaxsteer.estimators import FairScore, IdealSteering, TabularEncoder

N = 300
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(N, 2)), RNG.integers(0, 2, N)
SEX = RNG.choice(["f", "m"], N).astype(object)


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
@pytest.mark.parametrize("container", [list, tuple, np.array, pd.Series])
@pytest.mark.parametrize("estimator", [IdealSteering, FairScore])
def test_missing_groups_are_refused_in_every_container(estimator, container, missing):
    sex = SEX.copy()
    sex[:6] = missing
    values = container(sex.tolist()) if container is not np.array else sex
    with pytest.raises(ValueError, match=r"6 missing values, in rows 0, 1, 2"):
        estimator().fit(X, Y, sensitive_features=values)


def test_missing_labels_and_lists_of_lists():
    sex, label = SEX.tolist(), np.where(Y, "yes", "no").astype(object)
    label[3] = np.nan
    with pytest.raises(ValueError, match="y has 1 missing values, in rows 3"):
        IdealSteering().fit(X, label.tolist(), sensitive_features=sex)
    pairs = [[s, "old"] for s in sex]
    pairs[5][1] = np.nan
    with pytest.raises(ValueError, match=r"'sensitive_1' has 1 missing"):
        IdealSteering().fit(X, Y, sensitive_features=pairs)


def test_none_and_na_can_be_values(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("job,x\nNone,1\nNA,2\nclerk,3\n,4\n?,5\n")
    with pytest.warns(UserWarning, match=r"'job': 'None' \(1\), 'NA' \(1\)"):
        read = read_text_table(path)
    assert read.frame["job"].isna().tolist() == [True, True, False, True, True]
    kept = read_table(path, usual_missing=False)
    assert kept["job"].tolist()[:3] == ["None", "NA", "clerk"]
    assert kept["job"].isna().tolist() == [False, False, False, True, True]
    assert read_table(path, usual_missing=False, missing=()).iloc[4, 0] == "?"


def test_fields_are_kept_as_they_are_written(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("zip,region,kids,member\n03833,NA,4,TRUE\n10001,EU,,FALSE\n")
    with pytest.warns(UserWarning, match="'region': 'NA'"):
        read = read_text_table(path)
    assert read.written.to_csv(index=False) == path.read_text()
    assert read.frame["kids"].tolist()[0] == 4.0


EARLY, LATE = "1066-10-14", "9999-12-31"
DAYS = np.array(
    [
        datetime.date.fromisoformat(day).toordinal()
        - datetime.date(1970, 1, 1).toordinal()
        for day in (EARLY, LATE)
    ]
)
MEAN = f"mean {DAYS.mean():.4g}"
COLUMNS = {
    "text": [EARLY, LATE],
    "date": [datetime.date(1066, 10, 14), datetime.date(9999, 12, 31)],
    "datetime": [datetime.datetime(1066, 10, 14), datetime.datetime(9999, 12, 31)],
    "seconds": np.array([EARLY, LATE], "datetime64[s]"),
    "microseconds": np.array([EARLY, LATE], "datetime64[us]"),
    "period": pd.PeriodIndex([EARLY, LATE], freq="D"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_dates_beyond_nanoseconds_are_days(name):
    values = pd.Series(COLUMNS[name]).repeat(50).reset_index(drop=True)
    frame = pd.DataFrame({"until": values, "x": np.arange(100.0)})
    encoder = TabularEncoder().fit(frame)
    kinds = {c["column"]: c["kind"] for c in encoder.describe()}
    assert kinds["until"] == "date"
    encoding = encoder.describe()[0]["encoding"]
    assert MEAN in encoding and f"deviation {DAYS.std():.4g}" in encoding
    assert DAYS[1] == 2_932_896


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_dates_of_other_tables(library):
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    data = {"until": COLUMNS["date"] * 20, "x": list(np.arange(40.0))}
    make = module.DataFrame if library == "polars" else module.table
    encoder = TabularEncoder().fit(make(data))
    assert MEAN in encoder.describe()[0]["encoding"]


def test_missing_dates_beyond_nanoseconds():
    frame = pd.DataFrame({"until": [LATE, EARLY, None] * 20, "x": np.arange(60.0)})
    encoder = TabularEncoder().fit(frame)
    assert encoder.describe()[0]["missing"] == 20
