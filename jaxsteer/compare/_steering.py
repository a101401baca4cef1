"""The rows of this package: the nearest-ideal group maps, and the channels."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from threadpoolctl import threadpool_limits

from jaxsteer.compare._baselines import after, fairness_weights
from jaxsteer.compare._learners import LEARNERS, Learner
from jaxsteer.compare._outcome import Downstream, Outcome, train_and_score
from jaxsteer.compare._split import Split, cell_counts
from jaxsteer.estimators import FairScore, GaussianChannel, IdealSteering

_RANDOMIZED = "Randomized with a key: two runs with two seeds differ row by row."


def steering(split: Split, seed: int) -> Downstream:
    """Tied affirmative group maps, label-free, with the reweighing weights."""
    return after(IdealSteering(reference=split.reference), split)


def steering_all_groups(split: Split, seed: int) -> Downstream:
    """Feature-wise group maps in which every group moves, with the weights."""
    steering = IdealSteering(
        method="all_groups", maps="diagonal", reference=split.reference
    )
    return after(steering, split)


def gaussian_channel(split: Split, seed: int) -> Downstream:
    """The discriminant coordinate plus noise in the better-separated group."""
    steering = GaussianChannel(reference=split.reference, random_state=seed)
    return after(steering, split, note=_RANDOMIZED)


def roc_channel(split: Split, seed: int) -> Downstream:
    """The score degraded to the experiment that every group can be degraded to."""
    return _after(fair_score(split, seed, "boosted"), split, _RANDOMIZED)


def roc_channel_logistic(split: Split, seed: int) -> Downstream:
    """The same on the scores of a logistic regression."""
    return _after(fair_score(split, seed, "logistic"), split, _RANDOMIZED)


def roc_channel_tolerant(split: Split, seed: int) -> Downstream:
    """The same with a gap of .02 allowed in sample."""
    model = fair_score(split, seed, "boosted").with_options(tolerance=0.02)
    return _itself(model, split, _RANDOMIZED + " A gap of .02 is allowed.")


def balanced_quantiles(split: Split, seed: int) -> Downstream:
    """The best increasing maps of the score: deterministic."""
    model = fair_score(split, seed, "boosted").with_options(method="quantiles")
    return _itself(model, split, "The calibrated map itself, no learner after it.")


def balanced_quantiles_logistic(split: Split, seed: int) -> Downstream:
    """The same on the scores of a logistic regression."""
    model = fair_score(split, seed, "logistic").with_options(method="quantiles")
    return _itself(model, split, "The calibrated map itself, no learner after it.")


def blind_channel(split: Split, seed: int) -> Downstream:
    """One kernel for all groups: the group of a test row is not read."""
    model = fair_score(split, seed, "boosted").with_options(method="blind")
    return _itself(model, split, _RANDOMIZED + " The test groups are not read.")


def fair_score(split: Split, seed: int, base: str) -> FairScore:
    """Return the estimator fitted with the ROC channel, once for each base learner."""
    return _fair_score(_SameSplit(split), seed, base)


@dataclasses.dataclass(frozen=True, eq=False)
class _SameSplit:
    """A split that is looked up by identity: arrays have no hash."""

    split: Split

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameSplit) and other.split is self.split

    def __hash__(self) -> int:
        return id(self.split)


@functools.lru_cache(maxsize=2)
def _fair_score(same: _SameSplit, seed: int, base: str) -> FairScore:
    split, learner = same.split, LEARNERS[base]
    counts = cell_counts(split.label_train, split.group_train, 2, split.n_groups)
    smallest = int(counts.min())
    if smallest < 2:
        raise ValueError(
            "Out-of-fold scores need at least two training rows of each class in each "
            "group; use more rows, or join groups."
        )
    model = FairScore(learner.build(), cv=min(5, smallest), random_state=seed)
    with threadpool_limits(1):
        return model.fit(
            split.x_train, split.label_train, sensitive_features=split.group_train
        )


def _score_tests(model: FairScore, split: Split) -> np.ndarray:
    with threadpool_limits(1):
        found = model.predict_proba(split.x_test, sensitive_features=split.group_test)
    return found[:, 1]


def _after(model: FairScore, split: Split, note: str) -> Downstream:
    """A learner on the fair score alone."""
    return train_and_score(
        model.fair_training_score_[:, None],
        split.label_train,
        _score_tests(model, split)[:, None],
        weights=fairness_weights(split),
        note=note,
        fitted=model.channel_,
    )


def _itself(model: FairScore, split: Split, note: str) -> Downstream:
    """The fair score itself."""
    score = _score_tests(model, split)

    def downstream(learner: Learner) -> Outcome:
        return Outcome(score, note=note, fitted=model.channel_)

    return downstream
