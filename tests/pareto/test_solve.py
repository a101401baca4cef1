"""solve_badr finds what a grid finds, keeps the best it saw, and says how it ended."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer import Status, pareto
from jaxsteer.pareto._hypergradient import Problem, hypergradient
from jaxsteer.pareto._model import start_of
from jaxsteer.solvers import SolveError

from .problems import NAMES, SEVEN, draw, make, one_of

MODEL = pareto.Logistic(0.02)
GRID = np.linspace(0, 1, 101)
GRID = np.stack([GRID, 1 - GRID], 1)
PARITY = pareto.DemographicParity()


@jax.jit
def on_grid(data):
    """All seven metrics at the 101 points: their models are the same."""
    front = pareto._fitted.fit_path(
        Problem(model=MODEL, metric=SEVEN[0], data=data), GRID
    )

    def values(params):
        score = MODEL.score(params, data.x)
        losses = MODEL.losses(params, data.x, data.target)
        seen = pareto.Outputs(score, losses, params)
        return jnp.stack([metric.smooth(seen, data) for metric in SEVEN])

    return jax.lax.map(values, front.params).T


def test_exact_reaches_the_grid_optimum():
    for seed in range(8):
        data = make(seed)
        found = pareto.solve_badr(data, MODEL, PARITY)
        front = pareto.sample_front(data, MODEL, PARITY)
        assert float(found.value) <= float(front.value.min()) + 1e-4
        assert float(found.value) <= float(found.start_value)
        assert int(found.status) in (Status.CONVERGED, Status.STALLED)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(7), ids=NAMES)
def test_exact_reaches_the_grid_optimum_of_every_metric(index):
    for seed in range(8):
        data = make(seed)
        found = pareto.solve_badr(data, MODEL, one_of(index))
        best = float(on_grid(data)[index].min())
        assert float(found.value) <= best + 1e-4
        assert float(found.value) <= float(found.start_value)
        assert found.group_weights.sum() == pytest.approx(1, abs=1e-5)
        assert int(found.status) in (Status.CONVERGED, Status.STALLED)


def _multimodal():
    """Rows on which a metric has a second, worse minimum over the group weights."""
    for seed in range(50, 400):
        data = make(seed)
        for values in np.asarray(on_grid(data)):
            inner = (values[1:-1] < values[:-2]) & (values[1:-1] < values[2:])
            ends = [values[0] < values[1], *inner, values[-1] < values[-2]]
            lows = values[np.flatnonzero(ends)]
            index = np.argmin(np.abs(np.asarray(on_grid(data)) - values).sum(1))
            if len(lows) > 1 and np.ptp(lows) > 1e-3:
                return data, int(index), values
    raise AssertionError("no such rows")


@pytest.mark.slow
def test_several_starts_find_the_lower_of_two_minima():
    data, index, values = _multimodal()
    found = pareto.solve_badr(data, MODEL, one_of(index))
    assert float(found.value) <= values.min() + 1e-4


def test_the_answer_is_what_it_says():
    data = make(3)
    metric = PARITY
    found = pareto.solve_badr(data, MODEL, metric)
    again = pareto.fit_group_weights(data, MODEL, metric, found.group_weights)
    np.testing.assert_allclose(again.value, found.value, atol=1e-5)
    np.testing.assert_allclose(again.hard, found.hard, atol=1e-5)
    np.testing.assert_allclose(again.group_losses, found.group_losses, atol=1e-5)
    assert float(found.residual) < 0.05
    x, _, _ = draw(3)
    assert found.score(x).shape == (150,)
    assert set(np.unique(found.predict(x))) <= {0, 1}
    taken = found.history.step >= 0
    assert float(found.value) <= float(found.history.value[taken].min()) + 1e-5
    assert jnp.isnan(found.history.value[~taken]).all()
    assert taken.sum() == found.steps + 1


@pytest.mark.slow
def test_more_groups_than_a_grid_could_take():
    sizes = (40, 35, 30, 25, 20)
    data = make(1, sizes=sizes)
    found = pareto.solve_badr(data, MODEL, pareto.GroupLossVariance())
    rivals = np.random.default_rng(0).dirichlet(np.ones(5), 300)
    metric = pareto.GroupLossVariance()
    front = pareto.sample_front(data, MODEL, metric, group_weights=rivals)
    assert float(found.value) <= float(front.value.min()) + 1e-5
    assert float(found.value) < 0.2 * float(found.start_value)


@pytest.mark.slow
def test_other_targets_and_models():
    cases = [
        (pareto.Ridge(0.05), "regression"),
        (pareto.Softmax(0.05), "classes"),
        (pareto.SmoothSVM(0.05), "binary"),
    ]
    metric = pareto.DemographicParity()
    for model, kind in cases:
        data = make(2, sizes=(60, 50, 40), kind=kind)
        found = pareto.solve_badr(data, model, metric, "gd")
        front = pareto.sample_front(data, model, metric, points=60)
        assert float(found.value) <= float(front.value.min()) + 1e-3
        assert float(found.value) < float(found.start_value)


@pytest.mark.slow
def test_a_start_and_a_custom_model():
    data = make(4)
    own = pareto.CustomModel(
        initial=lambda data: {"b": jnp.zeros(()), "w": jnp.zeros(3)},
        row_score=lambda params, x: x @ params["w"] + params["b"],
        row_loss=lambda s, y: jax.nn.softplus(jnp.where(y > 0, -s, s)),
        l2=0.02,
    )
    start = np.array([0.9, 0.1])
    options = pareto.LoopOptions(max_steps=100, check_every=25)
    found = pareto.solve_badr(data, own, SEVEN[5], "gd", start=start, options=options)
    front = pareto.sample_front(data, own, SEVEN[5], group_weights=GRID[::10])
    assert found.history.group_weights[0].tolist() == pytest.approx([0.9, 0.1])
    span = float(found.start_value) - float(front.value.min())
    assert float(found.start_value) - float(found.value) > 0.9 * span > 0


def test_nothing_is_compiled_anew_for_new_values():
    pareto.solve_badr(make(0), MODEL, PARITY)
    before = pareto._solve._solve._cache_size()
    other = dataclasses.replace(MODEL, l2=0.5)
    metric = pareto.DemographicParity(temperature=0.5)
    changed = pareto.solve_badr(make(1), other, metric)
    plain = pareto.solve_badr(make(1), MODEL, PARITY)
    assert pareto._solve._solve._cache_size() == before
    assert float(changed.value) != float(plain.value)


@pytest.mark.slow
def test_it_can_be_jitted():
    data = make(0)
    found = jax.jit(lambda d: pareto.solve_badr(d, MODEL, PARITY, "gd"))(data)
    direct = pareto.solve_badr(data, MODEL, PARITY, "gd")
    np.testing.assert_allclose(found.value, direct.value, atol=1e-5)


def test_nonfinite_rows_are_a_status():
    data = make(0)
    broken = dataclasses.replace(data, x=data.x.at[0, 0].set(jnp.nan))
    found = pareto.solve_badr(broken, MODEL, PARITY)
    assert int(found.status) == Status.NONFINITE
    with pytest.raises(SolveError, match="NONFINITE"):
        found.require()


def test_unusable_arguments():
    data, metric = make(0), SEVEN[0]
    with pytest.raises(ValueError, match="method='adam' is not known"):
        pareto.solve_badr(data, MODEL, metric, "adam")
    with pytest.raises(ValueError, match="options must be LoopOptions"):
        pareto.solve_badr(data, MODEL, metric, "gd", options=pareto.ExactOptions())
    with pytest.raises(ValueError, match=r"key=jax\.random\.key"):
        pareto.solve_badr(data, MODEL, metric, "sgd")
    with pytest.raises(ValueError, match="data must be a GroupData"):
        pareto.solve_badr(data.x, MODEL, metric)
    with pytest.raises(ValueError, match="model must be a Model"):
        pareto.solve_badr(data, pareto.Logistic, metric)
    with pytest.raises(ValueError, match="metric must be a Metric"):
        pareto.solve_badr(data, MODEL, lambda o, d: 0.0)
    with pytest.raises(ValueError, match="Logistic needs a target of kind binary"):
        pareto.solve_badr(make(0, kind="classes"), MODEL, metric)
    with pytest.raises(ValueError, match="sum to 1"):
        pareto.solve_badr(data, MODEL, metric, start=np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="one entry for each of 2 groups"):
        pareto.solve_badr(data, MODEL, metric, start=np.ones(3) / 3)


def test_the_lower_level_starts_where_it_is_told():
    data = make(2)
    problem = Problem(model=MODEL, metric=SEVEN[0], data=data)
    point = jnp.array([0.5, 0.5])
    evaluate = jax.jit(hypergradient)
    cold = evaluate(point, start_of(MODEL, data), problem)
    warm = evaluate(point, cold.theta, problem)
    assert int(warm.steps) == 0 < int(cold.steps)
