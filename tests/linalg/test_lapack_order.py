"""LAPACK calls of compiled programs come one after the other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.linalg import after
from jaxsteer.maps import gaussian_transport
from tests.lapack_order import unordered_lapack_calls

RNG = np.random.default_rng(0)


def covariances(*shape):
    """Of 24 features: none of the programs for few features."""
    half = RNG.normal(size=(*shape, 24, 48)).astype(np.float32)
    return jnp.asarray(half @ np.swapaxes(half, -1, -2) / 48)


def roots(a, b, order):
    first = jnp.linalg.cholesky(a)
    return first, jnp.linalg.cholesky(after(b, first) if order else b)


def test_the_check_finds_what_is_not_ordered():
    a, b = covariances(2, 3)
    for order, count in ((False, 1), (True, 0)):
        found = unordered_lapack_calls(lambda a, b, o=order: roots(a, b, o), a, b)
        assert len(found) == count


def test_transport_is_in_order():
    zero = jnp.zeros(24)

    def weight(a, b):
        return gaussian_transport(zero, a, zero, b).weight

    a, b = covariances(2, 3)
    assert not unordered_lapack_calls(jax.vmap(weight), a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    "maps", ["shared_covariance", "positive_definite", "pivot", "general"]
)
def test_affirmative_programs_are_in_order(maps):
    priors = jnp.full((2, 2), 0.25)

    def solve(mean, cov):
        pop = js.Population(priors, js.MultivariateNormal(mean, cov))
        return js.nearest_ideal(pop, maps=maps, reference=1)

    mean = jnp.asarray(RNG.normal(size=(3, 2, 2, 24)).astype(np.float32))
    assert not unordered_lapack_calls(jax.vmap(solve), mean, covariances(3, 2, 2))
