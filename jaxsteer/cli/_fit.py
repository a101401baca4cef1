"""Fit what ``jaxsteer steer`` was asked for, and apply it to rows.

Nothing here depends on the other rows of a call or on their order: maps are applied in
float64, and what is random is drawn from a hash of what tells a row from others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from scipy.special import ndtri
from threadpoolctl import threadpool_limits

from jaxsteer import baselines
from jaxsteer._labels import cell_codes
from jaxsteer.channels import gaussian_channel, row_uniform
from jaxsteer.cli._capped import Capped
from jaxsteer.compare import get_learner
from jaxsteer.estimators import FairScore
from jaxsteer.estimators._fold_models import FoldModels
from jaxsteer.ideal import nearest_ideal
from jaxsteer.maps import AffineMap
from jaxsteer.moments import fit_population

Fit = Callable[..., Any]

#: Above so many rows the folds are made once, not three times, and each model is trained
#: on so many of its rows at most: more of them no longer change the scores.
MANY_ROWS = 100_000


def _affirmative(x, label, group, reference, n_groups, weights):
    population = fit_population(x, label, group, weights=weights)
    return nearest_ideal(
        population, maps="shared_covariance", reference=reference
    ).require()


def _all_groups(x, label, group, reference, n_groups, weights):
    population = fit_population(x, label, group, weights=weights)
    return nearest_ideal(
        population, intervention="all_groups", maps="diagonal", reference=reference
    ).require()


def _channel(x, label, group, reference, n_groups, weights):
    population = fit_population(x, label, group, weights=weights)
    return gaussian_channel(
        population, subspace="discriminant", reference=reference
    ).require()


def _mean_match(x, label, group, reference, n_groups, weights):
    return baselines.fit_mean_match(
        x, group, reference=reference, n_groups=n_groups, weights=weights
    )


def _mimic(x, label, group, reference, n_groups, weights):
    return baselines.fit_mimic(
        x, group, reference=reference, n_groups=n_groups, weights=weights
    )


def _leace(x, label, group, reference, n_groups, weights):
    return baselines.fit_leace(x, group, weights=weights)


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

#: Methods whose maps leave near-discrete columns as they are, as `IdealSteering` does.
LEAVE_DISCRETE = ("affirmative", "all_groups")

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
    weights: np.ndarray | None = None,
) -> Any:
    """Return the `Steering` or `AffineMap` of a method, None where it has none."""
    fit = FEATURE_FITS[method]
    return None if fit is None else fit(x, label, group, reference, n_groups, weights)


def moved_columns(method: str, encoder: Any) -> list[int]:
    """Return the encoded columns that a method moves."""
    names = [str(name) for name in encoder.get_feature_names_out()]
    stay = set(encoder.near_discrete_) if method in LEAVE_DISCRETE else set()
    return [place for place, name in enumerate(names) if name not in stay]


def steer_moved(
    steering: Any,
    x: np.ndarray,
    group: np.ndarray,
    rows: np.ndarray,
    moved: Sequence[int],
    *,
    seed: int,
) -> np.ndarray:
    """Return the features with some columns steered and the others as they are.

    Args:
        steering: What `fit_features` returned for those columns, or None.
        x: ``[n, d]`` encoded rows.
        group: ``[n]`` codes.
        rows: ``[n]`` or ``[n, k]`` what tells rows apart.
        moved: Those columns.
        seed: Seed of the noise.
    """
    if len(moved) == x.shape[1]:
        return steer_features(steering, x, group, rows, seed=seed)
    out = x.astype(np.float64)
    if len(moved):
        part = x[:, list(moved)]
        out[:, list(moved)] = steer_features(steering, part, group, rows, seed=seed)
    return out


def steer_features(
    steering: Any, x: np.ndarray, group: np.ndarray, rows: np.ndarray, *, seed: int
) -> np.ndarray:
    """Return the steered features, ``[n, m]`` float64, without labels.

    Args:
        steering: What `fit_features` returned.
        x: ``[n, d]`` encoded rows.
        group: ``[n]`` codes.
        rows: ``[n]`` or ``[n, k]`` what tells rows apart, for a channel's noise.
        seed: Seed of that noise.
    """
    alone = isinstance(steering, AffineMap)
    maps: Any = steering if alone else steering.group_maps
    if not isinstance(maps, AffineMap):
        # Maps of one feature each.
        return np.asarray(steering.transport(x, group), np.float64)
    weight, bias = (np.asarray(a, np.float64) for a in (maps.weight, maps.bias))
    noise = None if alone else steering.noise
    drawn = None
    if noise is not None:
        noise = np.asarray(noise, np.float64)
        drawn = _normal(features_key(seed), rows, noise.shape[-1])
    out = np.empty((len(x), weight.shape[-2]))
    x = x.astype(np.float64)
    for code in np.unique(group):
        mine = group == code
        own = (weight, bias) if weight.ndim == 2 else (weight[code], bias[code])
        out[mine] = x[mine] @ own[0].T + own[1]
        if noise is not None and drawn is not None:
            out[mine] += drawn[mine] @ noise[code].T
    return out


def unmoved_groups(steering: Any, n_groups: int) -> np.ndarray:
    """Tell which groups' maps change nothing, ``[G]``."""
    alone = isinstance(steering, AffineMap)
    maps: Any = steering if alone else steering.group_maps
    noise = None if alone else steering.noise
    if not isinstance(maps, AffineMap) or noise is not None:
        return np.zeros(n_groups, bool)
    weight, bias = np.asarray(maps.weight), np.asarray(maps.bias)
    if weight.ndim == 2:
        weight, bias = (np.stack([a] * n_groups) for a in (weight, bias))
    if weight.shape[-1] != weight.shape[-2]:
        return np.zeros(n_groups, bool)
    size = max(1.0, float(np.abs(weight).max()))
    near = 32 * np.finfo(weight.dtype).eps * size
    moved = np.abs(weight - np.eye(weight.shape[-1])).max(axis=(1, 2))
    return np.maximum(moved, np.abs(bias).max(axis=1)) <= near


def significant(values: np.ndarray, digits: int = 7) -> np.ndarray:
    """Round to digits that do not depend on how many rows were computed at a time."""
    size = np.where(values == 0, 1.0, np.abs(values))
    place = 10.0 ** (digits - 1 - np.floor(np.log10(size)))
    return np.round(values * place) / place


def steered_names(n_steered: int, feature_names: list[str]) -> list[str]:
    """Return the names of the steered columns."""
    if n_steered == len(feature_names):
        return [f"steered_{name}" for name in feature_names]
    return [f"steered_discriminant_{i + 1}" for i in range(n_steered)]


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


def fair_scores(
    model: FairScore, x: np.ndarray, group: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Return the fair score of each row, ``[n]``."""
    with threadpool_limits(1):
        found = model.predict_proba(x, sensitive_features=group, row_ids=rows)
    return found[:, 1]


def fold_models(model: FairScore) -> list[list[Any]]:
    """Return the fitted classifiers by repeat and fold, to be stored."""
    return [
        [getattr(one, "model_", one) for one in repeat]
        for repeat in model._label_models.estimators
    ]


def stored_score(
    channel: Any, method: str, models: Sequence[Sequence[Any]], *, seed: int
) -> FairScore:
    """Return the fitted estimator that a channel and stored classifiers belong to.

    Args:
        channel: Its ``channel_``.
        method: Its ``method``.
        models: What `fold_models` returned.
        seed: Its seed.
    """
    model = FairScore(
        method=method, cv=len(models[0]), repeats=len(models), random_state=seed
    )
    kept = tuple(tuple(repeat) for repeat in models)
    model.classes_ = np.arange(2)
    model.groups_ = np.arange(np.shape(channel.cell_counts)[1])
    model.channel_ = channel
    model._seed = seed
    model.n_features_in_ = kept[0][0].n_features_in_
    model.sensitive_names_ = None
    model._label_models = FoldModels(kept, np.empty((0, 2)), seed)
    model._group_models = None
    return model


def features_key(seed: int) -> jax.Array:
    """Return the key of a channel's noise on features."""
    return jax.random.fold_in(jax.random.key(seed), 0)


def _normal(key: jax.Array, rows: np.ndarray, size: int) -> np.ndarray:
    """Standard normal numbers ``[n, size]`` that belong to the rows."""
    draws = [
        np.asarray(row_uniform(jax.random.fold_in(key, j), rows), np.float64)
        for j in range(size)
    ]
    # Away from 0, whose normal number is not finite.
    return ndtri(np.clip(np.stack(draws, axis=1), 2.0**-26, 1 - 2.0**-26))
