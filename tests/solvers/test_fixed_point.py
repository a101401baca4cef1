from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.solvers import dense_tangent_solve, fixed_point

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
START = np.array([1.0, 0.5])
ARGS = {"mix": np.array([[0.3, -0.2], [0.1, 0.4]]), "shift": np.array([0.5, -1.0])}


def contraction(x, args):
    return jnp.tanh(args["mix"] @ x) + args["shift"]


def solved(args, start=START, differentiate="implicit", max_steps=120, **options):
    options |= {"differentiate": differentiate, "max_steps": max_steps}
    return fixed_point(contraction, jnp.asarray(start), args, **options)


def scalar(args, differentiate):
    x = solved(args, differentiate=differentiate).x
    return x[0] * x[1] + jnp.sum(x**3)


SLOPE = jax.jit(jax.grad(scalar), static_argnums=1)


def newton():
    """The same fixed point by Newton's method in NumPy."""
    x = START.copy()
    for _ in range(50):
        y = np.tanh(ARGS["mix"] @ x)
        slope = (1 - y**2)[:, None] * ARGS["mix"]
        x = x - np.linalg.solve(slope - np.eye(2), y + ARGS["shift"] - x)
    return x


@pytest.mark.parametrize("differentiate", ["implicit", "unroll", "none"])
def test_finds_a_known_fixed_point(differentiate):
    found = jax.jit(solved, static_argnames="differentiate")(
        ARGS, differentiate=differentiate
    )
    np.testing.assert_allclose(found.x, newton(), atol=50 * EPS)
    assert found.change <= 10 * EPS
    assert found.steps.dtype == jnp.int32
    assert found.steps == 120 if differentiate == "unroll" else 5 < found.steps < 60


def test_square_root_by_babylon():
    found = fixed_point(
        lambda x, a: (x + a / x) / 2, jnp.ones(3), jnp.array([2, 9, 0.1])
    )
    np.testing.assert_allclose(found.x, np.sqrt([2, 9, 0.1]), rtol=10 * EPS)
    assert found.steps < 15


def test_step_limit_shows_in_the_residual():
    found = solved(ARGS, max_steps=3)
    assert found.steps == 3
    assert found.change > 10 * EPS
    x = START
    for _ in range(3):
        before, x = x, contraction(x, ARGS)
    np.testing.assert_allclose(found.x, x, rtol=20 * EPS)
    np.testing.assert_allclose(found.change, np.abs(x - before).max(), rtol=1e3 * EPS)


def test_tolerance_stops_earlier():
    loose = solved(ARGS, tolerance=1e-2)
    assert loose.steps < solved(ARGS).steps
    assert 10 * EPS < loose.change <= 1e-2


def test_divergence_and_nan_end_the_loop():
    found = fixed_point(lambda x, a: a * x, jnp.ones(1), jnp.nan)
    assert np.isnan(found.change)
    assert found.steps == 1
    found = fixed_point(lambda x, a: a * x + 1, jnp.ones(1), 2.0, max_steps=20)
    assert (found.steps, found.change) == (20, 2.0**20)


def test_slopes_agree_three_ways():
    implicit, unrolled = (SLOPE(ARGS, kind) for kind in ("implicit", "unroll"))
    x = newton()
    y = x - ARGS["shift"]
    # By hand: dx = (I - diag(1 - y^2) mix)^-1 dshift.
    weight = np.array([x[1], x[0]]) + 3 * x**2
    response = np.linalg.inv(np.eye(2) - (1 - y**2)[:, None] * ARGS["mix"])
    np.testing.assert_allclose(implicit["shift"], weight @ response, rtol=500 * EPS)
    for name in ARGS:
        np.testing.assert_allclose(
            implicit[name], unrolled[name], rtol=1e3 * EPS, atol=1e3 * EPS
        )


def test_slopes_equal_finite_differences(x64):
    slopes = SLOPE(ARGS, "implicit")
    value = jax.jit(lambda args: scalar(args, "none"))
    for name, index in (("mix", (0, 1)), ("mix", (1, 1)), ("shift", (0,))):
        step = np.zeros_like(ARGS[name])
        step[index] = 1e-5
        up, down = (value(ARGS | {name: ARGS[name] + s * step}) for s in (1, -1))
        np.testing.assert_allclose(slopes[name][index], (up - down) / 2e-5, rtol=1e-7)


def test_forward_reverse_and_second_derivatives():
    def by_shift(shift, kind="implicit"):
        return scalar(ARGS | {"shift": shift}, kind)

    shift = jnp.asarray(ARGS["shift"])
    one = jnp.array([1.0, -2.0])
    _, forward = jax.jit(lambda s: jax.jvp(by_shift, (s,), (one,)))(shift)
    np.testing.assert_allclose(
        forward, SLOPE(ARGS, "implicit")["shift"] @ one, rtol=1e3 * EPS
    )
    hessian = jax.jit(jax.hessian(by_shift))(shift)
    unrolled = jax.jit(jax.hessian(lambda s: by_shift(s, "unroll")))(shift)
    scale = np.abs(unrolled).max()
    np.testing.assert_allclose(hessian, unrolled, atol=5e3 * EPS * scale)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e3 * EPS * scale)


def test_none_has_no_slope():
    for leaf in jax.tree.leaves(SLOPE(ARGS, "none")):
        assert not leaf.any()


@pytest.mark.parametrize("differentiate", ["implicit", "unroll", "none"])
def test_start_has_no_slope(differentiate):
    def of_start(start):
        return jnp.sum(solved(ARGS, start, differentiate, max_steps=2).x)

    assert not jax.jit(jax.grad(of_start))(START).any()


def test_batch_equals_one_at_a_time():
    shifts = np.random.default_rng(0).normal(size=(4, 2))
    run = jax.jit(jax.vmap(lambda s: solved(ARGS | {"shift": s})))
    found = run(shifts)
    alone = jax.jit(solved)
    for k in range(4):
        one = alone(ARGS | {"shift": shifts[k]})
        np.testing.assert_allclose(found.x[k], one.x, atol=20 * EPS)
        assert abs(int(found.steps[k]) - int(one.steps)) <= 1
    slope = jax.jit(
        jax.vmap(jax.grad(lambda s: jnp.sum(solved(ARGS | {"shift": s}).x)))
    )
    assert np.isfinite(slope(shifts)).all()


def test_failed_row_leaves_the_others():
    shifts = np.array([[0.5, -1.0], [np.nan, 0.0]])
    found = jax.jit(jax.vmap(lambda s: solved(ARGS | {"shift": s})))(shifts)
    np.testing.assert_allclose(found.x[0], newton(), atol=50 * EPS)
    assert np.isnan(found.change[1])


def test_unknown_derivative_is_refused():
    with pytest.raises(ValueError, match="differentiate='unrol' is not known; choose"):
        solved(ARGS, differentiate="unrol")


def test_dense_tangent_solve():
    a, y = ARGS["mix"] + np.eye(2), np.array([1.0, 2.0])
    found = dense_tangent_solve(lambda x: jnp.asarray(a) @ x, jnp.asarray(y))
    np.testing.assert_allclose(found, np.linalg.solve(a, y), rtol=20 * EPS)
