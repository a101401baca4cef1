"""Derivatives through the gauges that iterate: implicit, unrolled, finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.solvers import RelativeNewton
from tests.ideal.problems import along, random_direction, random_multivariate

pytestmark = pytest.mark.slow

POP = random_multivariate(np.random.default_rng(0), 2, 2, 3, tied=False)
RNG = np.random.default_rng(5)
PROBE = jnp.asarray(RNG.normal(size=(5, 3)))
DIRECTION = random_direction(RNG, POP)
ACCURATE = RelativeNewton(tolerance=1e-12)


def total(t, intervention, gauge, differentiate):
    """A number that depends on the maps and on the divergence."""
    found = js.nearest_ideal(
        along(POP, t, DIRECTION),
        intervention,
        gauge=gauge,
        differentiate=differentiate,
        solver=ACCURATE,
    )
    first = jax.tree.map(lambda leaf: leaf[0], found.group_maps)
    return jnp.sum(jnp.sin(first(PROBE))) + found.kl


def slopes(intervention, gauge, modes):
    """Derivatives in each mode, and the finite difference."""
    h = 1e-4
    ends = [float(total(jnp.asarray(t), intervention, gauge, "none")) for t in (h, -h)]
    found = [
        float(jax.grad(total)(0.0, intervention, gauge, differentiate))
        for differentiate in modes
    ]
    return found, (ends[0] - ends[1]) / (2 * h)


@pytest.mark.parametrize("gauge", ["monge", "symmetric", "full"])
@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
def test_implicit_equals_finite_differences(intervention, gauge, x64):
    (slope,), finite = slopes(intervention, gauge, ["implicit"])
    assert abs(finite) > 1e-2
    assert np.isclose(slope, finite, rtol=1e-5)


@pytest.mark.parametrize(
    ("intervention", "gauge"),
    [("affirmative", "symmetric"), ("affirmative", "full"), ("all_groups", "monge")],
)
def test_unrolled_equals_implicit(intervention, gauge, x64):
    values = [
        jax.value_and_grad(total)(0.0, intervention, gauge, differentiate)
        for differentiate in ("implicit", "unroll")
    ]
    assert np.isclose(values[0][0], values[1][0], rtol=1e-9)
    assert np.isclose(values[0][1], values[1][1], rtol=1e-6)


def test_none_has_no_derivative():
    assert jax.grad(total)(0.0, "affirmative", "monge", "none") == 0


def test_second_derivatives_and_vmap(x64):
    def slope(t):
        return jax.grad(total)(t, "affirmative", "monge", "implicit")

    second = jax.jacfwd(slope)(0.0)
    h = 1e-4
    around = jax.jit(jax.vmap(slope))(jnp.array([h, 0.0, -h]))
    assert np.isclose(around[1], slope(0.0), rtol=1e-8)
    assert np.isclose(second, (around[0] - around[2]) / (2 * h), rtol=1e-5)
