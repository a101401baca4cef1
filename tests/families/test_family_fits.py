"""Maximum likelihood of every family besides the normal ones."""

from __future__ import annotations

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import DTYPE, EPS, as_numbers
from more_families import DISCRETE, PARAMETERS, VECTORS, draw, make, scipy_law

from jaxsteer import families

N = 400
# Where the likelihood has a slope of 0 at its maximum.
SMOOTH = tuple(n for n in PARAMETERS if n not in ("Laplace", "Pareto"))


def samples(name, seed, n=N):
    """Return samples and weights, a few of them 0, that the dtype can hold."""
    rng = np.random.default_rng(seed)
    values = draw(name, seed)
    if name == "Dirichlet":
        x = rng.dirichlet(values[0], n)
    elif name == "Categorical":
        probs = np.exp(values[0]) / np.exp(values[0]).sum()
        x = rng.choice(4, n, p=probs)
    else:
        x = scipy_law(name, values).rvs(n, random_state=seed)
    if name == "Beta":
        x = np.clip(x, EPS, 1 - EPS)
    weights = as_numbers(rng.uniform(0.5, 2, n) * (rng.random(n) > 0.1))
    return (x if name in DISCRETE else as_numbers(x)), weights


def from_samples(name):
    family = getattr(families, name)
    options = {"n_values": 4} if name == "Categorical" else {}
    return lambda x, weights=None: family.from_samples(x, weights, **options)


def as_input(name, x):
    return jnp.asarray(x, jnp.int32 if name == "Categorical" else DTYPE)


def leaves(law):
    return [np.array(v, float) for v in jax.tree.leaves(law)]


PEERS = {
    "Laplace": {},
    "Exponential": {"floc": 0},
    "Gamma": {"floc": 0},
    "InverseGamma": {"floc": 0},
    "InverseGaussian": {"floc": 0},
    "Weibull": {"floc": 0},
    "Gumbel": {},
    "Rayleigh": {"floc": 0},
    "Pareto": {"floc": 0},
    "Beta": {"floc": 0, "fscale": 1},
    "VonMises": {"fscale": 1},
}


@pytest.mark.parametrize("name", PEERS)
def test_equals_scipys_fit(name):
    x, _ = samples(name, 0)
    peer = scipy_law(name, draw(name, 0)).dist
    found = leaves(jax.jit(from_samples(name))(as_input(name, x)))
    fitted = peer.fit(x, **PEERS[name])
    expected = {
        "Exponential": lambda a, loc, scale: [1 / scale],
        "Gamma": lambda a, loc, scale: [a, 1 / scale],
        "Rayleigh": lambda loc, scale: [scale],
        "VonMises": lambda k, loc, scale: [loc, k],
        "Beta": lambda a, b, loc, scale: [a, b],
        "Laplace": lambda loc, scale: [loc, scale],
        "Gumbel": lambda loc, scale: [loc, scale],
        "InverseGaussian": lambda mu, loc, scale: [mu * scale, scale],
    }.get(name, lambda a, loc, scale: [a, scale])
    if name == "Exponential":
        fitted = (None, *fitted)
    # SciPy's searches stop at about 1e-5 of the parameters.
    rtol = 1e-4 if name in ("Weibull", "Gamma", "InverseGamma") else 1e-5
    np.testing.assert_allclose(found, expected(*fitted), rtol=rtol + 100 * EPS)


@pytest.mark.parametrize("name", SMOOTH)
def test_weighted_likelihood_is_flat_at_the_fit(name):
    x, weights = samples(name, 1)
    x, weights = as_input(name, x), jnp.asarray(weights, DTYPE)

    @jax.jit
    def slopes(x, weights):
        law = from_samples(name)(x, weights)
        flat, tree = jax.flatten_util.ravel_pytree(law)

        def likelihood(flat):
            return jnp.sum(weights * tree(flat).log_prob(x)) / jnp.sum(weights)

        return law, flat, jax.grad(likelihood)(flat), jax.hessian(likelihood)(flat)

    law, *numbers = slopes(x, weights)
    assert type(law) is getattr(families, name)
    values, slope, hessian = (np.array(v, float) for v in numbers)
    # The slope as a step to the maximum, in units of the parameters.
    step = np.linalg.lstsq(hessian, slope, rcond=1e-5)[0]
    np.testing.assert_allclose(step, 0, atol=2e3 * EPS * (1 + np.abs(values).max()))


@pytest.mark.parametrize("name", ["Laplace", "Pareto"])
def test_small_moves_from_the_fit_lower_the_likelihood(name):
    x, weights = samples(name, 2)
    x, weights = as_input(name, x), jnp.asarray(weights, DTYPE)
    found = leaves(from_samples(name)(x, weights))

    @jax.jit
    def likelihood(law):
        return jnp.sum(jnp.where(weights > 0, weights * law.log_prob(x), 0))

    best = likelihood(make(name, found))
    for factor in (0.97, 1.03):
        for k in range(2):
            moved = [v * factor if j == k else v for j, v in enumerate(found)]
            assert likelihood(make(name, moved)) < best


def test_median_of_an_even_number_is_in_the_middle():
    law = families.Laplace.from_samples(jnp.asarray([4.0, 1.0, 2.0, 10.0]))
    np.testing.assert_allclose(leaves(law), [3.0, 2.75], rtol=10 * EPS)
    law = families.Laplace.from_samples(
        jnp.asarray([4.0, 1.0, 2.0]), jnp.asarray([0.2, 0.2, 0.7])
    )
    assert law.loc == 2


@pytest.mark.parametrize("name", PARAMETERS)
def test_weights_are_repetitions_and_batches_are_rows(name):
    x, _ = samples(name, 4, 60)
    count = np.arange(60) % 3
    repeated = from_samples(name)(as_input(name, np.repeat(x, count, 0)))
    batch = jnp.stack([as_input(name, x)] * 2)
    weights = jnp.asarray(np.stack([np.ones(60), count]), DTYPE)
    fit = from_samples(name)
    both = jax.jit(fit)(batch, weights)
    mapped = jax.jit(jax.vmap(fit))(batch, weights)
    for one, other, expected in zip(
        leaves(both), leaves(mapped), leaves(repeated), strict=True
    ):
        scale = 1 + np.abs(expected[np.isfinite(expected)]).max()
        np.testing.assert_allclose(one[1], expected, atol=1e3 * EPS * scale)
        np.testing.assert_allclose(other, one, atol=1e3 * EPS * scale)


@pytest.mark.parametrize("name", ["Gamma", "Beta", "Weibull", "Gumbel", "VonMises"])
def test_extreme_parameters_are_recovered(name):
    extreme = {
        "Gamma": [[0.05, 1.0], [2e4, 3.0]],
        "Beta": [[0.2, 0.3], [2e4, 5e3]],
        "Weibull": [[0.4, 1.0], [200.0, 3.0]],
        "Gumbel": [[-100.0, 0.1], [5e4, 1e4]],
        "VonMises": [[1.0, 0.3], [-3.0, 1e4]],
    }[name]
    fit = jax.jit(from_samples(name))
    for values in extreme:
        x = scipy_law(name, values).rvs(20_000, random_state=0)
        x = np.clip(x, 1e-30, 1 - EPS) if name == "Beta" else x
        x = np.maximum(x, 1e-30) if name in ("Gamma", "Weibull") else x
        found = leaves(fit(as_input(name, x)))
        np.testing.assert_allclose(found, values, rtol=0.06, atol=0.03)


@pytest.mark.parametrize("name", [n for n in PARAMETERS if n not in VECTORS])
def test_unusable_samples_are_named(name):
    fit = getattr(families, name).from_samples
    x = jnp.ones(3, int if name == "Categorical" else DTYPE)
    with pytest.raises(ValueError, match="x must hold samples in its last axis"):
        fit(jnp.ones(()))
    with pytest.raises(ValueError, match="x has 1 values that are not finite"):
        fit(x.at[1].set(jnp.nan))
    with pytest.raises(ValueError, match="weights must broadcast against the samples"):
        fit(x * 0.5 if name == "Beta" else x, jnp.ones(2))
    with pytest.raises(ValueError, match="weights must be at least 0"):
        fit(x * 0.5 if name == "Beta" else x, jnp.asarray([1.0, -1.0, 1.0]))
    if name not in ("Laplace", "Gumbel", "VonMises"):
        with pytest.raises(ValueError, match=r"x must be .*, got 1 other values"):
            fit((x * 0.5 if name == "Beta" else x).at[2].set(-2))


def test_unusable_rows_and_codes_are_named():
    with pytest.raises(ValueError, match="x must hold rows"):
        families.Dirichlet.from_samples(jnp.ones(3))
    with pytest.raises(ValueError, match="positive shares that sum to 1"):
        families.Dirichlet.from_samples(jnp.ones((4, 3)))
    with pytest.raises(ValueError, match="codes in its last axis"):
        families.Categorical.from_samples(jnp.asarray(1))
    with pytest.raises(ValueError, match=r"codes from 0 to 4, expected 0\.\.2"):
        families.Categorical.from_samples(jnp.asarray([0, 4]), n_values=3)
    law = families.Categorical.from_samples(jnp.asarray([0, 2, 2, 2]))
    np.testing.assert_allclose(law.probs, [0.25, 0, 0.75], rtol=10 * EPS)
