"""Fit what ``jaxsteer steer`` was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from jaxsteer import baselines
from jaxsteer._labels import cell_codes
from jaxsteer.channels import gaussian_channel
from jaxsteer.cli._capped import Capped
from jaxsteer.compare import get_learner
from jaxsteer.estimators import FairScore
from jaxsteer.ideal import nearest_ideal
from jaxsteer.moments import fit_population
from jaxsteer.population import Population

Fit = Callable[..., Any]

#: Above so many rows the folds are made once, not three times, and each model is trained
#: on so many of its rows at most: more of them no longer change the scores.
MANY_ROWS = 100_000


class _Rows(NamedTuple):
    """What a method is fitted to; see `fit_features`."""

    x: np.ndarray
    label: np.ndarray
    group: np.ndarray
    reference: int
    n_groups: int
    weights: np.ndarray | None

    def population(self) -> Population:
        return fit_population(self.x, self.label, self.group, weights=self.weights)

    def matched(self, fit: Fit) -> Any:
        """The maps of a method that reads no label and leaves the reference alone."""
        sizes = {"reference": self.reference, "n_groups": self.n_groups}
        return fit(self.x, self.group, **sizes, weights=self.weights)


def _affirmative(rows: _Rows) -> Any:
    return nearest_ideal(
        rows.population(), maps="shared_covariance", reference=rows.reference
    ).require()


def _all_groups(rows: _Rows) -> Any:
    return nearest_ideal(
        rows.population(),
        intervention="all_groups",
        maps="diagonal",
        reference=rows.reference,
    ).require()


def _channel(rows: _Rows) -> Any:
    return gaussian_channel(
        rows.population(), subspace="discriminant", reference=rows.reference
    ).require()


#: How each method fits the maps of the features; None where it steers none.
FEATURE_FITS: dict[str, Fit | None] = {
    "affirmative": _affirmative,
    "all_groups": _all_groups,
    "gaussian_channel": _channel,
    "mean_match": lambda rows: rows.matched(baselines.fit_mean_match),
    "mimic": lambda rows: rows.matched(baselines.fit_mimic),
    "leace": lambda rows: baselines.fit_leace(rows.x, rows.group, weights=rows.weights),
    "roc_channel": None,
    "reweigh": None,
}

#: What scripts of earlier versions call them.
FORMER_NAMES = {"channel": "gaussian_channel", "meet": "roc_channel"}

#: Methods whose maps leave near-discrete columns as they are, as `IdealSteering` does.
LEAVE_DISCRETE = ("affirmative", "all_groups")

#: The row of the comparison table that measures a method on held-out rows.
COMPARED_AS = {
    "affirmative": "steering",
    "all_groups": "steering_all_groups",
    "gaussian_channel": "gaussian_channel",
    "mean_match": "mean_matching",
    "mimic": "mimic",
    "leace": "leace",
}


def fit_features(
    method: str,
    x: np.ndarray,
    label: np.ndarray,
    group: np.ndarray,
    *,
    reference: int,
    n_groups: int,
    weights: np.ndarray | None = None,
) -> Any:
    """Return the `Steering` or `AffineMap` of a method, None where it has none."""
    fit = FEATURE_FITS[method]
    rows = _Rows(x, label, group, reference, n_groups, weights)
    return None if fit is None else fit(rows)


def moved_columns(method: str, encoder: Any) -> list[int]:
    """Return the encoded columns that a method moves."""
    names = [str(name) for name in encoder.get_feature_names_out()]
    stay = set(encoder.near_discrete_) if method in LEAVE_DISCRETE else set()
    return [place for place, name in enumerate(names) if name not in stay]


def fit_score(
    learner: str,
    x: np.ndarray,
    label: np.ndarray,
    group: np.ndarray,
    rows: np.ndarray,
    *,
    seed: int,
    weights: np.ndarray | None = None,
) -> tuple[FairScore, FairScore]:
    """Return the fair scores, random and deterministic, on the same fitted models.

    Args:
        learner: Name of the base learner.
        x: ``[n, d]`` encoded rows.
        label: ``[n]`` codes 0 and 1.
        group: ``[n]`` codes.
        rows: ``[n]`` or ``[n, k]`` what tells rows apart.
        seed: Seed of folds and draws.
        weights: ``[n]`` sampling weights, or None.

    Raises:
        ValueError: If a class has fewer than two rows in a group.
    """
    smallest = int(np.bincount(cell_codes(label, group, int(group.max()) + 1)).min())
    many = len(x) > MANY_ROWS
    base = get_learner(learner).build()
    model = FairScore(
        Capped(base, most=MANY_ROWS) if many else base,
        cv=max(2, min(5, smallest)),
        repeats=1 if many else 3,
        random_state=seed,
    )
    with threadpool_limits(1):
        model.fit(
            x, label, sensitive_features=group, sample_weight=weights, row_ids=rows
        )
        return model, model.with_options(method="quantiles")
