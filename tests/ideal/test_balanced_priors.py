"""Balanced priors: the programs of a population whose classes weigh alike."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.population import fixed_priors
from tests.ideal.problems import random_multivariate, random_univariate

RNG = np.random.default_rng(0)


def skewed(pop):
    """The population with a class of little weight, by another share in each group."""
    shares = jnp.array([[0.9, 0.8, 0.7], [0.1, 0.2, 0.3]])[:, : pop.n_groups]
    return dataclasses.replace(pop, priors=shares * jnp.sum(pop.priors, 0))


UNIVARIATE = skewed(random_univariate(RNG, 2, 2))
MULTIVARIATE = skewed(random_multivariate(RNG, 2, 3, 3, tied=False))


@pytest.mark.parametrize(
    ("pop", "options"),
    [
        (UNIVARIATE, {}),
        (UNIVARIATE, {"intervention": "all_groups"}),
        (MULTIVARIATE, {"maps": "shared_covariance"}),
        (MULTIVARIATE, {"maps": "diagonal"}),
    ],
)
def test_the_program_is_that_of_balanced_classes(pop, options, eps):
    found = js.nearest_ideal(pop, priors="balanced", reference=1, **options).require()
    sizes = np.asarray(pop.priors, float).sum(0)
    n_classes, _ = pop.priors.shape
    expected = np.tile(sizes / n_classes, (n_classes, 1))
    np.testing.assert_allclose(found.target.priors, expected, atol=10 * eps)
    # The programs see the source's priors through the new ones alone.
    even = js.Population(fixed_priors(pop.priors, "balanced", 0), pop.conditionals)
    same = js.nearest_ideal(even, reference=1, **options)
    ours, theirs = (jax.tree.leaves(one.group_maps) for one in (found, same))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.feature_kl, same.feature_kl, rtol=1e-3)
    assert found.ideal and js.is_ideal(found.target, atol=1e-3)
    # Not that of the source's class shares.
    plain = js.nearest_ideal(pop, reference=1, **options)
    assert abs(float(plain.feature_kl - found.feature_kl)) > 1e-3
