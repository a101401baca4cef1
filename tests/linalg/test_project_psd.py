from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.linalg import project_psd

EPS = float(jnp.finfo(jnp.result_type(float)).eps)


def symmetric(seed, d=4):
    a = np.random.default_rng(seed).normal(size=(d, d))
    return (a + a.T) / 2


def rotated(values, seed=0):
    d = len(values)
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    return (q * np.asarray(values, float)) @ q.T


def project64(a):
    values, vectors = np.linalg.eigh((a + a.T) / 2)
    return (vectors * np.maximum(values, 0)) @ vectors.T


seeds = pytest.mark.parametrize("seed", range(5))


@seeds
def test_value_is_feasible_and_equal_to_numpy(seed):
    a = symmetric(seed)
    found = np.asarray(project_psd(jnp.asarray(a)))
    np.testing.assert_allclose(found, project64(a), atol=50 * EPS)
    assert np.linalg.eigvalsh(found).min() > -50 * EPS
    np.testing.assert_allclose(found, found.T, atol=10 * EPS)


@seeds
def test_idempotent_and_nothing_moves_inside(seed):
    inside = rotated([0.1, 1.0, 2.0, 3.0], seed)
    np.testing.assert_allclose(project_psd(jnp.asarray(inside)), inside, atol=50 * EPS)
    once = project_psd(jnp.asarray(symmetric(seed)))
    np.testing.assert_allclose(project_psd(once), once, atol=50 * EPS)
    np.testing.assert_allclose(project_psd(jnp.asarray(-inside)), 0, atol=50 * EPS)


@seeds
def test_nearest_and_variational_inequality(seed):
    a = symmetric(seed)
    found = np.asarray(project_psd(jnp.asarray(a)), float)
    rng = np.random.default_rng(100 + seed)
    distance = np.linalg.norm(a - found)
    for scale in (0.01, 0.1, 1.0):
        for _ in range(50):
            other = project64(found + scale * symmetric(rng.integers(10**6)))
            assert np.linalg.norm(a - other) >= distance - 100 * EPS
            # <a - P(a), y - P(a)> <= 0 for every feasible y characterizes P.
            assert np.sum((a - found) * (other - found)) <= 100 * EPS


GENERIC = {
    "mixed": [-1.0, -0.5, 0.7, 2.0],
    "positive": [0.2, 1.0, 1.5, 2.0],
    "negative": [-3.0, -1.0, -0.5, -0.2],
    "repeated": [-1.0, -1.0, 2.0, 2.0],
    "near-repeated": [-1.0, -1.0 - 1e-9, 2.0, 2.0 + 1e-9],
}


@pytest.mark.parametrize("values", GENERIC.values(), ids=GENERIC)
def test_derivatives_at_generic_points(values):
    a, da, out = rotated(values), symmetric(1), symmetric(2)
    step = 1e-5
    expected = (project64(a + step * da) - project64(a - step * da)) / (2 * step)
    _, forward = jax.jvp(project_psd, (jnp.asarray(a),), (jnp.asarray(da),))
    atol = max(200 * EPS, 1e-8)
    np.testing.assert_allclose(forward, expected, atol=atol)
    (back,) = jax.vjp(project_psd, jnp.asarray(a))[1](jnp.asarray(out))
    np.testing.assert_allclose(
        jnp.sum(back * da), np.sum(expected * out), atol=20 * atol
    )


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [-1.0, 0.0, 1.0]])
def test_gradient_is_finite_at_zero_eigenvalues(values):
    a = jnp.diag(jnp.array(values))
    assert jnp.isfinite(jax.jacrev(project_psd)(a)).all()


def test_gradient_at_zero_is_the_average_of_both_sides():
    da = jnp.asarray(symmetric(0))
    _, found = jax.jvp(project_psd, (jnp.zeros((4, 4)),), (da,))
    np.testing.assert_allclose(found, da / 2, atol=20 * EPS)


def test_nan_stays_nan():
    assert jnp.isnan(project_psd(jnp.full((2, 2), jnp.nan))).all()


def test_vmap_of_value_and_gradient():
    batch = np.stack([symmetric(seed) for seed in range(4)])
    expected = np.stack([project64(a) for a in batch])
    found = jax.jit(jax.vmap(project_psd))(jnp.asarray(batch))
    np.testing.assert_allclose(found, expected, atol=50 * EPS)
    # |P(a)|^2 / 2 has gradient P(a).
    grad = jax.grad(lambda a: 0.5 * jnp.sum(project_psd(a) ** 2))
    found = jax.jit(jax.vmap(grad))(jnp.asarray(batch))
    np.testing.assert_allclose(found, expected, atol=200 * EPS)
