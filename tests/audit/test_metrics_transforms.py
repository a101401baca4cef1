"""Metrics under jit, vmap and grad, and what they do where nothing can be raised."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.audit import metrics
from jaxsteer.audit._metric import Metric

TOL = 50 * float(jnp.finfo(jnp.result_type(float)).eps)
ON_CODES = [
    metrics.accuracy,
    metrics.balanced_accuracy,
    metrics.demographic_parity,
    metrics.equal_opportunity,
    metrics.equalized_odds,
    metrics.tpr_gap,
    metrics.tpr_gap_per_class,
]
ON_SCORES = [
    metrics.auc,
    *(functools.partial(metrics.sup_gap, rate=r) for r in ("tpr", "fpr", "dp")),
]


def arguments(f, d):
    if f in ON_CODES:
        options = {"n_classes": 3, "n_groups": 2}
        return options, d["label"], d["prediction"], d["group"]
    return {"n_groups": 2}, d["label"] % 2, d["score"], d["group"]


@pytest.mark.parametrize(
    ("f", "weighted"),
    [*((f, True) for f in ON_CODES + ON_SCORES), (ON_CODES[0], False)],
)
def test_jit_and_vmap_equal_one_call_each(rows, f, weighted):
    batch = [rows(300, 3, 2, seed) for seed in range(4)]
    options = arguments(f, batch[0])[0]
    data = [arguments(f, d)[1:] for d in batch]
    if weighted:
        data = [(*a, d["weights"]) for a, d in zip(data, batch, strict=True)]
    alone = np.stack([call(f, options)(*a) for a in data])
    stacked = [
        jnp.stack([jnp.asarray(x) for x in column])
        for column in zip(*data, strict=True)
    ]
    together = jax.jit(jax.vmap(call(f, options)))(*stacked)
    np.testing.assert_allclose(together, alone, atol=TOL)


def call(f, options):
    def one(label, out, group, weights=None):
        return f(label, out, group, weights=weights, **options)

    return one


def test_sizes_that_can_be_seen_need_not_be_given(rows):
    d = rows(200)
    predictions = jnp.stack([d["prediction"], 1 - d["prediction"]])
    found = jax.vmap(
        lambda p: metrics.accuracy(d["label"], p, d["group"], n_classes=2)
    )(predictions)
    np.testing.assert_allclose(jnp.sum(found), 1, atol=TOL)


def test_sizes_may_be_larger_than_the_codes_seen(rows):
    d = rows(200, 2, 2)
    data = d["label"], d["prediction"], d["group"]
    assert metrics.accuracy(*data, n_classes=5, n_groups=7) == metrics.accuracy(*data)


def jitted(f, *arrays, **options):
    return jax.jit(functools.partial(f, **options))(*arrays)


@pytest.mark.parametrize("f", [metrics.equal_opportunity, metrics.equalized_odds])
def test_an_empty_cell_is_nan_under_jit(f):
    label, group = np.array([0, 1, 0, 0]), np.array([0, 0, 1, 1])
    assert np.isnan(jitted(f, label, label, group, n_classes=2, n_groups=2))


def test_only_the_class_with_an_empty_cell_is_nan_under_jit():
    label, group = np.array([0, 1, 0, 0]), np.array([0, 0, 1, 1])
    gap = jitted(
        metrics.tpr_gap_per_class, label, label, group, n_classes=2, n_groups=2
    )
    np.testing.assert_array_equal(gap, [0, np.nan])


@pytest.mark.parametrize("rate", ["tpr", "fpr", "dp"])
def test_an_empty_group_is_nan_under_jit(rate):
    label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 2, 2])
    score = np.arange(4.0)
    gap = jitted(metrics.sup_gap, label, score, group, rate=rate, n_groups=3)
    assert np.isnan(gap)


@pytest.mark.parametrize(
    "broken",
    [
        {"label": [0, 1, 2, 1]},
        {"prediction": [0, 1, 1, -1]},
        {"group": [0, 1, 2, 1]},
        {"weights": [1.0, -1.0, 1.0, 1.0]},
        {"weights": [1.0, np.inf, 1.0, 1.0]},
    ],
)
def test_bad_values_are_nan_under_jit(broken):
    good = {"label": [0, 1, 0, 1], "prediction": [0, 1, 1, 0], "group": [0, 0, 1, 1]}
    good["weights"] = [1.0, 1.0, 1.0, 1.0]
    f = jax.jit(functools.partial(metrics.accuracy, n_classes=2, n_groups=2))

    def run(data):
        return f(**{name: np.array(value) for name, value in data.items()})

    assert run(good) == 0.5
    assert np.isnan(run(good | broken))


def test_a_nan_score_is_nan_under_jit():
    label, group = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    score = np.array([0.1, np.nan, 0.3, 0.4])
    assert np.isnan(jitted(metrics.auc, label, score, group, n_groups=2))
    assert np.isnan(jitted(metrics.sup_gap, label, score, group, n_groups=2))


def test_the_same_shapes_are_traced_once(rows):
    traces = []

    def formula(table, positive):
        traces.append(positive)
        return jnp.sum(table)

    metric = Metric(name="sum", support="rows", formula=formula, compares=False)
    for seed in range(3):
        d = rows(123, seed=seed)
        assert metric(d["label"], d["prediction"], d["group"]) == 123
    assert len(traces) == 1


def test_gradients_by_weights_equal_finite_differences(rows):
    d = rows(60)
    w = jnp.asarray(d["weights"])

    def f(w):
        return metrics.demographic_parity(
            d["label"], d["prediction"], d["group"], weights=w
        )

    step = float(jnp.finfo(w.dtype).eps) ** (1 / 3)
    slope = jax.grad(f)(w)
    assert np.all(np.isfinite(slope))
    move = jnp.cos(jnp.arange(60.0))
    numeric = (f(w + step * move) - f(w - step * move)) / (2 * step)
    np.testing.assert_allclose(slope @ move, numeric, atol=20 * step**2)


def test_results_have_the_default_float_type(rows):
    d = rows(50)
    data = d["label"].astype(np.int8), d["prediction"] > 0, d["group"]
    assert metrics.accuracy(*data).dtype == jnp.zeros(()).dtype
    assert metrics.auc(data[0], d["score"], d["group"]).dtype == jnp.zeros(()).dtype


def test_whole_numbers_are_exact(rows):
    d = rows(5000)
    data = d["label"], d["prediction"], d["group"]
    right = int(np.sum(d["label"] == d["prediction"]))
    eps = float(jnp.finfo(jnp.result_type(float)).eps)
    np.testing.assert_allclose(metrics.accuracy(*data), right / 5000, rtol=eps)
