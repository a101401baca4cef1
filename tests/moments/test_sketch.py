"""The randomized low-rank path: its directions, and a bound that holds as stated."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.families import LowRankNormal
from jaxsteer.moments import finish_low_rank, init
from jaxsteer.moments._sketch import _sketched, missed_variance, range_finder

RANK = 6


def turned(variances, seed):
    """A covariance of known variances: axes mirrored at a random direction."""
    rng = np.random.default_rng(seed)
    v = rng.normal(size=len(variances))
    v /= np.linalg.norm(v)
    mirror = np.outer(v, v * variances)
    cov = 4 * (v @ (variances * v)) * np.outer(v, v) - 2 * (mirror + mirror.T)
    return cov + np.diag(variances), v


def falling(d):
    return np.concatenate([np.linspace(50, 20, RANK), 1 / np.arange(1, d - RANK + 1)])


def state_of(*covs, n_groups):
    state = init(len(covs[0]), n_classes=len(covs) // n_groups, n_groups=n_groups)
    ones = jnp.ones(len(covs), state.mass.dtype)
    cov = jnp.asarray(np.stack(covs), state.cov.dtype)
    return dataclasses.replace(state, cov=cov, mass=100 * ones, squares=100 * ones)


def test_thousands_of_features_without_decomposing_them():
    d = 4096
    cov, v = turned(falling(d), 0)
    state = state_of(cov, n_groups=1)
    found = finish_low_rank(state, rank=RANK, key=jax.random.key(0))
    law = found.population.conditionals
    assert law.factor.shape == (1, 1, d, RANK)
    factor = np.asarray(law.factor[0, 0], float)
    rest = (falling(d).sum() - falling(d)[:RANK].sum()) / (d - RANK)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(factor.T @ factor)[::-1], falling(d)[:RANK] - rest, rtol=1e-4
    )
    axes = np.eye(d)[:, :RANK] - 2 * np.outer(v, v[:RANK])
    inside = axes @ (axes.T @ factor)
    assert np.linalg.norm(factor - inside) < 1e-3 * np.linalg.norm(factor)
    np.testing.assert_allclose(
        np.asarray(law.diagonal[0, 0]) + (factor**2).sum(1), np.diag(cov), rtol=1e-4
    )
    # The largest variance that is left is 1 / (1 + oversampling) at best.
    assert 1 / 11 <= float(found.missed[0, 0]) < 0.5
    share = falling(d)[:RANK].sum() / falling(d).sum()
    np.testing.assert_allclose(found.captured[0, 0], share, rtol=1e-4)
    text = _sketched.lower(state, jax.random.key(0), RANK, 10, 2, 4).as_text()
    calls = [line for line in text.splitlines() if "lapack_" in line]
    assert calls or jax.default_backend() != "cpu"
    assert not any(f"{d}x{d}x" in line for line in calls)


@pytest.mark.x64
@pytest.mark.parametrize("power, loose", [(0, 40), (2, 3)])
def test_the_bound_holds_as_often_as_stated(power, loose):
    d, probes = 40, 1
    cov = jnp.asarray(turned(falling(d), 1)[0])

    def one(key):
        basis = range_finder(cov, key, RANK, 0)
        left = cov - basis @ (basis.T @ cov)
        bound = missed_variance(cov, basis, jax.random.fold_in(key, 1), probes, power)
        return bound, jnp.linalg.norm(left, 2)

    bound, truth = jax.lax.map(jax.jit(one), jax.random.split(jax.random.key(0), 400))
    assert np.mean(bound < truth) <= 0.1
    assert np.median(bound / truth) < loose


def test_few_features_are_those_of_all_moments():
    covs = [turned(falling(12), seed)[0] for seed in range(4)]
    state = state_of(*covs, n_groups=2)
    found = finish_low_rank(state, rank=3, key=jax.random.key(1))
    pop = found.population
    np.testing.assert_allclose(pop.priors, 0.25)
    exact = LowRankNormal.from_moments(state.mean, state.cov, rank=3)
    np.testing.assert_allclose(
        pop.conditionals.cov.reshape(4, 12, 12), exact.cov, atol=2e-3
    )
    # All directions are looked at: nothing is missed.
    assert np.all(np.asarray(found.missed) < 1e-3)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rank": 0}, "rank=0 must be at least 1 and less than d=3"),
        ({"rank": 1.5}, "rank=1.5 must be a whole number"),
        ({"rank": None}, "rank=None must be a whole number"),
        ({"oversampling": 1.5}, "oversampling=1.5 must be a whole number"),
        ({"key": 0}, "key=0 is no key"),
        ({"rank": 3}, "rank=3 must be"),
        ({"probes": 0}, "probes=0 must be at least 1"),
        ({"oversampling": -1}, "oversampling=-1 must be at least 0"),
    ],
)
def test_errors_name_the_argument(change, message):
    state = init(3, n_classes=1)
    with pytest.raises(ValueError, match=message):
        finish_low_rank(state, **{"rank": 1, "key": jax.random.key(0), **change})
    pooled = init(3, n_classes=2, scatter="pooled")
    with pytest.raises(ValueError, match="scatter='pooled'"):
        finish_low_rank(pooled, rank=1, key=jax.random.key(0))
