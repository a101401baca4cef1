"""One made-up table for all estimators: groups shifted apart, one better separated."""

from __future__ import annotations

import numpy as np
import pandas as pd


def make_rows(n: int = 1200, d: int = 3, seed: int = 0):
    """Return `X` ``[n, d]``, labels "no"/"yes" and groups "f"/"m"."""
    rng = np.random.default_rng(seed)
    male = rng.random(n) < 0.6
    paid = rng.random(n) < np.where(male, 0.5, 0.3)
    gap = np.where(male, 2.0, 1.2) * paid
    X = rng.normal(size=(n, d)) + gap[:, None] - 1.5 * male[:, None]
    X[:, 1] *= np.where(male, 2.0, 1.0)
    return X, np.where(paid, "yes", "no"), np.where(male, "m", "f")


def make_frame(n: int = 1200, seed: int = 0) -> pd.DataFrame:
    X, _, _ = make_rows(n, seed=seed)
    return pd.DataFrame(X, columns=["a", "b", "c"])


def mean_gap(X, y, groups) -> float:
    """Return the largest difference of class means between the groups "f" and "m"."""
    X = np.asarray(X)
    gaps = [
        np.abs(
            X[(y == c) & (groups == "f")].mean(0)
            - X[(y == c) & (groups == "m")].mean(0)
        )
        for c in np.unique(y)
    ]
    return float(np.max(gaps))
