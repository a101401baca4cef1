"""The entropic meet: its curve, its kernels from counts, and the front door's method."""

from __future__ import annotations

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.channels import entropic_meet
from jaxsteer.channels._roc import (
    concave_hull,
    concave_majorant,
    excess_information,
    lower_envelope,
    meet_atoms,
    roc_points,
)
from jaxsteer.solvers import SolveError, Status
from tests.channels.test_roc_channel import auc, curve_of, largest_gap, laws, simulate
from tests.programs import optimized

pytestmark = pytest.mark.slow

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
BINS = 12


def random_counts(seed, n_groups=2, bins=BINS):
    rng = np.random.default_rng(seed)
    tilt = np.linspace(-1, 1, bins) * (0.5 + rng.uniform(size=(n_groups, 1)))
    rates = np.exp(
        np.stack([-tilt, tilt], 1) + 0.3 * rng.normal(size=(n_groups, 2, bins))
    )
    return 100 * rates * np.exp(rng.normal(size=(n_groups, 2, 1)))


def parts(counts):
    return counts / counts.sum(-1, keepdims=True), counts.sum((0, 2)) / counts.sum()


@jax.jit
def majorant_and_slope(x, y):
    return concave_majorant(x, y), jax.grad(lambda v: concave_majorant(x, v).sum())(y)


@pytest.mark.parametrize("seed", range(5))
def test_majorant_is_the_hull(seed):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(size=20))
    x[5:8] = x[5]  # empty bins: points that coincide
    y = rng.normal(size=20)
    y[5:8] = y[5]
    hull = concave_hull(np.stack([x, y], 1))
    found, slope = majorant_and_slope(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found, np.interp(x, *hull.T), atol=200 * EPS)
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("n_groups", [2, 4])
def test_atoms_lie_on_the_meet(n_groups):
    law, mix = parts(random_counts(n_groups, n_groups))
    exact = lower_envelope([concave_hull(roc_points(*one)) for one in law])
    below = []
    for atoms in (10, 40, 160):
        found = np.asarray(meet_atoms(jnp.asarray(law), jnp.asarray(mix), atoms=atoms))
        np.testing.assert_allclose(mix @ found, 1 / atoms, rtol=1e3 * EPS)
        np.testing.assert_allclose(found.sum(1), 1, rtol=100 * EPS)
        assert (np.diff(found[1] / found[0]) > -1e4 * EPS).all()
        curve = curve_of(found)
        height = np.interp(curve[:, 0], *exact.T)
        np.testing.assert_allclose(curve[:, 1], height, atol=100 * EPS)
        below.append(auc(exact) - auc(curve))
    # Chords of a curve: the error falls with the square of their length.
    assert 0 < below[1] < below[0] / 8 and below[2] < below[1] / 4


def test_excess_information_is_the_test_of_blackwell():
    law, mix = (jnp.asarray(v) for v in parts(random_counts(0)))
    target = meet_atoms(law, mix, atoms=BINS)
    for one in law:
        assert excess_information(one, target, mix) < 100 * EPS
    assert excess_information(target, law[0], mix) > 1e-3
    # Kernels do not see the order of the bins.
    assert excess_information(law[0][:, ::-1], target, mix) < 100 * EPS


@pytest.mark.parametrize("n_groups", [2, 3])
def test_counts_to_kernels(n_groups):
    counts = random_counts(3, n_groups)
    found = entropic_meet(counts, atoms=9).require()
    assert found.kernels.shape == (n_groups, BINS, 9) and bool(found.converged)
    law, mix = parts(counts)
    delivered = law @ np.asarray(found.kernels, float)
    np.testing.assert_allclose(delivered, [found.atoms] * n_groups, atol=200 * EPS)
    assert largest_gap(delivered) < 1000 * EPS and found.gap < 1000 * EPS
    np.testing.assert_allclose(mix @ np.asarray(found.atoms), 1 / 9, rtol=1e3 * EPS)
    joint = mix[:, None] * np.asarray(found.atoms, float)
    np.testing.assert_allclose(
        found.atom_scores, joint[1] / joint.sum(0), rtol=1e3 * EPS
    )
    assert (np.diff(found.atom_scores) > -1e3 * EPS).all()
    colder = optimized(partial(entropic_meet, atoms=9))
    cold = colder(counts, temperature=1e-4)
    assert (cold.cost < found.cost).all()


def test_scaling_the_counts_changes_nothing():
    counts = random_counts(4)
    found, scaled = entropic_meet(counts), entropic_meet(1e3 * counts)
    np.testing.assert_allclose(found.kernels, scaled.kernels, atol=1e5 * EPS)


def test_many_scores_in_one_call_and_bad_ones_apart():
    batch = np.stack([random_counts(s) for s in range(4)])
    solve = jax.jit(jax.vmap(entropic_meet))
    found = solve(batch)
    assert found.status.tolist() == [[0, 0]] * 4 and found.gap.max() < 1000 * EPS
    alone = entropic_meet(batch[1])
    np.testing.assert_allclose(found.kernels[1], alone.kernels, atol=1e5 * EPS)
    broken = batch.copy()
    broken[0, 1, 0] = 0.0  # a class without rows
    broken[2, 0, 1, 3] = -1.0
    mixed = solve(broken)
    assert mixed.status[:, 0].tolist() == [5, 0, 5, 0]
    assert mixed.converged.tolist() == [False, True, False, True]
    np.testing.assert_array_equal(mixed.kernels[1], found.kernels[1])
    with pytest.raises(SolveError, match="entropic meet: 4 of 8 problems failed"):
        mixed.require()


def test_gradients_with_respect_to_counts_are_finite_differences(x64):
    counts = jnp.asarray(random_counts(5))
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(2, BINS, BINS)))

    def value(counts):
        found = entropic_meet(counts, temperature=3e-3, margin=1e-2)
        return jnp.sum(found.kernels * weights) + jnp.sum(found.cost)

    slope = jax.jit(jax.grad(value))(counts)
    for seed in range(3):
        way = jnp.asarray(np.random.default_rng(seed).normal(size=counts.shape))
        measured = (value(counts + 1e-4 * way) - value(counts - 1e-4 * way)) / 2e-4
        np.testing.assert_allclose(jnp.sum(slope * way), measured, rtol=1e-5)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        (np.ones((2, 3)), {}, "counts has shape (2, 3), expected [groups, 2, bins]"),
        (np.ones((1, 2, 3)), {}, "at least two groups"),
        (np.ones((2, 3, 2)), {}, "counts has shape (2, 3, 2)"),
        (-np.ones((2, 2, 3)), {}, "counts must be at least 0, got -1.0"),
        (np.full((2, 2, 3), np.nan), {}, "counts has 12 values that are not finite"),
        (np.ones((2, 2, 3)), {"atoms": 1}, "atoms=1 must be a whole number"),
        (np.ones((2, 2, 3)), {"atoms": 2.5}, "atoms=2.5 must be a whole number"),
        (np.ones((2, 2, 3)), {"temperature": -1}, "temperature=-1 must be positive"),
        (np.ones((2, 2, 3)), {"margin": 2}, "margin=2 must be in [0, 1)"),
    ],
)
def test_bad_counts_are_named(counts, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        entropic_meet(counts, **options)


def test_the_front_door_takes_the_method():
    data = simulate(6000, 3, seed=1, decimals=2)
    smooth = js.roc_channel(*data, bins=20, method="entropic")
    exact = js.roc_channel(*data, bins=20, method="linear_program")
    assert smooth.kernels.shape == (3, 20, 20)
    assert largest_gap(laws(smooth, *data)) < 1000 * EPS
    assert smooth.gap < 1000 * EPS and smooth.slack < 200 * EPS
    np.testing.assert_array_equal(smooth.edges, exact.edges)
    np.testing.assert_array_equal(smooth.cell_counts, exact.cell_counts)
    lost = auc(np.asarray(exact.roc, float)) - auc(np.asarray(smooth.roc, float))
    assert 1e-4 < lost < 3e-3
    score, label, group = data
    fair = smooth.transport(score, group, key=jax.random.key(0))
    assert set(np.asarray(fair).tolist()) <= set(
        np.asarray(smooth.atom_scores).tolist()
    )
    for y in (0, 1):
        means = [np.asarray(fair)[(label == y) & (group == a)].mean() for a in range(3)]
        assert np.ptp(means) < 0.03
    warm = js.roc_channel(*data, bins=20, method="entropic", temperature=0.1)
    assert np.abs(warm.kernels - smooth.kernels).max() > 0.1
    assert largest_gap(laws(warm, *data)) < 1000 * EPS


def test_options_that_do_not_fit_are_refused():
    data = simulate(400)
    with pytest.raises(ValueError, match=r"method='sinkhorn' is not known"):
        js.roc_channel(*data, bins=5, method="sinkhorn")
    with pytest.raises(ValueError, match=r"temperature=0.1 has no meaning for method="):
        js.roc_channel(*data, bins=5, temperature=0.1)
    with pytest.raises(ValueError, match=r"temperature=0.0 must be positive"):
        js.roc_channel(*data, bins=5, method="entropic", temperature=0.0)


def test_a_kernel_that_was_not_found_is_an_error():
    data = simulate(2000)
    cold = 1e-12 if EPS < 1e-10 else 1e-8
    name = f"{Status.STALLED.name}|{Status.MAX_STEPS.name}"
    with pytest.raises(
        RuntimeError, match=rf"in group \d \(({name}).*raise temperature"
    ):
        js.roc_channel(*data, bins=12, method="entropic", temperature=cold)
