"""What the ROC channel says about input that it cannot serve."""

from __future__ import annotations

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js

N = 200
LABEL, GROUP = np.arange(N) % 2, np.arange(N) // 2 % 2
SCORE = np.random.default_rng(0).normal(size=N) + LABEL
HOLE = np.where(np.arange(N) == 3, np.nan, SCORE)


def fit(**changes):
    return js.roc_channel(
        **{"score": SCORE, "label": LABEL, "group": GROUP, "bins": 5, **changes}
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"score": HOLE},
            "score has 1 values that are not finite, the first at index 3",
        ),
        ({"label": LABEL * 2}, "label has codes from 0 to 2, expected 0..1"),
        ({"label": LABEL * 2 - 1}, "label has codes from -1 to 1, expected 0..1"),
        ({"label": np.where(LABEL, "yes", "no")}, "label must hold integer codes"),
        ({"label": LABEL * 1.0}, "label must hold integer codes"),
        ({"group": np.where(GROUP, "f", "m")}, "jaxsteer.encode_labels(group)"),
        ({"group": GROUP * 0}, "group has one value; there is nothing to make equal"),
        ({"group": GROUP - 1}, "group has codes from -1 to 0"),
        ({"bins": 1}, "bins=1 must be a whole number of at least 2"),
        ({"bins": 7.5}, "bins=7.5 must be a whole number"),
        ({"label": LABEL & GROUP}, "no rows of class 1 in group 0"),
        ({"n_groups": 3}, "no rows of class 0 in group 2"),
        ({"score": SCORE[:-1]}, "score has 199, label has 200"),
        ({"weights": np.ones(3)}, "weights has 3"),
        ({"weights": np.full(N, -1.0)}, "weights must be at least 0"),
        ({"weights": HOLE}, "weights has 1 values that are not finite"),
        ({"weights": 1.0 * LABEL}, "no rows of class 0 in group 0"),
        ({"score": SCORE[:0], "label": LABEL[:0], "group": GROUP[:0]}, "no rows"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:32],
)
def test_bad_input_is_named(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(**changes)


def test_few_rows_are_said():
    with pytest.warns(UserWarning, match=r"class 0 of group 0 has 50 rows for 60 bins"):
        channel = fit(bins=60)
    assert channel.gap < 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(bins=50)


@pytest.mark.parametrize("traced", ["score", "label", "group", "weights"])
def test_fitting_inside_jit_is_refused(traced):
    value = {"score": SCORE, "label": LABEL, "group": GROUP, "weights": SCORE}[traced]
    with pytest.raises(ValueError, match="call it outside jit"):
        jax.jit(lambda v: fit(**{traced: v}).gap)(value)


@pytest.mark.parametrize(
    ("score", "group", "message"),
    [
        (SCORE, GROUP + 1, "group has codes from 1 to 2, expected 0..1"),
        (SCORE, GROUP.astype(str), "group must hold integer codes"),
        (HOLE, GROUP, "score has 1 values that are not finite"),
        (SCORE[1:], GROUP, "score has 199, group has 200"),
        (0.5, GROUP, "score: expected one entry a row, got a scalar"),
    ],
)
def test_bad_rows_are_named_at_transport(score, group, message):
    channel = fit()
    with pytest.raises(ValueError, match=re.escape(message)):
        channel.transport(score, group, key=jax.random.key(0))
    with pytest.raises(ValueError, match=re.escape(message)):
        channel.expected_score(score, group)


def test_a_missing_key_is_named_with_the_way_out():
    with pytest.raises(ValueError, match=r"key is missing.*jax.random.key.*approximat"):
        fit().transport(SCORE, GROUP)


def test_scores_that_are_not_finite_become_nan_under_jit():
    found = jax.jit(fit().expected_score)(jnp.asarray(HOLE), GROUP)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(HOLE))
