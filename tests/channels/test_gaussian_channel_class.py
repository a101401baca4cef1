"""Unequal covariances: exact with ``covariances="class"``, measured without."""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import jaxsteer as js
from tests.channels.test_gaussian_channel import (
    EPS,
    compiled,
    delivered,
    population,
    row,
)

pytestmark = pytest.mark.slow

BATCH = 12


@lru_cache
def compiled_class():
    return jax.jit(
        jax.vmap(lambda pop: js.gaussian_channel(pop, covariances="class", reference=1))
    )


@lru_cache
def solved(g, d, *, tied=False):
    pops = population(2, d, groups=g, batch=(BATCH,), seed=1, tied=tied)
    return compiled_class()(pops)


def pieces(one):
    """Pooled covariances, their differences and mean differences of each group."""
    cells = one.source.conditionals
    mean, cov = (np.asarray(v, float) for v in (cells.mean, cells.cov))
    share = np.asarray(one.source.priors, float).sum(1)
    pooled = np.einsum("k,kaij->aij", share / share.sum(), cov)
    return pooled, cov[1] - cov[0], mean[1] - mean[0]


@pytest.mark.parametrize(("g", "d"), [(2, 3), (4, 4)])
def test_each_class_has_one_law_in_all_groups(g, d):
    channels = solved(g, d)
    assert channels.converged.all()
    assert channels.residual.max() < 10 * EPS
    for index in range(BATCH):
        one = row(channels, index)
        means, covs = delivered(one)
        aim = one.target.conditionals
        np.testing.assert_allclose(means, aim.mean, atol=2e3 * EPS)
        np.testing.assert_allclose(covs, aim.cov, atol=2e3 * EPS)
        assert (np.asarray(one.noise)[:, 0, 0] == 0).sum() >= 1
    gaps = (
        channels.target.conditionals.cov[:, 1] - channels.target.conditionals.cov[:, 0]
    )
    assert np.abs(gaps).max() > 0.05


def test_averaged_covariances_leave_the_classes_own_apart():
    pops = population(2, 3, batch=(BATCH,), seed=1, tied=False)
    channels = compiled("discriminant", 1)(pops)
    assert (channels.residual > 1e-3).all()
    for index in range(3):
        one = row(channels, index)
        means, covs = delivered(one)
        share = np.asarray(one.source.priors, float).sum(1)
        pooled = np.einsum("k,kaij->aij", share / share.sum(), covs)
        np.testing.assert_allclose(means[:, 0], means[:, 1], atol=2e3 * EPS)
        np.testing.assert_allclose(pooled, 1, atol=2e3 * EPS)
        assert np.abs(covs[:, 0] - covs[:, 1]).max() > 1e-3


@pytest.mark.parametrize("index", range(3))
def test_no_exact_direction_separates_better(index):
    one = row(solved(2, 3), index)
    pooled, bend, gap = pieces(one)
    d = gap.shape[-1]

    def part(x, a):
        return x[a * d : (a + 1) * d]

    def variance(x, a):
        return part(x, a) @ pooled[a] @ part(x, a)

    rules = [
        {"type": "eq", "fun": lambda x, a=a: part(x, a) @ gap[a] - 1} for a in (0, 1)
    ] + [
        {"type": "ineq", "fun": lambda x, a=a: x[-1] - variance(x, a)} for a in (0, 1)
    ]  # fmt: skip
    rules.append(
        {"type": "eq", "fun": lambda x: part(x, 0) @ bend[0] @ part(x, 0)
         - part(x, 1) @ bend[1] @ part(x, 1)}
    )  # fmt: skip
    rng = np.random.default_rng(0)
    linear = np.concatenate(
        [np.linalg.solve(p, v) for p, v in zip(pooled, gap, strict=True)]
    )
    ends = []
    for spread in (0.0, 0.3, 0.3, 0.3, 1.0, 1.0):
        start = np.append(linear + spread * rng.normal(size=2 * d), 1.0)
        end = minimize(
            lambda x: x[-1], start, constraints=rules, method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-12},
        )  # fmt: skip
        ends += [end.x[-1]] if end.success else []
    mean = np.asarray(one.target.conditionals.mean, float)[:, 0, 0]
    np.testing.assert_allclose(
        (mean[1] - mean[0]) ** -2, min(ends), rtol=1e-6 + 1e3 * EPS
    )


def test_equal_covariances_give_the_pooled_channel():
    tied = solved(3, 4, tied=True)
    pooled = compiled("discriminant", 1)(tied.source)
    assert tied.converged.all()
    np.testing.assert_allclose(
        tied.group_maps.weight, pooled.group_maps.weight, atol=500 * EPS
    )
    np.testing.assert_allclose(tied.noise, pooled.noise, atol=(10 * EPS) ** 0.5)


def test_one_feature_has_no_exact_channel():
    found = solved(2, 1)
    assert (found.status == js.Status.INFEASIBLE).all()
    assert (found.residual > 10 * EPS).all()
    with pytest.raises(js.SolveError, match="INFEASIBLE"):
        found.require()


def population_of(mean, cov):
    cells = js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    return js.Population(jnp.full(cells.mean.shape[:2], 0.25), cells)


def test_a_bend_across_the_mean_difference_is_used():
    # No multiplier reaches the common difference: the other axis makes it up.
    cov = np.stack(
        [np.stack([np.eye(2)] * 2), np.stack([np.diag([2, 0.5]), np.diag([1, 3.0])])]
    )
    mean = np.zeros((2, 2, 2))
    mean[1, :, 0] = 1, 2
    found = js.gaussian_channel(
        population_of(mean, cov), covariances="class", reference=1
    )
    assert found.converged
    assert found.residual < 10 * EPS
    # Group 1 reads (1/2, u) for each unit of mean difference, with 2 u^2 = 1.
    read = np.abs(np.asarray(found.group_maps.weight)[1, 0])
    np.testing.assert_allclose(read[1] / read[0], 2 * 0.5**0.5, rtol=1e-3)


def test_a_group_without_a_mean_difference_leaves_noise():
    pop = population(2, 3, kind="blind", seed=1, tied=False)
    found = js.gaussian_channel(pop, covariances="class", reference=1)
    assert found.converged
    np.testing.assert_array_equal(found.group_maps.weight, 0)
    np.testing.assert_array_equal(found.noise, 1)
    assert found.residual == 0


def test_gradients_equal_finite_differences():
    pops = [population(2, 3, groups=3, seed=seed, tied=False) for seed in (3, 4, 6)]
    pops = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pops)
    rng = np.random.default_rng(0)
    moves = rng.normal(size=pops.conditionals.mean.shape)
    bends = rng.normal(size=pops.conditionals.cov.shape)
    bends = 0.1 * (bends + bends.swapaxes(-1, -2))

    def summary(t, pop, move, bend):
        cells = js.MultivariateNormal(
            pop.conditionals.mean + t * move, pop.conditionals.cov + t * bend
        )
        s = js.gaussian_channel(
            js.Population(pop.priors, cells), covariances="class", reference=1
        )
        spread = s.target.conditionals.cov[0, 0, 0, 0]
        read = jnp.sum(jnp.sin(s.group_maps.weight))
        values = jnp.stack([jnp.sum(s.noise), read, spread])
        return values, values

    step = 3e-3 if EPS > 1e-10 else 1e-5
    points = jnp.array([0.0, step, -step])
    both = jax.vmap(jax.jacrev(summary, has_aux=True), (0, None, None, None))
    slopes, values = jax.jit(jax.vmap(both, (None, 0, 0, 0)))(
        points, pops, jnp.asarray(moves), jnp.asarray(bends)
    )
    share = 2e-2 if EPS > 1e-10 else 1e-5
    for slope, value in zip(slopes[:, 0], values, strict=True):
        expected = (value[1] - value[2]) / (2 * step)
        np.testing.assert_allclose(slope, expected, atol=share * np.abs(expected).max())
