from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from jaxsteer.linalg import polar_orthogonal

EPS = float(jnp.finfo(jnp.result_type(float)).eps)


def matrix(seed, d, sign):
    """A matrix with singular values 2 .. 0.5 and the sign of determinant wanted."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(2))
    a = (u * np.geomspace(2, 0.5, d)) @ v.T
    if np.linalg.det(a) * sign < 0:
        a[:, 0] *= -1
    return a


def polar64(a, proper):
    u, s, vt = np.linalg.svd(a)
    flip = np.ones(len(s))
    if proper and np.linalg.det(u @ vt) < 0:
        flip[-1] = -1
    return (u * flip) @ vt


signs = pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "reflection"])
propers = pytest.mark.parametrize("proper", [False, True])


@signs
@pytest.mark.parametrize("d", [1, 2, 3, 7])
def test_equals_orthogonal_procrustes(d, sign):
    a = matrix(d, d, sign)
    # min |o - a| over orthogonal o is Procrustes from the identity to a.
    expected, _ = scipy.linalg.orthogonal_procrustes(np.eye(d), a)
    found = polar_orthogonal(jnp.asarray(a))
    np.testing.assert_allclose(found, expected, atol=50 * EPS)
    np.testing.assert_allclose(found @ found.T, np.eye(d), atol=50 * EPS)
    np.testing.assert_allclose(np.linalg.det(found), sign, atol=50 * EPS)


@signs
@pytest.mark.parametrize("d", [2, 3, 5])
def test_proper_is_the_best_rotation(d, sign):
    a = matrix(d, d, sign)
    found = np.asarray(polar_orthogonal(jnp.asarray(a), True), float)
    np.testing.assert_allclose(np.linalg.det(found), 1, atol=50 * EPS)
    best = np.sum(found * a)
    far = scipy.stats.special_ortho_group.rvs(d, 200, random_state=d)
    rng = np.random.default_rng(d)
    skew = rng.normal(size=(200, d, d)) * 0.1
    near = [found @ scipy.linalg.expm(s - s.T) for s in skew]
    for rotation in [*far.reshape(-1, d, d), *near]:
        assert np.sum(rotation * a) <= best + 50 * EPS


@propers
@signs
@pytest.mark.parametrize("d", [1, 2, 4])
def test_derivative_equals_finite_differences(d, sign, proper):
    a = matrix(10 + d, d, sign)
    da = np.random.default_rng(d).normal(size=(d, d))
    step = 1e-5
    plus, minus = (polar64(a + t * da, proper) for t in (step, -step))
    expected = (plus - minus) / (2 * step)
    _, found = jax.jvp(
        lambda a: polar_orthogonal(a, proper), (jnp.asarray(a),), (jnp.asarray(da),)
    )
    scale = max(np.abs(expected).max(), 1.0)
    atol = max(500 * EPS, 1e-8) * scale
    np.testing.assert_allclose(found, expected, atol=atol)
    out = np.random.default_rng(1).normal(size=(d, d))
    back = jax.grad(lambda a: jnp.sum(polar_orthogonal(a, proper) * out))
    along = np.sum(np.asarray(back(jnp.asarray(a))) * da)
    np.testing.assert_allclose(along, np.sum(expected * out), atol=10 * atol)


@propers
@pytest.mark.parametrize(
    "a",
    [np.eye(3), np.zeros((3, 3)), np.diag([1.0, 0, 0]), np.diag([1.0, 1.0, -1.0])],
    ids=["identity", "zero", "rank-one", "tie"],
)
def test_gradient_is_finite_where_the_answer_is_not_unique(a, proper):
    grad = jax.grad(lambda a: jnp.sum(polar_orthogonal(a, proper)))(jnp.asarray(a))
    assert jnp.isfinite(grad).all()


def test_gradient_is_damped_at_a_rotated_rank_one_matrix():
    rng = np.random.default_rng(0)
    a = np.outer(rng.normal(size=4), rng.normal(size=4))
    grad = jax.grad(lambda a: jnp.sum(polar_orthogonal(a)))(jnp.asarray(a))
    # Rounding in the null block must not be divided by rounding.
    assert float(jnp.abs(grad).max()) < 100


@propers
def test_jit_vmap_grad(proper):
    batch = jnp.asarray(np.stack([matrix(s, 3, (-1) ** s) for s in range(4)]))
    out = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
    grad = jax.grad(lambda a: jnp.sum(polar_orthogonal(a, proper) * out))
    found = jax.jit(jax.vmap(grad))(batch)
    np.testing.assert_allclose(
        found, jnp.stack([grad(a) for a in batch]), atol=500 * EPS
    )
