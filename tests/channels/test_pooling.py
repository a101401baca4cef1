"""Shrinkage of small groups: its amount by formula, its meaning, what it buys."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import jaxsteer as js
from tests.channels.test_quantiles import sup_gaps
from tests.channels.test_roc_channel import simulate

SMALL = simulate(240, 3, seed=2)


def one_law(n, rng):
    """Rows whose groups do not differ: the smaller group has a quarter of them."""
    label, group = (rng.uniform(size=n) < 0.4) * 1, (rng.uniform(size=n) < 0.25) * 1
    label[:4], group[:4] = [0, 0, 1, 1], [0, 1, 0, 1]
    return label + rng.normal(size=n), label, group


def test_the_amount_is_the_share_of_chance():
    rng = np.random.default_rng(3)
    label, group = rng.integers(0, 2, 900), rng.choice(3, 900, p=[0.45, 0.45, 0.1])
    # One small group lies where chance would never carry it, and stays as it is.
    score = label + rng.normal(size=900) + 3.0 * (group == 2)
    shares = []
    found = js.balanced_quantiles(score, label, group, shrinkage="auto").shrinkage
    for code in range(3):
        by_chance = measured = 0
        for cls in (0, 1):
            pooled = score[label == cls]
            mine = score[(label == cls) & (group == code)]
            law = np.mean(pooled[:, None] >= pooled, 1) - 0.5 / len(pooled)
            own = np.mean(pooled[:, None] >= mine, 1)
            own -= 0.5 * np.isin(pooled, mine) / len(mine)
            by_chance += (1 / len(mine) - 1 / len(pooled)) * np.mean(law * (1 - law))
            measured += np.mean((own - law) ** 2)
        share = min(1, by_chance / measured)
        shares.append(share)
        expected = 0 if share < 0.02 else share
        np.testing.assert_allclose(found[code], expected, rtol=1e-4)
    assert shares[2] < 0.02 < min(shares[:2])


def test_large_groups_that_differ_stay_and_equal_ones_are_pooled():
    rows = simulate(20_000, seed=1)
    apart = js.balanced_quantiles(*rows, shrinkage="auto")
    np.testing.assert_array_equal(apart.shrinkage, 0)
    np.testing.assert_array_equal(apart.levels, js.balanced_quantiles(*rows).levels)
    rng = np.random.default_rng(0)
    alike = [
        js.balanced_quantiles(*one_law(300, rng), shrinkage="auto").shrinkage.mean()
        for _ in range(40)
    ]
    assert np.mean(alike) > 0.6


def test_at_one_every_group_gets_the_map_of_all():
    score, label, group = SMALL
    fair = js.balanced_quantiles(score, label, group, shrinkage=1.0)
    every = [np.asarray(fair.transport(score, np.full(240, a))) for a in range(3)]
    np.testing.assert_allclose(every[1:], [every[0]] * 2, atol=1e-6)
    assert float(fair.frechet_gap) < 1e-6 < float(fair.gaps.max())
    np.testing.assert_allclose(
        fair.gaps, sup_gaps(every[0].astype(float), label, group), atol=1e-6
    )
    channel = js.roc_channel(score, label, group, bins=8, shrinkage=1.0)
    assert np.ptp(np.asarray(channel.kernels), 0).max() < 1e-6
    # The gap of the rows is reported, not that of the laws that they were drawn to.
    assert float(channel.slack) < 1e-6 and float(channel.gap) > 0.05


def test_a_share_is_a_weighting_of_rows():
    score, label, group = SMALL
    share = 0.4
    tiled = [np.tile(score, 3), np.tile(label, 3), np.repeat(np.arange(3), 240)]
    weights = np.zeros((3, 240))
    for code in range(3):
        for cls in (0, 1):
            of_class, mine = label == cls, (label == cls) & (group == code)
            lent = share * of_class / of_class.sum()
            weights[code] += ((1 - share) * mine / mine.sum() + lent) * mine.sum()
    expected = js.balanced_quantiles(*tiled, weights=weights.ravel())
    found = js.balanced_quantiles(score, label, group, shrinkage=share)
    np.testing.assert_allclose(found.levels, expected.levels, atol=1e-9)
    np.testing.assert_allclose(found.frechet_gap, expected.frechet_gap, atol=1e-6)
    plain = js.balanced_quantiles(score, label, group)
    assert float(found.frechet_gap) < float(plain.frechet_gap)


def test_new_rows_of_small_groups_are_fairer():
    rng = np.random.default_rng(0)
    gaps = {0.0: [], "auto": []}
    for _ in range(25):
        train, test = one_law(300, rng), one_law(2000, rng)
        for shrinkage, found in gaps.items():
            fair = js.balanced_quantiles(*train, shrinkage=shrinkage)
            moved = np.asarray(fair.transport(test[0], test[2]), float)
            found.append(sup_gaps(moved, *test[1:]).max())
    assert np.mean(gaps["auto"]) < 0.8 * np.mean(gaps[0.0])


def test_under_jit_it_is_the_same():
    score, label, group = SMALL

    @jax.jit
    def fit(score, share):
        kinds = {"n_groups": 3}
        amount = js.balanced_quantiles(score, label, group, shrinkage="auto", **kinds)
        fair = js.balanced_quantiles(score, label, group, shrinkage=share, **kinds)
        return amount.shrinkage, fair.transport(score, group)

    amount, moved = fit(score.astype(np.float32), 0.3)
    host = js.balanced_quantiles(
        score.astype(np.float32), label, group, shrinkage="auto"
    )
    np.testing.assert_allclose(amount, host.shrinkage, rtol=1e-4)
    host = js.balanced_quantiles(score.astype(np.float32), label, group, shrinkage=0.3)
    np.testing.assert_allclose(moved, host.transport(score, group), atol=1e-5)


def test_bins_go_by_the_smallest_cell():
    score, label, group = SMALL
    smallest = np.unique(label * 3 + group, return_counts=True)[1].min()
    bins = int(2 * np.sqrt(smallest))
    assert 8 < bins < 60
    auto = js.roc_channel(score, label, group, bins="auto")
    given = js.roc_channel(score, label, group, bins=bins)
    np.testing.assert_array_equal(auto.edges, given.edges)
    assert auto.kernels.shape == given.kernels.shape
    with pytest.raises(ValueError, match="bins='many'"):
        js.roc_channel(score, label, group, bins="many")


@pytest.mark.parametrize("shrinkage", [-0.1, 1.5, "much", float("nan")])
def test_bad_amounts_are_named(shrinkage):
    for fit in (js.balanced_quantiles, js.roc_channel):
        with pytest.raises(ValueError, match="shrinkage="):
            fit(*SMALL, shrinkage=shrinkage)
