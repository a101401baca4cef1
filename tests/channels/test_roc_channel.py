from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxsteer as js
from jaxsteer import _row_draws

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
KEY = jax.random.key


def simulate(n, n_groups=2, seed=0, decimals=None):
    """Scores that tell the classes apart better in some groups than in others."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n)
    label = (rng.uniform(size=n) < 0.3 + 0.1 * group).astype(int)
    score = label * (0.5 + 0.8 * group) + rng.normal(size=n) * (1 + 0.4 * label * group)
    return score if decimals is None else score.round(decimals), label, group


def laws(channel, score, label, group, weights=None):
    """Expected law of the atom ``[G, 2, T]``, from the fields and the data alone."""
    weights = np.ones(len(score)) if weights is None else weights
    edges, kernels = (np.asarray(v, float) for v in (channel.edges, channel.kernels))
    bins = np.array([(edges[a] <= s).sum() for s, a in zip(score, group, strict=True)])
    rows = kernels[group, bins] * weights[:, None]
    cells = [
        [rows[(group == a) & (label == y)].sum(0) for y in (0, 1)]
        for a in range(len(edges))
    ]
    return np.array(cells) / np.sum(cells, -1, keepdims=True)


def largest_gap(law):
    """Over all thresholds and both classes, between any two groups."""
    tail = np.cumsum(law[..., ::-1], -1)
    return (tail.max(0) - tail.min(0)).max()


def auc(curve):
    steps = np.diff(curve, axis=0)
    return (steps[:, 0] * (curve[1:, 1] + curve[:-1, 1])).sum() / 2


def curve_of(law):
    zero = np.zeros((1, 2))
    return np.concatenate([zero, np.cumsum(law[:, ::-1], 1).T])


@pytest.mark.parametrize("n_groups", [2, 3, 5])
@pytest.mark.parametrize("decimals", [None, 0])
def test_every_group_has_one_law_of_the_atom(n_groups, decimals):
    data = simulate(6000, n_groups, seed=n_groups, decimals=decimals)
    channel = js.roc_channel(*data, bins=20)
    delivered = laws(channel, *data)
    assert largest_gap(delivered) < 1e-6 and channel.gap < 1e-6
    assert channel.slack < 1e-9
    assert channel.kernels.shape[:2] == (n_groups, 20) and channel.kernels.min() >= 0
    np.testing.assert_allclose(channel.kernels.sum(-1), 1, atol=30 * EPS)
    np.testing.assert_allclose(delivered, [channel.atoms] * n_groups, atol=100 * EPS)
    counts = [[np.sum((data[1] == y) & (data[2] == a)) for a in range(n_groups)]
              for y in (0, 1)]  # fmt: skip
    np.testing.assert_array_equal(channel.cell_counts, counts)


def test_the_meet_is_the_least_hull_and_its_scores_are_calibrated():
    data = simulate(8000, 3, seed=1)
    channel = js.roc_channel(*data, bins=30)
    roc = np.asarray(channel.roc, float)
    x = np.linspace(0.01, 0.99, 99)
    heights = [np.interp(x, *np.asarray(hull, float).T) for hull in channel.hulls]
    np.testing.assert_allclose(np.interp(x, *roc.T), np.min(heights, 0), atol=50 * EPS)
    assert auc(roc) <= min(auc(np.asarray(hull)) for hull in channel.hulls) + 50 * EPS
    np.testing.assert_allclose(curve_of(np.asarray(channel.atoms)), roc, atol=50 * EPS)
    scores = np.asarray(channel.atom_scores)
    assert (np.diff(scores) > 0).all()
    mix = np.bincount(data[1]) / len(data[1])
    joint = mix[:, None] * laws(channel, *data)[0]
    np.testing.assert_allclose(scores, joint[1] / joint.sum(0), rtol=1000 * EPS)


def test_weights_count_as_repeated_rows():
    score, label, group = simulate(1500, seed=2, decimals=0)
    weights = np.random.default_rng(0).integers(0, 4, 1500)
    repeated = [np.repeat(v, weights) for v in (score, label, group)]
    whole = js.roc_channel(*repeated, bins=40)
    weighted = js.roc_channel(
        score, label, group, bins=40, weights=weights.astype(float)
    )
    np.testing.assert_allclose(weighted.roc, whole.roc, atol=10 * EPS)
    assert largest_gap(laws(weighted, score, label, group, weights)) < 1e-6
    # Doubled weights change nothing, uneven ones do.
    plain = js.roc_channel(score, label, group, bins=40)
    doubled = js.roc_channel(score, label, group, bins=40, weights=np.full(1500, 2.0))
    np.testing.assert_array_equal(doubled.kernels, plain.kernels)
    assert plain.roc.shape != whole.roc.shape or np.abs(plain.roc - whole.roc).max() > 0


def test_every_bin_holds_rows_so_that_no_kernel_row_is_arbitrary():
    # Quantiles between two distinct values would open bins without rows.
    rng = np.random.default_rng(0)
    group, label = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
    score = np.where(rng.uniform(size=4000) < 0.5 + 0.2 * label, 1.0, 0.0)
    channel = js.roc_channel(score, label, group, bins=4)
    np.testing.assert_array_equal(channel.edges[:, 0], 1)
    assert np.isinf(channel.edges[:, 1:]).all()
    new = np.array([-5.0, 0.0, 0.2, 0.99, 1.0, 7.0])
    found = channel.expected_score(new, np.zeros(6, int))
    np.testing.assert_array_equal(found[:4], found[0])
    np.testing.assert_array_equal(found[4:], found[4])
    assert found[4] > found[0]


def test_zero_weight_rows_leave_the_bins_alone():
    score, label, group = simulate(1000, seed=7)
    more = [np.concatenate([v, v]) for v in (label, group)]
    weights = np.repeat([1.0, 0.0], 1000)
    found = js.roc_channel(
        np.concatenate([score, score + 50]), *more, bins=9, weights=weights
    )
    alone = js.roc_channel(score, label, group, bins=9)
    np.testing.assert_array_equal(found.edges, alone.edges)
    np.testing.assert_array_equal(found.kernels, alone.kernels)


def test_a_group_without_information_leaves_none():
    score, label, group = simulate(2000)
    score = np.where(group == 0, 1.0, score)
    channel = js.roc_channel(score, label, group, bins=10)
    np.testing.assert_allclose(channel.roc, [[0, 0], [1, 1]])
    fair = channel.transport(score, group, key=KEY(0))
    np.testing.assert_allclose(fair, label.mean(), rtol=10 * EPS)


def test_perfect_scores_stay_perfect():
    _, label, group = simulate(2000)
    channel = js.roc_channel(10.0 * label + group, label, group, bins=10)
    fair = channel.transport(10.0 * label + group, group, key=KEY(0))
    np.testing.assert_allclose(fair, label, atol=1e-9)


def test_scores_beyond_the_range_count_as_the_nearest_bin():
    score, label, group = simulate(2000)
    channel = js.roc_channel(score, label, group, bins=10)
    for a in (0, 1):
        ends = [score[group == a].min(), score[group == a].max()]
        codes = np.full(2, a)
        near = channel.expected_score(np.array(ends), codes)
        far = channel.expected_score(np.array([-1e9, 1e9]), codes)
        np.testing.assert_array_equal(far, near)


def test_new_rows_of_the_same_law_have_a_small_gap_and_raw_scores_a_large_one():
    channel = js.roc_channel(*simulate(40_000, seed=3), bins=30)
    score, label, group = simulate(40_000, seed=4)
    fair = np.asarray(channel.transport(score, group, key=KEY(1)))

    def sup(values, y):
        low, high = (values[(label == y) & (group == a)] for a in (0, 1))
        test = stats.ks_2samp(low, high)
        return test.statistic, np.sqrt(1 / len(low) + 1 / len(high)) / 2

    for y in (0, 1):
        gap, error = sup(fair, y)
        # Sampling error of the fit and of these rows, each of variance error^2.
        assert gap < 2.5 * np.sqrt(2) * error
    assert sup(score, 1)[0] > 0.2


def test_draws_follow_the_kernel_rows():
    score, label, group = simulate(3000)
    channel = js.roc_channel(score, label, group, bins=8)
    n, a = 20_000, 1
    drawn = channel.transport(np.full(n, 0.3), np.full(n, a), key=KEY(5))
    row = np.asarray(channel.kernels, float)[
        a, (np.asarray(channel.edges)[a] <= 0.3).sum()
    ]
    counts = [(drawn == value).sum() for value in channel.atom_scores]
    assert sum(counts) == n
    used = row > 0
    assert np.sum(np.array(counts)[~used]) == 0 and used.sum() > 1
    expected = row[used] / row[used].sum() * n
    assert stats.chisquare(np.array(counts)[used], expected).pvalue > 1e-3
    mean = channel.expected_score(np.array([0.3]), np.array([a]))[0]
    assert abs(drawn.mean() - mean) < 5 * drawn.std() / np.sqrt(n)
    np.testing.assert_allclose(mean, row @ channel.atom_scores, rtol=20 * EPS)
    assert "approximately fair" in js.RocChannel.expected_score.__doc__


def test_randomness_is_the_keys_alone_under_jit_and_vmap():
    score, label, group = simulate(1000)
    channel = js.roc_channel(score, label, group, bins=8)
    keys = jax.random.split(KEY(0), 3)
    one = [channel.transport(score, group, key=key) for key in keys]
    np.testing.assert_array_equal(channel.transport(score, group, key=keys[0]), one[0])
    assert (one[0] != one[1]).mean() > 0.05
    move = jax.jit(
        jax.vmap(lambda c, key: c.transport(score, group, key=key), (None, 0))
    )
    np.testing.assert_array_equal(move(channel, keys), one)
    codes = jnp.where(jnp.arange(1000) < 5, 7, group)
    found = jax.jit(lambda c, g: c.transport(score, g, key=keys[0]))(channel, codes)
    assert np.isnan(found[:5]).all()
    np.testing.assert_array_equal(found[5:], one[0][5:])


def test_chunks_give_the_same_draws(monkeypatch):
    score, label, group = simulate(1003)
    channel = js.roc_channel(score, label, group, bins=8)
    whole = channel.transport(score, group, key=KEY(3))
    monkeypatch.setattr(_row_draws, "CHUNK", 100)
    _row_draws._drawn.clear_cache()
    np.testing.assert_array_equal(channel.transport(score, group, key=KEY(3)), whole)
    _row_draws._drawn.clear_cache()


@pytest.mark.parametrize("seed", [43, 51, 82, 84, 96, 109, 136, 275])
def test_scores_of_small_samples_are_probabilities(seed):
    """Where a group's curve runs along an axis, too, an atom's law is not below 0."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(16, 40))
    label, group = rng.integers(0, 2, (2, n))
    score = rng.normal(size=n) + label * rng.uniform(0, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few rows
        channel = js.roc_channel(score, label, group, bins=8, shrinkage="auto")
    for values in (channel.atom_scores, channel.atoms):
        assert values.min() >= 0 and values.max() <= 1
