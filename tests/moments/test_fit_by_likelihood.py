"""One-feature families, fitted to every cell."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.families import fitted_by_samples

BY_LIKELIHOOD = fitted_by_samples()

LABEL, GROUP = (np.tile(np.repeat([0, 1], 2), 500), np.tile([0, 1], 1000))


def sample(family, rng):
    """Rows whose law differs from cell to cell."""
    size = 1 + 0.5 * LABEL + 0.3 * GROUP
    if family == "bernoulli":
        return (rng.uniform(size=2000) < 0.2 * size).astype(float)
    if family == "categorical":
        return (rng.uniform(size=2000) * 2 * size).astype(int)
    if family in ("poisson", "geometric"):
        return rng.poisson(size).astype(float)
    if family in ("laplace", "gumbel"):
        return rng.laplace(size, size)
    if family == "beta":
        return rng.beta(size, 2.0)
    if family == "von_mises":
        return rng.vonmises(size, 2.0)
    if family == "pareto":
        return size * (1 + rng.pareto(3.0, 2000))
    return rng.gamma(2 + size, 1.0)


@pytest.mark.parametrize("family", sorted(BY_LIKELIHOOD))
def test_every_cell_is_its_own_fit(family, eps):
    x = sample(family, np.random.default_rng(0))
    pop = js.fit_population(x, LABEL, GROUP, family)
    assert np.allclose(pop.priors, 0.25, rtol=10 * eps)
    options = {"n_values": 4} if family == "categorical" else {}
    for i in range(2):
        for a in range(2):
            mine = x[(i == LABEL) & (a == GROUP)]
            alone = BY_LIKELIHOOD[family].from_samples(
                jnp.asarray(mine).astype(int if options else float), **options
            )
            for field in dataclasses.fields(alone):
                ours = getattr(pop.cell(i, a), field.name)
                theirs = getattr(alone, field.name)
                assert np.allclose(ours, theirs, rtol=eps**0.5, atol=eps**0.5)


def test_weights_stand_for_rows(eps):
    x, times = sample("gamma", np.random.default_rng(1)), 1 + np.arange(2000) // 2 % 3
    many = js.fit_population(
        *(np.repeat(a, times) for a in (x, LABEL, GROUP)), family="gamma"
    )
    weighted = js.fit_population(x, LABEL, GROUP, "gamma", weights=times.astype(float))
    for ours, theirs in zip(
        jax.tree.leaves(weighted), jax.tree.leaves(many), strict=True
    ):
        assert np.allclose(ours, theirs, rtol=eps**0.4)


def test_from_rows_to_a_fair_population():
    x = sample("gamma", np.random.default_rng(2))
    pop = js.fit_population(x, LABEL, GROUP, "gamma")
    found = js.nearest_ideal(pop, reference=1).require()
    moved = found.transport(x, GROUP)
    assert bool(jnp.all(jnp.isfinite(moved)))
    assert np.allclose(moved[GROUP == 1], x[GROUP == 1], rtol=1e-5)


def test_errors_name_the_cell_and_the_remedy():
    x = sample("gamma", np.random.default_rng(3))
    with pytest.raises(ValueError, match="one feature"):
        js.fit_population(np.stack([x, x], 1), LABEL, GROUP, "gamma")
    with pytest.raises(ValueError, match="x must be positive"):
        js.fit_population(x - 5, LABEL, GROUP, "gamma")
    still = np.where((LABEL == 1) & (GROUP == 0), 2.0, x)
    with pytest.raises(ValueError, match=r"one value only.*class 1, group 0"):
        js.fit_population(still, LABEL, GROUP, "laplace")
    with pytest.raises(ValueError, match=r"class 0, group 1\) has 0 rows"):
        js.fit_population(x[:8], LABEL[:8], 0 * GROUP[:8], "laplace", n_groups=2)
    with pytest.raises(ValueError, match="leave it out for a single feature"):
        js.fit_population(x, LABEL, GROUP, "laplace", covariance="tied")


def test_fractions_are_no_codes_and_rows_are_counted_once():
    row = np.arange(40)
    label, group = row % 2, row // 2 % 2
    with pytest.raises(
        ValueError, match=r"codes 0, 1, \.\.\., got 10 other values, the"
    ):
        js.fit_population(
            np.where(row < 10, 0.5, row % 3), label, group, family="categorical"
        )
    with pytest.raises(ValueError, match="x must be positive, got 10 other values"):
        js.fit_population(
            np.where(row < 10, -1.0, row + 1.0), label, group, family="gamma"
        )
