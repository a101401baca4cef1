"""On the targets of families beyond the normal every Bayes rule treats groups alike."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.maps import SinhArcsinh
from tests.audit.rules import COSTS, ratio_cost
from tests.programs import optimized

FAMILIES = [
    js.Beta,
    js.Exponential,
    js.Gamma,
    js.families.Gumbel,
    js.families.InverseGamma,
    js.Laplace,
    js.LogNormal,
    js.families.Rayleigh,
    js.Weibull,
]


def random_population(family, rng):
    def leaf(name):
        if name == "loc":
            return rng.normal(size=(2, 2))
        # Shapes above 2: an inverse gamma law has a variance only there.
        least = (
            2.2
            if family is js.families.InverseGamma and name == "concentration"
            else 0.0
        )
        return least + np.exp(0.8 * rng.normal(size=(2, 2)))

    names = [field.name for field in dataclasses.fields(family)]
    priors = rng.dirichlet(np.full(4, 2.0)).reshape(2, 2)
    cells = family(*(jnp.asarray(leaf(name)) for name in names))
    return js.Population(jnp.asarray(priors), cells)


RATES = optimized(js.bayes_rates)


def largest_gap(pop):
    worst = 0.0
    for ratio in COSTS:
        found = RATES(pop, jnp.asarray(ratio_cost(ratio)))
        worst = max(worst, float(found.rate_gaps.max()), float(found.selection_gap))
    return worst


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_rates_are_equal_at_every_cost(family):
    rng = np.random.default_rng([3, FAMILIES.index(family)])
    for intervention in ("affirmative", "all_groups"):
        # Not every pair of classes overlaps so that costs matter: take one that is unfair.
        pop = next(
            pop
            for pop in (random_population(family, rng) for _ in range(20))
            if largest_gap(pop) > 0.02
        )
        found = js.nearest_ideal(pop, intervention=intervention, reference=1).require()
        assert largest_gap(found.target) < 1e-4


def test_rates_behind_a_shared_bijection_are_equal():
    rng = np.random.default_rng(5)
    base = random_population(js.Normal, rng)
    bent = js.TransformedNormal(base.conditionals, SinhArcsinh(0.3, 1.2))
    pop = js.Population(base.priors, bent)
    found = js.nearest_ideal(pop, intervention="all_groups", reference=1).require()
    assert largest_gap(pop) > 0.02
    assert largest_gap(found.target) < 1e-4
