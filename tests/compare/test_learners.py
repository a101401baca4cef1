"""Out-of-fold scores: no row is scored by a model that saw it."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsteer.compare import LEARNERS, out_of_fold_scores, positive_scores


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    return x, rng.integers(0, 2, 300), rng.integers(0, 2, 300)


def test_no_row_is_scored_by_a_model_that_saw_it(rows):
    x, label, group = rows
    learner = LEARNERS["boosted"]
    seen = positive_scores(learner.fit(x, label), x)
    held_out = out_of_fold_scores(learner, x, label, group)
    # The labels are noise: only a model that saw them can tell them.
    assert ((seen >= 0.5) == label).mean() > 0.8
    assert abs(((held_out >= 0.5) == label).mean() - 0.5) < 0.1


def test_weights_are_used(rows):
    x, label, group = rows
    for learner in LEARNERS.values():
        plain = positive_scores(learner.fit(x, label), x)
        weighted = positive_scores(learner.fit(x, label, 1 + 9 * label), x)
        assert weighted.mean() > plain.mean() + 0.1
    options = {"weights": 1 + 9 * label}
    plain = out_of_fold_scores(learner, x, label, group)
    assert out_of_fold_scores(learner, x, label, group, **options).mean() > plain.mean()


def test_a_cell_smaller_than_the_folds(rows):
    x, label, _ = rows
    group = np.zeros(300, int)
    group[np.flatnonzero(label == 1)[:2]] = 1
    scores = out_of_fold_scores(LEARNERS["logistic"], x, label, group)
    assert np.isfinite(scores).all()


def test_a_class_with_one_row(rows):
    x, _, group = rows
    label = np.zeros(300, int)
    label[0] = 1
    with pytest.raises(ValueError, match="at least two rows of each class, got 1"):
        out_of_fold_scores(LEARNERS["logistic"], x, label, group)
