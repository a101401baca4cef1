"""Made-up rows of several groups, of fixed shapes: one program serves many draws."""

from __future__ import annotations

import numpy as np

from jaxsteer import pareto

SEVEN = (
    pareto.DemographicParity(),
    pareto.EqualOpportunity(),
    pareto.EqualizedOdds(),
    pareto.DisparateMistreatment(),
    pareto.HSIC(),
    pareto.GroupLossVariance(),
    pareto.IndividualFairness(),
)
NAMES = [type(metric).__name__ for metric in SEVEN]


def draw(seed=0, sizes=(90, 60), d=3, kind="binary"):
    """Return features, targets and groups; the groups' own models differ."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    n, groups = len(group), len(sizes)
    x = rng.normal(size=(n, d)) + 0.5 * rng.normal(size=(groups, d))[group]
    own = rng.normal(size=(groups, d))[group] + rng.normal(size=d)
    score = (x * own).sum(1) / d**0.5 + 0.7 * rng.normal(size=groups)[group]
    if kind == "regression":
        return x, score + 0.5 * rng.normal(size=n), group
    if kind == "classes":
        cut = score + rng.logistic(size=n)
        return x, (cut > -0.7).astype(int) + (cut > 0.7), group
    y = (rng.random(n) < 1 / (1 + np.exp(-1.5 * score))).astype(int)
    for a in range(groups):
        y[np.flatnonzero(group == a)[:4]] = [0, 1, 0, 1]
    return x, y, group


def make(seed=0, **options):
    """Return the same as :class:`jaxsteer.pareto.GroupData`."""
    return pareto.group_data(*draw(seed, **options))


def one_of(index: int) -> pareto.MetricSum:
    """Return one of the seven, such that all seven share their programs."""
    return pareto.MetricSum(metrics=SEVEN, coefficients=np.eye(len(SEVEN))[index])
