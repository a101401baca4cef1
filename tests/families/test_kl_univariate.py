from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import EPS, as_numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from jaxsteer.families import (
    DiagonalNormal,
    LogNormal,
    MultivariateNormal,
    Normal,
    TransformedNormal,
    kl_divergence,
)
from jaxsteer.maps import Exp

locs = st.floats(-3, 3)
scales = st.floats(0.05, 4)


def normal(loc, scale):
    return Normal(loc, scale)


def diagonal(loc, scale):
    return DiagonalNormal(loc[None], scale[None])


def dense(loc, scale):
    return MultivariateNormal(loc[None], jnp.square(scale)[None, None])


def log_normal(loc, scale):
    return LogNormal(loc, scale)


def transformed(loc, scale):
    return TransformedNormal(Normal(loc, scale), Exp())


LINE = {f.__name__: f for f in (normal, diagonal, dense)}
HALF_LINE = {f.__name__: f for f in (log_normal, transformed)}
PAIRS = [
    *(("normal", "normal"), ("diagonal", "diagonal"), ("diagonal", "dense")),
    *(("dense", "diagonal"), ("dense", "dense")),
    *((p, q) for p in HALF_LINE for q in HALF_LINE),
]


@functools.cache
def compiled(first, second):
    builders = LINE | HALF_LINE

    def kl(m, s, n, t):
        return kl_divergence(builders[first](m, s), builders[second](n, t))

    return jax.jit(kl)


def quadrature(first, m, s, n, t):
    """``KL`` from the densities (held against SciPy elsewhere) by quadrature."""
    half = first in HALF_LINE

    def log_density(x, loc, scale):
        z = (np.log(x) - loc) / scale if half else (x - loc) / scale
        slope = np.log(x) if half else 0.0
        return -0.5 * z * z - np.log(scale) - 0.5 * np.log(2 * np.pi) - slope

    def integrand(u):
        # On the half-line at logarithmic pace, with dx = x du.
        x = np.exp(u) if half else u
        p, q = log_density(x, m, s), log_density(x, n, t)
        return np.exp(p) * (p - q) * (x if half else 1.0)

    found = integrate.quad(
        integrand, m - 12 * s, m + 12 * s, epsabs=0, epsrel=1e-11, limit=200
    )
    return found[0]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@settings(max_examples=12, deadline=None)
@given(m=locs, s=scales, n=locs, t=scales)
def test_equals_quadrature(pair, m, s, n, t):
    m, s, n, t = (as_numbers(v) for v in (m, s, n, t))
    if "dense" in pair:  # a variance is rounded where a deviation is not
        s, t = (np.sqrt(as_numbers(np.float64(as_numbers(v)) ** 2)) for v in (s, t))
    found = float(np.squeeze(compiled(*pair)(*map(jnp.asarray, (m, s, n, t)))))
    expected = quadrature(pair[0], m, s, n, t)
    rtol = max(1e-8, 40 * EPS)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 700.0])
@pytest.mark.parametrize("excess", [0.3, 1e-2, 1e-3, 1e-4])
def test_nearly_equal_scales_keep_their_digits(scale, excess):
    p, q = as_numbers(scale * (1 + excess)), as_numbers(scale)
    kl = kl_divergence(Normal(0.0, jnp.asarray(p)), Normal(0.0, jnp.asarray(q)))
    x = np.longdouble((p - q) / q)
    # KL = (2 x + x^2) / 2 - log(1 + x), from its alternating series.
    terms = [(-1) ** k * x**k / k for k in range(3, 40)]
    np.testing.assert_allclose(float(kl), float(x**2 + sum(terms)), rtol=20 * EPS)


def test_far_apart_scales_do_not_overflow_to_nan():
    tiny = kl_divergence(Normal(0.0, 1e-15), Normal(0.0, 1.0)).item()
    np.testing.assert_allclose(tiny, -0.5 - np.log(1e-15), rtol=20 * EPS)
    slopes = jax.grad(lambda s: kl_divergence(Normal(0.0, s), Normal(0.0, 1.0)))(1e-15)
    np.testing.assert_allclose(slopes, -1e15, rtol=20 * EPS)
