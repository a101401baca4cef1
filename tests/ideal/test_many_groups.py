"""Programs of one feature with many groups: size, quality, reflections, derivatives."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import jaxsteer as js
from tests.ideal.problems import random_univariate
from tests.ideal.test_family_programs import random_population

solve = jax.jit(
    partial(js.nearest_ideal, intervention="all_groups"),
    static_argnames=("allow_reflection", "intervention"),
)


def equations(pop, **options):
    run = partial(js.nearest_ideal, intervention="all_groups", **options)

    def count(jaxpr):
        inner = jax.core.jaxprs_in_params
        return sum(1 + sum(map(count, inner(e.params))) for e in jaxpr.eqns)

    return count(jax.make_jaxpr(run)(pop).jaxpr)


@pytest.mark.parametrize(
    "family", [js.Normal, js.families.Gumbel, js.Gamma, js.Laplace]
)
@pytest.mark.parametrize("reflect", [False, True])
def test_a_program_grows_with_neither_groups_nor_classes(family, reflect):
    if reflect and family in (js.families.Gumbel, js.Gamma):
        pytest.skip("these families have no reflections")
    sizes = [
        equations(random_population(family, 0, shape), allow_reflection=reflect)
        for shape in ((2, 3), (2, 20), (5, 6))
    ]
    # A sum over one more axis, or a comparison, but nothing for each group.
    assert max(sizes) <= 1.02 * min(sizes)


def restarted(pop, rng, restarts):
    """Least divergence over template, gains and shifts by L-BFGS from random starts."""
    q = np.asarray(pop.priors, float)
    loc = np.asarray(pop.conditionals.loc, float)
    scale = np.asarray(pop.conditionals.scale, float)
    k, g = q.shape
    w = q.sum(1, keepdims=True) * q.sum(0)
    ends = np.cumsum([g - 1, g - 1, k])

    def cost(free):
        log_gain, shift, mean, log_spread = np.split(free, ends)
        gain = np.exp(np.concatenate([[0.0], log_gain]))
        shift = np.concatenate([[0.0], shift])
        square = (gain * np.exp(log_spread)[:, None] / scale) ** 2
        miss = (gain * mean[:, None] + shift - loc) / scale
        value = np.sum(w * 0.5 * (square - 1 - np.log(square) + miss**2))
        by_log, by_loc = w * (square - 1), w * miss / scale
        by_gain = np.sum(by_log + by_loc * gain * mean[:, None], 0)
        slopes = (by_gain[1:], by_loc.sum(0)[1:], (by_loc * gain).sum(1), by_log.sum(1))
        return value, np.concatenate(slopes)

    best = np.inf
    for turn in range(restarts):
        start = 1.5 * rng.normal(size=2 * (g - 1 + k))
        if turn % 2:  # near the shape of one group
            a = rng.integers(g)
            shape = np.concatenate([loc[:, a], np.log(scale[:, a])])
            start = 0.3 * start
            start[2 * (g - 1) :] += shape
        found = minimize(cost, start, jac=True, method="L-BFGS-B")
        best = min(best, found.fun)
    return best + np.sum(w * np.log(w / q))


@pytest.mark.slow
@pytest.mark.parametrize("n_groups", [3, 8, 20])
def test_no_restart_is_below_the_search(n_groups, eps):
    rng = np.random.default_rng(n_groups)
    for _ in range(4):
        pop = random_univariate(rng, 2, n_groups)
        found = solve(pop)
        assert found.converged
        best = restarted(pop, rng, 16)
        assert float(found.kl) <= best * (1 + max(1e-6, 20 * eps))


def mirrored(rng, n_groups):
    """Groups of one shape, each turned or not, and a little changed."""
    pop = random_univariate(rng, 2, n_groups)
    turn = rng.choice([-1.0, 1.0], n_groups)
    loc = jnp.asarray([[0.0], [2.0]]) * turn + 0.2 * pop.conditionals.loc
    return js.Population(pop.priors, js.Normal(loc, pop.conditionals.scale)), turn


def test_reflections_of_many_groups_are_found_without_a_list_of_them(eps):
    rng = np.random.default_rng(5)
    pop, turn = mirrored(rng, 20)
    found = solve(pop, allow_reflection=True).require()
    signs = np.sign(found.group_maps.scale)
    assert np.array_equal(signs, turn * turn[int(found.reference)])
    # The same laws, every group turned back, need no reflection.
    loc = pop.conditionals.loc * turn
    straight = js.Population(pop.priors, js.Normal(loc, pop.conditionals.scale))
    assert np.isclose(found.kl, solve(straight).kl, rtol=1e3 * eps)
    # Allowing more never costs.
    for _ in range(10):
        pop = random_univariate(rng, 2, 20)
        assert solve(pop, allow_reflection=True).kl <= solve(pop).kl + 50 * eps


def test_reflected_laplace_laws_are_found_without_a_list_of_them(eps):
    normal, turn = mirrored(np.random.default_rng(6), 6)
    cells = normal.conditionals
    kls = [
        solve(js.Population(normal.priors, js.Laplace(loc, cells.scale)), **options).kl
        for loc, options in (
            (cells.loc, {"allow_reflection": True}),
            (cells.loc * turn, {}),
            (cells.loc, {}),
        )
    ]
    assert kls[0] <= kls[1] + 50 * eps
    assert kls[0] < 0.5 * kls[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "shape"),
    [(js.Normal, (2, 2)), (js.Normal, (3, 4)), (js.families.Gumbel, (2, 2))],
)
def test_derivatives_agree_in_every_nesting(family, shape, x64):
    pops = [random_population(family, seed, shape) for seed in (1, 2)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pops)
    rng = np.random.default_rng(0)
    step = jax.tree.map(lambda leaf: 0.1 * rng.normal(size=leaf.shape[1:]), batch)

    def value(t, pop):
        # The template's means move with everything, to the second order.
        moved = jax.tree.map(lambda leaf, by: leaf + t * by, pop, step)
        found = js.nearest_ideal(moved, intervention="all_groups", reference=0)
        return found.kl + jnp.sum(jnp.sin(found.target.conditionals.loc))

    t = jnp.zeros(2)
    every = jax.vmap(value)

    @jax.jit
    def all_ways(batch):
        slopes = jax.vmap(jax.grad(value))(t, batch)
        summed = jax.grad(lambda t: jnp.sum(every(t, batch)))(t)
        pushed = jax.jvp(lambda t: every(t, batch), (t,), (jnp.ones(2),))[1]
        bent = jax.vmap(jax.hessian(value))(t, batch)
        return slopes, summed, pushed, bent

    slopes, summed, pushed, bent = all_ways(batch)
    h = 1e-4
    low, here, high = (jax.jit(every)(t + by, batch) for by in (-h, 0, h))
    np.testing.assert_allclose(slopes, (high - low) / (2 * h), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(summed, slopes, rtol=1e-10)
    np.testing.assert_allclose(pushed, slopes, rtol=1e-10)
    second = (high - 2 * here + low) / h**2
    np.testing.assert_allclose(bent, second, rtol=1e-4, atol=1e-5)
