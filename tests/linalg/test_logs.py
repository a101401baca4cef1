from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxsteer.linalg import expm1_minus, log_or_zero, relative_entropy

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)


def test_log_or_zero_equals_log_where_positive():
    x = jnp.array([1e-30, 0.3, 1.0, 7.0, jnp.inf])
    np.testing.assert_array_equal(log_or_zero(x), jnp.log(x))
    np.testing.assert_array_equal(
        log_or_zero(jnp.array([0.0, -0.0, -1.0, -jnp.inf])), jnp.zeros(4)
    )


def test_log_or_zero_gradient_at_the_edge():
    grad = jax.vmap(jax.grad(log_or_zero))
    np.testing.assert_allclose(
        grad(jnp.array([-1.0, 0.0, 0.5, 4.0])), [0.0, 0.0, 2.0, 0.25], rtol=4 * EPS
    )


def test_relative_entropy_equals_scipy():
    rng = np.random.default_rng(0)
    p, q = rng.uniform(0.01, 1, (2, 50))
    p[:5] = 0.0
    p[3:5] = q[3:5] = 0.0
    found = relative_entropy(jnp.asarray(p), jnp.asarray(q))
    np.testing.assert_allclose(found, scipy.special.rel_entr(p, q), atol=20 * EPS)


def test_relative_entropy_is_infinite_without_support():
    assert relative_entropy(jnp.array(0.3), jnp.array(0.0)) == jnp.inf
    assert relative_entropy(jnp.array(0.0), jnp.array(0.0)) == 0


@pytest.mark.parametrize("q", [0.0, 1e-6, 0.5, 1.0, 3.0])
def test_relative_entropy_gradient_at_p_zero_is_zero(q):
    grads = jax.grad(relative_entropy, (0, 1))(jnp.array(0.0), jnp.array(q))
    assert grads == (0.0, 0.0)


def test_relative_entropy_gradient_inside():
    p, q = jnp.array(0.2), jnp.array(0.7)
    dp, dq = jax.grad(relative_entropy, (0, 1))(p, q)
    np.testing.assert_allclose(dp, np.log(0.2 / 0.7) + 1, rtol=20 * EPS)
    np.testing.assert_allclose(dq, -0.2 / 0.7, rtol=20 * EPS)


def test_relative_entropy_gradient_of_a_whole_vector_with_a_zero():
    p, q = jnp.array([0.0, 0.4, 0.6]), jnp.array([0.2, 0.3, 0.5])
    grad = jax.jit(jax.grad(lambda p: jnp.sum(relative_entropy(p, q))))(p)
    np.testing.assert_allclose(
        grad, [0, np.log(4 / 3) + 1, np.log(6 / 5) + 1], rtol=20 * EPS
    )


def exact(x):
    """Series in extended precision where it converges fast, the formula elsewhere."""
    x = np.asarray(x, np.longdouble)
    term, total = x * x / 2, np.zeros_like(x)
    for k in range(3, 60):
        total += term
        term = term * x / k
    return np.where(np.abs(x) < 2, total, np.expm1(x) - x)


SIZES = np.concatenate([np.geomspace(1e-10, 40, 400), [0.0999, 0.1, 0.499, 0.5, 0.501]])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_expm1_minus_keeps_its_digits_at_every_scale(sign):
    x = (sign * SIZES).astype(DTYPE)
    expected = exact(x)
    found = np.asarray(expm1_minus(jnp.asarray(x))).astype(np.longdouble)
    error = np.abs(found - expected) / expected
    # 5 roundings of cancellation at worst, and those of expm1 itself.
    assert error.max() < 16 * EPS
    assert (found > 0).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_expm1_minus_derivative_is_expm1(sign):
    x = (sign * SIZES).astype(DTYPE)
    found = jax.vmap(jax.grad(expm1_minus))(jnp.asarray(x))
    np.testing.assert_allclose(found, np.expm1(x.astype(np.float64)), rtol=8 * EPS)
    second = jax.vmap(jax.grad(jax.grad(expm1_minus)))(jnp.asarray(x))
    expected = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(second, expected, rtol=8 * EPS, atol=2 * EPS)


def test_expm1_minus_at_zero():
    assert expm1_minus(jnp.array(0.0)) == 0
    assert jax.grad(expm1_minus)(0.0) == 0
    assert jax.grad(jax.grad(expm1_minus))(0.0) == 1
