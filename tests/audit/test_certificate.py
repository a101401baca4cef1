"""Certificates hold, on small cells too, and the paper's bound is shown to fail."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import jaxsteer as js
from jaxsteer.audit._certificate import excess_mass, mixture_variation, variation_bound
from tests.audit.rules import COSTS, Logistic, ratio_cost
from tests.ideal.problems import random_multivariate, random_univariate
from tests.programs import optimized

MATRICES = jnp.asarray(np.stack([ratio_cost(c) for c in COSTS]))


def _many(rng, n, smallest):
    """Populations of two classes and groups, a quarter of them with a tiny cell."""
    priors = rng.dirichlet(np.full(4, 1.0), n)
    tiny = rng.uniform(size=n) < 0.25
    which = rng.integers(4, size=n)
    size = 10 ** rng.uniform(np.log10(smallest), -2, n)
    priors[tiny, which[tiny]] = size[tiny]
    priors = np.maximum(priors, smallest)
    priors = (priors / priors.sum(1, keepdims=True)).reshape(n, 2, 2)
    loc = 1.5 * rng.normal(size=(n, 2, 2))
    scale = np.exp(0.5 * rng.normal(size=(n, 2, 2)))
    cells = js.Normal(jnp.asarray(loc), jnp.asarray(scale))
    return js.Population(jnp.asarray(priors), cells)


def _measured(source, target):
    """What certificates bound, over all costs: error, rates [K] and selection."""

    def one(cost):
        here = js.bayes_rates(source, cost, rule=target)
        there = js.bayes_rates(target, cost)
        change = jnp.abs(here.error - there.error)
        return change, here.rate_gaps, here.selection_gap

    return jax.tree.map(lambda rows: rows.max(0), jax.vmap(one)(MATRICES))


@pytest.mark.slow
def test_bounds_hold_on_two_thousand_problems(eps):
    pops = _many(np.random.default_rng(0), 2000, 1e-4)

    @optimized
    def run(pops):
        def one(pop):
            steering = js.nearest_ideal(pop, reference=1)
            return js.certificate(steering), _measured(pop, steering.target)

        return jax.lax.map(one, pops, batch_size=100)

    bounds, (change, rates, selection) = run(pops)
    slack = 300 * eps
    pairs = [
        (change, bounds.exact_error),
        (bounds.exact_error, bounds.safe_error),
        (bounds.safe_error, bounds.paper_error),
        (rates, bounds.exact_rates),
        (bounds.exact_rates, bounds.safe_rates),
        (selection, bounds.exact_selection),
        (bounds.exact_selection, bounds.safe_selection),
    ]
    for below, above in pairs:
        assert (below <= above + slack).all()
    # The bounds are of use, and near what happens at least somewhere.
    assert float(jnp.max(rates / bounds.exact_rates)) > 0.8
    assert float(jnp.median(bounds.exact_error)) < 0.5


def _one_small_cell_moved(size, shift):
    """An ideal population, and one that differs from it in the cell (1, 0) alone."""
    priors = jnp.asarray([[0.5 - size, 0.5 - size], [size, size]])
    loc = jnp.asarray([[0.0, 0.0], [4.0, 4.0]])
    target = js.Population(priors, js.Normal(loc, jnp.ones((2, 2))))
    moved = js.Normal(loc.at[1, 0].add(shift), jnp.ones((2, 2)))
    found = js.nearest_ideal(target, reference=1)
    return dataclasses.replace(
        found, source=js.Population(priors, moved), target=target
    )


def test_the_papers_bound_fails_for_a_small_cell(eps):
    steering = _one_small_cell_moved(1e-3, -2.2)
    assert js.is_ideal(steering.target)
    bounds = js.certificate(steering)
    _, rates, selection = _measured(steering.source, steering.target)
    gap = float(rates[1])
    assert abs(float(bounds.kl) - 1e-3 * 2.2**2 / 2) < 100 * eps
    assert gap > 4 * float(bounds.paper_equal_opportunity)
    assert gap <= float(bounds.exact_rates[1]) <= float(bounds.safe_rates[1])
    assert float(selection) <= float(bounds.exact_selection) + 10 * eps
    # With the mass of a whole quarter in the cell it holds.
    large = _one_small_cell_moved(0.25, -2.2)
    rates = _measured(large.source, large.target)[1]
    assert float(rates[1]) <= float(js.certificate(large).paper_equal_opportunity)


def test_variations_equal_numerical_integrals(x64):
    pop = random_univariate(np.random.default_rng(1), 2, 2)
    steering = js.nearest_ideal(pop, intervention="all_groups", reference=1)
    bounds = js.certificate(steering)
    x = np.linspace(-25, 25, 1_000_001)

    def densities(pop):
        leaves = (pop.priors, pop.conditionals.loc, pop.conditionals.scale)
        q, loc, scale = (np.asarray(leaf)[..., None] for leaf in leaves)
        return q, norm.pdf(x, loc, scale)

    def distance(f, g):
        return np.trapezoid(np.abs(f - g), x) / 2

    (q, old), (p, new) = densities(pop), densities(steering.target)
    assert abs(distance(q * old, p * new).sum() - bounds.exact_variation) < 1e-8
    cells = distance(old, new)
    np.testing.assert_allclose(bounds.exact_rates, cells.sum(1), atol=1e-8)
    mixed = distance((q / q.sum(0) * old).sum(0), (p / p.sum(0) * new).sum(0))
    assert abs(mixed.sum() - bounds.exact_selection) < 1e-8


def test_variation_of_families_known_by_their_density(x64):
    scale = jnp.array([[1.0, 0.5]])
    first = Logistic(jnp.zeros((1, 2)), scale)
    second = Logistic(jnp.array([[1.0, -0.3]]), scale)
    one = jnp.ones((1, 2))
    expected = jnp.tanh(jnp.array([[1.0, 0.3]]) / scale / 4)
    found = excess_mass(first, second, one, one, nodes=32)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    mixed = mixture_variation(first, second, one, one, nodes=32)
    np.testing.assert_allclose(mixed, expected[0], atol=1e-9)


def test_variation_bound_is_above_that_of_normals(eps):
    # Pinsker is the better one for near laws, the other for far ones.
    shift = jnp.linspace(0, 6, 50)
    exact = 2 * jax.scipy.stats.norm.cdf(shift / 2) - 1
    bound = variation_bound(shift**2 / 2)
    assert (bound >= exact - eps).all()
    assert (bound <= 1).all()
    assert float(variation_bound(jnp.asarray(-eps))) == 0


def test_several_groups_take_the_worst_pair():
    pop = random_univariate(np.random.default_rng(2), 2, 3)
    steering = js.nearest_ideal(pop, reference=1)
    bounds = js.certificate(steering)
    cells = steering.target.conditionals.kl(pop.conditionals)
    by_pair = [
        variation_bound(cells[:, a]) + variation_bound(cells[:, b])
        for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    np.testing.assert_allclose(bounds.safe_rates, np.max(by_pair, 0), rtol=1e-5)
    _, rates, selection = _measured(pop, steering.target)
    assert (rates <= bounds.exact_rates + 1e-5).all()
    assert selection <= bounds.exact_selection + 1e-5


def test_several_features_have_safe_bounds_only():
    pop = random_multivariate(np.random.default_rng(3), 2, 2, 2, tied=True)
    steering = js.nearest_ideal(pop, maps="shared_covariance", reference=1)
    bounds = js.certificate(steering)
    assert bounds.exact_error is bounds.exact_rates is bounds.exact_selection is None
    np.testing.assert_allclose(bounds.kl, steering.kl, rtol=1e-4)
    here = js.bayes_rates(pop, rule=steering.target)
    noise = 5 * float(here.standard_error.max())
    assert (here.rate_gaps <= bounds.safe_rates + noise).all()
    assert here.selection_gap <= bounds.safe_selection + noise
    assert "(exact)" not in str(bounds)


def test_the_summary_says_what_holds():
    pop = random_univariate(np.random.default_rng(4), 2, 2)
    bounds = js.certificate(js.nearest_ideal(pop, reference=1))
    text = str(bounds)
    assert f"{float(bounds.exact_error):.4g} (exact): valid" in text
    assert "sqrt(8 KL)" in text.split("NOT valid for small cells")[0]
    assert text.count("NOT valid") == 1
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), bounds)
    assert str(batch).startswith("Certificate(")


def test_kept_priors_have_no_bound_on_gaps():
    pop = random_univariate(np.random.default_rng(5), 2, 2)
    bounds = js.certificate(js.nearest_ideal(pop, priors="keep", reference=1))
    assert jnp.isinf(bounds.safe_rates).all() and jnp.isinf(bounds.exact_selection)
    assert jnp.isfinite(bounds.exact_error)


def test_what_has_no_certificate_is_refused():
    pop = random_multivariate(np.random.default_rng(6), 2, 2, 2, tied=True)
    with pytest.raises(ValueError, match="a channel has no certificate"):
        js.certificate(js.gaussian_channel(pop, reference=1))
    with pytest.raises(ValueError, match=r"steering must be a jaxsteer\.Steering"):
        js.certificate(pop)
