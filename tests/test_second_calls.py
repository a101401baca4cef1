"""A second call on other values of the same shapes compiles nothing.

What is rebuilt at a call, a closure under ``jit`` or an option that is no constant, costs
seconds and memory each time and shows nowhere else.
"""

from __future__ import annotations

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.audit import metrics

K, G, D, N = 2, 2, 3, 240
COMPILED = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def compilations():
    """The programs that XLA is given to compile meanwhile."""
    seen = []

    def listen(event, duration, **kwargs):
        del duration
        if event == COMPILED:
            seen.append(kwargs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def population(seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(K, G, D, 2 * D)) / np.sqrt(2 * D)
    cells = js.MultivariateNormal(
        jnp.asarray(rng.normal(size=(K, G, D)), float),
        jnp.asarray(root @ np.swapaxes(root, -1, -2), float),
    )
    return js.Population(jnp.asarray([[0.2, 0.3], [0.3, 0.2]]), cells)


def scalar_population(seed, law=js.Normal):
    rng = np.random.default_rng(seed)
    first, second = (jnp.asarray(rng.uniform(0.5, 2, (K, G)), float) for _ in range(2))
    return js.Population(jnp.asarray([[0.2, 0.3], [0.3, 0.2]]), law(first, second))


def rows(seed):
    """Features, labels and groups: the same counts, other values."""
    rng = np.random.default_rng(seed)
    label, group = np.arange(N) % K, np.arange(N) // K % G
    x = rng.normal(size=(N, D)) + label[:, None] * (1 + group)[:, None]
    return x.astype(np.float32), label, group


def scores(seed):
    x, label, group = rows(seed)
    return x[:, 0], label, group


@functools.cache
def solved():
    return js.nearest_ideal(population(9))


@functools.cache
def steer():
    return js.nn.AffineSteer(jax.tree.map(lambda v: v[1], solved().group_maps))


@functools.cache
def groups_steer():
    return js.nn.GroupSteer(solved().group_maps)


@functools.cache
def channel():
    return js.roc_channel(*scores(9))


KEY = jax.random.key(0)

CALLS = {
    "nearest_ideal": (population, js.nearest_ideal),
    "nearest_ideal, another reference": (
        lambda seed: (population(seed), seed % G),
        lambda pop, group: js.nearest_ideal(pop, reference=group),
    ),
    "nearest_ideal, another tolerance": (
        lambda seed: (population(seed), 1e-3 / (1 + seed)),
        lambda pop, tolerance: js.nearest_ideal(
            pop, solver=js.solvers.MatrixNewton(tolerance=tolerance)
        ),
    ),
    "nearest_ideal, all groups": (
        scalar_population,
        lambda pop: js.nearest_ideal(pop, intervention="all_groups"),
    ),
    "nearest_ideal, Gamma": (
        lambda seed: scalar_population(seed, js.Gamma),
        js.nearest_ideal,
    ),
    "nearest_ideal_batch": (
        lambda seed: [scalar_population(seed), scalar_population(seed + 10)],
        js.nearest_ideal_batch,
    ),
    "ideality_gap": (population, js.ideality_gap),
    "the gap's gradient": (scalar_population, jax.grad(js.ideality_gap)),
    "is_ideal": (population, lambda pop: js.is_ideal(pop, 1e-3)),
    "ideal_residual": (population, js.audit.ideal_residual),
    "kl_divergence": (
        lambda seed: (population(seed).conditionals, population(7).conditionals),
        js.kl_divergence,
    ),
    "bayes_rates": (scalar_population, js.bayes_rates),
    "certificate": (
        lambda seed: js.nearest_ideal(scalar_population(seed)),
        js.certificate,
    ),
    "steering": (rows, lambda x, label, group: solved()(x, group)),
    "steering with labels": (rows, lambda x, label, group: solved()(x, group, label)),
    "sample": (
        lambda seed: (jax.random.key(seed), population(seed)),
        lambda k, p: p.sample(k, 64),
    ),
    "fit_population": (rows, js.fit_population),
    "moments": (
        rows,
        lambda *given: js.moments.finish(
            js.moments.update(js.moments.init(D, n_classes=K, n_groups=G), *given)
        ),
    ),
    "balanced_quantiles": (
        scores,
        lambda s, y, g: js.balanced_quantiles(s, y, g).transport(s, g),
    ),
    # How many atoms a channel has depends on the scores it was fitted to.
    "RocChannel": (scores, lambda s, y, g: channel()(s, g, key=KEY)),
    "multiclass_channel": (
        lambda seed: (np.abs(rows(seed)[0][:, :2]) + 0.1, *rows(seed)[1:]),
        lambda s, y, g: js.multiclass_channel(s / s.sum(1, keepdims=True), y, g),
    ),
    "gaussian_channel": (population, js.gaussian_channel),
    "fit_leace": (rows, lambda x, y, g: js.baselines.fit_leace(x, g)),
    "fit_quadratic_leace": (
        rows,
        lambda x, y, g: js.baselines.fit_quadratic_leace(x, g),
    ),
    "fit_mean_match": (rows, lambda x, y, g: js.baselines.fit_mean_match(x, g)),
    "fit_mimic": (rows, lambda x, y, g: js.baselines.fit_mimic(x, g)),
    "demographic_parity": (
        scores,
        lambda s, y, g: metrics.demographic_parity(y, s > 0.5, g),
    ),
    "equalized_odds": (scores, lambda s, y, g: metrics.equalized_odds(y, s > 0.5, g)),
    "sup_gap": (scores, lambda s, y, g: metrics.sup_gap(y, s, g)),
    "fit_rome_em": (
        rows,
        lambda x, y, g: js.latent.fit_rome_em(
            x[:, 0], x[:, 1:], x[:, 1:], 2, restarts=2
        ),
    ),
    "sampled bayes_rates": (
        population,
        lambda pop: js.bayes_rates(pop, method="qmc", n_points=1024),
    ),
    "price_of_fairness": (
        scalar_population,
        lambda pop: js.price_of_fairness(pop, np.linspace(0.2, 0.8, 3)),
    ),
    "fit_inlp": (rows, lambda x, y, g: js.baselines.fit_inlp(x, g, n_steps=2)),
    "fit_splince": (rows, lambda x, y, g: js.baselines.fit_splince(x, g, y)),
    "fit_switch": (rows, lambda x, y, g: js.baselines.fit_switch(x, g)),
    "fit_mixture_transport": (
        rows,
        lambda x, y, g: js.baselines.fit_mixture_transport(
            x[: N // 2], x[N // 2 :], n_components=2, key=KEY
        ),
    ),
    "bootstrap": (
        scores,
        lambda s, y, g: metrics.bootstrap(
            ["equalized_odds"], y, s > 0.5, g, key=KEY, n_boot=8
        ),
    ),
    "chance_level": (
        scores,
        lambda s, y, g: metrics.chance_level(
            ["sup_tpr_gap"], y, None, g, key=KEY, score=s, n_shuffles=8
        ),
    ),
    "steerability": (
        scores,
        lambda s, y, g: js.audit.steerability(s, None, g, key=KEY, n_boot=64),
    ),
    "steering_uncertainty": (
        rows,
        lambda x, y, g: js.audit.steering_uncertainty(x[:, 0], y, g),
    ),
    "soft population": (
        rows,
        lambda x, y, g: js.latent.fit_soft_population(
            x, y, np.stack([g, 1 - g], 1).astype(float)
        ),
    ),
    "solve_badr": (
        lambda seed: js.pareto.group_data(*rows(seed)),
        lambda data: js.pareto.solve_badr(
            data, js.pareto.Logistic(), js.pareto.GroupLossVariance()
        ),
    ),
    "fit_balanced": (
        lambda seed: js.pareto.group_data(*rows(seed)),
        lambda data: js.pareto.fit_balanced(
            data, js.pareto.Logistic(), js.pareto.GroupLossVariance()
        ),
    ),
    "AffineSteer": (rows, lambda x, y, g: steer()(jnp.asarray(x))),
    "GroupSteer": (
        rows,
        lambda x, y, g: groups_steer()(jnp.asarray(x), jnp.asarray(g)),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_compiles_nothing(name):
    make, call = CALLS[name]

    def run(seed):
        given = make(seed)
        given = given if isinstance(given, tuple) else (given,)
        with compilations() as seen:
            jax.block_until_ready(jax.tree.leaves(call(*given)))
        return seen

    run(0)
    assert not run(1)


def test_compilations_are_seen():
    with compilations() as seen:
        jax.jit(lambda x: x + np.random.default_rng().normal())(jnp.ones(7))
    assert seen
