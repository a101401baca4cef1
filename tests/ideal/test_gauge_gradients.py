"""Derivatives through maps that are searched: implicit, unrolled, finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.solvers import MatrixNewton
from tests.ideal.problems import along, random_direction, random_multivariate

pytestmark = pytest.mark.slow

POP = random_multivariate(np.random.default_rng(0), 2, 2, 3, tied=False)
RNG = np.random.default_rng(5)
PROBE = jnp.asarray(RNG.normal(size=(5, 3)))
DIRECTION = random_direction(RNG, POP)
ACCURATE = MatrixNewton(tolerance=1e-12)


def total(t, intervention, maps, differentiate):
    """What the iterating kinds of maps make of the population `t` along the direction."""
    found = js.nearest_ideal(
        along(POP, t, DIRECTION),
        intervention=intervention,
        maps=maps,
        differentiate=differentiate,
        solver=ACCURATE,
        reference=1,
    )
    return number(found, PROBE)


def number(found, probe):
    """A number that depends on the maps and on the divergence."""
    first = jax.tree.map(lambda leaf: leaf[0], found.group_maps)
    return jnp.sum(jnp.sin(first(probe))) + found.kl


@pytest.mark.parametrize("maps", ["positive_definite", "pivot", "general"])
@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
def test_implicit_equals_unrolled_equals_finite_differences(intervention, maps, x64):
    by_mode = jax.jit(jax.value_and_grad(total), static_argnums=(1, 2, 3))
    implicit, unrolled = (
        by_mode(0.0, intervention, maps, differentiate)
        for differentiate in ("implicit", "unroll")
    )
    h = 1e-4
    ends = [by_mode(t, intervention, maps, "implicit")[0] for t in (h, -h)]
    finite = (ends[0] - ends[1]) / (2 * h)
    assert abs(finite) > 1e-2
    assert np.isclose(implicit[1], finite, rtol=1e-5)
    assert np.isclose(unrolled[0], implicit[0], rtol=1e-9)
    assert np.isclose(unrolled[1], implicit[1], rtol=1e-6)


# More classes than features for "shared_covariance" of all groups: no direction is
# left that its
# model does not see, along which derivatives are damped.
@pytest.mark.parametrize(
    ("intervention", "maps", "classes", "features"),
    [
        ("affirmative", "shared_covariance", 2, 3),
        ("all_groups", "shared_covariance", 4, 2),
        ("affirmative", "diagonal", 2, 3),
        ("all_groups", "diagonal", 2, 3),
    ],
)
def test_other_gauges_equal_finite_differences(
    intervention, maps, classes, features, x64
):
    rng = np.random.default_rng(3)
    pop = random_multivariate(rng, classes, 2, features, tied=False)
    direction = random_direction(rng, pop)
    probe = jnp.asarray(rng.normal(size=(5, features)))

    def of(t, differentiate):
        moved = along(pop, t, direction)
        found = js.nearest_ideal(
            moved,
            intervention=intervention,
            maps=maps,
            differentiate=differentiate,
            reference=1,
        )
        return number(found, probe)

    by_mode = jax.jit(jax.value_and_grad(of), static_argnums=1)
    h = 1e-5
    ends = [by_mode(t, "implicit")[0] for t in (h, -h)]
    finite = (ends[0] - ends[1]) / (2 * h)
    assert abs(finite) > 1e-2
    for differentiate in ("implicit", "unroll"):
        assert np.isclose(by_mode(0.0, differentiate)[1], finite, rtol=1e-5)


def test_none_has_no_derivative():
    assert jax.grad(total)(0.0, "affirmative", "positive_definite", "none") == 0


def test_second_derivatives_and_vmap(x64):
    def slope(t):
        return jax.grad(total)(t, "affirmative", "positive_definite", "implicit")

    second = jax.jit(jax.jacfwd(slope))(0.0)
    h = 1e-4
    around = jax.jit(jax.vmap(slope))(jnp.array([h, 0.0, -h]))
    assert np.isclose(around[1], slope(0.0), rtol=1e-8)
    assert np.isclose(second, (around[0] - around[2]) / (2 * h), rtol=1e-5)
