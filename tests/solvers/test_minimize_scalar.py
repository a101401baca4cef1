from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.solvers import Status, minimize_scalar


def valley(x, a):
    return jnp.cosh(x - a)


def corner(x, a):
    return jnp.abs(x - a)


def barrier(x, a):
    return -a * jnp.log(x) - jnp.log1p(-x)


def skewed(x, a):
    return jnp.exp(a * x) - 3.0 * x


@pytest.mark.parametrize("a", [0.3, 0.999, 1e-4])
def test_smooth_minimum_to_rounding_error(a, eps):
    found = minimize_scalar(valley, 0.0, 1.0, a)
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.x, a, atol=4 * eps)
    assert found.residual <= 10 * eps


@pytest.mark.parametrize(("a", "end"), [(-0.5, 0.0), (1.5, 1.0), (0.0, 0.0)])
def test_active_ends_are_exact(a, end):
    found = minimize_scalar(valley, 0.0, 1.0, a)
    assert found.x == end
    assert found.residual == 0.0
    assert found.converged
    if a != end:
        slope = jax.grad(lambda a: minimize_scalar(valley, 0.0, 1.0, a).x)(a)
        assert slope == 0.0


def cosine(x, a):
    return jnp.cos(a * x)


def test_a_stationary_end_that_is_a_maximum_is_not_taken(eps):
    found = minimize_scalar(cosine, 0.0, 4.0, 1.0)
    np.testing.assert_allclose(found.x, np.pi, rtol=10 * eps)


def test_infinite_ends_and_corners(eps):
    found = minimize_scalar(barrier, 0.0, 1.0, 2.0)
    np.testing.assert_allclose(found.x, 2 / 3, rtol=10 * eps)
    slope = jax.grad(lambda a: minimize_scalar(barrier, 0.0, 1.0, a).x)(2.0)
    np.testing.assert_allclose(slope, 1 / 9, rtol=1e3 * eps)
    kink = minimize_scalar(corner, 0.0, 1.0, 0.123)
    assert kink.converged
    np.testing.assert_allclose(kink.x, 0.123, atol=eps**0.5)


def test_scipy_agrees():
    optimize = pytest.importorskip("scipy.optimize", reason="the oracle is SciPy")
    for a in (0.5, 1.0, 3.0):
        peer = optimize.minimize_scalar(
            lambda x, a=a: np.exp(a * x) - 3 * x,
            bounds=(-1, 4),
            method="bounded",
            options={"xatol": 1e-10},
        )
        found = minimize_scalar(skewed, -1.0, 4.0, a)
        np.testing.assert_allclose(found.x, peer.x, atol=1e-5)
        np.testing.assert_allclose(found.value, peer.fun, rtol=1e-6)


def point(a, differentiate="implicit"):
    return minimize_scalar(skewed, -1.0, 4.0, a, differentiate=differentiate).x


def test_derivatives_in_closed_form(eps):
    a = 1.3
    # x = log(3/a)/a, so x' = -(1 + log(3/a)) / a^2.
    first = -(1 + np.log(3 / a)) / a**2
    second = (1 + 2 * (1 + np.log(3 / a))) / a**3

    @jax.jit
    def slopes(a):
        def reverse(a, kind):
            slope = jax.grad(point)(a, kind)
            return slope, slope

        kinds = ("implicit", "unroll")
        both = [jax.jacfwd(reverse, has_aux=True)(a, kind) for kind in kinds]
        return both, jax.grad(point)(a, "none")

    both, none = slopes(a)
    for bend, slope in both:
        np.testing.assert_allclose(slope, first, rtol=1e3 * eps)
        np.testing.assert_allclose(bend, second, rtol=1e4 * eps)
    assert none == 0.0


def test_no_derivative_by_the_ends():
    def end(low):
        return minimize_scalar(valley, low, 1.0, -1.0).x

    assert end(0.25) == 0.25
    assert jax.grad(end)(0.25) == 0.0


def test_batch_with_failures():
    a = jnp.array([0.3, jnp.nan, 0.7, 0.5])
    high = jnp.array([1.0, 1.0, 1.0, -1.0])
    found = jax.jit(jax.vmap(lambda h, a: minimize_scalar(valley, 0.0, h, a)))(high, a)
    assert found.status.tolist() == [
        Status.CONVERGED,
        Status.NONFINITE,
        Status.CONVERGED,
        Status.BAD_INPUT,
    ]
    np.testing.assert_allclose(found.x[::2], a[::2], rtol=1e-5)
    assert (found.steps == found.steps[0]).all()


def test_new_values_do_not_retrace():
    traces = []

    def counted(x, a):
        traces.append(1)
        return valley(x, a)

    first = minimize_scalar(counted, 0.0, 1.0, 0.2)
    before = len(traces)
    second = minimize_scalar(counted, -1.0, 2.0, 0.6)
    assert len(traces) == before
    assert first.x != second.x


def test_unusable_arguments_are_refused():
    with pytest.raises(ValueError, match="low must be below high"):
        minimize_scalar(valley, 1.0, 0.0, 0.5)
    with pytest.raises(ValueError, match="low must be below high"):  # not only eagerly
        jax.jit(lambda a: minimize_scalar(valley, 1.0, 0.0, a))(0.5)
    with pytest.raises(ValueError, match="must be scalars"):
        minimize_scalar(valley, jnp.zeros(2), jnp.ones(2), 0.5)
    with pytest.raises(ValueError, match="differentiate='no'"):
        minimize_scalar(valley, 0.0, 1.0, 0.5, differentiate="no")
