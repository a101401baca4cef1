"""Univariate closed forms against brute force, and the fairness of what they return."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.ideal._univariate import _pair_cost, _total, all_groups_univariate
from tests.ideal.problems import (
    bayes_rates,
    brute_force_kl,
    orbit_residual,
    random_univariate,
)

pytestmark = pytest.mark.slow

MODES = ("reweigh", "reference", "keep", "joint")
SHAPES = [(2, 2), (3, 4), (4, 2), (5, 3)]
COSTS = (0.05, 0.3, 1.0, 2.5, 10.0, 50.0)


def _solve(intervention, priors, reference, allow_reflection):
    return jax.jit(
        lambda pop: js.nearest_ideal(
            pop,
            intervention=intervention,
            reference=reference,
            priors=priors,
            allow_reflection=allow_reflection,
        )
    )


def _against_brute_force(intervention, n_classes, n_groups, mode, problems, eps):
    rng = np.random.default_rng([n_classes, n_groups, MODES.index(mode)])
    reference = n_groups - 1
    reflect = n_groups < 4 and n_classes % 2 == 0
    solve = _solve(intervention, mode, reference, reflect)
    tolerance = max(1e-8, 100 * eps)
    for _ in range(problems):
        pop = random_univariate(rng, n_classes, n_groups)
        found = solve(pop)
        best = brute_force_kl(
            pop,
            intervention,
            mode,
            reference,
            allow_reflection=reflect,
            starts=2 if intervention == "affirmative" else 3,
            rng=rng,
        )
        assert found.converged, (found.status, found.residual)
        assert float(found.kl) - best < tolerance
        # Ours is feasible, so brute force may only fail to reach it.
        assert float(found.kl) > -tolerance


# 4 shapes x (3 modes x 9 problems + 3) = 120, and 56 more where all groups move.
@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("n_classes", "n_groups"), SHAPES)
def test_affirmative_equals_brute_force(n_classes, n_groups, mode, eps):
    problems = 3 if mode == "joint" else 9
    _against_brute_force("affirmative", n_classes, n_groups, mode, problems, eps)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_classes", "n_groups", "mode"),
    [
        (2, 2, "reweigh"),
        (5, 2, "reweigh"),
        (3, 3, "reweigh"),
        (2, 4, "reweigh"),
        (3, 2, "reference"),
        (2, 3, "keep"),
        (2, 2, "joint"),
        (4, 2, "reference"),
    ],
)
def test_all_groups_equals_brute_force(n_classes, n_groups, mode, eps):
    _against_brute_force("all_groups", n_classes, n_groups, mode, 7, eps)


@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
@pytest.mark.parametrize("mode", ["reweigh", "reference", "joint"])
@pytest.mark.parametrize("reflect", [False, True])
def test_target_is_ideal_and_its_bayes_rules_are_fair(intervention, mode, reflect, eps):
    rng = np.random.default_rng(7)
    solve = _solve(intervention, mode, 1, reflect)
    for _ in range(10):
        found = solve(random_univariate(rng, 2, 2))
        assert found.ideal
        assert orbit_residual(found.target) < max(1e-6, 200 * eps)
        for cost in COSTS:
            rates = bayes_rates(found.target, cost)
            assert np.max(rates.max(1) - rates.min(1)) < 1e-4


def test_the_sources_bayes_rules_are_not_fair():
    rates = bayes_rates(random_univariate(np.random.default_rng(7), 2, 2), 1.0)
    assert np.max(rates.max(1) - rates.min(1)) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("n_groups", [2, 3])
def test_all_groups_never_above_affirmative(n_groups, eps):
    rng = np.random.default_rng(3)
    affirmative = _solve("affirmative", "reweigh", 0, False)
    everyone = _solve("all_groups", "reweigh", 0, False)
    for _ in range(20):
        pop = random_univariate(rng, 3, n_groups)
        assert everyone(pop).kl <= affirmative(pop).kl + 50 * eps


@pytest.mark.slow
def test_all_groups_does_not_depend_on_the_reference(eps):
    rng = np.random.default_rng(4)
    solves = [_solve("all_groups", "reweigh", r, False) for r in range(3)]
    for _ in range(5):
        pop = random_univariate(rng, 3, 3)
        values = [float(solve(pop).kl) for solve in solves]
        assert max(values) - min(values) < 200 * eps


def test_no_point_of_a_fine_grid_is_below_the_search(eps):
    grid = jnp.linspace(-8, 8, 20001)

    @jax.jit
    def compare(loc, scale):
        pop = js.Population(jnp.full((2, 2), 0.25), js.Normal(loc, scale))
        found = all_groups_univariate(pop.conditionals, pop.priors, 0)
        args = (pop.conditionals, pop.priors, 1.0)
        best = _pair_cost(jnp.log(found.to_group.scale[1:]), args)
        return best, jnp.min(jax.vmap(lambda x: _pair_cost(x[None], args))(grid))

    rng = np.random.default_rng(12)
    for _ in range(50):
        # Wide means pull the gain far from where the scales want it.
        loc = jnp.asarray(6 * rng.normal(size=(2, 2)))
        best, dense = compare(loc, jnp.asarray(np.exp(rng.normal(size=(2, 2)))))
        assert best <= dense + 100 * eps * (1 + jnp.abs(best))


def test_reflection_lowers_the_kl_where_classes_are_reversed():
    cells = js.Normal(jnp.array([[0.0, 0.0], [-2.0, 2.0]]), jnp.ones((2, 2)))
    pop = js.Population(jnp.full((2, 2), 0.25), cells)
    turned = js.nearest_ideal(pop, allow_reflection=True, reference=1)
    straight = js.nearest_ideal(pop, reference=1)
    assert turned.kl < 1e-6 < straight.kl
    assert turned.group_maps.scale[0] < 0 < straight.group_maps.scale[0]


def test_reference_group_is_left_exactly_alone():
    rng = np.random.default_rng(5)
    for intervention in ("affirmative", "all_groups"):
        found = js.nearest_ideal(
            random_univariate(rng, 3, 3), intervention=intervention, reference=2
        )
        assert found.group_maps.scale[2] == 1
        assert found.group_maps.shift[2] == 0


def test_an_ideal_population_stays(eps):
    cells = js.Normal(jnp.array([[0.0, 1.0], [1.0, 3.0]]), jnp.array([[1.0, 2.0]] * 2))
    pop = js.Population(jnp.array([[0.2, 0.3], [0.2, 0.3]]), cells)
    for intervention in ("affirmative", "all_groups"):
        found = js.nearest_ideal(pop, intervention=intervention, reference=1)
        assert abs(float(found.kl)) < 20 * eps
        assert jnp.allclose(found.target.conditionals.loc, cells.loc, atol=1e4 * eps)


def test_one_class_is_the_transport_map(eps):
    cells = js.Normal(jnp.array([[0.0, 3.0]]), jnp.array([[1.0, 2.0]]))
    found = js.nearest_ideal(js.Population(jnp.array([[0.4, 0.6]]), cells), reference=1)
    assert abs(float(found.kl)) < 10 * eps
    assert jnp.allclose(found.group_maps.scale[0], 2.0, rtol=10 * eps)
    assert jnp.allclose(found.group_maps.shift[0], 3.0, rtol=10 * eps)


def test_extreme_scales_stay_finite_in_either_precision():
    for unit in (1e-12, 1e12):
        cells = js.Normal(
            unit * jnp.array([[0.0, 0.0], [1.0, 2.0]]), unit * jnp.ones((2, 2))
        )
        for intervention in ("affirmative", "all_groups"):
            found = js.nearest_ideal(
                js.Population(jnp.full((2, 2), 0.25), cells),
                intervention=intervention,
                reference=1,
            )
            assert found.converged
            assert jnp.isfinite(found.kl)


@pytest.mark.parametrize(
    ("k", "at_once"), [(1, False), (2, False), (4, False), (5, True)]
)
def test_few_classes_are_added_one_by_one(k, at_once):
    """A reduction over the classes keeps what is before and behind it unfused."""
    terms = jnp.arange(1.0, k + 1)
    assert float(_total(terms)) == k * (k + 1) / 2
    text = str(jax.make_jaxpr(_total)(terms))
    assert ("reduce_sum" in text) is at_once


def test_classes_split_in_two_change_nothing(eps):
    """Six classes, whose terms are summed at once, of three that are added one by one."""
    pop = random_univariate(np.random.default_rng(3), 3, 2)
    halves = js.Population(
        jnp.concatenate([0.5 * pop.priors] * 2),
        jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 2), pop.conditionals),
    )
    few, many = (js.nearest_ideal(p, intervention="all_groups") for p in (pop, halves))
    assert few.kl > 0.01
    np.testing.assert_allclose(few.kl, many.kl, rtol=1e3 * eps)
