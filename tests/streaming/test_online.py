"""Forgetting, alarms at the stated rate, and maps swapped without compiling anew."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.moments import finish, init, update
from jaxsteer.streaming import (
    GapWatch,
    forget,
    swap_maps,
    watch_gap,
    window_population,
)

ROWS, ALPHA = 800, 0.1
LOC = jnp.array([[0.0, 0.2], [1.0, 1.9]])
REFERENCE = js.Population(
    jnp.array([[0.3, 0.2], [0.3, 0.2]]),
    js.Normal(LOC, jnp.array([[1.0, 1.0], [1.2, 0.8]])),
)
OPTIONS = {"maps": "general", "reference": 0}


def drift(size):
    """The reference, one cell of it moved away."""
    loc = LOC.at[1, 1].add(size)
    law = js.Normal(loc, REFERENCE.conditionals.scale)
    return js.Population(REFERENCE.priors, law)


@jax.jit
def gaps(keys, pop):
    return jax.lax.map(
        lambda key: js.ideality_gap(window_population(key, pop, ROWS), **OPTIONS), keys
    )


@pytest.fixture(scope="module")
def watch():
    return watch_gap(
        jax.random.key(0), REFERENCE, ROWS, alpha=ALPHA, n_windows=999, **OPTIONS
    )


def test_false_alarms_come_at_the_stated_rate(watch):
    found = gaps(jax.random.split(jax.random.key(1), 2000), REFERENCE)
    rate = float(jnp.mean(jax.vmap(watch.alarm)(found)))
    # 0.1 with the errors of 2,000 looks and of 999 simulated windows: 0.0116.
    assert abs(rate - ALPHA) < 3 * (ALPHA * (1 - ALPHA) * (1 / 2000 + 1 / 999)) ** 0.5
    above = float(jnp.mean(found > watch.threshold))
    assert abs(above - rate) < 1e-6


def test_drift_is_found(watch):
    keys = jax.random.split(jax.random.key(2), 200)
    power = [
        float(jnp.mean(jax.vmap(watch.alarm)(gaps(keys, drift(s))))) for s in (0.3, 0.8)
    ]
    assert power[1] > 0.95
    assert power[0] > 2 * ALPHA


def test_p_values_count_the_window_itself():
    watch = GapWatch(gaps=jnp.arange(1.0, 20.0), alpha=jnp.asarray(0.1))
    assert float(watch.p_value(jnp.asarray(100.0))) == pytest.approx(1 / 20)
    assert float(watch.p_value(jnp.asarray(0.0))) == pytest.approx(1)
    # The 18th of 19: 2 of 20 exchangeable gaps lie at or above the 19th.
    assert float(watch.threshold) == 18
    assert bool(watch.alarm(jnp.asarray(18.5))) and not watch.alarm(
        jnp.asarray(18.0) - 1
    )


def test_a_fitted_reference_widens_the_threshold(watch):
    wider = watch_gap(
        jax.random.key(0), REFERENCE, ROWS, fitted_rows=ROWS, alpha=ALPHA,
        n_windows=999, **OPTIONS,
    )  # fmt: skip
    assert float(wider.threshold) > float(watch.threshold)


def test_windows_have_the_moments_of_drawn_rows():
    rng = np.random.default_rng(0)
    root = np.array([[1.0, 0.0], [0.7, 0.5]])
    cov = jnp.broadcast_to(root @ root.T, (1, 2, 2, 2))
    pop = js.Population(
        jnp.array([[0.25, 0.75]]), js.MultivariateNormal(jnp.ones((1, 2, 2)), cov)
    )
    n = 60
    drawn = jax.jit(jax.vmap(lambda key: window_population(key, pop, n)))(
        jax.random.split(jax.random.key(3), 3000)
    )
    found = np.asarray(drawn.conditionals.cov[:, 0, 1, 0, 1])
    rows = rng.normal(size=(3000, 45, 2)) @ root.T
    expected = np.array([np.cov(r.T, bias=True)[0, 1] for r in rows])
    error = 4 * expected.std() / 3000**0.5
    assert abs(found.mean() - expected.mean()) < 2 * error
    assert found.std() == pytest.approx(expected.std(), rel=0.08)
    means = np.asarray(drawn.conditionals.mean[:, 0, 1, 0])
    assert means.std() == pytest.approx((1 / 45) ** 0.5, rel=0.08)
    shares = np.asarray(drawn.priors[:, 0, 1])
    assert shares.std() == pytest.approx((0.75 * 0.25 / n) ** 0.5, rel=0.08)


def test_old_rows_count_less():
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(32, 2)) + i, np.arange(32) % 2) for i in range(5)]
    state = init(2, n_classes=2)
    for x, label in batches:
        state = update(forget(state, 32, half_life=48), x, label)
    x, label = (np.concatenate(part) for part in zip(*batches, strict=True))
    age = np.repeat(np.arange(4, -1, -1) * 32, 32)
    expected = update(init(2, n_classes=2), x, label, weights=2.0 ** (-age / 48))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    assert finish(state).conditionals.cov.shape == (2, 1, 2, 2)


def test_maps_are_swapped_without_compiling():
    traces = []

    @jax.jit
    def model(maps, x):
        traces.append(1)
        return jnp.tanh(jax.vmap(lambda m: m(x))(maps))

    x = jnp.linspace(-1, 1, 8)
    steerings = [js.nearest_ideal(drift(s), **OPTIONS) for s in (0.0, 0.5)]
    maps = steerings[0].group_maps
    first = model(maps, x)
    new = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64), steerings[1].group_maps
    )
    second = model(swap_maps(maps, new), x)
    assert len(traces) == 1
    assert not np.allclose(first, second)
    np.testing.assert_allclose(second, model(steerings[1].group_maps, x), rtol=1e-6)
    other = js.nearest_ideal(drift(0.0), maps="pivot", reference=0).group_maps
    bad = [
        (jax.tree.map(lambda leaf: leaf * jnp.nan, maps), "not finite"),
        (jax.tree.map(lambda leaf: leaf[:1], maps), "have shape"),
        ((other,), "another kind"),
    ]
    for wrong, message in bad:
        with pytest.raises(ValueError, match=message):
            swap_maps(maps, wrong)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"alpha": 0.001}, "needs at least 999 windows"),
        ({"alpha": 0.0}, "alpha=0.0 must be"),
        ({"rows": 20}, "rows in its smallest cell"),
        (
            {"reference": js.Population(REFERENCE.priors, js.Laplace(LOC, LOC + 1))},
            "Laplace",
        ),
    ],
)
def test_errors(change, message):
    given = {"pop": REFERENCE, "rows": ROWS, "alpha": 0.1} | change
    with pytest.raises(ValueError, match=message):
        watch_gap(jax.random.key(0), **given)
    with pytest.raises(ValueError, match="half_life"):
        forget(init(1, n_classes=1), 1, half_life=0)
    with pytest.raises(ValueError, match="rows=-1"):
        forget(init(1, n_classes=1), -1, half_life=1)
