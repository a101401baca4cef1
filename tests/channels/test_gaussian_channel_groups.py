"""The Gaussian channel for more than two groups: exact, and the best there is."""

from __future__ import annotations

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

import jaxsteer as js
from jaxsteer.solvers._max_det import largest_below
from tests.channels.test_gaussian_channel import (
    EPS,
    SUBSPACES,
    compiled,
    delivered,
    grams,
    population,
    row,
)

pytestmark = pytest.mark.slow

# A slack of the order of the barrier's end counts as none.
SNAPPED = 20 * EPS**0.8
SIZES = [(2, 4, 2), (3, 3, 4), (4, 4, 6)]
BATCH = 6


@lru_cache
def solved(k, g, d, subspace="discriminant", reference=1, kind="free"):
    pops = population(k, d, groups=g, batch=(BATCH,), kind=kind)
    return compiled(subspace, reference)(pops)


def mean_population(mean):
    """Cells of unit covariance with these class means ``[K, G, d]``."""
    k, g, d = mean.shape
    cov = jnp.broadcast_to(jnp.eye(d), (k, g, d, d))
    cells = js.MultivariateNormal(jnp.asarray(mean), cov)
    return js.Population(jnp.full((k, g), 1 / (k * g)), cells)


def contrast_means(roots):
    """Class means ``[K, G, d]`` whose Grams are ``R_a' R_a``, at equal shares."""
    k = roots.shape[-1] + 1
    basis = linalg.null_space(np.ones((1, k)))
    return np.einsum("aij,kj->kai", roots, basis)


@pytest.mark.parametrize(("k", "g", "d"), SIZES)
@pytest.mark.parametrize("subspace", SUBSPACES)
def test_groups_coincide_in_the_tied_model(k, g, d, subspace):
    channels = solved(k, g, d, subspace, g - 1)
    assert channels.residual.max() < 100 * EPS
    assert channels.converged.all()
    for index in range(BATCH):
        one = row(channels, index)
        aims = one.target.conditionals.mean, one.target.conditionals.cov
        atol = 2e3 * EPS + 5 * SNAPPED
        for steered, aim in zip(delivered(one), aims, strict=True):
            np.testing.assert_allclose(steered, aim, atol=atol)
            np.testing.assert_allclose(steered, steered[:, :1] + 0 * aim, atol=atol)


@pytest.mark.parametrize(("k", "g", "d"), [(3, 2, 4), (3, 3, 4), (4, 4, 6)])
def test_target_has_the_largest_determinant_below_all(k, g, d):
    cvxpy = pytest.importorskip("cvxpy", reason="the oracle is a conic solver")
    for index in range(2):
        *own, meet = grams(row(solved(k, g, d), index))
        white = np.linalg.inv(np.linalg.cholesky(sum(own)))
        own = [white @ gram @ white.T for gram in own]
        meet = white @ meet @ white.T
        z = cvxpy.Variable((k - 1, k - 1), PSD=True)
        below = [gram - z >> 0 for gram in own]
        best = cvxpy.Problem(cvxpy.Maximize(cvxpy.log_det(z)), below).solve("CLARABEL")
        slacks = [np.linalg.eigvalsh(gram - meet).min() for gram in own]
        assert min(slacks) > -100 * EPS
        # The conic solver's own error is of the order of 1e-7.
        np.testing.assert_allclose(
            np.linalg.slogdet(meet)[1], best, atol=2e-6 + 1e3 * EPS, rtol=0
        )


def test_the_duality_gap_certifies_the_maximum():
    rng = np.random.default_rng(0)
    inverses = rng.normal(size=(10, 4, 3, 3))
    inverses = inverses @ inverses.swapaxes(-1, -2) + 0.1 * np.eye(3)
    total = np.linalg.inv(np.linalg.cholesky(inverses.sum(1)))[:, None]
    inverses = total @ inverses @ total.swapaxes(-1, -2)
    roots = np.linalg.cholesky(inverses).swapaxes(-1, -2)
    found = jax.jit(jax.vmap(largest_below))(jnp.asarray(roots))
    assert (np.abs(found.gap) < 100 * EPS**0.8).all()
    assert (found.steps < 40).all()
    bounds = np.linalg.inv(inverses)
    slack = np.linalg.eigvalsh(bounds - np.asarray(found.gram, float)[:, None])
    assert slack.min() > -100 * EPS * bounds.max()


def test_noise_is_exactly_zero_where_a_group_binds():
    k, g, d = SIZES[1]
    for one in (row(solved(k, g, d), index) for index in range(BATCH)):
        noise = np.asarray(one.noise, float)
        np.testing.assert_allclose(noise, noise.swapaxes(-1, -2), atol=10 * EPS)
        values = np.linalg.eigvalsh(noise)
        assert values.min() > -10 * EPS
        # Dual multipliers of full rank together: at least m directions bind.
        assert (values < 10 * EPS).sum() >= k - 1
        assert (values > 0.1).any()


def test_a_group_below_all_others_gets_no_noise():
    rng = np.random.default_rng(0)
    least = rng.normal(size=(2, 2))
    more = rng.normal(size=(2, 2, 2))
    higher = np.stack([np.linalg.cholesky(least.T @ least + m.T @ m).T for m in more])
    pop = mean_population(contrast_means(np.stack([higher[0], least, higher[1]])))
    found = js.gaussian_channel(pop, reference=1)
    np.testing.assert_array_equal(found.noise[1], 0)
    assert np.abs(found.noise[0]).max() > 0.1
    *own, meet = grams(found)
    np.testing.assert_allclose(meet, own[1], atol=10 * SNAPPED * np.trace(own[1]))


@pytest.mark.parametrize("subspace", SUBSPACES)
def test_two_classes_take_the_least_separation(subspace):
    found = solved(2, 4, 2, subspace, 3)
    for index in range(BATCH):
        *own, meet = grams(row(found, index))
        np.testing.assert_allclose(meet, min(own), rtol=500 * EPS)
    assert (found.steps == 0).all()
    if subspace == "discriminant":
        assert ((found.noise[..., 0, 0] == 0).sum(1) == 1).all()


def test_kl_depends_neither_on_the_subspace_nor_on_the_reference():
    found = [solved(3, 3, 4, *how).kl for how in (SUBSPACES[:1], ("all", 2))]
    np.testing.assert_allclose(found[1], found[0], rtol=3000 * EPS)


@pytest.mark.parametrize(
    ("k", "d", "kind"),
    [(4, 2, "free"), (3, 4, "collinear"), (3, 4, "blind"), (3, 4, "none")],
)
def test_degenerate_class_means_leave_no_residual(k, d, kind):
    channels = solved(k, 3, d, kind=kind)
    assert channels.residual.max() < 100 * EPS
    assert channels.converged.all()
    if kind in ("blind", "none"):
        means = channels.target.conditionals.mean
        np.testing.assert_allclose(means, 0, atol=100 * EPS)


@pytest.mark.parametrize("subspace", SUBSPACES)
def test_only_the_directions_that_every_group_has_are_kept(subspace):
    rng = np.random.default_rng(1)
    # In three dimensions group 0 lacks one direction and group 1 another.
    roots = rng.normal(size=(3, 4, 3)) @ np.stack(
        [np.diag([0.0, 1, 1]), np.diag([1.0, 0, 1]), np.eye(3)]
    )
    pop = mean_population(contrast_means(roots))
    found = js.gaussian_channel(pop, subspace=subspace, reference=2)
    assert found.residual < 100 * EPS
    *_, meet = grams(found)
    basis = np.eye(3)[2]
    lengths = [1 / (basis @ np.linalg.pinv(r.T @ r) @ basis) for r in roots]
    values, vectors = np.linalg.eigh(meet)
    inner = linalg.null_space(np.ones((1, 4))).T @ linalg.null_space(
        np.asarray(pop.priors.sum(1), float)[None]
    )
    np.testing.assert_allclose(values[:2], 0, atol=500 * EPS)
    np.testing.assert_allclose(values[2], min(lengths), rtol=2e3 * EPS)
    assert abs(basis @ inner @ vectors[:, 2]) > 1 - 500 * EPS


@pytest.mark.parametrize("subspace", SUBSPACES)
def test_gradients_equal_finite_differences(subspace):
    pop = population(3, 4, groups=3, seed=4)
    step = 2e-2 if EPS > 1e-10 else 1e-4
    tangent = np.random.default_rng(0).normal(size=pop.conditionals.mean.shape)
    tangent = jnp.asarray(tangent)

    def summary(mean):
        cells = js.MultivariateNormal(mean, pop.conditionals.cov)
        s = js.gaussian_channel(
            js.Population(pop.priors, cells), subspace=subspace, reference=1
        )
        moved = jax.vmap(lambda m, x: m(x))(s.group_maps, mean[0])
        return s.kl + jnp.sum(s.noise) + jnp.sum(jnp.cos(moved))

    mean = pop.conditionals.mean
    points = jnp.stack([mean, mean + step * tangent, mean - step * tangent])
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(summary)))(points)
    expected = (values[1] - values[2]) / (2 * step)
    rtol = 2e-2 if EPS > 1e-10 else 1e-5
    np.testing.assert_allclose(jnp.vdot(gradients[0], tangent), expected, rtol=rtol)


@pytest.mark.parametrize("groups", [2, 3])
def test_equal_groups_are_left_alone_and_have_finite_gradients(groups):
    pop = population(3, 4, groups=1, seed=1)
    many = partial(jnp.repeat, repeats=groups, axis=1)

    def solve(mean):
        cells = js.MultivariateNormal(mean, many(pop.conditionals.cov))
        return js.gaussian_channel(
            js.Population(many(pop.priors), cells), subspace="all", reference=1
        )

    def summary(mean):
        s = solve(mean)
        return jnp.sum(s.group_maps.weight) + jnp.sum(s.noise), s

    (_, found), gradient = jax.jit(jax.value_and_grad(summary, has_aux=True))(
        many(pop.conditionals.mean)
    )
    assert jnp.isfinite(gradient).all()
    np.testing.assert_allclose(
        found.group_maps.weight, np.broadcast_to(np.eye(4), (groups, 4, 4)),
        atol=2e3 * EPS + SNAPPED,
    )  # fmt: skip
    np.testing.assert_allclose(found.noise, 0, atol=(1e3 * EPS) ** 0.5)


def test_vmap_gives_each_problem_its_own_answer():
    batch = solved(3, 3, 4)
    alone = js.gaussian_channel(row(batch.source, 4), reference=1)
    tolerance = 2e3 * EPS + SNAPPED
    pairs = zip(jax.tree.leaves(alone), jax.tree.leaves(row(batch, 4)), strict=True)
    for one, many in pairs:
        np.testing.assert_allclose(one, many, atol=tolerance, rtol=tolerance)
