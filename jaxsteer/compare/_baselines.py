"""The rows that change nothing, the weights or the features by known methods."""

from __future__ import annotations

import numpy as np

from jaxsteer import baselines
from jaxsteer.compare._outcome import Downstream, apply_group_maps, train_and_score
from jaxsteer.compare._split import Split


def raw(split: Split, seed: int) -> Downstream:
    """The features as they are, the group left out."""
    return train_and_score(split.x_train, split.label_train, split.x_test)


def raw_with_group(split: Split, seed: int) -> Downstream:
    """The features and one indicator column for each group."""

    def extend(x: np.ndarray, group: np.ndarray) -> np.ndarray:
        indicator = np.eye(split.n_groups, dtype=x.dtype)[group]
        return np.concatenate([x, indicator], axis=1)

    x_train = extend(split.x_train, split.group_train)
    return train_and_score(
        x_train, split.label_train, extend(split.x_test, split.group_test)
    )


def fairness_weights(split: Split) -> np.ndarray:
    """Return the reweighing weights of the training rows, ``[n_train]``."""
    weights = baselines.reweighing(split.label_train, split.group_train)
    return np.asarray(weights, np.float64)


def reweighing(split: Split, seed: int) -> Downstream:
    """Weights that make label and group independent in the training rows."""
    return train_and_score(
        split.x_train,
        split.label_train,
        split.x_test,
        weights=fairness_weights(split),
    )


def _mapped(split: Split, maps, weights: np.ndarray | None = None) -> Downstream:
    return train_and_score(
        apply_group_maps(maps, split.x_train, split.group_train),
        split.label_train,
        apply_group_maps(maps, split.x_test, split.group_test),
        weights=weights,
    )


def mean_matching(split: Split, seed: int) -> Downstream:
    """Each group's mean moved onto the reference group's."""
    maps = baselines.fit_mean_match(
        split.x_train,
        split.group_train,
        reference=split.reference,
        n_groups=split.n_groups,
    )
    return _mapped(split, maps)


def mimic(split: Split, seed: int) -> Downstream:
    """Each group's mean and covariance moved onto the reference group's."""
    return _mapped(split, _mimic_maps(split))


def mimic_reweighing(split: Split, seed: int) -> Downstream:
    """MiMiC with the weights that the steering row uses too."""
    return _mapped(split, _mimic_maps(split), fairness_weights(split))


def _mimic_maps(split: Split):
    return baselines.fit_mimic(
        split.x_train,
        split.group_train,
        reference=split.reference,
        n_groups=split.n_groups,
    )


def leace(split: Split, seed: int) -> Downstream:
    """The group erased for every linear probe, by one map of all rows."""
    eraser = baselines.fit_leace(split.x_train, split.group_train)
    return train_and_score(
        np.asarray(eraser(split.x_train)),
        split.label_train,
        np.asarray(eraser(split.x_test)),
    )
