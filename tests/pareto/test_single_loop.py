"""BADR-GD and BADR-SGD: never worse than the start, near the grid, options that act."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer import Status, pareto

from .problems import make

MODEL = pareto.Logistic(0.05)
METRIC = pareto.DemographicParity()
OPTIONS = pareto.LoopOptions(
    max_steps=300, check_every=50, batch_size=256, metric_rows=1024
)


@pytest.fixture(scope="module")
def rows():
    """Rows whose optimum is inside the simplex, and the grid's best value."""
    data = make(13, sizes=(1300, 900), d=5)
    front = pareto.sample_front(data, MODEL, METRIC)
    assert 0 < int(jnp.argmin(front.value)) < 100
    return data, float(front.value.min())


def test_sgd_is_near_the_grid_and_never_worse_than_its_start(rows):
    data, best = rows
    values = []
    for seed in range(20):
        key = jax.random.key(seed)
        found = pareto.solve_badr(data, MODEL, METRIC, "sgd", options=OPTIONS, key=key)
        span = float(found.start_value) - best
        assert found.value <= found.start_value
        values.append((float(found.start_value) - float(found.value)) / span)
        if seed == 0:
            kept = found.history.value[found.history.step >= 0]
            assert float(jnp.min(kept)) == float(found.value)
            assert kept[0] == found.start_value
    assert len(set(values)) > 10
    assert np.sum(np.asarray(values) > 0.99) >= 18


def test_gd_needs_no_key_and_ends_at_the_optimum(rows):
    data, best = rows
    found = pareto.solve_badr(data, MODEL, METRIC, "gd", options=OPTIONS)
    assert int(found.status) == Status.CONVERGED
    assert float(found.residual) <= OPTIONS.tolerance
    span = float(found.start_value) - best
    assert float(found.start_value) - float(found.value) > 0.99 * span


def test_a_run_repeats(rows):
    data, _ = rows
    runs = [
        pareto.solve_badr(
            data, MODEL, METRIC, "sgd", options=OPTIONS, key=jax.random.key(3)
        )
        for _ in range(2)
    ]
    assert (runs[0].history.value == runs[1].history.value)[:2].all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"step_w": 0.1},
        {"step_v": 0.1},
        {"step_lambda": 0.3},
        {"decay": 1.0},
        {"clip": 0.1},
        {"probes": 0},
        {"batch_size": 64},
        {"metric_rows": 64},
        {"adaptive": False},
        {"precondition": False},
        {"check_every": 30},
        {"max_steps": 50},
        {"patience": 1},
        {"tolerance": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_acts(rows, change):
    data, _ = rows
    base = dataclasses.replace(OPTIONS, tolerance=1e-9, decay=0.5)
    key = jax.random.key(0)
    found = [
        pareto.solve_badr(data, MODEL, METRIC, "sgd", options=options, key=key)
        for options in (base, dataclasses.replace(base, **change))
    ]
    steps = [np.asarray(f.history.step) for f in found]
    values = [np.asarray(f.history.value) for f in found]
    if len(steps[0]) == len(steps[1]) and (steps[0] == steps[1]).all():
        assert not np.allclose(values[0], values[1], rtol=1e-6, equal_nan=True)
    assert float(found[1].value) <= float(found[1].start_value)
    if change == {"max_steps": 50}:
        assert int(found[1].status) == Status.MAX_STEPS
        assert int(found[1].steps) == 50


@pytest.mark.slow
def test_a_hopeless_step_size_still_keeps_the_start(rows):
    data, _ = rows
    options = dataclasses.replace(OPTIONS, step_w=1e6, decay=0.0)
    found = pareto.solve_badr(
        data, MODEL, METRIC, "sgd", options=options, key=jax.random.key(0)
    )
    assert float(found.value) <= float(found.start_value)
    assert np.isfinite(found.value)
