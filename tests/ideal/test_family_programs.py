"""Programs of the families beyond the normal: brute force, closed forms, fairness."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import jaxsteer as js
from jaxsteer.maps import DiagonalMap

pytestmark = pytest.mark.slow

MOVED = [
    js.Laplace,
    js.families.Gumbel,
    js.Exponential,
    js.Gamma,
    js.families.InverseGamma,
    js.families.InverseGaussian,
    js.families.Rayleigh,
    js.Weibull,
]
COMMON = [
    js.Bernoulli,
    js.Poisson,
    js.families.Geometric,
    js.Beta,
    js.families.VonMises,
]
INTERVENTIONS = ["affirmative", "all_groups"]


def random_cells(family, rng, shape):
    """Parameters of about one size, as different between groups as between classes."""
    leaves = [
        jnp.asarray(
            rng.normal(size=shape)
            if field.name in ("loc", "logits")
            else np.exp(0.4 * rng.normal(size=shape))
        )
        for field in dataclasses.fields(family)
    ]
    return family(*leaves)


def random_population(family, seed, shape=(2, 2)):
    rng = np.random.default_rng(seed)
    priors = rng.dirichlet(2 * np.ones(np.prod(shape))).reshape(shape)
    return js.Population(jnp.asarray(priors), random_cells(family, rng, shape))


def stacked(family, n, shape=(2, 2)):
    pops = [random_population(family, [seed, n], shape) for seed in range(n)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *pops)


def free_laws(family, x, k):
    """Laws ``[K]`` from a free vector."""
    fields = dataclasses.fields(family)
    parts = x.reshape(len(fields), k)
    return family(
        *(
            part if field.name in ("loc", "logits") else jnp.exp(part)
            for field, part in zip(fields, parts, strict=True)
        )
    )


def moved_law(law, log_gain, shift):
    """A law ``[K]`` moved by a gain and, where its family allows, a shift or power."""
    gain = jnp.exp(log_gain)
    if isinstance(law, js.Weibull):
        return js.Weibull(law.concentration / gain, jnp.exp(shift) * law.scale**gain)
    if isinstance(law, js.Laplace | js.families.Gumbel):
        return law.pushforward(DiagonalMap(gain, shift))
    return law.pushforward(DiagonalMap(gain, jnp.zeros_like(gain)))


def brute_force_cost(family, all_groups, k):
    """Feature part of the divergence for two groups, and its number of variables."""

    @jax.jit
    @jax.value_and_grad
    def cost(x, pop, weights):
        own = jax.tree.map(lambda leaf: leaf[:, 1], pop.conditionals)
        if all_groups:
            own = free_laws(family, x[2:], k)
        moved = moved_law(own, x[0], x[1])
        both = jax.tree.map(lambda a, b: jnp.stack([a, b], 1), moved, own)
        return jnp.sum(weights * both.kl(pop.conditionals))

    return cost, 2 + all_groups * k * len(dataclasses.fields(family))


@pytest.mark.parametrize("intervention", INTERVENTIONS)
@pytest.mark.parametrize("family", MOVED)
def test_equals_brute_force(family, intervention, x64):
    n = 100
    pops = stacked(family, n)
    found = js.nearest_ideal_batch(
        pops, intervention=intervention, reference=1
    ).require()
    rng = np.random.default_rng(0)
    cost, size = brute_force_cost(family, intervention == "all_groups", 2)
    for row in range(n):
        pop = jax.tree.map(lambda leaf, row=row: leaf[row], pops)
        weights = jnp.sum(pop.priors, 1, keepdims=True) * jnp.sum(pop.priors, 0)
        best = np.inf
        for _ in range(4 if intervention == "all_groups" else 2):
            end = minimize(
                lambda x, pop=pop, weights=weights: [
                    np.asarray(part, float) for part in cost(x, pop, weights)
                ],
                rng.normal(size=size),
                jac=True,
                method="BFGS",
                options={"gtol": 1e-9},
            )
            best = min(best, end.fun)
        assert found.feature_kl[row] <= best + 1e-6
        if intervention == "affirmative":
            assert found.feature_kl[row] >= best - 1e-6


def test_exponential_has_a_closed_form(eps):
    pop = random_population(js.Exponential, 3, (3, 2))
    found = js.nearest_ideal(pop, reference=1).require()
    rate, w = pop.conditionals.rate, found.target.priors
    gain = w[:, 0].sum() / jnp.sum(w[:, 0] * rate[:, 0] / rate[:, 1])
    assert jnp.allclose(1 / found.group_maps.scale[0], gain, rtol=eps**0.5)


@pytest.mark.parametrize("intervention", INTERVENTIONS)
@pytest.mark.parametrize(
    "family", [js.families.Gumbel, js.Exponential, js.Gamma, js.Weibull]
)
def test_the_target_is_an_orbit(family, intervention, eps):
    pop = random_population(family, 5, (3, 3))
    found = js.nearest_ideal(pop, intervention=intervention, reference=2).require()

    def away(found):
        """Each group's laws, moved, from the reference's; the reference's from its own."""
        cells = found.target.conditionals
        home = jax.tree.map(lambda leaf: leaf[:, 2], cells)
        stays = jax.tree.map(lambda leaf: leaf[:, 2], found.source.conditionals)
        moved = [
            jax.tree.map(lambda leaf, a=a: leaf[:, a], cells).pushforward(
                jax.tree.map(lambda leaf, a=a: leaf[a], found.group_maps)
            )
            for a in range(3)
        ]
        return jnp.stack([own.kl(home) for own in moved]), home.kl(stays)

    moved, unmoved = jax.jit(away)(found)
    assert float(jnp.max(moved)) < 1e3 * eps
    if intervention == "affirmative":
        assert float(jnp.max(unmoved)) == 0


def test_a_laplace_may_be_reflected(eps):
    cells = js.Laplace(
        jnp.array([[0.0, 0.0], [2.0, -2.0], [3.0, -3.0]]), jnp.ones((3, 2))
    )
    pop = js.Population(jnp.full((3, 2), 1 / 6), cells)
    assert float(js.nearest_ideal(pop, reference=1).kl) > 0.1
    found = js.nearest_ideal(pop, allow_reflection=True, reference=1).require()
    assert abs(float(found.kl)) < 1e2 * eps
    assert jnp.allclose(found.group_maps.scale[0], -1.0, rtol=eps**0.5)


@pytest.mark.parametrize("family", COMMON)
def test_the_barycentre_is_nearest(family, eps):
    pop = random_population(family, 7, (3, 3))
    found = js.nearest_ideal(pop, intervention="all_groups", reference=1).require()

    def total(law, priors):
        both = jax.tree.map(lambda leaf: leaf[:, None], law)
        return jnp.sum(priors * both.kl(pop.conditionals))

    @jax.jit
    def measured(target):
        cells = target.conditionals
        groups = [jax.tree.map(lambda leaf, a=a: leaf[:, a], cells) for a in range(3)]
        away = jnp.stack([law.kl(groups[0]) for law in groups])
        return away, jax.grad(total)(groups[0], target.priors)

    away, slope = measured(found.target)
    assert float(jnp.max(away)) < 100 * eps
    assert max(float(jnp.max(jnp.abs(s))) for s in jax.tree.leaves(slope)) < 1e3 * eps
    own = js.nearest_ideal(pop, reference=0)
    assert float(own.kl) >= float(found.kl)
    assert jnp.array_equal(
        jax.tree.leaves(own.target.conditionals)[0][:, 1],
        jax.tree.leaves(pop.conditionals)[0][:, 0],
    )


def test_the_categorical_barycentre_is_nearest(eps):
    rng = np.random.default_rng(0)
    cells = js.Categorical(jnp.asarray(rng.normal(size=(2, 3, 4))))
    pop = js.Population(jnp.full((2, 3), 1 / 6), cells)
    found = js.nearest_ideal(pop, intervention="all_groups", reference=1).require()

    def total(logits):
        both = js.Categorical(jnp.broadcast_to(logits[:, None], (2, 3, 4)))
        return jnp.sum(found.target.priors * both.kl(cells))

    slope = jax.jit(jax.grad(total))(found.target.conditionals.logits[:, 0])
    assert float(jnp.max(jnp.abs(slope))) < 100 * eps


@pytest.mark.parametrize("family", [js.Laplace, js.families.InverseGamma, js.Weibull])
def test_jit_vmap_grad(family, eps):
    pops = stacked(family, 3)

    @jax.jit
    def kl(pop):
        return js.nearest_ideal(pop, intervention="all_groups", reference=1).kl

    values = jax.jit(jax.vmap(kl))(pops)
    first = jax.tree.map(lambda leaf: leaf[0], pops)
    assert jnp.allclose(values[0], kl(first), rtol=eps**0.5)
    slope = jax.jit(jax.grad(kl))(first)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize(
    ("family", "intervention"),
    [
        (js.Laplace, "affirmative"),
        (js.Weibull, "affirmative"),
        (js.Gamma, "all_groups"),
    ],
)
def test_implicit_derivative_equals_finite_differences(family, intervention, x64):
    pop = random_population(family, 9, (2, 2))
    rng = np.random.default_rng(1)
    probe = jnp.asarray(np.exp(rng.normal(size=4)))
    leaves, tree = jax.tree.flatten(pop)
    steps = [jnp.asarray(0.1 * rng.normal(size=leaf.shape)) for leaf in leaves]

    @jax.jit
    def total(t):
        moved = [leaf + t * step for leaf, step in zip(leaves, steps, strict=True)]
        found = js.nearest_ideal(
            jax.tree.unflatten(tree, moved), intervention=intervention, reference=1
        )
        first = jax.tree.map(lambda leaf: leaf[0], found.group_maps)
        return jnp.sum(jnp.sin(first(probe))) + found.kl

    h = 1e-5
    finite = (total(h) - total(-h)) / (2 * h)
    assert abs(finite) > 1e-3
    assert jnp.allclose(jax.grad(total)(0.0), finite, rtol=1e-5)


def mixed_population(rng):
    cells = js.Product(
        (
            js.Normal(jnp.asarray(rng.normal(size=(2, 2))), jnp.ones((2, 2))),
            js.Categorical(jnp.asarray(rng.normal(size=(2, 2, 3)))),
            random_cells(js.LogNormal, rng, (2, 2)),
        )
    )
    return js.Population(jnp.full((2, 2), 0.25), cells)


@pytest.mark.parametrize("intervention", INTERVENTIONS)
def test_a_product_is_solved_block_by_block(intervention, eps):
    pop = mixed_population(np.random.default_rng(2))
    found = js.nearest_ideal(pop, intervention=intervention, reference=1).require()
    parts = [
        js.nearest_ideal(
            js.Population(pop.priors, block), intervention=intervention, reference=1
        ).feature_kl
        for block in pop.conditionals.blocks
    ]
    assert jnp.allclose(found.feature_kl, sum(parts), rtol=100 * eps)
    x, _, group = pop.sample(jax.random.key(0), 50)
    assert x.shape == (50, 3)
    moved = found.transport(x, group)
    assert jnp.array_equal(moved[:, 1], x[:, 1])  # a code is never moved
    stays = group == 1
    if intervention == "affirmative":
        assert jnp.allclose(moved[stays], x[stays], rtol=10 * eps)
        assert not jnp.allclose(moved[~stays], x[~stays], rtol=1e-3)


def test_families_without_a_program_say_so():
    shape = (2, 2)
    pop = js.Population(
        jnp.full(shape, 0.25), js.families.Pareto(*(jnp.ones(shape),) * 2)
    )
    with pytest.raises(NotImplementedError, match="no program for the family Pareto"):
        js.nearest_ideal(pop, reference=1)
