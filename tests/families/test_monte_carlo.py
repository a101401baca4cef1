"""Divergences by simulation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import jaxsteer as js

KEY = jax.random.key(3)


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (js.Normal(0.0, 1.0), js.Normal(0.5, 2.0)),
        (js.Gamma(2.0, 1.0), js.Gamma(1.0, 2.0)),
        (js.Poisson(3.0), js.Poisson(2.0)),
        (
            js.MultivariateNormal(jnp.zeros(3), jnp.eye(3)),
            js.MultivariateNormal(jnp.ones(3), 2 * jnp.eye(3)),
        ),
    ],
)
def test_agrees_with_the_closed_form(p, q):
    found = js.families.kl_divergence_mc(p, q, KEY, 20_000)
    assert abs(float(found.value - p.kl(q))) < 4 * float(found.standard_error)
    assert 0 < float(found.standard_error) < 0.1


def test_agrees_with_quadrature_where_there_is_no_closed_form():
    found = js.families.kl_divergence_mc(
        js.Laplace(0.0, 1.0), js.Normal(0.3, 1.5), KEY, 20_000
    )
    p, q = stats.laplace(), stats.norm(0.3, 1.5)
    expected, _ = integrate.quad(
        lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -40, 40, points=[0]
    )
    assert abs(float(found.value) - expected) < 4 * float(found.standard_error)


def test_batches_and_jit():
    p = js.Normal(jnp.zeros((2, 3)), jnp.ones((2, 3)))
    q = js.Laplace(jnp.zeros((2, 3)), jnp.ones((2, 3)))
    found = jax.jit(js.families.kl_divergence_mc, static_argnums=3)(p, q, KEY, 500)
    assert found.value.shape == found.standard_error.shape == (2, 3)
    again = js.families.kl_divergence_mc(p, q, KEY, 500)
    assert np.allclose(found.value, again.value, rtol=1e-5)


def test_the_standard_error_is_that_of_repeated_estimates():
    p, q = js.Normal(0.0, 1.0), js.Normal(1.0, 1.0)
    keys = jax.random.split(KEY, 400)
    found = jax.vmap(lambda key: js.families.kl_divergence_mc(p, q, key, 200))(keys)
    ratio = float(jnp.std(found.value) / jnp.mean(found.standard_error))
    assert 0.85 < ratio < 1.15


def test_off_the_support_is_infinite():
    found = js.families.kl_divergence_mc(
        js.Normal(0.0, 1.0), js.Exponential(1.0), KEY, 100
    )
    assert float(found.value) == np.inf


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="n_samples=1 must be"):
        js.families.kl_divergence_mc(js.Normal(0.0, 1.0), js.Normal(0.0, 1.0), KEY, 1)
