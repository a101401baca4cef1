"""Fit what ``jaxsteer steer`` was asked for, and apply it to rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxsteer import baselines
from jaxsteer.channels import gaussian_channel, roc_channel
from jaxsteer.compare import (
    apply_group_maps,
    get_learner,
    out_of_fold_scores,
    positive_scores,
)
from jaxsteer.ideal import nearest_ideal
from jaxsteer.maps import AffineMap
from jaxsteer.moments import fit_population

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, int, int], Any]


def _affirmative(x, label, group, reference, n_groups):
    population = fit_population(x, label, group)
    return nearest_ideal(
        population, maps="shared_covariance", reference=reference
    ).require()


def _all_groups(x, label, group, reference, n_groups):
    population = fit_population(x, label, group)
    return nearest_ideal(
        population, intervention="all_groups", maps="diagonal", reference=reference
    ).require()


def _channel(x, label, group, reference, n_groups):
    population = fit_population(x, label, group)
    return gaussian_channel(
        population, subspace="discriminant", reference=reference
    ).require()


def _mean_match(x, label, group, reference, n_groups):
    return baselines.fit_mean_match(x, group, reference=reference, n_groups=n_groups)


def _mimic(x, label, group, reference, n_groups):
    return baselines.fit_mimic(x, group, reference=reference, n_groups=n_groups)


def _leace(x, label, group, reference, n_groups):
    return baselines.fit_leace(x, group)


#: How each method fits the maps of the features; None where it steers none.
FEATURE_FITS: dict[str, Fit | None] = {
    "affirmative": _affirmative,
    "all_groups": _all_groups,
    "channel": _channel,
    "mean_match": _mean_match,
    "mimic": _mimic,
    "leace": _leace,
    "meet": None,
    "reweigh": None,
}

#: The row of the comparison table that measures a method on held-out rows.
COMPARED_AS = {
    "affirmative": "steering",
    "all_groups": "steering_all_groups",
    "channel": "gaussian_channel",
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
) -> Any:
    """Return the `Steering` or `AffineMap` of a method, None where it has none."""
    fit = FEATURE_FITS[method]
    return None if fit is None else fit(x, label, group, reference, n_groups)


def steer_features(
    steering: Any, x: np.ndarray, group: np.ndarray, *, seed: int
) -> np.ndarray:
    """Return the steered features, ``[n, m]``, without labels."""
    if isinstance(steering, AffineMap):
        if steering.weight.ndim == 2:
            return np.asarray(steering(x))
        return apply_group_maps(steering, x, group)
    return np.asarray(steering.transport(x, group, key=features_key(seed)))


def steered_names(n_steered: int, feature_names: list[str]) -> list[str]:
    """Return the names of the steered columns."""
    if n_steered == len(feature_names):
        return [f"steered_{name}" for name in feature_names]
    return [f"steered_discriminant_{i + 1}" for i in range(n_steered)]


def fit_score(
    learner: str, x: np.ndarray, label: np.ndarray, group: np.ndarray, *, seed: int
) -> tuple[Any, Any, np.ndarray]:
    """Return the ROC channel, the learner fitted on all rows, and held-out scores."""
    base = get_learner(learner)
    held_out = out_of_fold_scores(base, x, label, group, seed=seed)
    channel = roc_channel(held_out, label, group, n_groups=int(group.max()) + 1)
    return channel, base.fit(x, label), held_out


def fair_scores(
    channel: Any,
    score: np.ndarray,
    group: np.ndarray,
    *,
    seed: int,
    deterministic: bool = False,
) -> np.ndarray:
    """Return the fair score of each row, ``[n]``."""
    if deterministic:
        return np.asarray(channel.expected_score(score, group))
    return np.asarray(channel.transport(score, group, key=score_key(seed)))


def base_scores(learner: Any, x: np.ndarray) -> np.ndarray:
    """Return the base learner's probability of the positive class, ``[n]``."""
    return positive_scores(learner, x)


def features_key(seed: int) -> jax.Array:
    """Return the key of a channel's noise on features."""
    return jax.random.fold_in(jax.random.key(seed), 0)


def score_key(seed: int) -> jax.Array:
    """Return the key of the fair score's randomness."""
    return jax.random.fold_in(jax.random.key(seed), 1)
