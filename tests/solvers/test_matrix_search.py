"""Searches over matrices: stationary by an independent gradient, the best of its jobs."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxsteer.solvers import Job, MatrixNewton, Starts, Status, search
from tests.solvers.matrix_problems import random_sum, whole

D = 3
EYE = jnp.eye(D)[None]
NEWTON = MatrixNewton()
GENERAL = (Job(source=0),)
DEFINITE = (Job(source=None),)
BEST_OF_TWO = (
    Job(source=0, target=0, steps=12),
    Job(source=1, target=1, steps=12),
    Job(source=(0, 1)),
)


@partial(jax.jit, static_argnames=("solver", "jobs"))
def solved(objective, points=EYE[None], *, solver=NEWTON, jobs=GENERAL, tolerance=None):
    limit = jnp.asarray(solver.accuracy(EYE.dtype) if tolerance is None else tolerance)
    frames = jnp.broadcast_to(EYE, (1, *EYE.shape)).astype(points.dtype)
    starts = Starts(points, frames[0], frames[0], frames, frames, jnp.array([True]))
    return search(solver, objective, starts, jobs, limit, 10 * limit)


def relative_gradient(objective, x, *, symmetric=False):
    slope = jax.grad(lambda x: whole(objective, x))(x)[0]
    relative = slope @ x[0].T if not symmetric else x[0] @ (slope + slope.T) / 2
    return float(jnp.linalg.norm(relative) / objective.weight)


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_general_answers_are_stationary(weight, eps):
    objective = random_sum(3, D, 0, weight)
    end = solved(objective)
    assert end.status == Status.CONVERGED
    assert 2 < end.steps < 30
    assert end.residual <= eps**0.5
    assert relative_gradient(objective, end.chart.point) < 10 * eps**0.5
    assert np.isclose(end.value, whole(objective, end.chart.point), rtol=100 * eps)


def test_definite_answers_are_definite_and_the_least_of_these(eps):
    objective = random_sum(2, D, 1)
    end = solved(objective, jobs=DEFINITE)
    x = end.chart.point[0]
    assert end.status == Status.CONVERGED
    np.testing.assert_allclose(x, x.T, atol=20 * eps)
    assert np.linalg.eigvalsh(np.asarray(x)).min() > 0
    assert relative_gradient(objective, x[None], symmetric=True) < 10 * eps**0.5
    assert solved(objective).value <= end.value + 100 * eps


def test_scipy_finds_no_lower_value(eps):
    objective = random_sum(2, D, 2)

    def flat(v):
        x = jnp.asarray(v.reshape(1, D, D))
        value, slope = jax.value_and_grad(lambda x: whole(objective, x))(x)
        return float(value), np.asarray(slope, float).ravel()

    peer = minimize(flat, np.eye(D).ravel(), jac=True, method="BFGS")
    assert solved(objective).value <= peer.fun + 1e3 * eps * (1 + abs(peer.fun))


def test_the_best_start_is_followed_and_orientation_is_kept():
    objective = random_sum(2, D, 3)
    turned = EYE * jnp.array([1.0, 1.0, -1.0])
    near = solved(objective).chart.point
    points = jnp.stack([turned, near])
    end = solved(objective, points, jobs=BEST_OF_TWO)
    alone = [solved(objective, p[None]) for p in points]
    values = [float(one.value) for one in alone]
    assert abs(values[1] - values[0]) > 0.01
    assert np.isclose(end.value, min(values), rtol=1e-5)
    assert jnp.linalg.det(alone[0].chart.point[0]) < 0


def test_an_answer_that_has_converged_is_kept_whatever_lower_one_has_not():
    objective = random_sum(2, D, 3)
    high = solved(objective)
    low = solved(objective, (EYE * jnp.array([1.0, 1.0, -1.0]))[None])
    far = 1.02 * low.chart.point
    assert whole(objective, far) < high.value - 0.01
    jobs = (Job(source=0), Job(source=1, steps=1))
    end = solved(objective, jnp.stack([high.chart.point, far]), jobs=jobs)
    assert end.status == Status.CONVERGED
    assert np.isclose(end.value, high.value, rtol=1e-5)
    end = solved(objective, jnp.stack([high.chart.point, low.chart.point]), jobs=jobs)
    assert end.status == Status.CONVERGED
    assert np.isclose(end.value, low.value, rtol=1e-5)


def test_a_batch_is_its_rows_whatever_the_others_are(eps):
    objectives = [random_sum(2, D, seed) for seed in range(40)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *objectives)
    bad = jax.tree.map(lambda leaf: leaf.at[7].set(jnp.nan), stacked)
    ends = jax.jit(jax.vmap(solved))(bad)
    assert int(ends.status[7]) == Status.NONFINITE
    for row in (0, 6, 8, 39):
        alone = solved(objectives[row])
        assert ends.status[row] == Status.CONVERGED
        assert np.isclose(ends.value[row], alone.value, rtol=200 * eps)


def test_limits_and_tolerances():
    objective = random_sum(3, D, 4)
    short = solved(objective, solver=MatrixNewton(max_steps=1))
    assert short.status == Status.MAX_STEPS and short.steps == 1
    loose = solved(objective, tolerance=0.2)
    assert loose.status == Status.CONVERGED
    assert solved(objective).residual < loose.residual <= 0.2


def test_products_in_float32_leave_the_answer_in_float64(x64):
    objective = random_sum(3, D, 5)
    exact = solved(objective, tolerance=1e-10)
    mixed = solved(
        objective, solver=MatrixNewton(product_dtype="float32"), tolerance=1e-10
    )
    assert mixed.status == Status.CONVERGED
    assert np.isclose(mixed.value, exact.value, rtol=1e-13)
