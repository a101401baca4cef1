"""Bijections: inverses, slopes, and the transformations that SciPy knows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxsteer.maps import (
    BoxCox,
    Chain,
    Exp,
    RationalQuadraticSpline,
    Sigmoid,
    SinhArcsinh,
    YeoJohnson,
)

Z = jnp.linspace(-2.5, 2.5, 41)
SPLINE = RationalQuadraticSpline(
    jnp.array([-2.0, -0.5, 0.3, 1.5]),
    jnp.array([-1.0, -0.8, 1.0, 4.0]),
    jnp.array([0.5, 1.0, 3.0, 0.7]),
)
BIJECTIONS = {
    "exp": Exp(),
    "sigmoid": Sigmoid(),
    "sinh-arcsinh": SinhArcsinh(jnp.asarray(0.4), jnp.asarray(1.3)),
    "box-cox": BoxCox(jnp.asarray(0.3)),
    "box-cox-log": BoxCox(jnp.asarray(0.0)),
    "box-cox-small": BoxCox(jnp.asarray(1e-4)),
    "yeo-johnson": YeoJohnson(jnp.asarray(0.4)),
    "yeo-johnson-log": YeoJohnson(jnp.asarray(0.0)),
    "yeo-johnson-two": YeoJohnson(jnp.asarray(2.0)),
    "spline": SPLINE,
    "chain": Chain((SinhArcsinh(jnp.asarray(-0.2), jnp.asarray(0.8)), Exp())),
}


@pytest.mark.parametrize("name", BIJECTIONS)
def test_inverse_and_slope(name, eps):
    bijection = BIJECTIONS[name]
    x = bijection.forward(Z)
    assert bool(jnp.all(jnp.isfinite(x))) and bool(jnp.all(jnp.diff(x) > 0))
    slopes = jax.vmap(jax.grad(bijection.forward))(Z)
    assert np.allclose(bijection.log_slope(Z), jnp.log(slopes), atol=1e3 * eps)
    # The inverse is as accurate as the slope lets it be.
    error = jnp.abs(bijection.inverse(x) - Z) * slopes / (1 + jnp.abs(x))
    assert float(jnp.max(error)) < 200 * eps


@pytest.mark.parametrize("power", [-0.5, 0.0, 0.5, 1.0, 2.5])
def test_powers_equal_scipy(power, eps):
    x = np.linspace(0.1, 5, 30)
    found = BoxCox(jnp.asarray(power)).inverse(jnp.asarray(x))
    assert np.allclose(found, stats.boxcox(x, power), rtol=100 * eps, atol=100 * eps)
    x = np.linspace(-5, 5, 31)
    found = YeoJohnson(jnp.asarray(power)).inverse(jnp.asarray(x))
    assert np.allclose(
        found, stats.yeojohnson(x, power), rtol=100 * eps, atol=100 * eps
    )


def test_derivative_by_the_power_is_right_near_zero(x64):
    x = jnp.asarray(2.7)

    def z(power):
        return BoxCox(power).inverse(x)

    for power in (0.0, 1e-7, 1e-3, 0.2):
        h = 1e-4
        finite = (z(power + h) - z(power - h)) / (2 * h)
        assert np.isclose(jax.grad(z)(power), finite, rtol=1e-5)


def test_off_the_range_is_nan():
    assert bool(jnp.isnan(BoxCox(jnp.asarray(0.5)).inverse(jnp.asarray(-1.0))))
    assert bool(jnp.isnan(BoxCox(jnp.asarray(0.5)).forward(jnp.asarray(-3.0))))
    assert bool(jnp.all(jnp.isnan(Sigmoid().inverse(jnp.array([0.0, 1.0, 2.0])))))


def test_a_spline_is_smooth_and_straight_outside(eps):
    slope = jax.vmap(jax.grad(SPLINE.forward))
    for z, expected in zip(SPLINE.z_knots, SPLINE.slopes, strict=True):
        sides = slope(jnp.array([z - 1e-3, z + 1e-3]))
        assert np.allclose(sides, expected, rtol=0.02)
    assert np.allclose(slope(jnp.array([-7.0, -3.0])), 0.5, rtol=20 * eps)


def test_features_have_their_own_parameters(eps):
    powers = jnp.array([0.3, 1.5])
    both = YeoJohnson(powers).forward(jnp.stack([Z, Z], -1))
    for column in range(2):
        alone = YeoJohnson(powers[column]).forward(Z)
        assert np.allclose(both[:, column], alone, rtol=10 * eps, atol=10 * eps)
    splines = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), SPLINE)
    both = splines.forward(jnp.stack([Z, 2 * Z], -1))
    assert np.allclose(both[:, 0], SPLINE.forward(Z), rtol=10 * eps, atol=10 * eps)
