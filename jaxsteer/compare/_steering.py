"""The rows of this package: the nearest-ideal group maps and the two Gaussian channels."""

from __future__ import annotations

import jax
import numpy as np

from jaxsteer.channels import RocChannel
from jaxsteer.channels import gaussian_channel as fit_gaussian_channel
from jaxsteer.channels import roc_channel as fit_roc_channel
from jaxsteer.compare._baselines import fairness_weights
from jaxsteer.compare._learners import (
    LEARNERS,
    Learner,
    out_of_fold_scores,
    positive_scores,
)
from jaxsteer.compare._outcome import Downstream, Outcome, train_and_score
from jaxsteer.compare._split import Split
from jaxsteer.ideal import nearest_ideal
from jaxsteer.moments import fit_population

_RANDOMIZED = "Randomized with a key: two runs with two seeds differ row by row."


def steering(split: Split, seed: int) -> Downstream:
    """Tied affirmative group maps, label-free, with the reweighing weights."""
    return _steered(split, "affirmative", "shared_covariance")


def steering_all_groups(split: Split, seed: int) -> Downstream:
    """Feature-wise group maps in which every group moves, with the weights."""
    return _steered(split, "all_groups", "diagonal")


def _steered(split: Split, intervention: str, maps: str) -> Downstream:
    population = fit_population(split.x_train, split.label_train, split.group_train)
    found = nearest_ideal(
        population, intervention=intervention, maps=maps, reference=split.reference
    )
    return train_and_score(
        np.asarray(found.transport(split.x_train, split.group_train)),
        split.label_train,
        np.asarray(found.transport(split.x_test, split.group_test)),
        weights=fairness_weights(split),
        fitted=found,
    )


def gaussian_channel(split: Split, seed: int) -> Downstream:
    """The discriminant coordinate plus noise in the better-separated group."""
    population = fit_population(split.x_train, split.label_train, split.group_train)
    channel = fit_gaussian_channel(
        population, "discriminant", reference=split.reference
    )
    train_key, test_key = jax.random.split(jax.random.key(seed))
    return train_and_score(
        np.asarray(channel.transport(split.x_train, split.group_train, key=train_key)),
        split.label_train,
        np.asarray(channel.transport(split.x_test, split.group_test, key=test_key)),
        weights=fairness_weights(split),
        note=_RANDOMIZED,
        fitted=channel,
    )


def roc_channel(split: Split, seed: int) -> Downstream:
    """The score degraded to the experiment that every group can be degraded to."""
    return _meet(split, seed, "boosted")


def roc_channel_logistic(split: Split, seed: int) -> Downstream:
    """The same on the scores of a logistic regression."""
    return _meet(split, seed, "logistic")


def _meet(split: Split, seed: int, base: str) -> Downstream:
    channel, held_out, test = _meet_scores(split, seed, base)
    train_key, test_key = jax.random.split(jax.random.key(seed))
    train = channel.transport(held_out, split.group_train, key=train_key)
    fair = channel.transport(test, split.group_test, key=test_key)
    return train_and_score(
        np.asarray(train)[:, None],
        split.label_train,
        np.asarray(fair)[:, None],
        weights=fairness_weights(split),
        note=_RANDOMIZED,
        fitted=channel,
    )


def roc_channel_expected(split: Split, seed: int) -> Downstream:
    """The expected score of the ROC channel: deterministic, approximately fair."""
    channel, _, test = _meet_scores(split, seed, "boosted")
    score = np.asarray(channel.expected_score(test, split.group_test))

    def downstream(learner: Learner) -> Outcome:
        return Outcome(score, note="The expected score itself, no learner after it.")

    return downstream


def _meet_scores(
    split: Split, seed: int, base: str
) -> tuple[RocChannel, np.ndarray, np.ndarray]:
    """Return the channel, the out-of-fold training scores and the test scores."""
    learner = LEARNERS[base]
    held_out = out_of_fold_scores(
        learner, split.x_train, split.label_train, split.group_train, seed=seed
    )
    channel = fit_roc_channel(
        held_out, split.label_train, split.group_train, n_groups=split.n_groups
    )
    model = learner.fit(split.x_train, split.label_train)
    return channel, held_out, positive_scores(model, split.x_test)
