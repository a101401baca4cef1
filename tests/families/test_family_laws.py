"""Densities, samples, moments and maps of every family besides the normal ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import DTYPE, EPS, as_numbers
from more_families import (
    CONTINUOUS,
    DISCRETE,
    PARAMETERS,
    VECTORS,
    draw,
    make,
    scipy_law,
)
from scipy import stats

from jaxsteer import families
from jaxsteer.maps import DiagonalMap

pytestmark = pytest.mark.slow

LOG_PROB = jax.jit(lambda p, x: p.log_prob(x))
SAMPLE = jax.jit(lambda p, key: p.sample(key, (N,)))
N = 20_000
SCALARS = tuple(name for name in PARAMETERS if name not in VECTORS)
LOCATION_SCALE = ("Laplace", "Gumbel")
SCALE = [
    "Exponential",
    "Gamma",
    "InverseGamma",
    "InverseGaussian",
    "Weibull",
    "Rayleigh",
    "Pareto",
]


def log_prob_of_scipy(name, law, x):
    return law.logpmf(x) if name in DISCRETE else law.logpdf(x)


@pytest.mark.parametrize("name", SCALARS)
def test_log_prob_equals_scipy(name):
    values = draw(name, 0, (6,))
    p, law = make(name, values), scipy_law(name, values)
    x = as_numbers(law.rvs((40, 6), random_state=1))
    if name == "Beta":  # rounding may carry a sample to the edge
        x = np.clip(x, EPS, 1 - EPS)
    found = LOG_PROB(p, jnp.asarray(x, DTYPE))
    assert found.shape == (40, 6)
    expected = log_prob_of_scipy(name, law, x)
    # A sample's rounding moves the density by its slope.
    np.testing.assert_allclose(found, expected, atol=300 * EPS, rtol=100 * EPS)
    one = jax.tree.map(lambda leaf: leaf[2], p)
    np.testing.assert_allclose(
        LOG_PROB(one, jnp.asarray(x[:, 2], DTYPE)), found[:, 2], atol=100 * EPS
    )


def test_log_prob_of_shares_equals_scipy():
    (a,) = draw("Dirichlet", 0)
    x = np.random.default_rng(1).dirichlet(a, 40)
    expected = stats.dirichlet(a).logpdf(x.T)
    found = LOG_PROB(make("Dirichlet", [a]), jnp.asarray(x, DTYPE))
    np.testing.assert_allclose(found, expected, atol=2e3 * EPS)


def test_log_prob_of_codes():
    (logits,) = draw("Categorical", 0, (3,))
    p = make("Categorical", [logits])
    found = LOG_PROB(p, jnp.arange(4)[:, None])
    expected = (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).T
    np.testing.assert_allclose(found, expected, atol=50 * EPS)
    x = jnp.asarray([0.5, -1.0, 4.0, jnp.nan])[:, None]
    np.testing.assert_array_equal(found := LOG_PROB(p, x), found)
    np.testing.assert_array_equal(found[:3], -np.inf)


@pytest.mark.parametrize("name", ["Gamma", "Beta", "Poisson", "VonMises"])
def test_narrow_laws_keep_the_digits_of_their_density(name):
    values = {
        "Gamma": [30000.0, 3.0],
        "Beta": [20000.0, 50000.0],
        "Poisson": [30000.0],
        "VonMises": [0.5, 30000.0],
    }[name]
    law = scipy_law(name, [np.float64(v) for v in values])
    x = as_numbers(law.rvs(30, random_state=0))
    found = LOG_PROB(make(name, values), jnp.asarray(x, DTYPE))
    expected = log_prob_of_scipy(name, law, x)
    # The plain formulas lose 1e5 times EPS, and float64 SciPy some of it.
    np.testing.assert_allclose(found, expected, atol=max(1e-9, 3e3 * EPS))


OFF_SUPPORT = {
    "Exponential": [-1e-3, -np.inf],
    "Gamma": [0.0, -1.0, np.inf],
    "InverseGamma": [0.0, -1.0, np.inf],
    "InverseGaussian": [0.0, -1.0, np.inf],
    "Weibull": [0.0, -1.0, np.inf],
    "Rayleigh": [0.0, -1.0, np.inf],
    "Pareto": [0.1, -1.0, np.inf],
    "Laplace": [-np.inf, np.inf],
    "Gumbel": [-np.inf, np.inf],
    "Beta": [0.0, 1.0, -0.1, 1.1],
    "Bernoulli": [-1.0, 0.5, 2.0],
    "Poisson": [-1.0, 0.5, np.inf],
    "Geometric": [-1.0, 0.5, np.inf],
}


@pytest.mark.parametrize("name", OFF_SUPPORT)
def test_off_the_support_is_minus_infinity_with_finite_slopes(name):
    p = make(name, [np.float64(1.5)] * len(PARAMETERS[name]))
    x = jnp.asarray([*OFF_SUPPORT[name], np.nan], DTYPE)

    @jax.jit
    def both(p):
        value, pull = jax.vjp(lambda p: p.log_prob(x), p)
        return value, pull(jnp.ones_like(value).at[-1].set(0))[0]

    found, slopes = both(p)
    np.testing.assert_array_equal(found[:-1], -np.inf)
    assert np.isnan(found[-1])
    if name != "Laplace":  # its density falls off on the whole line, inf included
        for slope in jax.tree.leaves(slopes):
            assert slope == 0


def test_off_the_simplex_is_minus_infinity():
    p = make("Dirichlet", [np.ones(3)])
    x = jnp.asarray([[0.5, 0.5, 0], [0.5, 0.6, -0.1], [0.3, 0.3, 0.3], [0.2, 0.3, 0.5]])
    np.testing.assert_allclose(
        LOG_PROB(p, x), [-np.inf, -np.inf, -np.inf, np.log(2)], atol=30 * EPS
    )
    assert np.isnan(LOG_PROB(p, jnp.asarray([0.5, jnp.nan, 0.5])))


@pytest.mark.parametrize("name", PARAMETERS)
def test_samples_have_the_moments(name):
    values = draw(name, 5, (2,))
    if name in ("Pareto", "InverseGamma"):  # with a fourth moment
        values[0] = values[0] + 8
    p = make(name, values)
    x = SAMPLE(p, jax.random.key(3))
    again = np.asarray(x, float)
    if name == "Categorical":
        x = again = np.eye(4)[np.asarray(x)]
    mean = np.asarray(p.mean, float)
    assert again.shape == (N, *mean.shape)
    if name == "VonMises":
        spread = 1 - np.cos(again - mean)
        variance = np.asarray(p.circular_variance, float)
        assert (np.abs(np.sin(again - mean).mean(0)) < 5 * spread.std(0) + 0.05).all()
        assert (np.abs(spread.mean(0) - variance) < 5 * spread.std(0) / N**0.5).all()
        return
    centered = again - mean
    cov = np.asarray(p.cov, float)
    if name in VECTORS:
        product = np.einsum("nbi,nbj->nbij", centered, centered)
        variance = np.diagonal(cov, axis1=-2, axis2=-1)
    else:
        product, variance = centered**2, cov
    assert (np.abs(centered.mean(0)) <= 5 * np.sqrt(variance / N) + 1e-6).all()
    error = product.std(0) / N**0.5
    assert (np.abs(product.mean(0) - cov) <= 5 * error + 1e-5).all()


@pytest.mark.parametrize("name", [n for n in CONTINUOUS if n not in VECTORS])
def test_samples_have_the_distribution_function(name):
    values = draw(name, 6, (2,))
    x = np.array(SAMPLE(make(name, values), jax.random.key(4)), float)
    for i in range(2):
        law = scipy_law(name, [v[i] for v in values])
        if name == "VonMises":  # SciPy's runs from loc - pi to loc + pi
            x[:, i] = values[0][i] + np.angle(np.exp(1j * (x[:, i] - values[0][i])))
        # 1 in 10^4 samples would have a larger distance than 2.2 / sqrt(N).
        assert stats.kstest(x[:, i], law.cdf).statistic * N**0.5 < 2.2


@pytest.mark.parametrize("name", ["Bernoulli", "Poisson", "Geometric"])
def test_samples_of_counts_have_the_probabilities(name):
    values = draw(name, 6, (2,))
    x = np.asarray(SAMPLE(make(name, values), jax.random.key(4)))
    assert np.issubdtype(x.dtype, np.integer)
    for i in range(2):
        expected = scipy_law(name, [v[i] for v in values]).pmf(np.arange(5))
        found = (x[:, i, None] == np.arange(5)).mean(0)
        error = np.sqrt(expected * (1 - expected) / N)
        assert (np.abs(found - expected) <= 5 * error + 1e-9).all()


def test_angles_of_every_concentration():
    k = jnp.asarray([0.0, 1e-3, 1.0, 50.0, 1e6], DTYPE)
    p = families.VonMises(jnp.asarray(3.0, DTYPE), k)
    x = np.asarray(SAMPLE(p, jax.random.key(0)), float)
    assert (np.abs(x) <= np.pi + 1e-6).all()
    assert stats.kstest(x[:, 0], stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-4
    # Narrow ones are nearly normal, far below the precision of the cosine.
    sine = np.sin(x[:, 4] - 3.0)
    np.testing.assert_allclose(sine.std(), 1e-3, rtol=5 / np.sqrt(2 * N))
    np.testing.assert_allclose(p.circular_variance[0], 1, rtol=10 * EPS)
    np.testing.assert_allclose(p.circular_variance[4], 5e-7, rtol=1e-6 + 20 * EPS)
    missing = families.VonMises(0.0, jnp.asarray([jnp.nan, 1.0])).sample(
        jax.random.key(0), (3,)
    )
    np.testing.assert_array_equal(np.isnan(missing), [[True, False]] * 3)


@pytest.mark.parametrize("name", [*LOCATION_SCALE, *SCALE])
def test_maps_carry_the_law(name):
    p = make(name, draw(name, 7, (3,)))
    shift = 0.7 if name in LOCATION_SCALE else 0.0
    gain = -1.3 if name == "Laplace" else 1.3
    move = DiagonalMap(jnp.asarray(gain, DTYPE), jnp.asarray(shift, DTYPE))

    @jax.jit
    def both_sides(p, x):
        moved = p.pushforward(move)
        back = moved.pushforward(moved.transport_to(p))
        there = moved.log_prob(move(x)) + np.log(1.3)
        return there, p.log_prob(x), back, p.transport_to(moved)(x), move(x)

    x = SAMPLE(p, jax.random.key(8))[:20]
    if name == "Pareto":  # rounding may carry the least value off the support
        x = x * 1.01
    left, right, back, carried, moved = both_sides(p, x)
    np.testing.assert_allclose(left, right, atol=1e3 * EPS)
    for found, expected in zip(jax.tree.leaves(back), jax.tree.leaves(p), strict=True):
        np.testing.assert_allclose(found, expected, rtol=50 * EPS, atol=50 * EPS)
    if name != "Laplace":
        np.testing.assert_allclose(carried, moved, rtol=50 * EPS, atol=50 * EPS)


@pytest.mark.parametrize("name", SCALE)
def test_a_shift_leaves_a_scale_family(name):
    p = make(name, draw(name, 7))
    with pytest.raises(ValueError, match=f"{name} is a scale family"):
        p.pushforward(DiagonalMap(jnp.asarray(2.0), jnp.asarray(1.0)))
    with pytest.raises(ValueError, match="must be positive"):
        p.pushforward(DiagonalMap(jnp.asarray(-2.0), jnp.asarray(0.0)))


def test_heavy_tails_have_infinite_moments():
    shape = jnp.asarray([0.5, 1.5, 2.5])
    for name in ("Pareto", "InverseGamma"):
        p = getattr(families, name)(shape, 1.0)
        np.testing.assert_array_equal(np.isinf(p.mean), [True, False, False])
        np.testing.assert_array_equal(np.isinf(p.cov), [True, True, False])
