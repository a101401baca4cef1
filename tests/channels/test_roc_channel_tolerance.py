"""A tolerance: between the exact channel and the deterministic map."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.channels._roc import (
    concave_hull,
    degrading_kernel,
    heights_within,
    lower_envelope,
    turned_height,
)
from tests.channels.test_roc import law, roc_points
from tests.channels.test_roc_channel import auc, curve_of, largest_gap, laws, simulate

DATA = simulate(8000, 3, seed=4)
STEPS = (0.0, 1e-6, 0.02, 0.06, 0.12, 0.19)


@pytest.fixture(scope="module")
def channels():
    return [js.roc_channel(*DATA, bins=24, tolerance=eps) for eps in STEPS]


def test_gaps_stay_within_and_information_grows(channels):
    areas = [auc(np.asarray(c.roc)) for c in channels]
    for eps, channel in zip(STEPS, channels, strict=True):
        assert channel.gap <= eps + 1e-6
        assert largest_gap(laws(channel, *DATA)) <= eps + 1e-6
        assert channel.slack < 1e-9
        assert (np.diff(np.asarray(channel.atom_scores)) >= 0).all()
        assert channel.score_map is None
        assert channel.frechet_gap == channels[0].frechet_gap > STEPS[-1]
    assert (np.diff(areas[1:]) > 0).all()
    # The chords of 24 intervals lie below the meet, by little.
    assert 0 <= areas[0] - areas[1] < 2e-3
    shares = [float(c.random_share) for c in channels[1:]]
    assert (np.diff(shares) <= 0).all() and 0 < shares[-1] < shares[0]


def test_from_the_frechet_gap_on_no_key_is_needed(channels):
    score, label, group = DATA
    limit = float(channels[0].frechet_gap)
    channel = js.roc_channel(*DATA, bins=24, tolerance=np.nextafter(limit, 1) + 1e-6)
    fair = js.balanced_quantiles(score, label, group)
    expected = fair.calibrate(fair.transport(score, group))
    np.testing.assert_array_equal(channel.transport(score, group), expected)
    np.testing.assert_array_equal(channel.expected_score(score, group), expected)
    assert channel.random_share == 0 and channel.gap == fair.gaps.max()
    kernels = np.asarray(channel.kernels)
    assert set(np.unique(kernels)) == {0.0, 1.0} and (kernels.sum(-1) == 1).all()
    assert abs(largest_gap(laws(channel, *DATA)) - limit) < 2 / 24
    with pytest.raises(ValueError, match="key is missing"):
        channels[-1].transport(score, group)
    jitted = jax.jit(channel.transport)(score, group)
    np.testing.assert_allclose(jitted, expected, atol=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_curves_within_are_the_greatest(seed):
    curves = [roc_points(*law(3 * seed + k)) for k in range(3)]
    hulls = [concave_hull(points) for points in curves]
    share = np.linspace(0, 1, 201)
    meet = turned_height(lower_envelope(hulls), share)
    for eps in (0.0, 0.01, 0.1, 1.0):
        for code, hull in enumerate(hulls):
            found = heights_within(hulls, code, share, eps)
            best = np.minimum(turned_height(hull, share), meet + 2 * eps)
            np.testing.assert_allclose(found, best, atol=1e-9)
            assert (np.diff(found, 2) < 1e-9).all()


@pytest.mark.parametrize("seed", range(20))
def test_stretches_that_need_no_randomness_stay(seed):
    laws = [law(2 * seed + k, empty=0) for k in range(2)]
    curves = [roc_points(*one) for one in laws]
    hulls = [concave_hull(points) for points in curves]
    mix = np.array([0.5, 0.5])
    for code, own in enumerate(curves):
        share = own.mean(1)
        plain = heights_within(hulls, code, share, 0.05)
        found = heights_within(hulls, code, share, 0.05, own)
        least = np.min([turned_height(hull, share) for hull in hulls], 0)
        assert (found <= plain + 1e-9).all()
        assert (found >= np.minimum(plain, least) - 1e-9).all()
        # What is left is still within reach.
        rise, width = np.diff(found), np.diff(share)
        goal = np.maximum(np.stack([width - rise / 2, width + rise / 2])[:, ::-1], 0)
        goal /= goal.sum(1, keepdims=True)
        assert degrading_kernel(laws[code], goal, mix)[1] < 1e-7


def test_heavy_ties_keep_the_tolerance():
    score, label, group = simulate(4000, seed=9, decimals=0)
    for eps in (0.01, 0.05):
        channel = js.roc_channel(score, label, group, bins=20, tolerance=eps)
        assert channel.gap <= eps + 1e-6
        assert largest_gap(laws(channel, score, label, group)) <= eps + 1e-6


def test_bins_have_equal_class_balanced_mass():
    score, label, group = simulate(20_000, seed=8)
    rare = (label == 0) | (np.arange(20_000) % 10 == 0)
    score, label, group = score[rare], label[rare], group[rare]
    channel = js.roc_channel(score, label, group, bins=20)
    for a in (0, 1):
        mass = np.zeros(20)
        for y in (0, 1):
            mine = (group == a) & (label == y)
            place = np.searchsorted(channel.edges[a], score[mine], side="right")
            mass += np.bincount(place, minlength=20) / mine.sum() / 2
        np.testing.assert_allclose(mass, 1 / 20, atol=2e-3)


def test_the_tolerance_delivers_what_it_reports(channels):
    score, _, group = DATA
    channel = channels[3]
    drawn = np.asarray(channel.transport(score, group, key=jax.random.key(0)))
    assert set(np.unique(drawn)) <= set(np.asarray(channel.atom_scores).tolist())
    pooled = curve_of(np.asarray(channel.atoms))
    np.testing.assert_allclose(channel.roc, pooled, atol=1e-6)


@pytest.mark.parametrize("options", [{"tolerance": -0.1}, {"tolerance": 1.1},
                                     {"tolerance": 0.1, "method": "entropic"}])  # fmt: skip
def test_tolerances_out_of_range(options):
    with pytest.raises(ValueError, match=r"tolerance=.* must lie in"):
        js.roc_channel(*DATA, bins=8, **options)
