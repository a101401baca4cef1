"""The price of fairness over costs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from tests.audit.rules import COSTS, ratio_cost
from tests.ideal.problems import bayes_rates as oracle
from tests.ideal.problems import random_univariate

POP = random_univariate(np.random.default_rng(0), 2, 2)


def test_curves_equal_single_calls_and_the_oracle(eps):
    steering = js.nearest_ideal(POP, reference=1)
    curve = js.price_of_fairness(POP, np.array(COSTS), steering)
    for row, ratio in enumerate(COSTS):
        cost = jnp.asarray(ratio_cost(ratio))
        np.testing.assert_allclose(curve.costs[row], cost, rtol=eps)
        tpr, fpr, selected = oracle(POP, ratio)
        q = np.asarray(POP.priors, float)
        risk = np.sum(q[1] * (1 - tpr)) + ratio * np.sum(q[0] * fpr)
        close = dict(rtol=1e3 * eps, atol=300 * eps)
        np.testing.assert_allclose(curve.source.risk[row], risk, **close)
        gaps = [np.ptp(fpr), np.ptp(tpr)]
        np.testing.assert_allclose(curve.source.rate_gaps[row], gaps, atol=500 * eps)
        gap = np.ptp(selected)
        np.testing.assert_allclose(curve.source.selection_gap[row], gap, atol=500 * eps)
        moved = js.bayes_rates(POP, cost, rule=steering.target)
        pairs = zip(*map(jax.tree.leaves, (curve.transferred, moved)), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours[row], theirs, **close)


def test_fair_where_promised_and_never_cheaper_than_the_bayes_rule(eps):
    curve = js.price_of_fairness(POP, np.array(COSTS), intervention="all_groups")
    assert float(curve.target.rate_gaps.max()) < 1e-4
    assert float(curve.target.selection_gap.max()) < 1e-4
    assert float(curve.source.rate_gaps.max()) > 0.05
    assert (curve.price >= -100 * eps * curve.source.risk).all()
    assert float(curve.price.max()) > 1e-3


def test_options_reach_the_solve():
    costs = np.array([1.0])
    first = js.price_of_fairness(POP, costs)
    other = js.price_of_fairness(POP, costs, reference=0)
    assert float(first.target.risk[0]) != float(other.target.risk[0])


def test_matrices_for_more_classes(eps):
    pop = random_univariate(np.random.default_rng(1), 3, 2)
    costs = np.random.default_rng(2).uniform(0.1, 2, (2, 3, 3))
    curve = js.price_of_fairness(pop, costs, n_points=2**12)
    assert curve.source.rate_gaps.shape == (2, 3)
    assert float(curve.target.rate_gaps.max()) < max(1e-8, 1e3 * eps)
    assert (curve.price >= 0).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"costs must have shape \[C, 2, 2\] or"):
        js.price_of_fairness(POP, np.ones((2, 3, 3)))
    with pytest.raises(ValueError, match="maps, priors: options are for the solve"):
        steering = js.nearest_ideal(POP, reference=1)
        js.price_of_fairness(POP, [1.0], steering, maps="general", priors="keep")
    cells = js.MultivariateNormal(
        jnp.asarray(np.arange(8.0).reshape(2, 2, 2) ** 0.5),
        jnp.broadcast_to(jnp.eye(2), (2, 2, 2, 2)),
    )
    pop = js.Population(POP.priors, cells)
    with pytest.raises(ValueError, match="steering is a channel"):
        js.price_of_fairness(pop, [1.0], js.gaussian_channel(pop, reference=1))
