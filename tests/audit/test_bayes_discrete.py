"""Bayes rates of counts, codes and products of families, against SciPy and exact sums."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, softmax

import jaxsteer as js

PRIORS = np.array([[0.1, 0.3], [0.35, 0.25]])
COST = np.array([[0.0, 1.0], [0.4, 0.0]])
RATES = np.array([[1.0, 3.0], [4.0, 300.0]])
LOGITS = np.array([[-1.0, 0.5], [0.3, -2.0]])
CODES = np.random.default_rng(0).normal(size=(2, 2, 5))

# A population's cells, and SciPy's probabilities [K, G, n] of its values.
LAWS = {
    "poisson": (
        js.Poisson(jnp.asarray(RATES)),
        stats.poisson.pmf(np.arange(2000), RATES[..., None]),
    ),
    "geometric": (
        js.families.Geometric(jnp.asarray(LOGITS)),
        stats.geom.pmf(np.arange(1, 2001), expit(LOGITS)[..., None]),
    ),
    "bernoulli": (
        js.Bernoulli(jnp.asarray(LOGITS)),
        np.stack([1 - expit(LOGITS), expit(LOGITS)], -1),
    ),
    "categorical": (js.Categorical(jnp.asarray(CODES)), softmax(CODES, -1)),
}


def expected_rates(mass, blind):
    weight = PRIORS[..., None] * mass
    weight = weight.sum(1, keepdims=True) if blind else weight
    chosen = np.argmin(np.einsum("ji,ian->jan", COST, weight), 0)
    hit = chosen == np.arange(2)[:, None, None]
    return np.einsum("jan,ian->jia", np.broadcast_to(hit, (2, *mass.shape[1:])), mass)


@pytest.mark.parametrize("rule", ["group_aware", "group_blind"])
@pytest.mark.parametrize("name", LAWS)
def test_discrete_rates_equal_scipy(name, rule, eps):
    law, mass = LAWS[name]
    pop = js.Population(jnp.asarray(PRIORS), law)
    found = js.bayes_rates(pop, jnp.asarray(COST), rule=rule)
    expected = expected_rates(mass, rule == "group_blind")
    np.testing.assert_allclose(found.rates, expected, atol=2e3 * eps)
    assert float(found.standard_error.max()) <= 2e3 * eps


def test_counts_beyond_the_sum_are_reported():
    pop = js.Population(
        jnp.full((2, 2), 0.25), js.Poisson(jnp.array([[900.0, 2.0], [1100.0, 3.0]]))
    )
    found = js.bayes_rates(pop, n_points=1024)
    assert np.allclose(found.rates.sum(0), 1, atol=1e-4)
    missing = stats.poisson.sf(1023, 1100.0)
    assert abs(float(found.standard_error[1, 1, 0]) - missing) < 1e-4
    assert float(found.standard_error[:, :, 1].max()) < 1e-4
    assert abs(float(js.bayes_rates(pop).rates[1, 1, 0]) - 0.9996) < 1e-3


def test_a_rule_on_codes():
    pop = js.Population(jnp.asarray(PRIORS), LAWS["categorical"][0])
    found = js.bayes_rates(pop, rule=lambda x, a: (x > 2 + a).astype(int))
    mass = LAWS["categorical"][1]
    expected = np.stack([mass[:, 0, 3:].sum(-1), mass[:, 1, 4:].sum(-1)], -1)
    np.testing.assert_allclose(found.rates[1], expected, atol=1e-6)


def mixed_population():
    loc = jnp.array([[0.0, 1.0], [2.0, 1.5]])
    blocks = (
        js.Normal(loc, jnp.ones((2, 2))),
        js.Bernoulli(jnp.asarray(LOGITS)),
        js.Categorical(jnp.asarray(CODES)),
    )
    return js.Population(jnp.asarray(PRIORS), js.Product(blocks))


@pytest.mark.parametrize("rule", ["group_aware", "group_blind"])
def test_products_equal_exact_sums(rule):
    pop = mixed_population()
    found = js.bayes_rates(pop, jnp.asarray(COST), rule=rule, n_points=2**16)
    loc = np.asarray(pop.conditionals.blocks[0].loc, float)
    grid = np.linspace(-8, 10, 20_001)
    rates = 0
    for bit, code in itertools.product(range(2), range(5)):
        mass = stats.norm.pdf(grid, loc[..., None]) * (grid[1] - grid[0])
        mass = mass * LAWS["bernoulli"][1][..., bit, None]
        mass = mass * LAWS["categorical"][1][..., code, None]
        rates = rates + expected_rates(mass, rule == "group_blind")
    off = np.abs(np.asarray(found.rates) - rates)
    assert (off <= 4.5 * np.asarray(found.standard_error) + 1e-4).all()
    assert 0 < float(found.standard_error.max()) < 2.5e-3


def test_simulation_is_reproducible_and_serves_any_family():
    pop = js.Population(
        jnp.asarray(PRIORS), js.Normal(jnp.asarray(RATES), jnp.ones((2, 2)))
    )
    exact = js.bayes_rates(pop)
    drawn = js.bayes_rates(pop, method="mc")
    again = js.bayes_rates(pop, method="mc")
    assert (drawn.rates == again.rates).all()
    off = jnp.abs(exact.rates - drawn.rates)
    assert bool((off <= 4.5 * drawn.standard_error + 1e-6).all())
    circle = js.Population(
        jnp.asarray(PRIORS),
        js.families.VonMises(jnp.asarray(LOGITS), jnp.asarray(RATES) / 100),
    )
    found = js.bayes_rates(circle)
    assert np.allclose(found.rates.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
@pytest.mark.parametrize("name", LAWS)
def test_discrete_targets_are_exactly_fair(name, intervention):
    pop = js.Population(jnp.asarray(PRIORS), LAWS[name][0])
    target = (
        js.nearest_ideal(pop, intervention=intervention, reference=1).require().target
    )
    for ratio in (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0):
        found = js.bayes_rates(target, jnp.array([[0.0, 1.0], [ratio, 0.0]]))
        assert float(found.rate_gaps.max()) < 1e-4
        assert float(found.selection_gap) < 1e-4
