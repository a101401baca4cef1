from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.solvers import (
    Status,
    minimize_on_simplex,
    project_simplex,
    project_simplex_ball,
)

RANDOM = np.random.default_rng(3)
# The last asset is bad enough to get no share.
GRAM = np.diag([1.0, 1.5, 2.0, 0.8, 3.0]) + 0.1
GRAM[4, :4] = GRAM[:4, 4] = [0.8, 0.9, 0.7, 0.8]
START = np.full(5, 0.2)


def variance(p, gram):
    return p @ gram @ p


def solve(gram=GRAM, start=START, fn=variance, **options):
    return minimize_on_simplex(fn, jnp.asarray(start), jnp.asarray(gram), **options)


PROJECT = jax.jit(project_simplex)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_projection_is_the_nearest_point(scale, eps):
    x = RANDOM.normal(size=(20, 6)) * scale
    p = np.asarray(PROJECT(x))
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(-1), 1.0, rtol=10 * eps)
    # Variational inequality against every vertex, hence against the whole simplex.
    outward = (x - p)[:, None, :] * (np.eye(6) - p[:, None, :])
    assert (outward.sum(-1) <= 100 * eps * max(1, scale)).all()
    np.testing.assert_allclose(PROJECT(p), p, atol=10 * eps)
    np.testing.assert_allclose(PROJECT(x + 3.0), p, atol=100 * eps * (3 + scale))


def test_projection_agrees_with_optax(eps):
    optax = pytest.importorskip("optax")
    x = RANDOM.normal(size=(20, 6))[0]
    peer = jax.jit(optax.projections.projection_simplex)(x)
    np.testing.assert_allclose(PROJECT(x), peer, atol=10 * eps)


def test_projection_of_ties_infinities_and_large_numbers():
    np.testing.assert_allclose(PROJECT(np.ones(3)), 1 / 3, rtol=1e-6)
    far = PROJECT(np.array([1e8, 1e8, -np.inf]))
    np.testing.assert_allclose(far, [0.5, 0.5, 0.0])
    assert jnp.isnan(PROJECT(np.array([1.0, np.nan, 0.0]))).any()


def test_projection_derivative_is_closed_form(eps):
    x = jnp.asarray([0.3, 0.9, -1.0])
    mask = np.asarray(PROJECT(x) > 0, float)
    assert mask.sum() == 2
    expected = np.diag(mask) - np.outer(mask, mask) / mask.sum()
    for jacobian in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(
            jax.jit(jacobian(project_simplex))(x), expected, atol=10 * eps
        )


def test_projection_keeps_float32():
    x = jnp.asarray([0.2, 0.9, -1.0], jnp.float32)
    assert PROJECT(x).dtype == jnp.float32
    assert jax.eval_shape(jax.jacobian(project_simplex), x).dtype == jnp.float32


def test_two_assets_in_closed_form(eps):
    found = solve(np.diag([1.0, 3.0]), [0.5, 0.5])
    assert found.converged
    np.testing.assert_allclose(found.x, [0.75, 0.25], atol=10 * eps**0.5)


def test_quadratic_programs_equal_cvxpy(x64):
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
        found = solve(gram, np.full(8, 0.125), max_steps=10_000)
        assert found.converged
        np.testing.assert_allclose(found.value, problem.value, rtol=1e-6)
        np.testing.assert_allclose(found.x, v.value, atol=1e-4)


def share(t, differentiate):
    tilt = jnp.diag(jnp.asarray([1.0, 0.0, -1.0, 2.0, 0.0])) * t
    options = {"tolerance": 1e-12, "max_steps": 500, "differentiate": differentiate}
    return solve(jnp.asarray(GRAM) + tilt, **options).x


def test_derivatives_equal_finite_differences(x64):
    def along(mode, differentiate):
        return jax.jit(mode(lambda t: share(t, differentiate)))

    frozen = along(lambda fn: lambda t: jax.jvp(fn, (t,), (1.0,)), "none")
    x, still = frozen(0.0)
    assert (np.asarray(x) < 1e-9).tolist() == [False] * 4 + [True]
    assert not still.any()
    h = 1e-4
    finite = (frozen(h)[0] - frozen(-h)[0]) / (2 * h)
    assert np.abs(finite).max() > 0.1
    for mode, differentiate in ((jax.jacrev, "implicit"), (jax.jacfwd, "unroll")):
        slope = along(mode, differentiate)(0.0)
        np.testing.assert_allclose(slope, finite, atol=1e-7)


@pytest.mark.parametrize("differentiate", ["implicit", "unroll"])
def test_the_start_has_no_derivative(differentiate):
    def total(start):
        options = {"max_steps": 2, "differentiate": differentiate}
        return solve(start=start, **options).x[0]

    assert not jax.jit(jax.grad(total))(START).any()


def test_options_and_status():
    short = solve(max_steps=2, trace=True)
    assert short.status == Status.MAX_STEPS
    assert short.steps == 2
    assert short.trace.shape == (2,)
    assert np.isfinite(short.trace).all()
    broken = solve(start=START * np.nan, max_steps=2, trace=True)
    assert broken.status == Status.NONFINITE
    assert np.isnan(broken.trace).all()
    loose = solve(tolerance=0.05)
    assert loose.converged
    assert loose.steps < solve().steps


def test_batches_contain_failures_and_new_values_do_not_retrace(eps):
    traces = []

    def counted(p, gram):
        traces.append(1)
        return variance(p, gram)

    grams = np.stack([GRAM, np.nan * GRAM, 2 * np.eye(5)])
    batch = jax.jit(jax.vmap(lambda g: solve(g, fn=counted)))(grams)
    codes = [Status.CONVERGED, Status.NONFINITE, Status.CONVERGED]
    assert batch.status.tolist() == codes
    first = solve()
    np.testing.assert_allclose(batch.x[0], first.x, atol=50 * eps**0.5)
    np.testing.assert_allclose(batch.value[0], first.value, rtol=100 * eps)
    np.testing.assert_allclose(batch.x[2], START, atol=10 * eps**0.5)
    solve(fn=counted)
    before = len(traces)
    solve(2 * np.eye(5), [0.6, 0.1, 0.1, 0.1, 0.1], fn=counted)
    assert len(traces) == before


def test_unusable_arguments_are_refused():
    with pytest.raises(ValueError, match="vector of probabilities"):
        solve(start=np.ones((2, 5)))


def test_project_simplex_ball_is_a_projection():
    rng = np.random.default_rng(0)
    for _ in range(10):
        center = rng.dirichlet(np.ones(5))
        x, radius = 2 * rng.normal(size=5), rng.uniform(0.05, 0.5)
        p = np.asarray(
            project_simplex_ball(jnp.asarray(x), jnp.asarray(center), radius)
        )
        assert p.min() >= 0 and p.sum() == pytest.approx(1, abs=1e-5)
        assert np.linalg.norm(p - center) <= radius + 1e-5
        # The variational inequality, at points that are feasible.
        others = rng.dirichlet(np.ones(5), 200)
        steps = radius / np.maximum(
            np.linalg.norm(others - center, axis=1, keepdims=True), radius
        )
        others = center + steps * (others - center)
        assert ((x - p) * (others - p)).sum(1).max() <= 1e-5
        again = project_simplex_ball(jnp.asarray(p), jnp.asarray(center), radius)
        np.testing.assert_allclose(again, p, atol=1e-5)
