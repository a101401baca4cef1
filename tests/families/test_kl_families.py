"""What holds for the divergence of every family besides the normal ones."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import EPS, as_numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from more_families import PARAMETERS, draw, exact_kl, make, pair_of_parameters

from jaxsteer import families
from jaxsteer.families import kl_divergence

NAMES = tuple(PARAMETERS)
BATCH = (16,)


@functools.cache
def compiled(name):
    """Value and slopes of the divergence, for batches of 16 pairs."""

    def both(p, q):
        value, pull = jax.vjp(kl_divergence, p, q)
        return value, *map(jax.tree.leaves, pull(jnp.ones_like(value)))

    return jax.jit(both)


def evaluate(name, p, q):
    value, at_p, at_q = compiled(name)(make(name, p), make(name, q))
    return np.array(value, float), [np.array(v, float) for v in (*at_p, *at_q)]


def one_of(values, i):
    return [v[i] for v in values]


def digits_lost(name):
    """How many roundings of its parameters the value of a divergence may be off."""
    # The remainders of lgamma below 10 are differences of up to 40 times as much.
    return 150 if name in ("Gamma", "InverseGamma", "Beta", "Dirichlet") else 60


@pytest.mark.parametrize("name", NAMES)
def test_value_equals_the_textbook_in_many_digits(name):
    pytest.importorskip("mpmath", reason="the reference is in 60 digits")
    p, q = pair_of_parameters(name, 0, BATCH)
    found, _ = evaluate(name, p, q)
    expected = [float(exact_kl(name, one_of(p, i), one_of(q, i))) for i in range(16)]
    np.testing.assert_allclose(found, expected, rtol=digits_lost(name) * EPS)


@pytest.mark.parametrize("name", NAMES)
def test_nearly_equal_members_keep_their_digits(name):
    pytest.importorskip("mpmath", reason="the reference is in 60 digits")
    p, far = draw(name, 1, BATCH), draw(name, 2, BATCH)
    size = np.repeat([0.3, 1e-2, 1e-3, 1e-4], 4)
    q = []
    for a, b in zip(p, far, strict=True):
        reach = size[:, None] if a.ndim == 2 else size
        q.append(as_numbers(a + reach * np.tanh(b - a)))
    if name == "Pareto":
        q[1] = as_numbers(np.minimum(p[1], q[1]))
    found, _ = evaluate(name, p, q)
    expected = [float(exact_kl(name, one_of(p, i), one_of(q, i))) for i in range(16)]
    np.testing.assert_allclose(found, expected, rtol=digits_lost(name) * EPS)


@pytest.mark.parametrize("name", NAMES)
def test_slopes_equal_differences_of_the_textbook(name):
    mp = pytest.importorskip("mpmath", reason="the reference is in 60 digits")
    p, q = pair_of_parameters(name, 3, BATCH)
    _, slopes = evaluate(name, p, q)
    step = mp.mpf(10) ** -20
    for i in range(2):
        raw = [np.array(v[i], object) for v in (*p, *q)]
        raw = [np.vectorize(mp.mpf, otypes=[object])(v) for v in raw]

        def value(values):
            return exact_kl(name, values[: len(p)], values[len(p) :])

        found = np.concatenate([np.ravel(v[i]) for v in slopes])
        expected = []
        with mp.workdps(60):
            for k, entry in enumerate(raw):
                for index in np.ndindex(*np.shape(entry)):
                    sides = []
                    for sign in (1, -1):
                        moved = [np.array(v, object) for v in raw]
                        moved[k][index] = moved[k][index] + sign * step
                        sides.append(value(moved))
                    expected.append(float((sides[0] - sides[1]) / (2 * step)))
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=200 * EPS * scale)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**20))
def test_zero_with_zero_slope_at_itself(name, seed):
    p = draw(name, seed, BATCH)
    value, slopes = evaluate(name, p, p)
    np.testing.assert_array_equal(value, 0)
    for k, slope in enumerate(slopes):
        # Equal scales are the edge of where Pareto's divergence is finite.
        if name == "Pareto" and k % 2:
            slope = np.abs(slope) - p[0] / p[1]
        np.testing.assert_allclose(slope, 0, atol=200 * EPS * np.max(p[-1]))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**20), nearness=st.floats(1e-9, 1))
def test_never_negative_with_finite_slopes(name, seed, nearness):
    p, far = pair_of_parameters(name, seed, BATCH)
    q = [a + nearness * (b - a) for a, b in zip(p, far, strict=True)]
    for other in (q, far):
        value, slopes = evaluate(name, p, other)
        assert (value >= 0).all()
        assert all(np.isfinite(slope).all() for slope in slopes)
    assert (value > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_transform_gives_the_same(name):
    p, q = (make(name, v) for v in pair_of_parameters(name, 4, BATCH))
    value, at_p, _ = compiled(name)(p, q)
    snake = {
        "InverseGamma": "inverse_gamma",
        "InverseGaussian": "inverse_gaussian",
        "VonMises": "von_mises",
    }
    named = getattr(families, f"kl_{snake.get(name, name.lower())}")
    last = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), p)

    @jax.jit
    def mapped(last, p, q):
        grid = jax.vmap(lambda one: named(one, q), in_axes=-1)(last)
        slopes = jax.vmap(jax.grad(lambda p, q: p.kl(q)))(p, q)
        return grid, slopes

    grid, slopes = mapped(last, p, q)
    assert grid.shape == (16, 16)
    np.testing.assert_allclose(jnp.diagonal(grid), value, rtol=100 * EPS)
    for found, expected in zip(jax.tree.leaves(slopes), at_p, strict=True):
        np.testing.assert_allclose(
            found, expected, rtol=1e3 * EPS, atol=1e3 * EPS * np.abs(expected).max()
        )
    placeholders = jax.tree.unflatten(jax.tree.structure(p), [None] * len(at_p))
    assert type(placeholders) is type(p)


def test_families_inside_others_mix():
    exponential = families.Exponential(jnp.asarray([0.5, 2.0]))
    gamma = families.Gamma(jnp.asarray([1.5, 0.7]), jnp.asarray([0.3, 4.0]))
    weibull = families.Weibull(jnp.asarray([1.5, 0.7]), jnp.asarray([0.3, 4.0]))
    rayleigh = families.Rayleigh(jnp.asarray([0.5, 2.0]))
    x = jnp.asarray([[0.2], [1.3]])
    log_prob = jax.jit(lambda law: law.log_prob(x))
    for narrow, wide in (
        (exponential, exponential.to_gamma()),
        (exponential, exponential.to_weibull()),
        (rayleigh, rayleigh.to_weibull()),
    ):
        np.testing.assert_allclose(log_prob(narrow), log_prob(wide), rtol=20 * EPS)

    @jax.jit
    def both_ways(exponential, gamma, weibull, rayleigh):
        pairs = (
            (exponential, gamma, exponential.to_gamma()),
            (exponential, weibull, exponential.to_weibull()),
            (rayleigh, weibull, rayleigh.to_weibull()),
        )
        found = [(kl_divergence(a, b), kl_divergence(b, a)) for a, b, _ in pairs]
        same = [(wide.kl(b), b.kl(wide)) for _, b, wide in pairs]
        found.append((kl_divergence(exponential, rayleigh),) * 2)
        same.append((exponential.to_weibull().kl(rayleigh.to_weibull()),) * 2)
        return jnp.stack([jnp.stack(v) for v in found]), jnp.asarray(same)

    found, same = both_ways(exponential, gamma, weibull, rayleigh)
    assert (found > 0).all()
    np.testing.assert_allclose(found, same, rtol=10 * EPS)
    with pytest.raises(TypeError, match="no closed-form KL divergence from Gamma to W"):
        kl_divergence(gamma, weibull)
    with pytest.raises(TypeError, match="from Gamma to Rayleigh"):
        kl_divergence(gamma, rayleigh)
