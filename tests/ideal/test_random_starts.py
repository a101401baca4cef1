"""Random starts of general maps: where they begin, and the lower minima that they find."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.ideal._matrix_programs import random_count
from jaxsteer.solvers import random_matrices

D, K, COUNT = 5, 3, 6


def skewed_groups():
    """Groups of three classes, nearly affine images of each other, with many minima."""
    rng = np.random.default_rng(10)
    turn = [rng.normal(size=(D, D)) / np.sqrt(D) + 0.5 * np.eye(D) for _ in range(2)]
    mean, cov = np.empty((K, 2, D)), np.empty((K, 2, D, D))
    for k in range(K):
        near, far = 0.3 * rng.normal(size=(2, D, D)) / np.sqrt(D) + np.eye(D)
        center = rng.normal(size=D)
        mean[k] = turn[0] @ center + 0.2 * rng.normal(size=D) + 1, turn[1] @ center
        shape = near @ near.T
        cov[k, 0] = turn[0] @ far @ shape @ far.T @ turn[0].T
        cov[k, 1] = turn[1] @ shape @ turn[1].T
    cov += 0.05 * np.eye(D)
    priors = rng.dirichlet(3 * np.ones(2 * K)).reshape(K, 2)
    cells = js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    return js.Population(jnp.asarray(priors), cells)


@partial(jax.jit, static_argnames=("starts", "reflect"))
def divergence(pop, *, starts=None, reflect=False):
    solver = js.solvers.MatrixNewton(random_starts=starts)
    return js.nearest_ideal(
        pop, reference=1, allow_reflection=reflect, solver=solver
    ).feature_kl


@pytest.fixture(scope="module")
def found():
    pop = skewed_groups()
    return {
        (starts, reflect): float(divergence(pop, starts=starts, reflect=reflect))
        for starts, reflect in ((0, False), (None, False), (None, True))
    }


def test_random_starts_find_a_lower_minimum_and_never_a_higher_one(found):
    assert found[None, False] < 0.99 * found[0, False]
    assert found[None, True] <= found[None, False] * (1 + 1e-5)


def test_what_is_found_without_random_starts_is_never_lost(x64):
    # Where covariances are ill-conditioned the lowest after some steps may end higher.
    rng = np.random.default_rng(4)
    n = 24
    axes = np.linalg.qr(rng.normal(size=(n, K, 2, D, D)))[0]
    sizes = np.exp(rng.uniform(0, np.log(1e6), size=(n, K, 2, 1, D)))
    mean = rng.normal(size=(n, K, 2, D))
    cov = (axes * sizes) @ np.swapaxes(axes, -1, -2)
    priors = rng.dirichlet(np.ones(2 * K), size=n).reshape(n, K, 2)
    cells = js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    pops = js.Population(jnp.asarray(priors), cells)
    without, default = (
        jax.jit(jax.vmap(partial(divergence, starts=starts)))(pops)
        for starts in (0, None)
    )
    assert (default <= without * (1 + 1e-7)).all()
    assert (default < 0.99 * without).sum() > 3


def test_other_coordinates_of_the_features_change_nothing(found):
    rng = np.random.default_rng(1)
    pop = skewed_groups()
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0] * np.array([1, 3, 0.5, 2, 1])
    moved = pop.conditionals.pushforward(
        js.maps.AffineMap(jnp.asarray(turn), jnp.ones(D))
    )
    there = divergence(js.Population(pop.priors, moved))
    assert np.isclose(there, found[None, False], rtol=1e-4)


@pytest.mark.parametrize("mirrored", [False, True])
def test_every_start_brings_the_moments_to_those_of_the_metric(mirrored, eps):
    rng = np.random.default_rng(3)
    half = rng.normal(size=(2, D, 2 * D))
    metric, moment = jnp.asarray(half @ half.swapaxes(1, 2) / (2 * D))
    direction = jnp.asarray(rng.normal(size=D))
    starts = random_matrices(metric, moment, direction, COUNT, mirrored=mirrored)
    images = starts @ moment @ jnp.swapaxes(starts, 1, 2) @ metric
    np.testing.assert_allclose(
        images, np.tile(np.eye(D), (COUNT, 1, 1)), atol=1e3 * eps
    )
    assert (np.sign(np.linalg.det(np.asarray(starts))) == (-1 if mirrored else 1)).all()
    assert len(np.unique(np.round(np.asarray(starts)[:, 0, 0], 3))) == COUNT
    # In other coordinates y = t x the same maps are t x t^-1.
    turn = rng.normal(size=(D, D))
    back = np.linalg.inv(turn)
    there = random_matrices(
        jnp.asarray(back.T @ np.asarray(metric) @ back),
        jnp.asarray(turn @ np.asarray(moment) @ turn.T),
        jnp.asarray(turn) @ direction,
        COUNT,
        mirrored=mirrored,
    )
    size = np.abs(np.asarray(starts)).max()
    np.testing.assert_allclose(back @ there @ turn, starts, atol=1e5 * eps * size)


def test_how_many_there_are():
    newton = js.solvers.MatrixNewton
    assert random_count(newton(), 16, 3) == 16
    assert random_count(newton(), 17, 3) == random_count(newton(), 5, 2) == 0
    assert random_count(newton(random_starts=3), 100, 2) == 3
    assert random_count(js.solvers.ProjectedGradient(), 5, 3) == 0
