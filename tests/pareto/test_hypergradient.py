"""Hypergradients are finite differences of the refitted metric, intercept included."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer import pareto
from jaxsteer.pareto import _lower_level
from jaxsteer.pareto._hypergradient import Problem, hypergradient
from jaxsteer.pareto._model import outputs, start_of, weighted_loss

from .problems import NAMES, SEVEN, make, one_of


def _network(data):
    k1, k2 = jax.random.split(jax.random.key(0))
    real = data.share.dtype
    return {
        "hidden": jax.random.normal(k1, (3, 4), real),
        "out": jax.random.normal(k2, (4,), real),
        "bias": jnp.zeros((), real),
    }


def _network_score(params, x):
    return jnp.tanh(x @ params["hidden"]) @ params["out"] + params["bias"]


def _cross_entropy(score, target):
    return jax.nn.softplus(jnp.where(target > 0, -score, score))


NETWORK = pareto.CustomModel(
    initial=_network, row_score=_network_score, row_loss=_cross_entropy, l2=0.05
)
MODELS = {
    "logistic": (pareto.Logistic(0.05), "binary"),
    "svm": (pareto.SmoothSVM(0.05), "binary"),
    "ridge": (pareto.Ridge(0.05), "regression"),
    "softmax": (pareto.Softmax(0.05), "classes"),
}
evaluate = jax.jit(hypergradient)


def _check(problem, tolerance):
    point = jnp.array([0.3, 0.45, 0.25])
    start = evaluate(point, start_of(problem.model, problem.data), problem)
    step = 1e-4
    differences = []
    for a in range(3):
        move = step * jnp.eye(3)[a]
        values = [
            evaluate(point + side * move, start.theta, problem).value
            for side in (1, -1)
        ]
        differences.append((values[0] - values[1]) / (2 * step))
    slope = np.asarray(start.slope)
    assert np.linalg.norm(slope) > 1e-4
    np.testing.assert_allclose(
        slope, differences, rtol=tolerance, atol=tolerance * np.abs(slope).max()
    )


@pytest.mark.parametrize("name", MODELS)
def test_hypergradient_is_the_finite_difference(name, x64):
    model, kind = MODELS[name]
    data = make(7, sizes=(60, 50, 40), kind=kind)
    for index in range(len(SEVEN)):
        _check(Problem(model=model, metric=one_of(index), data=data), 1e-5)


def test_without_intercept(x64):
    data = make(8, sizes=(60, 50, 40))
    model = pareto.Logistic(0.05, intercept=False)
    _check(Problem(model=model, metric=one_of(0), data=data), 1e-5)
    assert "intercept" not in model.init(data)


def test_hypergradient_of_a_network(x64):
    # Each refit starts from the same minimum, so the branch is the same one.
    data = make(7, sizes=(60, 50, 40))
    _check(Problem(model=NETWORK, metric=one_of(0), data=data), 1e-3)


def test_many_parameters_take_conjugate_gradients():
    data, model = make(7, sizes=(60, 50, 40)), pareto.Logistic(0.05)
    point, theta = jnp.array([0.3, 0.45, 0.25]), jnp.zeros(4)
    newton = jax.jit(_lower_level._newton, static_argnums=4)
    dense, factor, _ = newton(model, data, point, theta, True)
    iterative, none, _ = newton(model, data, point, theta, False)
    assert none is None and factor.shape == (4, 4)
    np.testing.assert_allclose(iterative, dense, atol=2e-4)
    solve = jax.jit(lambda t, b: _lower_level._iterative(model, data, point, t)(b))
    b = jnp.array([1.0, -2.0, 0.5, 0.3])
    expected = _lower_level.solve_factored(factor, b)
    np.testing.assert_allclose(solve(dense, b), expected, rtol=1e-3, atol=1e-3)


def test_the_closed_hessian_is_the_derivative(eps):
    data = make(9, sizes=(60, 50, 40))
    point = jnp.array([0.2, 0.3, 0.5])
    theta = jnp.array([0.3, -0.2, 0.5, 0.1])
    traced = jax.jit(jax.hessian(weighted_loss, argnums=1))
    generic = jax.jit(pareto.Model.hessian)
    for model in (pareto.Logistic(0.1), pareto.SmoothSVM(0.1)):
        expected = traced(model, theta, data, point)
        closed = model.hessian(theta, data, point)
        np.testing.assert_allclose(closed, expected, atol=50 * eps)
        found = generic(model, theta, data, point)
        np.testing.assert_allclose(found, expected, atol=50 * eps)


def test_the_metric_sees_the_intercept():
    data = make(9, sizes=(60, 50, 40))
    model = pareto.Logistic(0.1)
    shifted = outputs(model, jnp.array([0.0, 0.0, 0.0, 2.0]), data)
    assert shifted.score.tolist() == [2.0] * len(data.target)


def test_every_metric_has_a_name_of_its_own():
    assert len(set(NAMES)) == 7
