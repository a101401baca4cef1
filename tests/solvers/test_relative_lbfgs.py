from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.solvers import PositiveDefinite, RelativeLBFGS, RelativeNewton, Status
from tests.solvers.matrix_problems import curvature, objective, random_args

D = 4
ARGS = random_args(3, D, 0)
START = np.eye(D)[None]
PLAIN = RelativeLBFGS(max_steps=150, trace=True)


def solve(args, start, weight, solver=PLAIN, group=None, **options):
    return solver.run(
        objective,
        start,
        args,
        weight=weight,
        curvature=curvature,
        group=group,
        **options,
    )


JITTED = jax.jit(solve, static_argnames=("solver", "group", "trial_steps"))


def solved(args=ARGS, start=START, weight=1.0, **options):
    """One compilation serves every test that changes values only."""
    return JITTED(args, jnp.asarray(start), jnp.full(1, weight), **options)


def relative_gradient(x, weight=1.0):
    gradient = jax.grad(objective)(x, ARGS)[0]
    return gradient @ x[0].T - weight * jnp.eye(D)


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_stationary_by_an_independent_gradient(weight, eps):
    found = solved(weight=weight)
    assert found.status == Status.CONVERGED
    assert 3 < found.steps < 150
    assert found.residual <= eps**0.5
    norm = jnp.linalg.norm(relative_gradient(found.x, weight)) / weight
    np.testing.assert_allclose(found.residual, norm, atol=200 * eps)


def test_agrees_with_newton_on_a_convex_problem(eps):
    group = PositiveDefinite()
    found = solved(group=group)
    exact = solved(group=group, solver=RelativeNewton())
    assert found.status == exact.status == Status.CONVERGED
    np.testing.assert_allclose(found.value, exact.value, rtol=50 * eps)
    np.testing.assert_allclose(found.x, exact.x, atol=50 * eps**0.5)


def test_closed_form_of_equal_classes_without_means(eps):
    args = jax.tree.map(lambda leaf: jnp.stack([leaf[0]] * 3), ARGS)
    args |= {"mean": jnp.zeros((3, D)), "aim": jnp.zeros((3, D))}
    found = solved(args)
    assert found.converged
    image = found.x[0] @ args["covariance"][0] @ found.x[0].T
    np.testing.assert_allclose(image @ args["precision"][0], np.eye(D), atol=eps**0.45)


def test_scipy_finds_the_same_value(x64):
    optimize = pytest.importorskip("scipy.optimize", reason="the oracle is SciPy")

    def whole(flat):
        x = flat.reshape(1, D, D)
        return objective(x, ARGS) - jnp.linalg.slogdet(x[0])[1]

    slope = jax.jit(jax.value_and_grad(whole))
    peer = optimize.minimize(
        lambda flat: [np.asarray(part) for part in slope(flat)],
        np.eye(D).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": 1e-10, "ftol": 1e-15},
    )
    np.testing.assert_allclose(solved().value, peer.fun, rtol=1e-10)


def test_memory_saves_steps():
    short = solved(solver=RelativeLBFGS(max_steps=150, memory=1))
    assert short.converged
    assert solved().steps < short.steps


def test_batch_equals_single_rows_and_contains_failures(eps):
    many = [random_args(3, D, seed) for seed in range(3)]
    many[1]["mean"] = many[1]["mean"] * jnp.nan
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    one = jnp.ones(1)
    found = jax.jit(jax.vmap(lambda args: solve(args, jnp.asarray(START), one)))(batch)
    codes = [Status.CONVERGED, Status.NONFINITE, Status.CONVERGED]
    assert found.status.tolist() == codes
    assert found.steps[1] == 0
    for row in (0, 2):
        single = solved(many[row])
        np.testing.assert_allclose(found.value[row], single.value, rtol=50 * eps)


def test_step_limit_and_trace():
    found = solved()
    steps = int(found.steps)
    assert found.trace.shape == (150,)
    assert np.isfinite(found.trace[:steps]).all()
    assert np.isnan(found.trace[steps:]).all()
    start = jnp.linalg.norm(relative_gradient(jnp.asarray(START)))
    np.testing.assert_allclose(found.trace[0], start, rtol=1e-4)
    short = solved(solver=RelativeLBFGS(max_steps=4, memory=5))
    assert short.status == Status.MAX_STEPS
    assert short.steps == 4
    assert short.trace is None
    np.testing.assert_allclose(short.residual, found.trace[4], rtol=1e-2)


def test_tolerance_stops_earlier_and_new_values_do_not_retrace():
    traces = []

    def counted(x, args):
        traces.append(1)
        return objective(x, args)

    loose = RelativeLBFGS(tolerance=0.1, memory=2)
    run = jax.jit(lambda args: loose.run(counted, jnp.asarray(START), args))
    first = run(ARGS)
    before = len(traces)
    second = run(random_args(3, D, 5))
    assert len(traces) == before
    assert first.value != second.value
    assert first.converged
    assert 0.001 < first.residual <= 0.1


def test_several_starts_keep_the_lowest(eps):
    starts = np.stack([START * np.array([-1.0, 1, 1, 1]), START])
    values = [solved(start=start).value for start in starts]
    assert abs(values[0] - values[1]) > 1e-3
    # The choice is made after the trial steps.
    found = solved(start=starts, trial_steps=60)
    np.testing.assert_allclose(found.value, min(values), rtol=100 * eps)


def test_implicit_gradient(x64):
    tight = RelativeLBFGS(tolerance=1e-10, memory=2)

    @jax.jit
    @jax.value_and_grad
    def shift(t):
        args = ARGS | {"aim": ARGS["aim"] * (1 + t)}
        start, weight = jnp.asarray(START), jnp.ones(1)
        found = solve(args, start, weight, solver=tight, group=PositiveDefinite())
        return found.x[0, 0, 1] + found.x[0, 2, 2] ** 2

    h = 1e-4
    slope = (shift(h)[0] - shift(-h)[0]) / (2 * h)
    np.testing.assert_allclose(shift(0.0)[1], slope, rtol=1e-6)


def test_narrow_products_do_not_narrow_the_answer(x64):
    exact = solved(solver=RelativeNewton(tolerance=1e-10))
    mixed = solved(solver=RelativeNewton(tolerance=1e-10, product_dtype="float32"))
    assert exact.converged and mixed.converged
    assert mixed.x.dtype == exact.x.dtype == np.float64
    np.testing.assert_allclose(mixed.value, exact.value, rtol=1e-13)
    # The two searches are not one and the same.
    assert mixed.residual != exact.residual
