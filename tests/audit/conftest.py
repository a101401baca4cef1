from __future__ import annotations

import numpy as np
import pytest


def simulate(n, n_classes=2, n_groups=2, seed=0):
    """Draw rows as a classifier would leave them: classes unevenly spread over
    groups, predictions that are right more often in some groups, rounded scores."""
    rng = np.random.default_rng(seed)
    group = rng.choice(
        n_groups, n, p=np.arange(2, n_groups + 2) / sum(range(2, n_groups + 2))
    )
    share = rng.dirichlet(np.full(n_classes, 5.0), n_groups)
    label = (share[group].cumsum(1) < rng.uniform(size=(n, 1))).sum(1)
    right = rng.uniform(size=n) < 0.6 + 0.3 * group / n_groups
    prediction = np.where(right, label, rng.integers(n_classes, size=n))
    score = np.round(label + rng.normal(0.2 * group, 1.0), 1)
    return {
        "label": label,
        "prediction": prediction,
        "group": group,
        "score": score,
        "weights": rng.uniform(0.1, 3.0, n),
    }


@pytest.fixture
def rows():
    return simulate
