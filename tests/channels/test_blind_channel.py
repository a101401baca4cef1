"""The blind channel: one kernel, alike in every group, never told which."""

from __future__ import annotations

import inspect
import re

import jax
import numpy as np
import pytest
from scipy.optimize import linprog

import jaxsteer as js
from jaxsteer.channels._blind_channel import blind_kernel, information_utility
from tests.channels.test_roc_channel import auc, largest_gap, simulate

KEY = jax.random.key(0)


def with_probe(n, n_groups=2, seed=0, noise=0.7):
    """Scores, and a probe that reads the group with some noise."""
    score, label, group = simulate(n, n_groups, seed=seed)
    rng = np.random.default_rng(seed + 100)
    probe = np.eye(n_groups)[group] + noise * rng.normal(size=(n, n_groups))
    return score, (probe[:, 1] if n_groups == 2 else probe), label, group


DATA = with_probe(8000)


@pytest.fixture(scope="module")
def channel():
    return js.blind_channel(*DATA)


def cells(channel, score, probe):
    """Cell of each row from the fields alone."""
    probe = probe[:, None] if probe.ndim == 1 else probe[:, 1:]
    found = np.zeros(len(score), int)
    for inner, value in zip(channel.edges, [score, *probe.T], strict=True):
        within = [(inner[c] <= v).sum() for c, v in zip(found, value, strict=True)]
        found = found * (inner.shape[1] + 1) + within
    return found


def delivered(channel, score, probe, label, group):
    rows = np.asarray(channel.kernel, float)[cells(channel, score, probe)]
    return np.array([
        [rows[(group == a) & (label == y)].mean(0) for y in (0, 1)]
        for a in range(group.max() + 1)
    ])  # fmt: skip


@pytest.mark.parametrize("n_groups", [2, 3])
def test_every_group_has_one_law_of_the_atom(n_groups):
    data = with_probe(6000, n_groups)
    channel = js.blind_channel(*data, bins=(12, 4), atoms=8)
    law = delivered(channel, *data)
    assert channel.slack < 1e-6 and channel.gap < 1e-6
    assert largest_gap(law) < 1e-5
    assert channel.kernel.min() >= 0
    np.testing.assert_allclose(channel.kernel.sum(1), 1, atol=1e-5)
    assert (np.diff(np.asarray(channel.atom_scores)) >= 0).all()
    _, _, label, _ = data
    mix = np.bincount(label) / len(label)
    joint = mix[:, None] * np.asarray(channel.atoms, float)
    used = joint.sum(0) > 1e-6
    joint, scores = joint[:, used], np.asarray(channel.atom_scores)[used]
    np.testing.assert_allclose(scores, joint[1] / joint.sum(0), rtol=1e-3)
    assert float(channel.auc) == pytest.approx(auc(np.asarray(channel.roc)), abs=1e-5)


def test_it_costs_against_knowing_the_group(channel):
    score, probe, label, group = DATA
    aware = js.roc_channel(score, label, group)
    assert abs(float(channel.aware_auc) - auc(np.asarray(aware.roc))) < 2e-3
    assert 0.5 < channel.auc < channel.aware_auc + 0.005
    # A probe that knows the group loses little, one that knows nothing much more.
    sharp = js.blind_channel(score, group + 0.01 * probe, label, group)
    nothing = np.random.default_rng(0).normal(size=len(score))
    dull = js.blind_channel(score, nothing, label, group)
    assert dull.auc < channel.auc < sharp.auc
    assert abs(sharp.auc - aware_area(aware)) < 0.02


def aware_area(channel):
    return auc(np.asarray(channel.roc))


def test_new_rows_have_small_gaps_and_no_group_is_read(channel):
    score, probe, label, group = with_probe(8000, seed=1)
    fair = np.asarray(channel.transport(score, probe, key=KEY))
    assert "group" not in inspect.signature(channel.transport).parameters

    def sup(values):
        cuts = np.unique(values)[None]
        return max(
            np.abs(np.subtract(*(
                (values[(label == y) & (group == a)][:, None] >= cuts).mean(0)
                for a in (0, 1)
            ))).max()
            for y in (0, 1)
        )  # fmt: skip

    # Some 1,200 rows in the smallest cell: .04 is the noise of the largest gap.
    assert sup(fair) < 0.08 < 0.2 < sup(score.round(1))


def test_the_program_is_the_optimum():
    rng = np.random.default_rng(0)
    laws = rng.dirichlet(np.ones(6), (2, 2))
    joint = laws.mean(0) / 2
    utility = information_utility(joint, np.array([0.2, 0.5, 0.8]))
    kernel = blind_kernel(laws, utility)
    # The same program written out, by the interior-point solver.
    equations, right = [], []
    for b in range(6):
        row = np.zeros((6, 3))
        row[b] = 1
        equations.append(row.ravel())
        right.append(1)
    for y in (0, 1):
        for t in range(3):
            row = np.zeros((6, 3))
            row[:, t] = laws[0, y] - laws[1, y]
            equations.append(row.ravel())
            right.append(0)
    peer = linprog(-utility.ravel(), A_eq=equations, b_eq=right, method="highs-ipm")
    assert np.sum(utility * kernel) == pytest.approx(-peer.fun, rel=1e-9)


def test_draws_by_row_and_under_jit(channel):
    score, probe, *_ = (v[:500] for v in DATA)
    batch = channel.transport(score, probe, key=KEY, draw="row")
    alone = channel.transport(score[3:4], probe[3:4], key=KEY, draw="row")
    assert alone[0] == batch[3]
    low = [v.astype(np.float32) for v in (score, probe)]
    traced = jax.jit(lambda s, p: channel.transport(s, p, key=KEY))(*low)
    np.testing.assert_array_equal(traced, channel.transport(*low, key=KEY))
    hole = jax.jit(lambda s, p: channel.transport(s, p, key=KEY))(
        np.full(500, np.nan, np.float32), low[1]
    )
    assert np.isnan(hole).all()


def test_weights_count_and_ranks_keep_their_precision():
    score, probe, label, group = (v[:2000] for v in DATA)
    weights = np.random.default_rng(0).integers(0, 3, 2000)
    repeated = js.blind_channel(
        *(np.repeat(v, weights) for v in (score, probe, label, group)), bins=(8, 3)
    )
    weighted = js.blind_channel(
        score, probe, label, group, bins=(8, 3), weights=weights * 1.0
    )
    for one, other in zip(weighted.edges, repeated.edges, strict=True):
        np.testing.assert_array_equal(one, other)
    assert float(weighted.auc) == pytest.approx(float(repeated.auc), abs=1e-6)
    shifted = js.blind_channel(score + 1e6, probe * 1e300, label, group, bins=(8, 3))
    plain = js.blind_channel(score, probe, label, group, bins=(8, 3))
    assert float(shifted.auc) == pytest.approx(float(plain.auc), abs=1e-6)
    assert plain.auc != weighted.auc


def test_bad_input_is_named(channel):
    score, probe, label, group = (v[:400] for v in DATA)

    def fails(message, *data, **options):
        with pytest.raises(ValueError, match=re.escape(message)):
            js.blind_channel(*data, **options)

    fails("bins=(1, 5) must be two whole numbers", score, probe, label, group,
          bins=(1, 5))  # fmt: skip
    fails("bins=9 must be two", score, probe, label, group, bins=9)
    fails("atoms=1 must be", score, probe, label, group, bins=(4, 2), atoms=1)
    fails("for 3 groups; expected [rows, 3]", score, probe, label,
          np.arange(400) % 3, bins=(4, 2))  # fmt: skip
    fails("group_probability has 1 values that are not finite", score,
          np.where(np.arange(400) == 9, np.inf, probe), label, group,
          bins=(4, 2))  # fmt: skip
    with pytest.raises(ValueError, match="key is missing"):
        channel.transport(score, probe)
    with pytest.raises(ValueError, match="has 2 columns that count, expected 1"):
        channel.transport(score, np.ones((400, 3)), key=KEY)


def test_laws_that_differ_by_rounding_alone_have_a_kernel():
    """What is left of their difference need not sum to 0; one atom is always allowed."""
    rng = np.random.default_rng(0)
    law = rng.dirichlet(np.ones(8), 2)
    laws = np.stack([law, law + 1e-13 * rng.normal(size=law.shape)])
    kernel = blind_kernel(laws, rng.normal(size=(8, 3)))
    np.testing.assert_allclose(kernel.sum(1), 1)
    assert (kernel >= 0).all()
