from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.solvers import Status, minimize_on_simplex, project_simplex
from jaxsteer.solvers._simplex import METHODS

RANDOM = np.random.default_rng(3)
FACTOR = RANDOM.normal(size=(5, 5))
GRAM = FACTOR @ FACTOR.T / 5 + 0.05 * np.eye(5)
START = np.full(5, 0.2)


def variance(p, gram):
    return p @ gram @ p


def solve(gram=GRAM, start=START, fn=variance, **options):
    return minimize_on_simplex(fn, jnp.asarray(start), jnp.asarray(gram), **options)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_projection_is_the_nearest_point(scale, eps):
    x = jnp.asarray(RANDOM.normal(size=(20, 6)) * scale)
    p = project_simplex(x)
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(-1), 1.0, rtol=10 * eps)
    # Variational inequality against every vertex, hence against the whole simplex.
    outward = (x - p)[:, None, :] * (jnp.eye(6) - p[:, None, :])
    assert (outward.sum(-1) <= 100 * eps * max(1, scale)).all()
    np.testing.assert_allclose(project_simplex(p), p, atol=10 * eps)
    np.testing.assert_allclose(
        project_simplex(x + 3.0), p, atol=100 * eps * (3 + scale)
    )


def test_projection_agrees_with_optax(eps):
    optax = pytest.importorskip("optax")
    x = jnp.asarray(RANDOM.normal(size=7))
    np.testing.assert_allclose(
        project_simplex(x), optax.projections.projection_simplex(x), atol=10 * eps
    )


def test_projection_of_ties_infinities_and_large_numbers():
    np.testing.assert_allclose(project_simplex(jnp.ones(4)), 0.25)
    far = project_simplex(jnp.array([1e8, 1e8, -jnp.inf]))
    np.testing.assert_allclose(far, [0.5, 0.5, 0.0])
    assert jnp.isnan(project_simplex(jnp.array([1.0, jnp.nan]))).any()


def test_projection_derivative_is_closed_form(eps):
    x = jnp.asarray([0.3, 0.9, -1.0, 0.5])
    mask = np.asarray(project_simplex(x) > 0, float)
    assert mask.sum() == 3
    expected = np.diag(mask) - np.outer(mask, mask) / mask.sum()
    for jacobian in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(
            jacobian(project_simplex)(x), expected, atol=10 * eps
        )


def test_projection_keeps_float32():
    x = jnp.asarray([0.2, 0.9, -1.0], jnp.float32)
    assert project_simplex(x).dtype == jnp.float32
    assert jax.jacobian(project_simplex)(x).dtype == jnp.float32


@pytest.mark.parametrize("method", METHODS)
def test_two_assets_in_closed_form(method, eps):
    found = solve(np.diag([1.0, 3.0]), [0.5, 0.5], method=method)
    assert found.converged
    np.testing.assert_allclose(found.x, [0.75, 0.25], atol=10 * eps**0.5)


@pytest.mark.parametrize("method", METHODS)
def test_quadratic_programs_equal_cvxpy(method, x64):
    cvxpy = pytest.importorskip("cvxpy", reason="the oracle is a conic solver")
    for seed in range(5):
        a = np.random.default_rng(seed).normal(size=(8, 10))
        gram = a @ a.T / 10
        v = cvxpy.Variable(8)
        problem = cvxpy.Problem(
            cvxpy.Minimize(cvxpy.quad_form(v, cvxpy.psd_wrap(gram))),
            [v >= 0, cvxpy.sum(v) == 1],
        )
        problem.solve(solver="CLARABEL")
        found = solve(gram, np.full(8, 0.125), method=method)
        assert found.converged
        np.testing.assert_allclose(found.value, problem.value, rtol=1e-6)
        np.testing.assert_allclose(found.x, v.value, atol=1e-4)


def share(t, method, differentiate="implicit"):
    tilt = jnp.diag(jnp.asarray([t, 0.0, -t, 2 * t, 0.0]))
    options = {"tolerance": 1e-12, "max_steps": 3000, "differentiate": differentiate}
    return solve(jnp.asarray(GRAM) + tilt, method=method, **options).x


@pytest.mark.parametrize("method", METHODS)
def test_derivatives_equal_finite_differences(method, x64):
    h = 1e-5
    finite = (share(h, method) - share(-h, method)) / (2 * h)
    active = np.asarray(share(0.0, method)) < 1e-9
    assert 0 < active.sum() < 4
    assert np.abs(finite).max() > 0.01
    implicit = jax.jacrev(share)(0.0, method)
    np.testing.assert_allclose(implicit, finite, atol=1e-6)
    assert not jax.jacfwd(share)(0.0, method, "none").any()
    unrolled = jax.jacfwd(share)(0.0, method, "unroll")
    np.testing.assert_allclose(unrolled, finite, atol=1e-6)


def entropy(p, cost):
    return jnp.sum(p * jnp.log(p)) + cost @ p


def test_mirror_descent_stays_inside(eps):
    cost = np.array([0.0, 1.0, 2.0, -1.0, 5.0])
    found = solve(cost, fn=entropy, method="mirror_descent")
    assert found.converged
    np.testing.assert_allclose(found.x, jax.nn.softmax(-cost), atol=10 * eps**0.5)


@pytest.mark.parametrize("method", METHODS)
def test_options_and_status(method):
    short = solve(method=method, max_steps=2, trace=True)
    assert short.status == Status.MAX_STEPS
    assert short.steps == 2
    assert short.trace.shape == (2,)
    assert np.isfinite(short.trace).all()
    broken = solve(start=START * np.nan, method=method, max_steps=2, trace=True)
    assert broken.status == Status.NONFINITE
    assert np.isnan(broken.trace).all()
    loose = solve(method=method, tolerance=0.05)
    assert loose.converged
    assert loose.steps < solve(method=method).steps


def test_batches_and_unusable_arguments(eps):
    grams = jnp.asarray(np.stack([GRAM, 2 * np.eye(5)]))
    found = jax.jit(jax.vmap(solve))(grams)
    np.testing.assert_allclose(found.x[0], solve().x, atol=50 * eps**0.5)
    np.testing.assert_allclose(found.x[1], START, atol=10 * eps**0.5)
    with pytest.raises(ValueError, match="method='newton'"):
        solve(method="newton")
    with pytest.raises(ValueError, match="vector of probabilities"):
        solve(start=np.ones((2, 5)))
