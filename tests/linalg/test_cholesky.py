from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxsteer.linalg import (
    cholesky_psd,
    logdet_from_cholesky,
    solve_psd,
    whiten,
    whiten_transposed,
)

EPS = float(jnp.finfo(jnp.result_type(float)).eps)


def psd(seed, d, condition=10.0):
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return (q * np.geomspace(1, 1 / condition, d)) @ q.T


@pytest.mark.parametrize("d", [1, 2, 5, 20])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_regular_matrix_needs_no_jitter(d, scale):
    a = scale * psd(d, d)
    found = cholesky_psd(jnp.asarray(a))
    assert found.jitter == 0
    expected = np.linalg.cholesky(a)
    error = np.abs(np.asarray(found.factor) - expected).max()
    assert error < 50 * EPS * np.abs(expected).max()
    assert (np.triu(np.asarray(found.factor), 1) == 0).all()


@pytest.mark.parametrize("rank", [1, 3, 5])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_singular_matrix_reports_its_jitter(rank, scale):
    # Exact zeros: a null space known only up to rounding may or may not factor.
    padded = np.zeros((6, 6))
    padded[:rank, :rank] = scale * psd(rank, rank)
    a = jnp.asarray(padded)
    found = cholesky_psd(a)
    level = float(jnp.trace(a)) / 6
    assert 0 < found.jitter <= EPS**0.5 * level
    rebuilt = found.factor @ found.factor.T - found.jitter * jnp.eye(6)
    np.testing.assert_allclose(rebuilt, a, atol=20 * EPS * level)


def test_least_jitter_of_the_ladder_is_taken():
    # Indefinite by a known amount: the first rung above it must be chosen.
    lowest = -3e3 * EPS
    a = jnp.diag(jnp.array([1.0, 1.0, 1.0, lowest]))
    wide = cholesky_psd(a, max_jitter=1e6 * EPS)
    level = float(jnp.trace(a)) / 4
    # Rungs are 10, 1000, 1e5 and 1e7 eps; 1e7 is beyond the limit given.
    np.testing.assert_allclose(float(wide.jitter), 1e5 * EPS * level, rtol=1e-5)


def test_limit_on_the_jitter_is_kept():
    singular = jnp.ones((3, 3))
    assert jnp.isfinite(cholesky_psd(singular).factor).all()
    forbidden = cholesky_psd(singular, max_jitter=0.0)
    assert forbidden.jitter == 0
    assert jnp.isnan(forbidden.factor).any()
    # A regular matrix passes without any jitter allowed.
    assert jnp.isfinite(cholesky_psd(jnp.eye(3), max_jitter=0.0).factor).all()


@pytest.mark.parametrize(
    "a",
    [np.diag([1.0, -0.5]), np.array([[1.0, 2.0], [2.0, 1.0]]), np.full((2, 2), np.nan)],
    ids=["negative", "indefinite", "nan"],
)
def test_indefinite_matrix_is_nan_not_repaired(a):
    assert jnp.isnan(cholesky_psd(jnp.asarray(a)).factor).any()


def test_only_the_symmetric_part_counts():
    a = psd(0, 4)
    skew = np.triu(np.ones((4, 4)), 1) - np.tril(np.ones((4, 4)), -1)
    found = cholesky_psd(jnp.asarray(a + skew)).factor
    np.testing.assert_allclose(found, np.linalg.cholesky(a), atol=20 * EPS)


def test_vmap_keeps_the_rows_apart():
    regular, singular, wrong = jnp.eye(3), jnp.ones((3, 3)), -jnp.eye(3)
    found = jax.jit(jax.vmap(cholesky_psd))(jnp.stack([regular, singular, wrong]))
    assert found.jitter[0] == 0
    np.testing.assert_array_equal(found.factor[0], jnp.eye(3))
    alone = cholesky_psd(singular)
    np.testing.assert_allclose(found.factor[1], alone.factor, rtol=10 * EPS)
    np.testing.assert_allclose(found.jitter[1], alone.jitter, rtol=10 * EPS)
    assert jnp.isnan(found.factor[2]).any()


def test_gradient_of_logdet_is_the_inverse_also_under_vmap():
    def logdet(a):
        return logdet_from_cholesky(cholesky_psd(a).factor)

    batch = np.stack([psd(seed, 4) for seed in range(3)])
    found = jax.jit(jax.vmap(jax.grad(logdet)))(jnp.asarray(batch))
    expected = np.linalg.inv(batch)
    np.testing.assert_allclose(found, expected, atol=500 * EPS * 10)
    # Forward mode is the same number.
    direction = np.random.default_rng(0).normal(size=(4, 4))
    _, slope = jax.jvp(logdet, (jnp.asarray(batch[0]),), (jnp.asarray(direction),))
    np.testing.assert_allclose(slope, np.sum(expected[0] * direction), rtol=500 * EPS)


def test_gradient_at_a_singular_matrix_is_finite():
    def total(a):
        return jnp.sum(cholesky_psd(a).factor)

    assert jnp.isfinite(jax.grad(total)(jnp.ones((3, 3)))).all()


@pytest.mark.parametrize("d", [1, 3, 10])
def test_logdet_equals_numpy(d):
    a = 3 * psd(d, d, 100.0)
    found = logdet_from_cholesky(cholesky_psd(jnp.asarray(a)).factor)
    np.testing.assert_allclose(found, np.linalg.slogdet(a)[1], rtol=1e4 * EPS)


@pytest.mark.parametrize("columns", [1, 4])
@pytest.mark.parametrize("d", [1, 3, 10])
def test_solves_equal_scipy(d, columns):
    a = psd(d, d, 10.0)
    b = np.random.default_rng(d).normal(size=(d, columns))
    lower = np.linalg.cholesky(a)
    factor, rhs = jnp.asarray(lower), jnp.asarray(b)
    for found, expected in (
        (whiten(factor, rhs), scipy.linalg.solve_triangular(lower, b, lower=True)),
        (
            whiten_transposed(factor, rhs),
            scipy.linalg.solve_triangular(lower, b, lower=True, trans=1),
        ),
        (solve_psd(factor, rhs), scipy.linalg.cho_solve((lower, True), b)),
    ):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=500 * EPS * scale)


@pytest.mark.parametrize("solver", [whiten, whiten_transposed, solve_psd])
def test_leading_axes_of_both_arguments_broadcast(solver):
    lower = jnp.linalg.cholesky(jnp.asarray(np.stack([psd(s, 3) for s in range(4)])))
    b = jnp.asarray(np.random.default_rng(0).normal(size=(5, 1, 3, 2)))
    found = solver(lower, b)
    assert found.shape == (5, 4, 3, 2)
    one = solver(lower[2], b[3, 0])
    np.testing.assert_allclose(found[3, 2], one, atol=100 * EPS * 10)
    np.testing.assert_allclose(solver(lower[0], b)[1, 0], solver(lower[0], b[1, 0]))


def test_factor_is_a_pytree():
    found = cholesky_psd(jnp.eye(2))
    leaves, tree = jax.tree.flatten(found)
    assert len(leaves) == 2
    again = jax.tree.unflatten(tree, leaves)
    assert type(again) is type(found)
    np.testing.assert_array_equal(again.factor, found.factor)
