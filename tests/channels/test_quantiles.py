"""Balanced quantiles: minimax among increasing maps, in any precision, traced or not."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score, roc_curve

import jaxsteer as js
from jaxsteer.channels._score_ranks import isotonic_knots
from tests.channels.test_roc_channel import simulate

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
DATA = simulate(4000, 3, seed=5)


def sup_gaps(values, label, group):
    """Largest FPR and TPR gap over all thresholds, by brute force."""
    cuts = np.unique(values)
    gaps = []
    for y in (0, 1):
        below = [
            np.searchsorted(np.sort(values[(label == y) & (group == a)]), cuts)
            / np.sum((label == y) & (group == a))
            for a in np.unique(group)
        ]
        gaps.append(np.max(np.max(below, 0) - np.min(below, 0)))
    return np.array(gaps)


def curve(score, label):
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    return np.stack([fpr, tpr], 1)


def smallest_cell(label, group):
    return np.unique(label * 10 + group, return_counts=True)[1].min()


def best_coupling(first, second):
    """Largest difference of rates on the best monotone matching of two curves' points."""
    cost = np.abs(first[:, None] - second[None]).max(-1)
    best = np.full((len(first) + 1, len(second) + 1), np.inf)
    best[0, 0] = 0
    for i in range(len(first)):
        for j in range(len(second)):
            before = min(best[i, j], best[i, j + 1], best[i + 1, j])
            best[i + 1, j + 1] = max(cost[i, j], before)
    return best[-1, -1]


@pytest.mark.parametrize("n_groups", [2, 3, 5])
@pytest.mark.parametrize("decimals", [None, 1])
def test_the_largest_gap_is_the_frechet_distance(n_groups, decimals):
    score, label, group = simulate(3000, n_groups, seed=n_groups, decimals=decimals)
    fair = js.balanced_quantiles(score, label, group)
    mapped = np.asarray(fair.transport(score, group), float)
    n = smallest_cell(label, group)
    # Ties count as one row each; rounded scores have more of them.
    most = np.unique(np.stack([score, group]), axis=1, return_counts=True)[1].max()
    assert abs(sup_gaps(mapped, label, group).max() - fair.frechet_gap) < most / n
    np.testing.assert_allclose(fair.gaps, sup_gaps(mapped, label, group), atol=1e-6)
    # The distance, from scikit-learn's curves.
    at, heights = np.linspace(0, 1, 4001), []
    for a in range(n_groups):
        fpr, tpr = curve(score[group == a], label[group == a]).T
        heights.append(np.interp(at, (fpr + tpr) / 2, tpr - fpr))
    expected = np.max(np.max(heights, 0) - np.min(heights, 0)) / 2
    assert -10 * EPS <= fair.frechet_gap - expected < 1e-3
    np.testing.assert_allclose(
        np.asarray(fair.roc).mean(-1),
        np.tile(np.linspace(0, 1, 257), (n_groups, 1)),
        atol=max(10 * EPS, 1e-12),
    )


def test_no_monotone_coupling_is_better():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        group = np.repeat([0, 1], 24)
        score = rng.normal(size=48)
        label = (score * rng.uniform(0, 2, 2)[group] + rng.normal(size=48) > 0) * 1
        label[[0, 24]], label[[1, 25]] = 0, 1
        fair = js.balanced_quantiles(score, label, group)
        curves = [curve(score[group == a], label[group == a]) for a in (0, 1)]
        assert best_coupling(*curves) >= fair.frechet_gap - 10 * EPS


@pytest.mark.parametrize(("weight", "rate"), [(0.0, 0), (1.0, 1)])
def test_a_class_of_all_weight_has_equal_rates(weight, rate):
    score, label, group = DATA
    fair = js.balanced_quantiles(score, label, group, class_weight=weight)
    found = sup_gaps(np.asarray(fair.transport(score, group)), label, group)
    assert found[rate] <= 1 / smallest_cell(label, group)
    assert found[1 - rate] > 0.2


@settings(max_examples=15)
@given(st.floats(0, 1), st.integers(0, 1000))
def test_it_is_the_quantile_in_the_mixture(weight, seed):
    score, label, group = simulate(300, seed=seed, decimals=1)
    fair = js.balanced_quantiles(score, label, group, class_weight=weight)
    found = np.asarray(fair.transport(score, group))
    assert found.min() >= 0 and found.max() <= 1
    for a in (0, 1):
        mine = group == a
        expected = sum(
            share
            * np.mean(
                (peers[:, None] < score[mine]) + 0.5 * (peers[:, None] == score[mine]),
                axis=0,
            )
            for share, peers in (
                (1 - weight, score[mine & (label == 0)]),
                (weight, score[mine & (label == 1)]),
            )
        )
        np.testing.assert_allclose(found[mine], expected, atol=10 * EPS)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s + 1e6,
        lambda s: np.round(s * 1e9).astype(np.int64),
        lambda s: 1 - 1e-9 * np.exp(-s),
        lambda s: s * 1e39,
        lambda s: s * 1e300,
    ],
    ids=["offset", "int64", "near 1", "1e39", "1e300"],
)
def test_ranks_are_taken_in_the_scores_own_precision(change):
    score, label, group = DATA
    plain = js.balanced_quantiles(score, label, group)
    fair = js.balanced_quantiles(change(score), label, group)
    np.testing.assert_array_equal(fair.gaps, plain.gaps)
    np.testing.assert_allclose(
        fair.transport(change(score), group), plain.transport(score, group), atol=1e-6
    )
    channel = js.roc_channel(change(score), label, group, bins=10)
    same = js.roc_channel(score, label, group, bins=10)
    key = jax.random.key(0)
    np.testing.assert_allclose(
        channel.transport(change(score), group, key=key),
        same.transport(score, group, key=key),
        atol=10 * EPS,
    )
    assert channel.gap < 1e-6


def test_a_float32_copy_meets_its_own_knots():
    score, label, group = simulate(2000, decimals=1)
    fair = js.balanced_quantiles(score, label, group)
    whole = fair.transport(score, group)
    np.testing.assert_allclose(
        fair.transport(score.astype(np.float32), group), whole, atol=1e-6
    )
    traced = jax.jit(fair.transport)(score.astype(np.float32), group)
    np.testing.assert_allclose(traced, whole, atol=1e-5)


def test_between_scores_it_is_straight_and_beyond_them_constant():
    score, label, group = DATA
    fair = js.balanced_quantiles(score, label, group)
    knots, levels = (np.asarray(v[1], float) for v in (fair.knots, fair.levels))
    middle = (knots[3] + knots[4]) / 2
    new = np.array([middle, -1e9, 1e9])
    found = fair(new, np.array([1, 1, 1]))
    expected = [(levels[3] + levels[4]) / 2, levels[0], levels[-1]]
    np.testing.assert_allclose(found, expected, atol=EPS)


def test_weights_count_as_repeated_rows_and_zeros_as_none():
    score, label, group = simulate(1500, seed=2, decimals=1)
    weights = np.random.default_rng(0).integers(0, 4, 1500)
    repeated = js.balanced_quantiles(
        *(np.repeat(v, weights) for v in (score, label, group))
    )
    weighted = js.balanced_quantiles(score, label, group, weights=weights * 1.0)
    np.testing.assert_allclose(weighted.levels, repeated.levels, atol=1e-12)
    np.testing.assert_allclose(weighted.calibration, repeated.calibration, atol=1e-9)
    np.testing.assert_allclose(weighted.gaps, repeated.gaps, atol=10 * EPS)
    plain = js.balanced_quantiles(score, label, group)
    assert weighted.knots.shape != plain.knots.shape


def test_calibration_is_isotonic_regression():
    score, label, group = DATA
    fair = js.balanced_quantiles(score, label, group)
    values = np.concatenate([
        np.interp(score[group == a], fair.knots[a], fair.levels[a]) for a in range(3)
    ])  # fmt: skip
    y = np.concatenate([label[group == a] for a in range(3)])
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    knots = isotonic_knots(values, y, weights)
    fit = IsotonicRegression().fit_transform(values, y, sample_weight=weights)
    inner = knots[1:-1]
    np.testing.assert_allclose(np.unique(fit.round(12)), inner[:, 1], atol=1e-9)
    for at, rate in inner:
        block = np.abs(fit - rate) < 1e-9
        assert np.average(values[block], weights=weights[block]) == pytest.approx(at)
    assert (np.diff(knots, axis=0) >= 0).all() and (np.diff(inner, axis=0) > 0).all()
    # Probabilities as observed, in the same order.
    u = np.asarray(fair.transport(score, group))
    p = np.asarray(fair.calibrate(u))
    assert abs(p.mean() - label.mean()) < 0.005
    assert roc_auc_score(label, p) == pytest.approx(roc_auc_score(label, u), abs=1e-4)


def test_under_jit_and_vmap_it_is_the_same_map():
    score, label, group = DATA
    fair = js.balanced_quantiles(score, label, group)

    def fit(s):
        found = js.balanced_quantiles(s, label, group, n_groups=3)
        u = found.transport(s, group)
        return u, found.calibrate(u), found.frechet_gap, found.gaps, found.roc

    many = jax.jit(jax.vmap(fit))(np.stack([score, -(score**3)]).astype(np.float32))
    u, p, distance, gaps, roc = (np.asarray(v[0]) for v in many)
    np.testing.assert_allclose(u, fair.transport(score, group), atol=1e-3)
    np.testing.assert_allclose(distance, fair.frechet_gap, atol=1e-4)
    np.testing.assert_allclose(gaps, fair.gaps, atol=2e-3)
    np.testing.assert_allclose(roc, fair.roc, atol=2e-3)
    np.testing.assert_allclose(p.mean(), label.mean(), atol=0.01)
    assert (np.diff(p[np.argsort(u)]) >= 0).all()
    # A falling score turns the curves over.
    assert many[2][1] == pytest.approx(float(distance), abs=1e-4)
    codes = np.where(np.arange(4000) < 5, 7, group)
    found = jax.jit(lambda m, s, g: m.transport(s, g))(fair, score, codes)
    assert np.isnan(found[:5]).all() and np.isfinite(found[5:]).all()
    alone = jax.jit(lambda y: js.balanced_quantiles(score, y, group, n_groups=3).gaps)
    assert np.isnan(alone(np.where(group == 0, 0, label))).any()


def test_the_smooth_version_tends_to_it_and_has_derivatives():
    score, label, group = (v[:400] for v in simulate(400, seed=1))
    fair = js.balanced_quantiles(score, label, group).transport(score, group)
    smooth = jax.jit(
        lambda s, h: js.channels.smooth_balanced_quantiles(
            s, label, group, bandwidth=h, n_groups=2
        )
    )
    away = [float(np.abs(smooth(score, h) - fair).max()) for h in (0.3, 0.03, 1e-6)]
    assert away[0] > away[1] > away[2] and away[2] < 1e-3

    def loss(s):
        return jnp.sum(jnp.sin(3 * smooth(s, 0.3)))

    slope = np.asarray(jax.grad(loss)(jnp.asarray(score)))
    step = 1e-2 * np.random.default_rng(0).normal(size=400)
    change = float(loss(score + step) - loss(score - step)) / 2
    assert change == pytest.approx(float(slope @ step), rel=2e-2, abs=1e-4)


def test_bad_input_is_named():
    score, label, group = (v[:60] for v in DATA)

    def fails(message, **changes):
        with pytest.raises(ValueError, match=re.escape(message)):
            js.balanced_quantiles(
                **{"score": score, "label": label, "group": group, **changes}
            )

    fails("score has 1 values that are not finite", score=np.where(score == score[3],
          np.nan, score))  # fmt: skip
    fails("score must hold real numbers of at most 64 bits", score=score.astype(str))
    fails("score has integers from", score=np.full(60, 2**60))
    fails("score has shape (60, 2)", score=np.stack([score, score], 1))
    fails("label has codes from 0 to 2", label=label * 2)
    fails("group has one value", group=group * 0)
    fails("class_weight=1.5 must lie in [0, 1]", class_weight=1.5)
    fails("no rows of class 1 in group 0", label=np.where(group == 0, 0, label))
    fails("weights must be at least 0", weights=-np.ones(60))
    with pytest.raises(ValueError, match="bandwidth=0 must be positive"):
        js.channels.smooth_balanced_quantiles(score, label, group, bandwidth=0)
    fair = js.balanced_quantiles(score, label, group)
    with pytest.raises(ValueError, match="group has codes from 3 to 3"):
        fair.transport(score[:1], np.array([3]))
