"""Where the nearest map is not unique: the one that moves the data least, no NaN."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.maps import gaussian_transport
from tests.ideal.problems import random_multivariate

pytestmark = pytest.mark.slow


def test_one_class_is_optimal_transport(eps):
    pop = random_multivariate(np.random.default_rng(0), 1, 2, 3, tied=False)
    cells = pop.conditionals
    expected = gaussian_transport(
        cells.mean[0, 0], cells.cov[0, 0], cells.mean[0, 1], cells.cov[0, 1]
    )
    for maps in ("positive_definite", "shared_covariance", "general"):
        found = js.nearest_ideal(pop, maps=maps, reference=1).require()
        assert found.feature_kl < 1e3 * eps
        weight = found.group_maps.weight[0]
        assert jnp.allclose(weight, expected.weight, atol=10 * eps**0.5), maps


@pytest.mark.parametrize(("k", "d"), [(2, 3), (3, 6)])
def test_equal_covariances_leave_the_tied_map_where_it_is(k, d, eps):
    # The divergence does not see turns of the d - (K - 1) other directions.
    pop = random_multivariate(np.random.default_rng(1), k, 2, d, tied=True)
    tied = js.nearest_ideal(pop, maps="shared_covariance", reference=1)
    full = js.nearest_ideal(pop, maps="general", reference=1).require()
    assert jnp.allclose(full.kl, tied.kl, rtol=1e3 * eps)
    assert jnp.allclose(
        full.group_maps.weight, tied.group_maps.weight, atol=10 * eps**0.5
    )


def test_gradients_along_flat_directions_are_finite(x64):
    pop = random_multivariate(np.random.default_rng(2), 1, 2, 3, tied=False)

    def kl(mean, maps):
        cells = js.MultivariateNormal(mean, pop.conditionals.cov)
        found = js.nearest_ideal(
            js.Population(pop.priors, cells), maps=maps, reference=1
        )
        return found.kl, jnp.sum(found.group_maps.weight)

    for maps in ("positive_definite", "general"):
        slopes = jax.jacrev(kl)(pop.conditionals.mean, maps)
        for slope in slopes:
            # One class: the means are brought together, whatever they are.
            assert jnp.allclose(slope, 0, atol=1e-6)


def test_equal_groups_are_left_alone(eps):
    pop = random_multivariate(np.random.default_rng(3), 2, 2, 3, tied=False)
    cells = pop.conditionals
    same = js.MultivariateNormal(
        jnp.repeat(cells.mean[:, :1], 2, 1), jnp.repeat(cells.cov[:, :1], 2, 1)
    )
    found = js.nearest_ideal(js.Population(pop.priors, same), reference=1).require()
    assert found.feature_kl < 1e3 * eps
    assert jnp.allclose(found.group_maps.weight, jnp.eye(3), atol=10 * eps**0.5)
