"""Divergences by quadrature, against closed forms and SciPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import jaxsteer as js

P = jnp.array([0.7, 1.0, 2.5])
Q = jnp.array([1.1, 1.0, 0.6])
CLOSED = [
    (js.Normal(P, Q), js.Normal(Q, P)),
    (js.Laplace(P, Q), js.Laplace(Q, P)),
    (js.families.Gumbel(P, Q), js.families.Gumbel(Q, P)),
    (js.Exponential(P), js.Exponential(Q)),
    (js.Gamma(1 + P, Q), js.Gamma(1 + Q, P)),
    (js.Weibull(1 + P, Q), js.Weibull(1 + Q, P)),
    (js.families.Rayleigh(P), js.families.Rayleigh(Q)),
    (js.Beta(1 + P, 1 + Q), js.Beta(1 + Q, 1 + P)),
]


@pytest.mark.parametrize(("p", "q"), CLOSED, ids=lambda law: type(law).__name__)
def test_equals_the_closed_form(p, q, eps):
    found = js.families.kl_divergence_quadrature(p, q)
    np.testing.assert_allclose(
        found.value, js.kl_divergence(p, q), rtol=max(1e-8, 300 * eps), atol=1e-9
    )
    # Families equal to each other have a divergence of exactly 0, not a rounding.
    assert float(js.families.kl_divergence_quadrature(p, p).value.max()) == 0


MIXED = [
    (js.Normal(0.0, 1.0), js.Laplace(0.3, 1.2), stats.norm(), stats.laplace(0.3, 1.2)),
    (
        js.Exponential(1.5),
        js.Normal(0.2, 1.0),
        stats.expon(0, 1 / 1.5),
        stats.norm(0.2, 1.0),
    ),
    (
        js.Weibull(1.5, 1.0),
        js.Gamma(2.0, 1.0),
        stats.weibull_min(1.5),
        stats.gamma(2.0),
    ),
]


QUADRATURE = jax.jit(js.families.kl_divergence_quadrature)


@pytest.mark.parametrize(("p", "q", "scipy_p", "scipy_q"), MIXED)
def test_pairs_without_a_closed_form_equal_scipy(p, q, scipy_p, scipy_q, eps):
    found = QUADRATURE(p, q)

    def integrand(x):
        return scipy_p.pdf(x) * (scipy_p.logpdf(x) - scipy_q.logpdf(x))

    low = max(scipy_p.support()[0], -30)
    expected = integrate.quad(integrand, low, 30, limit=400, epsabs=1e-12, points=[0.3])
    assert abs(float(found.value) - expected[0]) < max(1e-8, 100 * eps)
    assert float(found.standard_error) < max(1e-6, 100 * eps)


def test_off_the_support_it_is_infinite():
    found = js.families.kl_divergence_quadrature(
        js.Normal(0.0, 1.0), js.Exponential(1.0)
    )
    assert float(found.value) == np.inf
    assert float(found.standard_error) == 0


def test_jit_vmap_and_gradient(eps):
    def divergence(loc):
        p, q = js.Normal(loc, 1.0), js.Laplace(0.0, 1.0)
        return js.families.kl_divergence_quadrature(p, q).value

    values = jax.jit(jax.vmap(divergence))(P)
    np.testing.assert_allclose(values[0], divergence(P[0]), rtol=100 * eps)
    h = 1e-3
    ends, slopes = jax.jit(jax.vmap(jax.value_and_grad(divergence)))(
        jnp.asarray([1.0 + h, 1.0 - h, 1.0])
    )
    finite = (ends[0] - ends[1]) / (2 * h)
    assert abs(float(slopes[2] - finite)) < 1e-5 + 300 * eps / h


def test_what_cannot_be_integrated_is_refused():
    normal = js.Normal(0.0, 1.0)
    with pytest.raises(ValueError, match="n_panels=1 must be a whole number"):
        js.families.kl_divergence_quadrature(normal, normal, 1)
    vector = js.MultivariateNormal(jnp.zeros(2), jnp.eye(2))
    with pytest.raises(ValueError, match="q must be laws of one feature"):
        js.families.kl_divergence_quadrature(normal, vector)
