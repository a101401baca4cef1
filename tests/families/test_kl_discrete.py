"""Divergences of discrete families against PyTorch's or sums, and at probability 0."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import DTYPE, EPS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from more_families import DISCRETE, make, pair_of_parameters, scipy_law
from scipy import special

from jaxsteer.families import Bernoulli, Categorical, Geometric, Poisson, kl_divergence

pytestmark = pytest.mark.slow

KL = jax.jit(kl_divergence)
SLOPES = jax.jit(jax.grad(lambda p, q: jnp.sum(kl_divergence(p, q)), (0, 1)))
BATCH = (32,)
# The fixture only skips; nothing of it changes between examples.
SKIPS = [HealthCheck.function_scoped_fixture]


@pytest.mark.parametrize("name", DISCRETE)
@settings(max_examples=15, suppress_health_check=SKIPS)
@given(seed=st.integers(0, 2**20), scale=st.floats(1e-3, 1))
def test_equals_torch(x64, name, seed, scale):
    torch = pytest.importorskip("torch", reason="the peer is PyTorch")
    p, q = pair_of_parameters(name, seed, BATCH)
    q = [a + scale * (b - a) for a, b in zip(p, q, strict=True)]
    option = "rate" if name == "Poisson" else "logits"
    family = getattr(torch.distributions, name)
    laws = [family(**{option: torch.tensor(v[0])}) for v in (p, q)]
    expected = torch.distributions.kl_divergence(*laws).numpy()
    found = KL(make(name, p), make(name, q))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["Poisson", "Geometric"])
@settings(max_examples=10, suppress_health_check=SKIPS)
@given(seed=st.integers(0, 2**20))
def test_equals_the_sum_over_counts(x64, name, seed):
    p, q = pair_of_parameters(name, seed)
    first, second = scipy_law(name, p), scipy_law(name, q)
    x = np.arange(int(first.isf(1e-14)) + 50)
    log_p = first.logpmf(x)
    expected = np.sum(np.exp(log_p) * (log_p - second.logpmf(x)))
    np.testing.assert_allclose(KL(make(name, p), make(name, q)), expected, rtol=1e-6)


def test_values_of_probability_zero():
    p = Categorical(jnp.log(jnp.asarray([[0.0, 0.4, 0.6], [0.2, 0.2, 0.6]], DTYPE)))
    q = Categorical(jnp.log(jnp.asarray([0.2, 0.2, 0.6], DTYPE)))
    expected = special.rel_entr(np.exp(p.logits), np.exp(q.logits)).sum(-1)
    np.testing.assert_allclose(KL(p, q), expected, atol=20 * EPS)
    np.testing.assert_array_equal(KL(q, p), [np.inf, 0])
    np.testing.assert_array_equal(KL(p, p), 0)
    for slope in jax.tree.leaves((SLOPES(p, q), SLOPES(p, p))):
        assert np.isfinite(slope).all()
    one = jnp.asarray([-jnp.inf, jnp.inf, 0.0, -jnp.inf], DTYPE)
    other = jnp.asarray([0.0, 0.0, -jnp.inf, -jnp.inf], DTYPE)
    expected = [np.log(2), np.log(2), np.inf, 0]
    found = KL(Bernoulli(one), Bernoulli(other))
    np.testing.assert_allclose(found, expected, rtol=10 * EPS)


def test_rates_of_zero():
    p = Poisson(jnp.asarray([0.0, 1.0, 0.0], DTYPE))
    q = Poisson(jnp.asarray([2.0, 0.0, 0.0], DTYPE))
    np.testing.assert_array_equal(KL(p, q), [2.0, np.inf, 0.0])
    at_p, at_q = (v.rate for v in SLOPES(p, q))
    assert at_p[0] == 0 and at_q[0] == 1
    np.testing.assert_array_equal(p.log_prob(jnp.asarray(0)), [0, -1, 0])
    np.testing.assert_array_equal(Poisson(0.0).log_prob(jnp.asarray(3)), -np.inf)


def test_far_apart_laws_do_not_overflow():
    """The exponential of a log-ratio would; the sum it stands for does not."""
    rate = KL(Poisson(jnp.asarray(1e-30, DTYPE)), Poisson(jnp.asarray(1e20, DTYPE)))
    np.testing.assert_allclose(rate, 1e20, rtol=10 * EPS)
    far = jnp.asarray([0.0, 100.0], DTYPE)
    found = KL(Categorical(far), Categorical(-far))
    np.testing.assert_allclose(found, 100, rtol=10 * EPS)
    for slope in jax.tree.leaves(SLOPES(Categorical(far), Categorical(-far))):
        assert np.isfinite(slope).all()


def test_rare_successes_keep_their_digits():
    p, q = (Geometric(jnp.asarray(v, DTYPE)) for v in (-20.0, -20.0 - 2.0**-10))
    step = -(2.0**-10)
    # To first order in the probability p: p (exp(step) - 1 - step), over p.
    expected = step**2 / 2 + step**3 / 6 + step**4 / 24
    np.testing.assert_allclose(KL(p, q), expected, rtol=1e-8 + 50 * EPS)


def test_numbers_of_values_must_agree():
    with pytest.raises(ValueError, match="same number of values, got 3 and 4"):
        kl_divergence(Categorical(jnp.zeros(3)), Categorical(jnp.zeros(4)))
