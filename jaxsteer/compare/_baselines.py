"""The rows that change nothing, the weights or the features by known methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxsteer.compare._outcome import Downstream, train_and_score
from jaxsteer.compare._split import Split
from jaxsteer.estimators import LEACE, MeanMatching, MiMiC, fair_weights


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
    return fair_weights(split.label_train, sensitive_features=split.group_train)


def reweighing(split: Split, seed: int) -> Downstream:
    """Weights that make label and group independent in the training rows."""
    return train_and_score(
        split.x_train,
        split.label_train,
        split.x_test,
        weights=fairness_weights(split),
    )


def after(
    steering: Any,
    split: Split,
    *,
    weights: np.ndarray | None = None,
    note: str = "",
) -> Downstream:
    """A learner on the rows that one of the package's transformers has steered.

    Args:
        steering: The transformer, not fitted.
        split: The rows.
        weights: ``[n_train]`` weights of the learner; None takes those of the steering
            where it has any.
        note: What a reader should know.
    """
    groups = {"sensitive_features": split.group_train}
    x_train = steering.fit_transform(split.x_train, split.label_train, **groups)
    if weights is None:
        weights = getattr(steering, "sample_weight_", None)
    moved = getattr(steering, "moved_", None)
    if moved is not None and not moved.all():
        stay = f"{np.sum(~moved)} of {len(moved)} columns have few distinct values and"
        note = f"{note} {stay} stay.".strip()
    return train_and_score(
        x_train,
        split.label_train,
        steering.transform(split.x_test, sensitive_features=split.group_test),
        weights=weights,
        note=note,
        fitted=getattr(steering, "steering_", None),
    )


def mean_matching(split: Split, seed: int) -> Downstream:
    """Each group's mean moved onto the reference group's."""
    return after(MeanMatching(reference=split.reference), split)


def mimic(split: Split, seed: int) -> Downstream:
    """Each group's mean and covariance moved onto the reference group's."""
    return after(MiMiC(reference=split.reference), split)


def mimic_reweighing(split: Split, seed: int) -> Downstream:
    """MiMiC with the weights that the steering row uses too."""
    weights = fairness_weights(split)
    return after(MiMiC(reference=split.reference), split, weights=weights)


def leace(split: Split, seed: int) -> Downstream:
    """The group erased for every linear probe, by one map of all rows."""
    return after(LEACE(), split)
