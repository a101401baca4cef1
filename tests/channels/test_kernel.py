from __future__ import annotations

import numpy as np
import pytest

from jaxsteer.channels._roc import (
    concave_hull,
    degrading_kernel,
    lower_envelope,
    roc_points,
)


def experiments(seed, bins=10):
    """A binned experiment, and the meet of it with another one."""
    rng = np.random.default_rng(seed)
    laws = [np.sort(rng.dirichlet(np.full(bins, 2.0), 2)) for _ in range(2)]
    laws = [np.stack([one[0][::-1], one[1]]) for one in laws]
    roc = lower_envelope([concave_hull(roc_points(*one)) for one in laws])
    return laws[0], np.diff(roc, axis=0).T[:, ::-1], rng.dirichlet([5.0, 5.0])


def rank_cost(source, target, mix):
    def middle(mass):
        return np.cumsum(mass) - mass / 2

    mass = mix @ source
    away = middle(mass)[:, None] - middle(mix @ target)[None, :]
    return mass[:, None] * away**2


@pytest.mark.parametrize("seed", range(5))
def test_constraints_hold_to_rounding(seed):
    source, target, mix = experiments(seed, bins=25)
    kernel, slack = degrading_kernel(source, target, mix)
    assert kernel.shape == (25, target.shape[1]) and kernel.min() >= 0
    np.testing.assert_allclose(kernel.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(source @ kernel, target, atol=1e-9)
    assert slack == np.abs(source @ kernel - target).max()


@pytest.mark.parametrize("seed", range(3))
def test_moves_ranks_as_little_as_cvxpys_kernel(seed):
    cp = pytest.importorskip("cvxpy", reason="cvxpy is not installed")
    source, target, mix = experiments(seed)
    cost = rank_cost(source, target, mix)
    kernel, _ = degrading_kernel(source, target, mix)
    unknown = cp.Variable(cost.shape, nonneg=True)
    constraints = [cp.sum(unknown, axis=1) == 1, source @ unknown == target]
    program = cp.Problem(cp.Minimize(cp.sum(cp.multiply(cost, unknown))), constraints)
    best = program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_feas=1e-10)
    np.testing.assert_allclose((kernel * cost).sum(), best, atol=1e-8)


def test_the_same_experiment_stays_where_it_is():
    source, _, mix = experiments(0)
    hull = concave_hull(roc_points(*source))
    own = np.diff(hull, axis=0).T[:, ::-1]
    assert own.shape == source.shape  # likelihood ratios increase: nothing is merged
    kernel, _ = degrading_kernel(source, own, mix)
    np.testing.assert_allclose(kernel, np.eye(len(kernel)), atol=1e-9)


def test_an_uninformative_target_takes_every_row():
    source, _, mix = experiments(1)
    kernel, slack = degrading_kernel(source, np.ones((2, 1)), mix)
    np.testing.assert_array_equal(kernel, 1)
    assert slack < 1e-12


def test_a_more_informative_target_is_refused():
    source, _, mix = experiments(2)
    with pytest.raises(RuntimeError, match="no kernel found for the ROC channel"):
        degrading_kernel(source, np.eye(2), mix)
