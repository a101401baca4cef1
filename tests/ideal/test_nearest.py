"""The front door: options, errors, statuses, transformations, maps on data."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from tests.ideal.problems import random_multivariate, random_univariate

RNG = np.random.default_rng(0)
UNIVARIATE = random_univariate(RNG, 2, 2)
MULTIVARIATE = random_multivariate(RNG, 2, 3, 3, tied=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intervention": "both"}, "intervention='both' is not known"),
        ({"maps": "round"}, "maps='round' is not known"),
        ({"priors": "flat"}, "priors='flat' is not known"),
        ({"differentiate": "no"}, "differentiate='no' is not known"),
        ({"reference": 2}, r"reference=2 is not one of the groups 0..1"),
        ({"reference": "Male"}, "reference='Male' is not one of the groups"),
        ({"solver": "adam"}, "ProjectedGradient, got str"),
        ({"pivot": 2}, r"pivot=2 is not one of the classes 0..1"),
    ],
)
def test_unknown_options_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        js.nearest_ideal(UNIVARIATE, **options)


def test_one_group_is_refused():
    cells = js.Normal(jnp.zeros((2, 1)), jnp.ones((2, 1)))
    with pytest.raises(ValueError, match="one group"):
        js.nearest_ideal(js.Population(jnp.full((2, 1), 0.5), cells), reference=0)


def test_what_is_no_population_is_refused():
    with pytest.raises(ValueError, match="fit_population"):
        js.nearest_ideal(np.zeros((2, 2)), reference=1)
    cells = js.Normal(jnp.zeros((3, 2)), jnp.ones((3, 2)))
    with pytest.raises(ValueError, match=r"batch shape \(2, 2\)"):
        js.nearest_ideal(js.Population(jnp.full((2, 2), 0.25), cells), reference=1)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_unusable_moments_end_as_bad_input(value):
    cells = js.Normal(UNIVARIATE.conditionals.loc.at[0, 0].set(value), jnp.ones((2, 2)))
    found = js.nearest_ideal(js.Population(UNIVARIATE.priors, cells), reference=1)
    assert found.status == js.Status.BAD_INPUT
    with pytest.raises(js.SolveError, match="BAD_INPUT"):
        found.require()


def test_an_empty_cell_or_a_negative_scale_ends_as_bad_input():
    empty = js.Population(jnp.array([[0.0, 0.5], [0.2, 0.3]]), UNIVARIATE.conditionals)
    assert js.nearest_ideal(empty, reference=1).status == js.Status.BAD_INPUT
    cells = js.Normal(jnp.zeros((2, 2)), -jnp.ones((2, 2)))
    found = js.nearest_ideal(js.Population(UNIVARIATE.priors, cells), reference=1)
    assert found.status == js.Status.BAD_INPUT


def test_a_negative_covariance_ends_as_bad_input():
    cells = MULTIVARIATE.conditionals
    singular = js.MultivariateNormal(cells.mean, cells.cov.at[0, 0].set(-jnp.eye(3)))
    found = js.nearest_ideal(
        js.Population(MULTIVARIATE.priors, singular),
        maps="shared_covariance",
        reference=1,
    )
    assert found.status == js.Status.BAD_INPUT


@pytest.mark.slow
def test_one_bad_row_leaves_the_batch_alone():
    pops = [random_univariate(np.random.default_rng(s), 2, 2) for s in range(4)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pops)
    spoiled = js.Population(
        batch.priors,
        js.Normal(batch.conditionals.loc.at[2].set(jnp.nan), batch.conditionals.scale),
    )
    for intervention in ("affirmative", "all_groups"):
        solve = jax.jit(
            jax.vmap(partial(js.nearest_ideal, intervention=intervention, reference=1))
        )
        good, mixed = solve(batch), solve(spoiled)
        rows = np.array([0, 1, 3])
        assert np.array_equal(np.asarray(good.kl)[rows], np.asarray(mixed.kl)[rows])
        assert mixed.status.tolist() == [0, 0, js.Status.BAD_INPUT, 0]
        with pytest.raises(js.SolveError, match="row 2"):
            mixed.require()


def test_nothing_is_traced_again_for_new_values():
    traces = []

    @jax.jit
    def solve(pop):
        traces.append(1)
        return js.nearest_ideal(pop, intervention="all_groups", reference=1).kl

    for seed in range(3):
        solve(random_univariate(np.random.default_rng(seed), 2, 2))
    assert len(traces) == 1


@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
@pytest.mark.parametrize("priors", ["reweigh", "joint"])
def test_implicit_unrolled_and_finite_differences_agree(intervention, priors, x64):
    pop = random_univariate(np.random.default_rng(11), 2, 2)

    def total(loc, differentiate):
        moved = js.Population(pop.priors, js.Normal(loc, pop.conditionals.scale))
        found = js.nearest_ideal(
            moved,
            intervention=intervention,
            priors=priors,
            differentiate=differentiate,
            reference=1,
        )
        return jnp.sum(jnp.sin(found.target.conditionals.loc)) + found.kl

    loc = pop.conditionals.loc
    implicit = jax.grad(total)(loc, "implicit")
    assert jnp.allclose(implicit, jax.grad(total)(loc, "unroll"), rtol=1e-5, atol=1e-7)
    step = 1e-5
    for index in np.ndindex(2, 2):
        unit = jnp.zeros((2, 2)).at[index].set(step)
        difference = (total(loc + unit, "none") - total(loc - unit, "none")) / (
            2 * step
        )
        assert jnp.allclose(implicit[index], difference, rtol=1e-5, atol=1e-6)
    assert not jax.grad(total)(loc, "none").any()


def test_hessian_and_vmapped_gradient_are_finite(x64):
    def kl(loc):
        moved = js.Population(
            UNIVARIATE.priors, js.Normal(loc, UNIVARIATE.conditionals.scale)
        )
        return js.nearest_ideal(moved, intervention="all_groups", reference=1).kl

    loc = UNIVARIATE.conditionals.loc
    hessian = jax.hessian(kl)(loc).reshape(4, 4)
    assert jnp.isfinite(hessian).all()
    assert jnp.allclose(hessian, hessian.T, atol=1e-8)
    gradients = jax.jit(jax.vmap(jax.grad(kl)))(jnp.stack([loc, loc + 1]))
    # A common shift of all cells changes nothing.
    assert jnp.allclose(gradients[0], gradients[1], atol=1e-8)


@pytest.mark.parametrize(
    ("maps", "reference"), [("shared_covariance", 0), ("positive_definite", 2)]
)
def test_the_group_that_stays_keeps_its_cells_at_no_cost(maps, reference, eps):
    rng = np.random.default_rng(reference)
    mean, root = rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 3, 3, 3))
    cov = root @ np.swapaxes(root, -1, -2) + np.eye(3)
    priors = jnp.asarray(rng.dirichlet(np.ones(6)).reshape(2, 3))
    dense = js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    factor, diagonal = jnp.asarray(root[..., :1]), jnp.ones((2, 3, 3))
    for cells in (dense, js.LowRankNormal(dense.mean, factor, diagonal)):
        pop = js.Population(priors, cells)
        found = js.nearest_ideal(pop, reference=reference, maps=maps)
        kept, before = found.target.cell(0, reference), pop.cell(0, reference)
        np.testing.assert_array_equal(kept.mean, before.mean)
        np.testing.assert_allclose(kept.cov, before.cov, rtol=4 * eps)
        np.testing.assert_array_equal(found.group_maps.weight[reference], np.eye(3))
        np.testing.assert_allclose(
            found.feature_kl,
            jnp.sum(found.target.priors * found.target.conditionals.kl(cells)),
            rtol=1e-3,
        )


def test_keep_does_not_claim_to_be_ideal():
    found = js.nearest_ideal(UNIVARIATE, priors="keep", reference=1)
    assert not found.ideal
    assert found.prior_kl == 0
    assert js.nearest_ideal(UNIVARIATE, reference=1).ideal


def test_priors_modes_do_what_they_say(eps):
    q = np.asarray(UNIVARIATE.priors, float)
    reweighed = js.nearest_ideal(UNIVARIATE, reference=1).target.priors
    assert np.allclose(reweighed, np.outer(q.sum(1), q.sum(0)), atol=10 * eps)
    referred = js.nearest_ideal(
        UNIVARIATE, priors="reference", reference=1
    ).target.priors
    assert np.allclose(referred[:, 1], q[:, 1], atol=10 * eps)
    assert np.allclose(referred.sum(0), q.sum(0), atol=10 * eps)
    joint = js.nearest_ideal(UNIVARIATE, priors="joint", reference=1)
    assert joint.kl <= js.nearest_ideal(UNIVARIATE, reference=1).kl + 10 * eps
    assert (
        joint.kl
        <= js.nearest_ideal(UNIVARIATE, priors="reference", reference=1).kl + 10 * eps
    )


@pytest.mark.slow
def test_kl_is_the_populations_own(eps):
    for found in (
        js.nearest_ideal(UNIVARIATE, intervention="all_groups", reference=1),
        js.nearest_ideal(MULTIVARIATE, maps="shared_covariance", reference=1),
        js.nearest_ideal(
            MULTIVARIATE, intervention="all_groups", maps="diagonal", reference=1
        ),
    ):
        assert jnp.allclose(found.kl, found.target.kl(found.source), rtol=100 * eps)
        assert jnp.allclose(found.kl, found.prior_kl + found.feature_kl, rtol=10 * eps)


@pytest.mark.slow
def test_diagonal_gauge_is_the_univariate_program_of_every_feature(eps):
    rng = np.random.default_rng(21)
    shape = (3, 2, 4)
    cells = js.DiagonalNormal(
        jnp.asarray(rng.normal(size=shape)), jnp.asarray(np.exp(rng.normal(size=shape)))
    )
    priors = jnp.asarray(rng.dirichlet(np.ones(6)).reshape(3, 2))
    for intervention in ("affirmative", "all_groups"):
        found = js.nearest_ideal(
            js.Population(priors, cells), intervention=intervention, reference=1
        )
        single = [
            js.nearest_ideal(
                js.Population(
                    priors, js.Normal(cells.loc[..., j], cells.scale[..., j])
                ),
                intervention=intervention,
                reference=1,
            )
            for j in range(4)
        ]
        total = sum(float(one.feature_kl) for one in single)
        assert np.isclose(float(found.feature_kl), total, rtol=100 * eps)
        scales = jnp.stack([one.group_maps.scale for one in single], -1)
        assert jnp.allclose(found.group_maps.scale, scales, rtol=1e3 * eps)


def test_diagonal_gauge_of_full_covariances_is_an_orbit_too(eps):
    for intervention in ("affirmative", "all_groups"):
        found = js.nearest_ideal(
            MULTIVARIATE, intervention=intervention, maps="diagonal", reference=1
        )
        steered = found.target.conditionals.pushforward(
            jax.tree.map(lambda leaf: leaf[None], found.group_maps)
        )
        assert jnp.allclose(steered.mean, steered.mean[:, 1:2], atol=2e3 * eps)
        assert jnp.allclose(steered.cov, steered.cov[:, 1:2], atol=2e3 * eps)


def test_one_feature_needs_no_gauge(eps):
    cells = UNIVARIATE.conditionals
    lifted = js.MultivariateNormal(
        cells.loc[..., None], jnp.square(cells.scale)[..., None, None]
    )
    for intervention in ("affirmative", "all_groups"):
        found = js.nearest_ideal(
            js.Population(UNIVARIATE.priors, lifted),
            intervention=intervention,
            reference=1,
        )
        plain = js.nearest_ideal(UNIVARIATE, intervention=intervention, reference=1)
        assert jnp.allclose(found.kl, plain.kl, rtol=1e3 * eps)


def test_log_normal_is_the_normal_of_the_logarithm(eps):
    cells = UNIVARIATE.conditionals
    logs = js.Population(UNIVARIATE.priors, js.LogNormal(cells.loc, cells.scale))
    found, plain = (
        js.nearest_ideal(logs, reference=1),
        js.nearest_ideal(UNIVARIATE, reference=1),
    )
    assert jnp.allclose(found.kl, plain.kl, rtol=10 * eps)
    x, group = jnp.array([0.5, 1.0, 3.0]), jnp.array([0, 1, 0])
    expected = jnp.exp(plain.transport(jnp.log(x), group))
    assert jnp.allclose(found.transport(x, group), expected, rtol=100 * eps)
    assert isinstance(found.target.conditionals, js.LogNormal)


def test_cell_maps_carry_each_cell_onto_its_target(eps):
    found = js.nearest_ideal(MULTIVARIATE, maps="shared_covariance", reference=1)
    moved = MULTIVARIATE.conditionals.pushforward(found.cell_maps)
    assert jnp.allclose(moved.mean, found.target.conditionals.mean, atol=5e3 * eps)
    assert jnp.allclose(moved.cov, found.target.conditionals.cov, atol=5e3 * eps)


def test_transport_uses_the_rows_own_map(eps):
    found = js.nearest_ideal(MULTIVARIATE, maps="shared_covariance", reference=1)
    x, label, group = MULTIVARIATE.sample(jax.random.key(0), 50)
    steered = found.transport(x, group)
    aware = found.transport(x, group, label)
    for row in range(50):
        a, i = int(group[row]), int(label[row])
        one = jax.tree.map(lambda leaf: leaf[a], found.group_maps)  # noqa: B023
        assert jnp.allclose(steered[row], one(x[row]), atol=1e3 * eps)
        cell = jax.tree.map(lambda leaf: leaf[i, a], found.cell_maps)  # noqa: B023
        assert jnp.allclose(aware[row], cell(x[row]), atol=1e3 * eps)
    assert jnp.array_equal(steered[group == 1], x[group == 1])
    half = found.transport(x, group, strength=0.5)
    assert jnp.allclose(half, (x + steered) / 2, atol=1e3 * eps)
    assert jnp.allclose(found.transport(x, group, strength=0.0), x, atol=1e2 * eps)


def test_transport_refuses_unknown_codes_and_wrong_shapes():
    found = js.nearest_ideal(MULTIVARIATE, maps="shared_covariance", reference=1)
    x, label, group = (np.asarray(a) for a in MULTIVARIATE.sample(jax.random.key(0), 5))
    with pytest.raises(ValueError, match="unknown value cannot be steered"):
        found.transport(x, group + 3)
    with pytest.raises(ValueError, match="encode_labels"):
        found.transport(x, np.array(["a"] * 5))
    with pytest.raises(ValueError, match=r"x must have shape \[n, 3\]"):
        found.transport(x[:, :2], group)
    with pytest.raises(ValueError, match="one entry a row"):
        found.transport(x, group[:3])
    with pytest.raises(ValueError, match="label has codes"):
        found.transport(x, group, label + 5)
    traced = jax.jit(found.transport)(x, group + 3)
    assert jnp.isnan(traced).all()


def test_weights_of_the_rows_make_class_and_group_independent(eps):
    found = js.nearest_ideal(UNIVARIATE, reference=1)
    weighted = np.asarray(found.cell_weights * UNIVARIATE.priors, float)
    outer = np.outer(weighted.sum(1), weighted.sum(0))
    assert np.allclose(weighted, outer, atol=10 * eps)
