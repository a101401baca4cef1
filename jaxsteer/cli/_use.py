"""Apply to rows what ``jaxsteer steer`` has fitted.

Nothing here depends on the other rows of a call or on their order: maps are applied in
float64, and what is random is drawn from a hash of what tells a row from others.
"""

# Fair scores are kept in parts, and put together again: private ones, too.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from scipy.special import ndtri
from threadpoolctl import threadpool_limits

from jaxsteer.channels import row_uniform
from jaxsteer.estimators import FairScore
from jaxsteer.estimators._base import Rows
from jaxsteer.estimators._fold_models import FoldModels
from jaxsteer.maps import AffineMap


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
    power = digits - 1 - np.floor(np.log10(size))
    place = _POWERS[(np.clip(power, -_MOST, _MOST) + _MOST).astype(np.int16)]
    return np.round(values * place) / place


# Powers of ten are slow to take.
_MOST = 308
_POWERS = 10.0 ** np.arange(-_MOST, _MOST + 1, dtype=float)


def steered_names(n_steered: int, feature_names: list[str]) -> list[str]:
    """Return the names of the steered columns."""
    if n_steered == len(feature_names):
        return [f"steered_{name}" for name in feature_names]
    return [f"steered_discriminant_{i + 1}" for i in range(n_steered)]


def fair_scores(
    model: FairScore, x: np.ndarray, group: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Return the fair score of each row, ``[n]``."""
    with threadpool_limits(1):
        # The groups are codes already, which `predict_proba` would look up anew.
        return model._probabilities(Rows(x, group=group), rows)[:, 1]


#: Rows of which each thread takes so many at a time.
AT_A_TIME = 65_536


def parts_of(work: Callable[[int, int], Any], n: int) -> Generator[Any]:
    """Return what `work` makes of some rows at a time, in their order, by threads.

    Each thread has its own limit on the threads of compiled libraries, which otherwise
    wait for each other. No more than a few parts are held.

    Args:
        work: Takes the first row and the one behind the last.
        n: Number of rows.
    """
    workers = min(4, os.cpu_count() or 1)
    waiting: deque[Any] = deque()
    with threadpool_limits(1):
        pool = ThreadPoolExecutor(workers, initializer=lambda: threadpool_limits(1))
        try:
            for start in range(0, n, AT_A_TIME):
                waiting.append(pool.submit(work, start, min(start + AT_A_TIME, n)))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def in_window(
    work: Callable[[slice], dict[str, np.ndarray]], start: int, stop: int, n: int
) -> dict[str, np.ndarray]:
    """Return what `work` makes of rows, who is asked about equally many each time.

    The last of `n` rows are asked about with some before them, so that nothing is
    compiled anew for their number.
    """
    first = max(0, min(start, n - AT_A_TIME))
    found = work(slice(first, stop))
    return {name: values[start - first :] for name, values in found.items()}


def in_parts(
    work: Callable[[slice], dict[str, np.ndarray]], n: int
) -> dict[str, np.ndarray]:
    """Return the columns that `work` makes of some rows at a time, in threads."""
    parts = list(parts_of(lambda start, stop: in_window(work, start, stop, n), n))
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


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
