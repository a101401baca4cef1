"""What a method hands to the metrics, and the signature that all methods share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxsteer.compare._learners import Learner, positive_scores
from jaxsteer.compare._split import Split


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Scores of the test rows, or decisions where a method gives nothing finer.

    Attributes:
        score: Probability of class 1 (or the 0/1 decision), ``[n_test]``.
        decision_only: True where `score` is one decision and has no other thresholds.
        note: What a reader of the table should know.
        fitted: The maps or the channel, for figures; None where there are none.
    """

    score: np.ndarray
    decision_only: bool = False
    note: str = ""
    fitted: Any = None


#: Trains a learner on what a method has prepared and scores the test rows.
Downstream = Callable[[Learner], Outcome]

#: Prepares the training and test rows once, for every learner. The seed is the only
#: source of randomness.
Method = Callable[[Split, int], Downstream]


def train_and_score(
    x_train: np.ndarray,
    label_train: np.ndarray,
    x_test: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    note: str = "",
    fitted: Any = None,
) -> Downstream:
    """Return the downstream step of every method that changes features or weights."""

    def downstream(learner: Learner) -> Outcome:
        model = learner.fit(x_train, label_train, weights)
        return Outcome(positive_scores(model, x_test), note=note, fitted=fitted)

    return downstream


def apply_group_maps(maps: Any, x: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Apply to each row of ``x [n, d]`` the map of its group (leading axis `G`)."""
    out = np.empty_like(x)
    for a in np.unique(group):
        rows = group == a
        out[rows] = np.asarray(_take(maps, a)(x[rows]))
    return out


def _take(maps: Any, a: int):
    return jax.tree.map(lambda leaf: leaf[a], maps)
