from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxsteer.linalg import (
    entropy_remainder,
    gamma_excess,
    lgamma_bregman,
    log_minus_digamma,
    log_quotient,
    stirling_remainder,
)

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)


def pairs(n=300):
    """Arguments from 1e-4 to 1e6, near each other and far apart."""
    rng = np.random.default_rng(0)
    a = 10 ** rng.uniform(-4, 6, n)
    near = a * np.exp(10 ** rng.uniform(-5, -0.1, n) * rng.choice([-1, 1], n))
    b = np.where(rng.random(n) < 0.5, near, 10 ** rng.uniform(-4, 6, n))
    return tuple(np.array(jnp.asarray(v, DTYPE), float) for v in (a, b))


def with_slopes(fn):
    return jax.jit(jax.vmap(jax.value_and_grad(fn, (0, 1))))


@pytest.mark.parametrize("fn", [lgamma_bregman, gamma_excess])
def test_remainders_of_lgamma_keep_their_digits(fn):
    mp = pytest.importorskip("mpmath", reason="the reference is in 50 digits")

    def reference(x, y):
        with mp.workdps(50):
            x, y = mp.mpf(x), mp.mpf(y)
            step, low, high = y - x, mp.digamma(x), mp.digamma(y)
            rows = [mp.loggamma(y) - mp.loggamma(x) - low * step]
            rows += [-mp.polygamma(1, x) * step, high - low]
            if fn is gamma_excess:
                log_ratio = mp.log(y / x)
                less = (x - y + y * log_ratio, -step / x, log_ratio)
                rows = [row - part for row, part in zip(rows, less, strict=True)]
            return [float(row) for row in rows]

    a, b = pairs()
    value, slopes = with_slopes(fn)(jnp.asarray(a, DTYPE), jnp.asarray(b, DTYPE))
    expected = np.array([reference(x, y) for x, y in zip(a, b, strict=True)]).T
    limit = 25 if fn is lgamma_bregman else 200
    for found, known in zip((value, *slopes), expected, strict=True):
        np.testing.assert_allclose(found, known, rtol=limit * EPS)


@pytest.mark.parametrize("fn", [lgamma_bregman, gamma_excess])
def test_remainders_vanish_with_their_slopes(fn):
    a = jnp.asarray([1e-6, 0.3, 9.999, 10.0, 10.001, 1e5], DTYPE)
    for found in jax.tree.leaves(with_slopes(fn)(a, a)):
        np.testing.assert_array_equal(found, 0)


def test_a_known_step_replaces_the_difference():
    step = 1e-5
    found = lgamma_bregman(1.0, 1.0 + jnp.asarray(step), jnp.asarray(step))
    expected = np.pi**2 / 12 * step**2 + scipy.special.polygamma(2, 1) * step**3 / 6
    np.testing.assert_allclose(found, expected, rtol=1e-9 + 30 * EPS)


def test_stirlings_remainder_and_digamma_equal_scipys():
    mp = pytest.importorskip("mpmath", reason="the reference is in 50 digits")
    x, _ = pairs()
    point = jnp.asarray(x, DTYPE)
    with mp.workdps(50):
        gaps = [float(mp.log(v) - mp.digamma(v)) for v in x]
        slopes = [float(1 / mp.mpf(v) - mp.polygamma(1, v)) for v in x]
        binet = [
            float(
                mp.loggamma(v)
                - (mp.mpf(v) - 0.5) * mp.log(v)
                + v
                - mp.log(2 * mp.pi) / 2
            )
            for v in x
        ]
    found = jax.jit(jax.vmap(jax.value_and_grad(log_minus_digamma)))(point)
    np.testing.assert_allclose(found[0], gaps, rtol=50 * EPS)
    np.testing.assert_allclose(found[1], slopes, rtol=300 * EPS)
    np.testing.assert_allclose(
        stirling_remainder(point), binet, rtol=10 * EPS, atol=50 * EPS
    )


def test_entropy_remainder_at_the_edges():
    p = jnp.asarray([0.0, 0.0, 1.0, jnp.nan, 1.0, 1e-30], DTYPE)
    q = jnp.asarray([2.0, 0.0, 0.0, 1.0, jnp.nan, 1e20], DTYPE)
    found = entropy_remainder(p, q)
    np.testing.assert_array_equal(found[:3], [2.0, 0.0, np.inf])
    assert np.isnan(found[3]) and np.isnan(found[4])
    np.testing.assert_allclose(found[5], 1e20, rtol=10 * EPS)
    slopes = jax.grad(lambda p, q: jnp.sum(entropy_remainder(p, q)), (0, 1))
    at_p, at_q = slopes(p[:2], q[:2])
    np.testing.assert_array_equal(at_p, 0)
    np.testing.assert_array_equal(at_q, 1)


def test_log_quotient_keeps_the_digits_of_quotients_near_one():
    b = jnp.asarray([1.0, 3.0, 1e-5, 1e6], DTYPE)
    a = b * (1 + 4096 * EPS)
    excess = (np.array(a, np.longdouble) - np.array(b)) / np.array(b)
    np.testing.assert_allclose(log_quotient(a, b), np.log1p(excess), rtol=4 * EPS)
    np.testing.assert_allclose(log_quotient(a, 1e-3 * b), np.log(1e3), rtol=1e4 * EPS)
