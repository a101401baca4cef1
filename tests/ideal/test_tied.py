"""The tied closed form: optimal, ideal, and the least movement among equals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import ortho_group

import jaxsteer as js
from jaxsteer.maps._shared_covariance import tied_map
from tests.ideal.problems import random_multivariate


def _objective(source_mean, source_cov, mean, cov, weights):
    """Weighted KL of the mapped template to the source, as a function of the map."""
    precision = np.linalg.inv(source_cov)
    constant = np.linalg.slogdet(source_cov)[1] - np.linalg.slogdet(cov)[1]
    d = mean.shape[1]

    def value_and_gradient(free):
        matrix, shift = free[: d * d].reshape(d, d), free[d * d :]
        gap = mean @ matrix.T + shift - source_mean
        inner = np.einsum("ij,kjl,ml,im->k", matrix, cov, matrix, precision)
        logdet = np.linalg.slogdet(matrix)[1]
        value = inner + np.einsum("ki,ij,kj->k", gap, precision, gap) - d
        value = 0.5 * weights @ (value + constant - 2 * logdet)
        moment = np.einsum("k,kij->ij", weights, cov)
        slope = precision @ (matrix @ moment + (weights * gap.T) @ mean)
        slope = slope - weights.sum() * np.linalg.inv(matrix).T
        return value, np.concatenate([slope.ravel(), precision @ (weights @ gap)])

    return value_and_gradient


@pytest.mark.parametrize("allow_reflection", [False, True])
@pytest.mark.parametrize(("k", "d"), [(1, 2), (2, 1), (2, 3), (3, 2), (4, 3), (3, 5)])
def test_equals_brute_force(k, d, allow_reflection, eps):
    rng = np.random.default_rng([k, d])
    solve = jax.jit(lambda *a: tied_map(*a, allow_reflection=allow_reflection))
    for _ in range(4):
        pop = random_multivariate(rng, k, 2, d, tied=True)
        mean, cov = (np.asarray(a, float) for a in jax.tree.leaves(pop.conditionals))
        weights = rng.dirichlet(np.ones(k))
        objective = _objective(mean[:, 0], cov[0, 0], mean[:, 1], cov[:, 1], weights)
        pooled = np.einsum("k,kij->ij", weights, cov[:, 1])
        problem = (mean[:, 0], cov[0, 0], mean[:, 1], pooled, weights)
        found = solve(*(jnp.asarray(a) for a in problem))
        ours = np.concatenate([np.ravel(found.weight), np.ravel(found.bias)])
        best = np.inf
        for seed in range(8):
            turn = ortho_group.rvs(d, random_state=seed) if d > 1 else np.eye(1)
            if not allow_reflection and np.linalg.det(turn) < 0:
                turn[0] *= -1
            start = np.concatenate([turn.ravel(), np.zeros(d)])
            end = minimize(objective, start, jac=True, method="BFGS")
            proper = np.linalg.det(end.x[: d * d].reshape(d, d)) > 0
            if proper or allow_reflection:
                best = min(best, end.fun)
        assert objective(ours.astype(float))[0] - best < max(1e-8, 500 * eps)
        if not allow_reflection:
            assert np.linalg.det(np.asarray(found.weight, float)) > 0


@pytest.mark.parametrize("n_groups", [2, 3])
def test_target_is_an_orbit_of_the_reference(n_groups, eps):
    rng = np.random.default_rng(1)
    pop = random_multivariate(rng, 3, n_groups, 4, tied=False)
    found = js.nearest_ideal(pop, maps="shared_covariance", reference=1).require()
    cells = found.target.conditionals
    for a in range(n_groups):
        move = jax.tree.map(lambda leaf: leaf[a], found.group_maps)  # noqa: B023
        steered = jax.tree.map(lambda leaf: leaf[:, a], cells).pushforward(  # noqa: B023
            jax.tree.map(lambda leaf: leaf[None], move)
        )
        assert jnp.allclose(steered.mean, cells.mean[:, 1], atol=3e3 * eps)
        assert jnp.allclose(steered.cov, cells.cov[:, 1], atol=3e3 * eps)
    priors = found.target.priors
    assert jnp.allclose(
        priors / priors[:1], (priors / priors[:1])[:, :1], rtol=20 * eps
    )


def test_null_space_rotation_moves_the_data_least(eps):
    """Turning the part that KL does not see never brings the data nearer."""
    rng = np.random.default_rng(2)
    pop = random_multivariate(rng, 2, 2, 5, tied=True)
    cells = pop.conditionals
    weights = np.array([0.3, 0.7])
    found = tied_map(
        cells.mean[:, 0],
        cells.cov[0, 0],
        cells.mean[:, 1],
        jnp.einsum("k,kij->ij", weights, cells.cov[:, 1]),
        jnp.asarray(weights),
    )
    mean, cov = np.asarray(cells.mean[:, 1], float), np.asarray(cells.cov[:, 1], float)
    objective = _objective(
        np.asarray(cells.mean[:, 0], float),
        np.asarray(cells.cov[0, 0], float),
        mean,
        cov,
        weights,
    )
    matrix = np.asarray(found.weight, float)
    within = np.einsum("k,kij->ij", weights, cov)
    centered = (mean - weights @ mean) * np.sqrt(weights)[:, None]
    second = within + centered.T @ centered
    left, right = (
        np.linalg.cholesky(np.asarray(cells.cov[0, 0], float)),
        np.linalg.cholesky(second),
    )
    inner = np.linalg.solve(left, matrix) @ right

    def movement(candidate):
        step = candidate - np.eye(5)
        return np.trace(step @ within @ step.T)

    # The class means' direction, which KL sees, in the whitened coordinates.
    seen = np.linalg.solve(right, centered[0])
    seen /= np.linalg.norm(seen)
    basis = np.linalg.svd(np.eye(5) - np.outer(seen, seen))[0][:, :4]
    base = objective(np.concatenate([matrix.ravel(), np.asarray(found.bias, float)]))[0]
    for seed in range(50):
        turn = ortho_group.rvs(4, random_state=seed)
        rotated = np.outer(seen, seen) + basis @ turn @ basis.T
        candidate = left @ inner @ rotated @ np.linalg.inv(right)
        shift = weights @ np.asarray(cells.mean[:, 0], float) - candidate @ (
            weights @ mean
        )
        same = objective(np.concatenate([candidate.ravel(), shift]))[0]
        assert abs(same - base) < max(1e-9, 1e3 * eps)
        if np.linalg.det(turn) > 0:
            assert movement(matrix) <= movement(candidate) + 1e3 * eps


def test_equal_groups_are_left_alone(eps):
    rng = np.random.default_rng(3)
    pop = random_multivariate(rng, 3, 2, 6, tied=True)
    same = js.MultivariateNormal(
        jnp.repeat(pop.conditionals.mean[:, :1], 2, 1),
        jnp.repeat(pop.conditionals.cov[:, :1], 2, 1),
    )
    found = js.nearest_ideal(
        js.Population(pop.priors, same), maps="shared_covariance", reference=1
    )
    assert jnp.allclose(found.group_maps.weight, jnp.eye(6), atol=2e3 * eps)
    assert float(found.feature_kl) < 2e3 * eps


def test_many_more_classes_than_features_and_the_reverse(eps):
    rng = np.random.default_rng(4)
    for k, d in [(12, 2), (2, 12)]:
        found = js.nearest_ideal(
            random_multivariate(rng, k, 2, d, tied=True),
            maps="shared_covariance",
            reference=1,
        )
        assert found.converged
        assert jnp.isfinite(found.group_maps.weight).all()


def test_collinear_class_means(eps):
    rng = np.random.default_rng(5)
    pop = random_multivariate(rng, 4, 2, 4, tied=True)
    line = jnp.arange(4.0)[:, None, None] * jnp.ones((1, 2, 4))
    cells = js.MultivariateNormal(line.astype(pop.priors.dtype), pop.conditionals.cov)
    found = js.nearest_ideal(
        js.Population(pop.priors, cells), maps="shared_covariance", reference=1
    )
    assert found.converged
    inverse = jnp.linalg.inv(found.group_maps.weight[0])
    assert jnp.isfinite(inverse).all()


def test_gradient_of_the_map_matches_finite_differences(x64):
    rng = np.random.default_rng(6)
    for k, d in [(2, 3), (3, 4), (4, 2)]:
        pop = random_multivariate(rng, k, 2, d, tied=True)

        def total(mean, pop=pop):
            cells = js.MultivariateNormal(mean, pop.conditionals.cov)
            found = js.nearest_ideal(
                js.Population(pop.priors, cells), maps="shared_covariance", reference=1
            )
            return jnp.sum(jnp.sin(found.group_maps.weight)) + found.kl

        mean = pop.conditionals.mean
        direction = jnp.asarray(rng.normal(size=mean.shape))
        step = 1e-6
        difference = (
            total(mean + step * direction) - total(mean - step * direction)
        ) / (2 * step)
        slope = jnp.sum(jax.grad(total)(mean) * direction)
        assert jnp.allclose(slope, difference, rtol=1e-6, atol=1e-7)
        _, forward = jax.jvp(total, (mean,), (direction,))
        assert jnp.allclose(forward, slope, rtol=1e-9)
