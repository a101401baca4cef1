"""The chance level against shuffles in NumPy."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import stats

from jaxsteer.audit import metrics

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
GROUP = (RNG.random(900) < 0.3).astype(int)
LABEL = (RNG.random(900) < 0.3 + 0.3 * GROUP).astype(int)
SCORE = (LABEL + GROUP + RNG.normal(size=900)).round(1)


def shuffled(y, n):
    """Largest gaps of one class under shuffled groups."""
    mine = y == LABEL
    return np.array([
        stats.ks_2samp(*(SCORE[mine][mixed == a] for a in (0, 1))).statistic
        for mixed in (RNG.permutation(GROUP[mine]) for _ in range(n))
    ])  # fmt: skip


def test_it_is_the_mean_and_quantile_of_shuffles_within_the_label():
    names = ["sup_tpr_gap", "sup_fpr_gap"]
    found = metrics.chance_level(
        names, LABEL, None, GROUP, score=SCORE, key=KEY, n_shuffles=400
    )
    for y, name in ((1, "sup_tpr_gap"), (0, "sup_fpr_gap")):
        theirs = shuffled(y, 400)
        spread = theirs.std()
        assert abs(found[name].mean - theirs.mean()) < 5 * spread / np.sqrt(200)
        assert abs(found[name].high - np.quantile(theirs, 0.95)) < 0.5 * spread
        value = metrics.sup_gap(LABEL, SCORE, GROUP, rate=name[4:7])
        assert value > found[name].high


def test_what_does_not_read_the_group_stays_and_decisions_work():
    decision = (SCORE > 1).astype(int)
    found = metrics.chance_level(
        ["accuracy", "equalized_odds"], LABEL, decision, GROUP, key=KEY, n_shuffles=50
    )
    accuracy = float(metrics.accuracy(LABEL, decision, GROUP))
    assert float(found["accuracy"].mean) == pytest.approx(accuracy, abs=1e-6)
    assert float(found["accuracy"].high) == pytest.approx(accuracy, abs=1e-6)
    assert found["equalized_odds"].mean < 0.1
    assert metrics.equalized_odds(LABEL, decision, GROUP) > found["equalized_odds"].high
    lower = metrics.chance_level(
        ["equalized_odds"], LABEL, decision, GROUP, key=KEY, n_shuffles=50, level=0.5
    )
    assert lower["equalized_odds"].high < found["equalized_odds"].high


def test_bad_options_are_named():
    def fails(message, **options):
        with pytest.raises(ValueError, match=message):
            metrics.chance_level(
                ["sup_tpr_gap"], LABEL, None, GROUP,
                **{"score": SCORE, "key": KEY, **options},
            )  # fmt: skip

    fails("n_shuffles must be an int of 2 or more", n_shuffles=1)
    fails("level must lie between 0 and 1", level=2.0)
    fails("key must be one", key=0)
    fails("reads a score", score=None)
