from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import (
    EPS,
    FAMILIES,
    SCALAR,
    build,
    mean_and_cov,
    member,
    parameters,
)
from scipy import stats

from jaxsteer.families import LogNormal, MultivariateLogNormal, Normal

LOG_PROB = jax.jit(lambda p, x: p.log_prob(x))
POINTS = np.array([0.2, 0.7, 1.0, 2.5, 9.0])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SCALAR)
def test_univariate_equals_scipy(name, seed):
    loc, scale = parameters(name, seed)
    peer = {
        "Normal": stats.norm(loc, scale),
        "LogNormal": stats.lognorm(scale, scale=np.exp(loc)),
    }[name]
    found = LOG_PROB(build(name, loc, scale), jnp.asarray(POINTS))
    atol = max(1e-12, 50 * EPS) * np.abs(peer.logpdf(POINTS)).max()
    np.testing.assert_allclose(found, peer.logpdf(POINTS), atol=atol)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in SCALAR])
def test_multivariate_equals_scipy(name, seed):
    values = parameters(name, seed)
    x = np.random.default_rng(seed).lognormal(size=(5, 3))
    peer = stats.multivariate_normal(*mean_and_cov(name, *values))
    if "LogNormal" in name or name == "TransformedNormal":
        expected = peer.logpdf(np.log(x)) - np.log(x).sum(-1)
    else:
        expected = peer.logpdf(x)
    found = LOG_PROB(build(name, *values), jnp.asarray(x))
    # The quadratic form has the condition of the covariance in its error.
    atol = max(1e-11, 300 * EPS) * (1 + np.abs(expected).max())
    np.testing.assert_allclose(found, expected, atol=atol)


@pytest.mark.parametrize("name", FAMILIES)
def test_points_broadcast_against_the_batch(name):
    p = member(name, 0, (4,))
    d = () if name in SCALAR else (3,)
    x = jnp.asarray(np.random.default_rng(1).lognormal(size=(5, 1, *d)))
    found = LOG_PROB(p, x)
    assert found.shape == (5, 4)
    one = jax.tree.map(lambda leaf: leaf[2], p)
    np.testing.assert_allclose(found[:, 2], LOG_PROB(one, x[:, 0]), rtol=200 * EPS)


@pytest.mark.parametrize("x", [0.0, -1.0, -np.inf, np.inf])
def test_off_the_support_is_minus_infinity(x):
    assert LOG_PROB(LogNormal(0.0, 1.0), x) == -np.inf
    p = MultivariateLogNormal(jnp.zeros(2), jnp.eye(2))
    found = p.log_prob(jnp.array([[1.0, x], [1.0, 1.0]]))
    assert found[0] == -np.inf
    np.testing.assert_allclose(found[1], -np.log(2 * np.pi), rtol=10 * EPS)
    slope = jax.grad(lambda loc: LogNormal(loc, 1.0).log_prob(x))(0.0)
    assert slope == 0


def test_a_missing_value_is_not_off_the_support():
    assert np.isnan(LOG_PROB(LogNormal(0.0, 1.0), jnp.nan))
    p = MultivariateLogNormal(jnp.zeros(2), jnp.eye(2))
    assert np.isnan(p.log_prob(jnp.array([-1.0, jnp.nan])))


def test_slope_in_x_is_the_score():
    slope = jax.grad(lambda x: Normal(1.0, 2.0).log_prob(x))(4.0)
    np.testing.assert_allclose(slope, -(4 - 1) / 4, rtol=10 * EPS)
