from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import EPS, FAMILIES, SCALAR, member

from jaxsteer.families import DiagonalNormal, MultivariateNormal, Normal

N = 20_000
LOGGED = ("LogNormal", "MultivariateLogNormal", "TransformedNormal")


@pytest.mark.parametrize("name", FAMILIES)
def test_moments_of_a_batch_within_five_standard_errors(name):
    p = member(name, 1, (2,))
    x = np.asarray(p.sample(jax.random.key(0), (N,)), float)
    d = () if name in SCALAR else (3,)
    assert x.shape == (N, 2, *d)
    base = p.base if name in LOGGED else p
    mean, cov = np.asarray(base.mean, float), np.asarray(base.cov, float)
    if name in LOGGED:
        assert (x > 0).all()
        x = np.log(x)
    if name in SCALAR:
        x, mean, cov = x[..., None], mean[:, None], cov[:, None, None]
    centered = x - mean
    variance = np.diagonal(cov, axis1=-2, axis2=-1)
    error = np.sqrt(variance / N)
    assert (np.abs(centered.mean(0)) <= 5 * error).all()
    product = np.einsum("nbi,nbj->bij", centered, centered) / N
    spread = variance[:, :, None] * variance[:, None, :] + cov**2
    assert (np.abs(product - cov) <= 5 * np.sqrt(spread / N)).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_key_decides_and_shape_is_the_leading_part(name):
    p = member(name, 2)
    key, other = jax.random.split(jax.random.key(3))
    d = () if name in SCALAR else (3,)
    one = p.sample(key)
    assert one.shape == d
    np.testing.assert_array_equal(one, p.sample(key))
    assert (np.asarray(one) != np.asarray(p.sample(other))).all()
    assert p.sample(key, (2, 5)).shape == (2, 5, *d)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_samples_have_the_parameters_precision(dtype):
    loc, scale = jnp.zeros(2, dtype), jnp.ones(2, dtype)
    key = jax.random.key(0)
    assert Normal(loc, scale).sample(key).dtype == dtype
    assert DiagonalNormal(loc, scale).sample(key).dtype == dtype
    assert DiagonalNormal(loc, scale).cov.dtype == dtype
    if dtype == "float32":  # no Cholesky of half precision
        cov = jnp.eye(2, dtype=dtype)
        assert MultivariateNormal(loc, cov).sample(key).dtype == dtype


def test_whole_numbers_are_fine_parameters():
    key = jax.random.key(1)
    found = Normal(2, 3).sample(key, (4,))
    np.testing.assert_allclose(found, Normal(2.0, 3.0).sample(key, (4,)), rtol=EPS)
    law = MultivariateNormal(jnp.zeros(2, int), jnp.eye(2))
    assert jnp.issubdtype(law.sample(key).dtype, jnp.floating)


@pytest.mark.parametrize("name", ["Normal", "MultivariateNormal"])
def test_jit_and_vmap_over_keys(name):
    p = member(name, 4)
    keys = jax.random.split(jax.random.key(5), 3)
    found = jax.jit(jax.vmap(lambda k: p.sample(k)))(keys)
    expected = jnp.stack([p.sample(k) for k in keys])
    np.testing.assert_allclose(found, expected, atol=50 * EPS)
