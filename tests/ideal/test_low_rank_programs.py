"""Low-rank cells: the dense programs' answers, from products with the factors alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.ideal._affirmative_objective import affirmative_objective, precisions
from jaxsteer.ideal._orbit import covariances, pooled_cov
from jaxsteer.linalg._psd_operators import DenseStack, sum_between
from jaxsteer.maps import DiagonalMap

pytestmark = pytest.mark.slow

FACTORIZATIONS = {
    "cholesky",
    "custom_linear_solve",
    "eigh",
    "householder_product",
    "lu",
    "lu_pivots_to_permutation",
    "svd",
    "triangular_solve",
}


def low_rank(seed, n_classes, n_groups, d, rank):
    rng = np.random.default_rng(seed)
    shape = (n_classes, n_groups)
    cells = js.LowRankNormal(
        jnp.asarray(rng.normal(size=(*shape, d))),
        jnp.asarray(rng.normal(size=(*shape, d, rank))),
        jnp.asarray(np.exp(0.4 * rng.normal(size=(*shape, d)))),
    )
    priors = rng.dirichlet(10 * np.ones(n_classes * n_groups)).reshape(shape)
    return js.Population(jnp.asarray(priors), cells)


def dense(pop):
    return js.Population(pop.priors, pop.conditionals.to_dense())


def group(pop, a):
    return jax.tree.map(lambda leaf: leaf[:, a], pop.conditionals)


POP = low_rank(0, 3, 2, 4, 1)


def close(a, b, tolerance):
    return np.allclose(a, b, rtol=tolerance, atol=tolerance)


def equations(jaxpr):
    """Every equation of a program, those of its loops and calls included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"),
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def test_stacks_are_the_matrices_they_stand_for(eps):
    pop = low_rank(1, 3, 2, 5, 2)
    laws = group(pop, 0), group(pop, 1)
    rng = np.random.default_rng(0)
    x, vectors = (
        jnp.asarray(rng.normal(size=(5, 5))),
        jnp.asarray(rng.normal(size=(3, 5))),
    )
    weight = jnp.array([0.2, 0.5, 0.3])
    lefts = (
        precisions(laws[0]).scaled(weight),
        precisions(laws[0].to_dense()).scaled(weight),
    )
    rights = covariances(laws[1]), covariances(laws[1].to_dense())
    assert [isinstance(s, DenseStack) for s in (*lefts, *rights)] == [0, 1, 0, 1]

    @jax.jit
    def products(stack):
        return (
            stack.matrices,
            stack.times(vectors),
            stack.total(),
            stack.between(x).diagonals,
        )

    for low, full in (lefts, rights):
        for a, b in zip(products(low), products(full), strict=True):
            assert close(a, b, 100 * eps)
    between = jax.jit(sum_between)
    expected = jnp.sum(lefts[1].matrices @ x @ rights[1].matrices, 0)
    for left in lefts:
        for right in rights:
            assert close(between(left, x, right), expected, 500 * eps)
    pooled = jnp.sum(weight[:, None, None] * laws[0].cov, 0)
    assert close(pooled_cov(laws[0], weight), pooled, 100 * eps)


def test_precision_is_the_inverse_diagonal_less_a_low_rank_part(eps):
    law = POP.conditionals
    factor = law.precision_factor
    inverse = (1 / law.diagonal)[..., None] * jnp.eye(4) - factor @ factor.swapaxes(
        -1, -2
    )
    assert close(
        inverse @ law.cov, jnp.broadcast_to(jnp.eye(4), law.cov.shape), 200 * eps
    )


def test_objective_is_the_dense_one(eps):
    pop = low_rank(2, 4, 2, 5, 2)
    weight = pop.priors[:, 0]
    x, frame = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 5, 5)))

    @jax.jit
    def evaluated(pop):
        objective = affirmative_objective(group(pop, 0), group(pop, 1), weight)
        seen = objective.expand(frame, x)
        return {
            "value": objective.value(x),
            "gradient": objective.gradient(x),
            "curvature": seen.curvature,
            "pulled": seen.gradient,
            "second": seen.second(frame),
            "metric": objective.output_metric,
            "moment": objective.input_moment,
            "shift": objective.best_map(x[0]).bias,
            "slope": jax.grad(objective.value)(x),
        }

    low, full = evaluated(pop), evaluated(dense(pop))
    for name in low:
        assert close(low[name], full[name], 500 * eps), name
    assert close(low["gradient"], low["slope"], 500 * eps)


def test_an_evaluation_factors_nothing_and_holds_no_matrix_of_a_class():
    n_classes, d = 6, 64
    pop = low_rank(3, n_classes, 2, d, 4)
    objective = affirmative_objective(group(pop, 0), group(pop, 1), pop.priors[:, 0])
    x = jnp.eye(d)[None]

    def second(objective, x):
        return objective.expand(x, x).second(x)

    programs = [
        jax.make_jaxpr(lambda o, x: o.value(x))(objective, x),
        jax.make_jaxpr(lambda o, x: o.gradient(x))(objective, x),
        jax.make_jaxpr(lambda o, x: o.expand(x, x).curvature)(objective, x),
        jax.make_jaxpr(second)(objective, x),
    ]
    for program in programs:
        names, sizes = set(), [0]
        for equation in equations(program.jaxpr):
            names.add(equation.primitive.name)
            sizes += [variable.aval.size for variable in equation.outvars]
        assert "dot_general" in names
        assert not names & FACTORIZATIONS
        assert d * d <= max(sizes) < n_classes * d * d
    # The same walk does find what a preparation factors.
    setup = jax.make_jaxpr(affirmative_objective)(
        group(pop, 0), group(pop, 1), pop.priors[:, 0]
    )
    names = {equation.primitive.name for equation in equations(setup.jaxpr)}
    assert {"cholesky", "triangular_solve"} <= names


LIGHT = [
    ("affirmative", "positive_definite"),
    ("affirmative", "shared_covariance"),
    ("affirmative", "diagonal"),
    ("all_groups", "positive_definite"),
]
# All groups at once become dense before any maps: one of those that iterate shows it.
HEAVY = [
    ("affirmative", "pivot"),
    ("affirmative", "general"),
    ("all_groups", "shared_covariance"),
    ("all_groups", "diagonal"),
]


@pytest.mark.parametrize(("intervention", "maps"), LIGHT + HEAVY)
def test_equals_the_dense_program(intervention, maps, eps):
    pop = POP if intervention == "affirmative" else low_rank(4, 2, 2, 3, 1)
    low = js.nearest_ideal(pop, intervention=intervention, maps=maps, reference=1)
    full = js.nearest_ideal(
        dense(pop), intervention=intervention, maps=maps, reference=1
    )
    assert low.converged and full.converged
    assert low.kl.dtype == pop.priors.dtype
    assert close(low.kl, full.kl, 1000 * eps)
    # Both end within the solver's tolerance of the same point.
    near = 200 * eps**0.5
    cells, same = low.target.conditionals, full.target.conditionals
    assert close(cells.mean, same.mean, near) and close(cells.cov, same.cov, near)
    x = jnp.linspace(-1, 1, 8 * pop.conditionals.mean.shape[-1]).reshape(8, -1)
    codes = np.arange(8) % 2
    assert close(low.transport(x, codes), full.transport(x, codes), near)
    assert close(low.transport(x, codes, codes), full.transport(x, codes, codes), near)


def test_a_dense_target_of_a_low_rank_source(eps):
    found = js.nearest_ideal(POP, maps="positive_definite", reference=1)
    assert isinstance(found.source.conditionals, js.LowRankNormal)
    assert isinstance(found.target.conditionals, js.MultivariateNormal)
    assert close(found.kl, found.target.kl(dense(POP)), 500 * eps)
    assert close(found.kl, found.prior_kl + found.feature_kl, 10 * eps)
    moved = POP.conditionals.to_dense().pushforward(found.cell_maps)
    near = 200 * eps**0.5
    assert close(moved.mean, found.target.conditionals.mean, near)
    assert close(moved.cov, found.target.conditionals.cov, near)


def test_diagonal_maps_keep_the_rank():
    found = js.nearest_ideal(POP, maps="diagonal", reference=1)
    assert isinstance(found.target.conditionals, js.LowRankNormal)
    assert found.target.conditionals.factor.shape == POP.conditionals.factor.shape
    assert isinstance(found.group_maps, DiagonalMap)


@pytest.mark.parametrize(
    "priors", ["reference", pytest.param("joint", marks=pytest.mark.slow)]
)
def test_other_priors_and_a_closed_form(priors, eps):
    low = js.nearest_ideal(POP, maps="shared_covariance", priors=priors, reference=1)
    full = js.nearest_ideal(
        dense(POP), maps="shared_covariance", priors=priors, reference=1
    )
    assert low.converged
    assert close(low.target.priors, full.target.priors, 20 * eps**0.5)
    assert close(low.kl, full.kl, 20 * eps**0.5)


def test_a_batch_is_its_rows(eps):
    pops = [low_rank(seed, 3, 2, 4, 1) for seed in (0, 5)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pops)
    solve = jax.jit(
        jax.vmap(
            lambda pop: js.nearest_ideal(pop, maps="positive_definite", reference=1)
        )
    )
    batch = solve(stacked)
    assert batch.converged.all()
    for row, pop in enumerate(pops):
        alone = js.nearest_ideal(pop, maps="positive_definite", reference=1)
        assert close(batch.kl[row], alone.kl, 1000 * eps)
        near = 200 * eps**0.5
        assert close(batch.group_maps.weight[row], alone.group_maps.weight, near)


def test_singular_cells_end_as_a_status():
    cells = POP.conditionals
    diagonal = cells.diagonal.at[0, 0].set(-1.0)
    bad = js.LowRankNormal(cells.mean, cells.factor, diagonal)
    found = js.nearest_ideal(
        js.Population(POP.priors, bad), maps="positive_definite", reference=1
    )
    assert found.status == js.Status.BAD_INPUT


def test_many_features_converge_to_a_stationary_point_of_the_dense_objective(eps):
    n_classes, d = 6, 64
    pop = low_rank(6, n_classes, 2, d, 4)
    found = js.nearest_ideal(pop, maps="positive_definite", reference=1)
    assert found.converged
    weight = found.target.priors[:, 0]
    objective = affirmative_objective(
        group(dense(pop), 0), group(dense(pop), 1), weight
    )
    x = jnp.linalg.inv(found.group_maps.weight[0])
    slope = objective.gradient(x[None])[0]
    relative = 0.5 * (slope + slope.T) @ x / jnp.sum(weight) - jnp.eye(d)
    assert jnp.linalg.norm(relative) < 100 * eps**0.5


@pytest.mark.parametrize(
    "maps",
    [
        "positive_definite",
        pytest.param("pivot", marks=pytest.mark.slow),
        pytest.param("general", marks=pytest.mark.slow),
    ],
)
def test_derivatives_by_the_parameters_match_finite_differences(maps, x64):
    pop = low_rank(7, 2, 2, 4, 1)

    def total(cells, differentiate):
        moved = js.Population(pop.priors, cells)
        found = js.nearest_ideal(
            moved, maps=maps, differentiate=differentiate, reference=1
        )
        return found.kl + jnp.sum(jnp.sin(found.target.conditionals.mean))

    value = jax.jit(lambda cells: total(cells, "none"))
    slope = jax.jit(jax.grad(lambda cells: total(cells, "implicit")))(pop.conditionals)
    rng = np.random.default_rng(0)
    step = 1e-5
    for name in ("mean", "factor", "diagonal"):
        own = getattr(pop.conditionals, name)
        for _ in range(3):
            way = jnp.asarray(rng.normal(size=own.shape))

            def at(size, name=name, own=own, way=way):
                parts = {**vars(pop.conditionals), name: own + size * way}
                return value(js.LowRankNormal(**parts))

            difference = (at(step) - at(-step)) / (2 * step)
            expected = jnp.sum(getattr(slope, name) * way)
            assert jnp.allclose(expected, difference, rtol=1e-5, atol=1e-6)


def test_gap_is_a_loss_of_the_parameters(x64):
    @jax.jit
    @jax.value_and_grad
    def gap(cells):
        return js.ideality_gap(
            js.Population(POP.priors, cells), maps="shared_covariance", reference=1
        )

    low, slope = gap(POP.conditionals)
    value, full = gap(POP.conditionals.to_dense())
    assert jnp.allclose(low, value, rtol=1e-10)
    # By the chain rule from full covariances: C = diag + F F'.
    by_cov = 0.5 * (full.cov + full.cov.swapaxes(-1, -2))
    assert jnp.allclose(slope.mean, full.mean, atol=1e-7)
    assert jnp.allclose(slope.factor, 2 * by_cov @ POP.conditionals.factor, atol=1e-7)
    on_diagonal = jnp.diagonal(by_cov, axis1=-2, axis2=-1)
    assert jnp.allclose(slope.diagonal, on_diagonal, atol=1e-7)
