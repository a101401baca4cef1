"""Pseudo-rows: what the formula says, finite for every cell, nothing for large ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.ideal import ideality_gap
from jaxsteer.moments import fit_population

K, G, D, N = 3, 2, 3, 60
SIZES = {"n_classes": K, "n_groups": G}
RNG = np.random.default_rng(0)
LABEL, GROUP = RNG.integers(0, K, N), RNG.integers(0, G, N)
# Class 2 has no row in group 1, and class 0 one row in group 0.
GROUP[LABEL == 2] = 0
GROUP[LABEL == 0] = 1
GROUP[np.flatnonzero(LABEL == 0)[0]] = 0
X = RNG.normal(size=(N, D)) @ RNG.normal(size=(D, D)) + LABEL[:, None] + GROUP[:, None]
WEIGHT = RNG.uniform(0.5, 2, N)
T = 1.7


def by_hand(weights, t):
    """Mean, covariance and prior of every cell from weighted copies of the rows."""
    t = t * (weights**2).sum() / weights.sum()
    mean, cov = np.empty((K, G, D)), np.empty((K, G, D, D))
    mass = np.empty((K, G))
    for i in range(K):
        of_class = np.where(i == LABEL, weights, 0)
        wide = of_class + t * weights / weights.sum()
        for a in range(G):
            own = np.where(a == GROUP, of_class, 0)
            row = own + t * wide / wide.sum()
            mass[i, a] = row.sum()
            mean[i, a] = row @ X / row.sum()
            apart = X - mean[i, a]
            cov[i, a] = (row[:, None] * apart).T @ apart / row.sum()
    return mean, cov, mass


def fit(x=X, weights=WEIGHT, *, prior=T, shrinkage=None, **options):
    return fit_population(
        x, LABEL, GROUP, weights=weights, prior=prior, shrinkage=shrinkage, **options
    )


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_formula(scale, eps):
    mean, cov, mass = by_hand(WEIGHT, T)
    pop = fit(weights=WEIGHT * scale)
    close = {"rtol": 2e4 * eps, "atol": 2e4 * eps}
    np.testing.assert_allclose(pop.conditionals.mean, mean, **close)
    np.testing.assert_allclose(pop.conditionals.cov, cov, **close)
    np.testing.assert_allclose(pop.priors, mass / mass.sum(), **close)
    diagonal = fit(covariance="diagonal").conditionals
    np.testing.assert_allclose(diagonal.mean, mean, **close)
    variance = np.diagonal(cov, axis1=-2, axis2=-1)
    np.testing.assert_allclose(diagonal.scale**2, variance, **close)
    tied = fit(covariance="tied").conditionals
    pooled = np.einsum("ka,kaij->aij", mass / mass.sum(0), cov)
    np.testing.assert_allclose(tied.cov, np.tile(pooled, (K, 1, 1, 1)), **close)


@pytest.mark.parametrize("family", ["exponential", "poisson", "laplace"])
def test_one_feature_by_likelihood(family, eps):
    x = np.floor(np.exp(X[:, 0] / 4) * 4) + 1
    pop = fit(x, family=family)
    t = T * (WEIGHT**2).sum() / WEIGHT.sum()
    for i, a in ((2, 1), (0, 0), (1, 0)):
        of_class = np.where(i == LABEL, WEIGHT, 0)
        wide = of_class + t * WEIGHT / WEIGHT.sum()
        own = np.where(a == GROUP, of_class, 0) + t * wide / wide.sum()
        if family == "laplace":
            assert np.isfinite(pop.conditionals.scale[i, a])
            continue
        rate = np.asarray(pop.conditionals.rate)[i, a]
        mean = 1 / rate if family == "exponential" else rate
        assert mean == pytest.approx(own @ x / own.sum(), rel=1e4 * eps)


def gap(pop):
    return ideality_gap(pop, maps="shared_covariance", reference=0)


def apart(pop):
    """Divergences between the groups, for programs that need not be searched."""
    first, second = (
        jax.tree.map(lambda leaf, a=a: leaf[:, a], pop.conditionals) for a in (0, 1)
    )
    return jnp.sum(first.kl(second)) - jnp.sum(jnp.log(pop.priors))


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (gap, {}),
        (apart, {"covariance": "tied"}),
        (apart, {"covariance": "diagonal"}),
        (apart, {"family": "lognormal"}),
    ],
)
def test_a_training_step_whose_cells_empty_stays_finite(loss, options):
    """A gap of a minibatch, with cells of no and of one row, under jit and vmap."""

    @jax.jit
    def step(scale, weights):
        rows = jnp.exp(X / 9) * scale
        pop = fit_population(
            rows, LABEL, GROUP, weights=weights, prior=T, **SIZES, **options
        )
        return loss(pop)

    half = np.where(np.arange(N) % 2, WEIGHT, 0.0)
    one_class = np.where(LABEL == 1, WEIGHT, 0.0)
    batches = jnp.asarray(np.stack([WEIGHT, half, one_class]))
    slope = jax.jit(jax.vmap(jax.value_and_grad(step, (0, 1)), (None, 0)))
    value, (by_scale, by_weight) = slope(jnp.ones(D), batches)
    assert np.isfinite(value).all() and (np.asarray(value) >= 0).all()
    assert np.isfinite(by_scale).all() and np.isfinite(by_weight).all()
    assert np.abs(by_scale[0]).max() > 0


def test_large_cells_change_by_the_prior_over_their_rows():
    rng = np.random.default_rng(1)
    change = []
    for n in (400, 4000):
        label, group = rng.integers(0, 2, n), rng.integers(0, 2, n)
        x = rng.normal(size=(n, 2)) + label[:, None] * (1 + group[:, None])
        plain = fit_population(x, label, group, shrinkage=None)
        pseudo = fit_population(x, label, group, shrinkage=None, prior=1.0)
        change.append(
            max(
                float(jnp.abs(a - b).max())
                for a, b in zip(
                    jax.tree.leaves(plain), jax.tree.leaves(pseudo), strict=True
                )
            )
        )
    assert change[0] < 0.1
    assert change[1] == pytest.approx(change[0] / 10, rel=0.5)


def test_smooth_in_the_weight_of_a_cells_last_row():
    """No jump where a cell empties: the limit is the empty cell."""
    last = np.flatnonzero((LABEL == 0) & (GROUP == 0))[0]

    def cov(weight):
        weights = jnp.asarray(WEIGHT).at[last].set(weight)
        pop = fit_population(
            X, LABEL, GROUP, weights=weights, prior=T, shrinkage=None, **SIZES
        )
        return pop.conditionals.cov[0, 0]

    cov = jax.jit(cov)
    near, empty = cov(1e-4), cov(0.0)
    np.testing.assert_allclose(near, empty, atol=1e-2)
    assert not np.allclose(cov(1.0), empty, atol=1e-2)


def test_none_and_zero_are_no_prior():
    filled = {"label": np.arange(N) % 3, "group": np.arange(N) % 2}
    plain = fit_population(X, **filled)
    zero = fit_population(X, **filled, prior=0)
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(zero), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="no rows in the cells"):
        fit(prior=None, shrinkage="oas")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": -1.0}, "prior=-1.0 must be a finite number of at least 0"),
        ({"prior": float("nan")}, "prior=nan must be a finite number"),
        ({"prior": True}, "must be a number of rows, or None"),
        ({"prior": "oas"}, "must be a number of rows, or None"),
        ({"covariance": "low_rank", "rank": 1}, "covariance='low_rank' does not form"),
        ({"shrinkage": "ledoit-wolf"}, "needs fourth moments"),
    ],
)
def test_messages(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)
