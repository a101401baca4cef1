"""Divergences of continuous families against PyTorch's, or against quadrature."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import DTYPE, EPS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from more_families import make, pair_of_parameters, scipy_law
from scipy import integrate

from jaxsteer.families import VonMises, kl_divergence

pytestmark = pytest.mark.slow

KL = jax.jit(kl_divergence)
BATCH = (32,)
# The fixture only skips; nothing of it changes between examples.
SKIPS = [HealthCheck.function_scoped_fixture]
IN_TORCH = ("Laplace", "Exponential", "Gamma", "Gumbel", "Pareto", "Beta", "Dirichlet")
BY_QUADRATURE = ("InverseGamma", "InverseGaussian", "Weibull", "Rayleigh", "VonMises")


@pytest.mark.parametrize("name", IN_TORCH)
@settings(max_examples=15, suppress_health_check=SKIPS)
@given(seed=st.integers(0, 2**20), scale=st.floats(1e-3, 1))
def test_equals_torch(x64, name, seed, scale):
    torch = pytest.importorskip("torch", reason="the peer is PyTorch")
    p, q = pair_of_parameters(name, seed, BATCH)
    q = [a + scale * (b - a) for a, b in zip(p, q, strict=True)]
    if name == "Pareto":
        p, q = p[::-1], q[::-1]
    laws = [getattr(torch.distributions, name)(*map(torch.tensor, v)) for v in (p, q)]
    expected = torch.distributions.kl_divergence(*laws).numpy()
    if name == "Pareto":
        p, q = p[::-1], q[::-1]
    found = KL(make(name, p), make(name, q))
    # The peer's differences of large numbers lose digits near p = q.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-11)


@pytest.mark.parametrize("name", BY_QUADRATURE)
@settings(max_examples=15, suppress_health_check=SKIPS)
@given(seed=st.integers(0, 2**20))
def test_equals_quadrature(x64, name, seed):
    p, q = pair_of_parameters(name, seed)
    found = float(KL(make(name, p), make(name, q)))
    first, second = scipy_law(name, p), scipy_law(name, q)

    def integrand(u):
        # Over the probability for angles, at logarithmic pace on the half-line.
        x = u if name == "VonMises" else np.exp(u)
        log_p = first.logpdf(x)
        slope = 1.0 if name == "VonMises" else x
        return slope * np.exp(log_p) * (log_p - second.logpdf(x)) if log_p > -700 else 0

    if name == "VonMises":
        ends = float(p[0]) - np.pi, float(p[0]) + np.pi
    elif name == "InverseGaussian":  # SciPy's own ends are not finite everywhere
        ends = np.log(p[0]) - 12, np.log(p[0]) + 12
    else:
        ends = np.log(first.ppf(1e-15)), np.log(first.isf(1e-15))
    middle = float(p[0]) if name == "VonMises" else np.log(first.median())
    expected = integrate.quad(
        integrand, *ends, points=[middle], epsabs=0, epsrel=1e-10, limit=400
    )[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_pareto_is_infinite_off_its_support():
    p = make("Pareto", [np.full(2, 2.0), np.array([1.0, 1.0])])
    q = make("Pareto", [np.full(2, 2.0), np.array([1.5, 1.0])])
    np.testing.assert_array_equal(KL(p, q), [np.inf, 0])


@pytest.mark.parametrize("a", [0.0, 1e-3, 1.0, 39.0, 41.0, 1e3, 1e6])
def test_von_mises_of_every_concentration(a):
    mp = pytest.importorskip("mpmath", reason="the reference is in 60 digits")
    a = float(jnp.asarray(a, DTYPE))
    factors = [0.3, 0.5, 0.51, 0.9, 0.9999, 1.01, 1.49, 1.51, 4.0]
    b = np.array(
        jnp.asarray([a * f for f in factors] + [a + 0.9, a + 1.1], DTYPE), float
    )
    found = KL(
        VonMises(0.0, jnp.asarray(a, DTYPE)), VonMises(0.0, jnp.asarray(b, DTYPE))
    )
    with mp.workdps(60):
        mean = mp.besseli(1, a) / mp.besseli(0, a)
        log_i0 = mp.log(mp.besseli(0, a))
        expected = [
            float(mp.log(mp.besseli(0, y)) - log_i0 - mean * (mp.mpf(y) - a)) for y in b
        ]
    np.testing.assert_allclose(found, expected, rtol=200 * EPS, atol=1e-30)


@pytest.mark.parametrize("name", ["Gamma", "Beta", "InverseGamma"])
def test_narrow_laws_of_equal_means_keep_their_digits(name):
    """Where only the concentration differs, plain formulas lose all digits."""
    mp = pytest.importorskip("mpmath", reason="the reference is in 60 digits")
    a, b = (float(jnp.asarray(v, DTYPE)) for v in (3e4, 3.3e4))
    p, q = (a, 2 * a), (b, 2 * b)
    found = KL(make(name, np.array(p)), make(name, np.array(q)))
    with mp.workdps(60):

        def psi(x):  # what is left of lgamma where the means are equal
            return mp.loggamma(x) - x * mp.log(x) + x

        def remainder(x, y):
            x, y = mp.mpf(x), mp.mpf(y)
            return psi(y) - psi(x) - (mp.digamma(x) - mp.log(x)) * (y - x)

        expected = remainder(a, b)
        if name == "Beta":
            expected += remainder(2 * a, 2 * b) - remainder(3 * a, 3 * b)
    np.testing.assert_allclose(float(found), float(expected), rtol=100 * EPS)
