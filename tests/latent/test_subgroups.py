from __future__ import annotations

import numpy as np
import pytest

from jaxsteer.latent import seed_interval, subgroup_errors, subgroups

RNG = np.random.default_rng(0)
S = RNG.normal(size=(200, 3))
S[:, 2] = S[:, 2] > 0
Y, PREDICTION = RNG.normal(size=(2, 200))


def test_subgroups_are_all_sides_of_the_medians():
    codes, names = subgroups(S, column_names=["age", "race", "sex"])
    assert len(names) == 8
    cuts = np.median(S[:, :2], 0)
    for i in range(200):
        words = ["high" if S[i, j] > cuts[j] else "low" for j in range(2)]
        expected = f"age {words[0]} & race {words[1]} & sex {int(S[i, 2])}"
        assert names[codes[i]] == expected
    quarters, names = subgroups(S[:, 0], split="quartiles")
    assert names == ("s0 q1", "s0 q2", "s0 q3", "s0 q4")
    assert np.bincount(quarters).tolist() == [50, 50, 50, 50]


def test_cuts_come_from_the_reference():
    codes, names = subgroups(S[:, 0], reference=S[:, 0] + 100)
    assert names == ("s0 low",) and not codes.any()


def test_errors_are_means_over_subgroups():
    found = subgroup_errors(Y, PREDICTION, S, column_names=["age", "race", "sex"])
    codes, names = subgroups(S, column_names=["age", "race", "sex"])
    squares = (Y - PREDICTION) ** 2
    for i, name in enumerate(found.names):
        rows = codes == names.index(name)
        assert found.counts[i] == rows.sum()
        assert found.errors[i] == pytest.approx(squares[rows].mean())
    assert found.overall == pytest.approx(squares.mean())
    assert found.worst == found.errors.max()
    assert found.worst_name == found.names[int(found.errors.argmax())]


def test_classes_and_small_subgroups():
    y, prediction = np.array([0, 1, 1, 0, 1]), np.array([0, 1, 0, 0, 0])
    s = np.array(["a", "a", "b", "b", "c"])
    found = subgroup_errors(y, prediction, s, loss="zero_one")
    assert found.errors.tolist() == [0.0, 0.5]
    assert found.left_out == ("s0 c",)
    assert subgroup_errors(y, prediction, s, loss="zero_one", min_rows=1).worst == 1.0
    with pytest.raises(ValueError, match="no subgroup has 9 rows"):
        subgroup_errors(y, prediction, s, min_rows=9)


def test_unusable_arguments():
    with pytest.raises(ValueError, match="split='thirds' is not known"):
        subgroups(S, split="thirds")
    with pytest.raises(ValueError, match="loss='log' is not known"):
        subgroup_errors(Y, PREDICTION, S, loss="log")
    with pytest.raises(ValueError, match="3 columns and reference 1"):
        subgroups(S, reference=S[:, :1])
    with pytest.raises(ValueError, match="2 names for 3 columns"):
        subgroups(S, column_names=["a", "b"])
    with pytest.raises(ValueError, match="one entry a row"):
        subgroup_errors(Y[:-1], PREDICTION, S)
    with pytest.raises(ValueError, match=r"shape \[n\]"):
        subgroup_errors(Y[:, None], PREDICTION, S)


def test_seed_interval_is_students():
    scipy = pytest.importorskip("scipy", reason="scipy is not installed")
    from scipy import stats

    values = RNG.normal(size=20)
    found = seed_interval(values)
    low, high = stats.t.interval(
        0.95, 19, loc=values.mean(), scale=scipy.stats.sem(values)
    )
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.n_seeds == 20
    narrow = seed_interval(values, level=0.5)
    assert narrow.high - narrow.low < found.high - found.low
    with pytest.raises(ValueError, match=r"m of 2 or more"):
        seed_interval([1.0])
    with pytest.raises(ValueError, match="level=1 must be between"):
        seed_interval(values, level=1)
