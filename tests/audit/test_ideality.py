"""Whether a population is ideal: the orbit condition and the paper's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.audit._ideality import canonical_cells
from tests.ideal.problems import (
    orbit_residual,
    random_multivariate,
    random_univariate,
)


@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
@pytest.mark.parametrize("priors", ["reweigh", "reference", "joint"])
def test_univariate_targets_are_ideal_and_sources_are_not(intervention, priors):
    pop = random_univariate(np.random.default_rng(0), 2, 2)
    target = js.nearest_ideal(
        pop, intervention=intervention, priors=priors, reference=1
    ).target
    assert js.is_ideal(target)
    assert not js.is_ideal(pop)
    found = js.ideal_residual(target)
    worst = [jnp.abs(leaf).max() for leaf in jax.tree.leaves(found)]
    assert float(max(worst)) < 2e-5


def test_kept_priors_are_told():
    pop = random_univariate(np.random.default_rng(1), 2, 2)
    target = js.nearest_ideal(pop, priors="keep", reference=1).target
    found = js.ideal_residual(target)
    assert not js.is_ideal(target)
    assert abs(float(found.feature_kl)) < 1e-6 < float(found.prior_kl)
    assert float(jnp.abs(found.paper_mean).max()) < 2e-5
    assert float(jnp.abs(found.paper_prior).max()) > 0.01


def _affine(pop, gain, shift):
    cells = pop.conditionals
    moved = js.Normal(cells.loc * gain + shift, cells.scale * jnp.abs(gain))
    return js.Population(pop.priors, moved)


def test_univariate_residual_is_invariant_and_equals_the_oracle(eps):
    pop = random_univariate(np.random.default_rng(2), 2, 2)
    moved = _affine(pop, jnp.array([3.0, -0.2]), jnp.array([1.0, 4.0]))
    here, there = js.ideal_residual(pop), js.ideal_residual(moved)
    np.testing.assert_allclose(here.kl, there.kl, atol=200 * eps)
    np.testing.assert_allclose(
        jnp.abs(here.paper_mean), jnp.abs(there.paper_mean), atol=500 * eps
    )
    np.testing.assert_allclose(here.paper_spread, there.paper_spread, atol=200 * eps)
    parts = [
        jnp.abs(here.paper_mean).max(),
        jnp.abs(jnp.expm1(here.paper_prior)).max(),
        jnp.abs(
            (jnp.expm1(here.paper_spread))
            * pop.conditionals.scale[:, :1]
            / pop.conditionals.scale[:1, :1]
        ).max(),
    ]
    np.testing.assert_allclose(max(parts), orbit_residual(pop), rtol=1e-4)


def test_the_tolerance_is_in_nats():
    pop = random_univariate(np.random.default_rng(3), 2, 2)
    kl = float(js.ideal_residual(pop).kl)
    assert js.is_ideal(pop, 1.01 * kl)
    assert not js.is_ideal(pop, 0.99 * kl)


def test_a_shared_bijection_changes_nothing(eps):
    pop = random_univariate(np.random.default_rng(4), 2, 2)
    cells = js.LogNormal(pop.conditionals.loc, pop.conditionals.scale)
    found = js.ideal_residual(js.Population(pop.priors, cells))
    expected = js.ideal_residual(pop)
    for ours, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=20 * eps)


def test_independent_features(eps):
    rng = np.random.default_rng(5)
    loc, scale = rng.normal(size=(2, 1, 3)), np.exp(rng.normal(size=(2, 1, 3)) / 2)
    gain, shift = rng.normal(size=(2, 2, 3))
    cells = js.DiagonalNormal(
        jnp.asarray(loc * gain + shift), jnp.asarray(scale * np.abs(gain))
    )
    priors = jnp.asarray(np.outer([0.3, 0.7], [0.6, 0.4]))
    assert js.is_ideal(js.Population(priors, cells))
    moved = js.DiagonalNormal(cells.loc.at[1, 1, 2].add(0.3), cells.scale)
    found = js.ideal_residual(js.Population(priors, moved))
    assert float(found.kl) > 1e-3
    assert float(found.paper_mean[1, 1]) > 0.01


def _orbit(rng, tied=False):
    """An ideal population of three classes and two groups in three dimensions."""
    base = random_multivariate(rng, 3, 1, 3, tied=tied).conditionals
    mean, cov = (np.asarray(leaf, float) for leaf in (base.mean, base.cov))
    turns = np.stack([np.eye(3), rng.normal(size=(3, 3))])
    mean = np.einsum("gde,ie->igd", turns, mean[:, 0]) + rng.normal(size=(2, 3))
    cov = np.einsum("gdb,ibc,gec->igde", turns, cov[:, 0], turns)
    priors = np.outer(rng.dirichlet(np.full(3, 2.0)), [0.7, 0.3])
    cells = js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    return js.Population(jnp.asarray(priors), cells)


def _invariants_of_covariances(pop):
    """Condition number of the worst covariance: what rounding of the input costs."""
    return float(np.linalg.cond(np.asarray(pop.conditionals.cov, float)).max())


@pytest.mark.slow
def test_images_under_any_invertible_map_are_ideal(eps):
    rng = np.random.default_rng(6)
    checked = 0
    for trial in range(25):
        pop = _orbit(rng, tied=trial % 5 == 0)
        if _invariants_of_covariances(pop) > 1e3:
            continue
        checked += 1
        assert js.is_ideal(pop)
        cells = pop.conditionals
        bent = cells.cov.at[1, 1].multiply(1.3)
        for broken in (
            js.Population(pop.priors, js.MultivariateNormal(cells.mean, bent)),
            js.Population(pop.priors.at[0, 0].add(0.05).at[0, 1].add(-0.05), cells),
        ):
            assert not js.is_ideal(broken)
    assert checked >= 10


@pytest.mark.slow
def test_multivariate_targets_are_ideal_and_maps_change_nothing():
    rng = np.random.default_rng(7)
    pop = random_multivariate(rng, 3, 2, 3, tied=False)
    for maps in ("general", "shared_covariance"):
        target = js.nearest_ideal(pop, maps=maps, reference=1).target
        assert js.is_ideal(target)
    found = js.ideal_residual(pop)
    assert not js.is_ideal(pop)
    assert float(found.paper_mean.max()) > 0.1 < float(found.paper_spread.max())

    turn = jnp.asarray(rng.normal(size=(2, 3, 3)) + 2 * np.eye(3))
    cells = pop.conditionals
    moved = js.MultivariateNormal(
        jnp.einsum("gde,ige->igd", turn, cells.mean),
        jnp.einsum("gdb,igbc,gec->igde", turn, cells.cov, turn),
    )
    again = js.ideal_residual(js.Population(pop.priors, moved))
    np.testing.assert_allclose(again.kl, found.kl, rtol=1e-3)


def test_canonical_axes_do_not_see_maps(eps):
    pop = _orbit(np.random.default_rng(8))
    found = canonical_cells(pop.conditionals)
    np.testing.assert_allclose(found.cov.mean(0), np.stack([np.eye(3)] * 2), atol=1e-4)
    atol = eps * _invariants_of_covariances(pop) * 100
    np.testing.assert_allclose(found.mean[:, 0], found.mean[:, 1], atol=atol)
    np.testing.assert_allclose(found.cov[:, 0], found.cov[:, 1], atol=atol)


def test_signs_are_found_where_two_means_agree():
    # No class mean differs: the signs come from the covariances.
    rng = np.random.default_rng(9)
    pop = _orbit(rng)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    cov = np.asarray(pop.conditionals.cov)[:, :1]
    cov = np.concatenate([cov, turn @ cov @ turn.T], 1)
    cells = js.MultivariateNormal(jnp.zeros((3, 2, 3)), jnp.asarray(cov))
    found = canonical_cells(cells).cov
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-3)


def test_populations_that_do_not_fit_are_refused():
    pop = random_univariate(np.random.default_rng(10), 2, 2)
    one = jax.tree.map(lambda leaf: leaf[:, :1], pop)
    with pytest.raises(ValueError, match="one group"):
        js.is_ideal(one)
    with pytest.raises(ValueError, match=r"must be a jaxsteer\.Population"):
        js.ideal_residual(pop.priors)
    nan = js.Population(pop.priors.at[0, 0].set(jnp.nan), pop.conditionals)
    assert not js.is_ideal(nan)
