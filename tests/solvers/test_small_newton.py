"""Newton's method for a few variables, from several starts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxsteer.solvers import minimize_newton


def valley(x, args):
    """Rosenbrock's function in any number of variables, with a tilt."""
    steps = 100 * jnp.sum((x[1:] - x[:-1] ** 2) ** 2) + jnp.sum((args[0] - x[:-1]) ** 2)
    return steps + args[1] * jnp.sum(x)


@pytest.mark.parametrize("m", [2, 5, 20])
def test_equals_scipy(m, eps):
    args = np.array([1.0, 0.1])
    start = np.linspace(0.6, 1.2, m)
    found = minimize_newton(valley, jnp.asarray(start)[None], args, steps=60)
    expected = minimize(
        lambda x: float(
            100 * np.sum((x[1:] - x[:-1] ** 2) ** 2)
            + np.sum((1 - x[:-1]) ** 2)
            + 0.1 * np.sum(x)
        ),
        start,
        method="BFGS",
        options={"gtol": 1e-9},
    )
    assert np.allclose(found.x, expected.x, atol=max(1e-5, 100 * eps**0.5))
    assert found.gradient_norm < 1e4 * eps


def test_the_lowest_of_several_basins_is_kept():
    def waves(x, tilt):
        return jnp.sum(jnp.cos(3 * x) + tilt * x**2)

    starts = jnp.array([[3.2], [1.1], [-3.0]])
    found = minimize_newton(waves, starts, jnp.asarray(0.05))
    alone = [float(minimize_newton(waves, s[None], 0.05).value) for s in starts]
    assert np.isclose(found.value, min(alone))
    assert max(alone) > min(alone) + 0.1


@pytest.mark.parametrize("differentiate", ["implicit", "unroll"])
def test_derivative_equals_finite_differences(differentiate, x64):
    def end(target):
        args = jnp.stack([target, jnp.asarray(0.1)])
        start = jnp.array([[0.9, 0.8]])
        return minimize_newton(valley, start, args, differentiate=differentiate).x

    h = 1e-5
    finite = (end(1 + h) - end(1 - h)) / (2 * h)
    assert np.allclose(jax.jacobian(end)(1.0), finite, rtol=1e-6)


def test_none_and_starts_have_no_derivative():
    def end(start, differentiate):
        args = jnp.array([1.0, 0.1])
        found = minimize_newton(valley, start, args, differentiate=differentiate)
        return jnp.sum(found.x)

    start = jnp.array([[0.9, 0.8]])
    assert np.all(np.asarray(jax.grad(end)(start, "implicit")) == 0)
    assert np.all(np.asarray(jax.grad(end)(start, "none")) == 0)
