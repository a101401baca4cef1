"""Metrics on predictions and scores, with bootstrap intervals (`jaxsteer.metrics`).

Every metric is called as ``metric(label, prediction, group)`` (`sup_gap` and `auc`
take a score in the place of the prediction) with integer codes, and options by
keyword: ``weights``, ``n_classes``, ``n_groups``. What they take and raise is said once,
at `Metric`, which is what each of them is (`sup_gap`, with its choice of the rate,
stands before three): a formula from counts to a value. One of your own is a formula
under ``@metric(support=...)``. All are pure JAX. Under ``jax.jit`` and ``jax.vmap`` the
numbers of classes and groups must be given.

A rate without rows is never left out. Where the values can be seen, a metric that
would divide by an empty class, group or cell raises a ValueError that names it; under
tracing, where nothing can be raised, the metric is NaN, as it is for codes out of
range, NaN scores and negative weights.

These are measurements on the rows given. They estimate the rates of the population
that the rows were drawn from, and `bootstrap` says how closely. `chance_level` says what
they would be if the groups had nothing to do with them.
"""

from __future__ import annotations

from jaxsteer.audit._bootstrap import Interval, bootstrap
from jaxsteer.audit._chance import ChanceLevel, chance_level
from jaxsteer.audit._formulas import (
    accuracy,
    auc,
    balanced_accuracy,
    demographic_parity,
    equal_opportunity,
    equalized_odds,
    sup_gap,
    tpr_gap,
    tpr_gap_per_class,
)
from jaxsteer.audit._metric import Metric, ScoreMetric, metric

__all__ = [
    "Metric",
    "accuracy",
    "auc",
    "balanced_accuracy",
    "bootstrap",
    "chance_level",
    "demographic_parity",
    "equal_opportunity",
    "equalized_odds",
    "metric",
    "sup_gap",
    "tpr_gap",
    "tpr_gap_per_class",
]
