"""Input of a kind that no function can use is refused by all of them, by name."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer import pareto
from jaxsteer.baselines import fit_leace, fit_mean_match, fit_mimic, reweighing

N = 24
LABEL, GROUP = np.arange(N) % 2, np.arange(N) // 2 % 2
RNG = np.random.default_rng(0)
X, SCORE = RNG.normal(size=(N, 2)), RNG.normal(size=N)

DOORS = {
    "fit_population": lambda **k: js.fit_population(X, LABEL, GROUP, **k),
    "balanced_quantiles": lambda **k: js.balanced_quantiles(SCORE, LABEL, GROUP, **k),
    "roc_channel": lambda **k: js.roc_channel(SCORE, LABEL, GROUP, bins=2, **k),
    "accuracy": lambda **k: js.metrics.accuracy(LABEL, LABEL, GROUP, **k),
    "auc": lambda **k: js.metrics.auc(LABEL, SCORE, GROUP, **k),
    "sup_gap": lambda **k: js.metrics.sup_gap(LABEL, SCORE, GROUP, **k),
    "mean_match": lambda **k: fit_mean_match(X, GROUP, **k),
    "mimic": lambda **k: fit_mimic(X, GROUP, **k),
    "leace": lambda **k: fit_leace(X, GROUP, **k),
    "reweighing": lambda **k: reweighing(LABEL, GROUP, **k),
}
WEIGHTS = {
    "vast": np.full(N, 1e300),
    "tiny": np.full(N, 1e-300),
    "a column": np.ones((N, 1)),
    "text": np.ones(N).astype(str),
    "infinite": np.full(N, np.inf),
}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("door", DOORS)
def test_weights_that_have_no_sum(door, kind):
    with pytest.raises(ValueError, match="weights"):
        DOORS[door](weights=WEIGHTS[kind])


CODES = {
    "a column": GROUP[:, None],
    "identifiers": GROUP + 2**40,
    "text": GROUP.astype(str),
    "negative": GROUP - 1,
}
BY_GROUP = {
    "fit_population": lambda g: js.fit_population(X, LABEL, g),
    "balanced_quantiles": lambda g: js.balanced_quantiles(SCORE, LABEL, g),
    "roc_channel": lambda g: js.roc_channel(SCORE, LABEL, g, bins=2),
    "blind_channel": lambda g: js.blind_channel(SCORE, GROUP * 0.5 + 0.2, LABEL, g),
    "auc": lambda g: js.metrics.auc(LABEL, SCORE, g),
    "mean_match": lambda g: fit_mean_match(X, g),
    "reweighing": lambda g: reweighing(LABEL, g),
}


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("door", BY_GROUP)
def test_codes_that_are_none(door, kind):
    with pytest.raises(ValueError, match=r"group|codes"):
        BY_GROUP[door](CODES[kind])


def test_boolean_codes_are_no_mask():
    plain, masked = fit_mean_match(X, GROUP), fit_mean_match(X, GROUP.astype(bool))
    np.testing.assert_array_equal(plain.bias, masked.bias)
    np.testing.assert_array_equal(
        fit_mimic(X, GROUP).weight, fit_mimic(X, GROUP.astype(bool)).weight
    )


@pytest.mark.parametrize("fit", [fit_mean_match, fit_mimic, fit_leace])
def test_features_whose_squares_overflow(fit):
    with pytest.raises(ValueError, match="x has values above"):
        fit(X * 1e300, GROUP)


def population(priors=None, loc=0.0):
    """Four normal cells."""
    priors = jnp.full((2, 2), 0.25) if priors is None else jnp.asarray(priors)
    shape = priors.shape
    means = jnp.broadcast_to(jnp.asarray([0.0, 1.0])[: shape[0], None] + loc, shape)
    return js.Population(priors, js.Normal(means, jnp.ones(shape)))


@pytest.mark.parametrize(
    "door", [js.nearest_ideal, js.ideality_gap, js.is_ideal, js.bayes_rates]
)
def test_populations_without_classes_or_features(door):
    with pytest.raises(ValueError, match="no class"):
        door(population(jnp.zeros((0, 2))))
    none = js.MultivariateNormal(jnp.zeros((2, 2, 0)), jnp.zeros((2, 2, 0, 0)))
    with pytest.raises(ValueError, match="no features"):
        door(js.Population(jnp.full((2, 2), 0.25), none))


def test_priors_that_do_not_sum_to_one_are_bad_input():
    found = js.nearest_ideal(population(jnp.full((2, 2), 0.5)))
    assert int(found.status) == js.Status.BAD_INPUT
    rounded = js.nearest_ideal(population([[0.25, 0.25], [0.25, 0.251]]))
    assert int(rounded.status) == js.Status.CONVERGED


@pytest.mark.parametrize("prior", [np.nan, 0.0, -0.25])
def test_a_law_that_does_not_exist_is_not_ideal(prior):
    assert not bool(js.is_ideal(population([[prior, 0.25], [0.25, 0.25]])))


def test_rates_under_priors_that_are_none():
    rates = js.bayes_rates(population([[np.nan, 0.25], [0.25, 0.25]]))
    assert np.isnan(rates.error)


def test_rows_that_leave_the_range_are_named():
    steering = js.nearest_ideal(population())
    x = np.where(np.arange(4) == 2, 1e300, 1.0)
    if jax.config.read("jax_enable_x64"):
        x = np.where(np.arange(4) == 2, np.finfo(float).max, 1.0)
        steering = js.nearest_ideal(population(loc=1e300 * jnp.eye(2)))
        assert int(steering.status) != js.Status.CONVERGED
        return
    with pytest.raises(ValueError, match="first in row 2"):
        steering.transport(x, np.zeros(4, int))
    # A value that was missing before is no fault of the steering.
    moved = steering.transport(np.array([np.nan, 1.0]), np.zeros(2, int))
    assert np.isnan(moved[0]) and np.isfinite(moved[1])


@pytest.mark.parametrize("positives", [80, 20, 2])
def test_entropic_kernels_of_a_rare_class(positives):
    rng = np.random.default_rng(0)
    group, label = np.arange(8000) % 2, (np.arange(8000) < positives).astype(int)
    score = rng.normal(size=8000) + 2 * label
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the rarer, the fewer rows a bin
        found = js.roc_channel(score, label, group, bins=20, method="entropic")
    assert float(found.gap) < 1e-4
    near = js.roc_channel(score, label, group, bins=20) if positives > 40 else None
    if near is not None:
        # One curve up to its smoothing: the areas under the two agree.
        areas = [np.trapezoid(roc[:, 1], roc[:, 0]) for roc in (found.roc, near.roc)]
        assert abs(areas[0] - areas[1]) < 0.03


def _two_updates(**options):
    state = js.moments.init(2, n_classes=2, n_groups=2)
    return js.moments.update(state, X, LABEL, GROUP, **options)


# Each of these ended in a message of another package, or went through, until random
# calls came upon it.
FOUND = {
    "weights": lambda: _two_updates(weights=np.ones(N).astype(str)),
    "x must hold numbers": lambda: js.nearest_ideal(population()).transport(
        np.array(["a", "b"]), np.zeros(2, int)
    ),
    "pop.priors must have shape": lambda: js.gaussian_channel(
        js.Population(
            jnp.full(4, 0.25),
            js.MultivariateNormal(
                jnp.zeros((2, 2, 2)), jnp.broadcast_to(jnp.eye(2), (2, 2, 2, 2))
            ),
        )
    ),
    "x has values above": lambda: pareto.group_data(X * 1e300, LABEL, GROUP),
    "weights must hold numbers": lambda: pareto.group_data(
        X, LABEL, GROUP, weights=np.ones(N).astype(str)
    ),
    "group_losses has": lambda: pareto.nondominated(np.array([[1.0, np.nan]])),
    "group_losses must hold numbers": lambda: pareto.nondominated([["1", "2"]]),
    r"group_losses has shape \(2,\)": lambda: pareto.nondominated(np.ones(2)),
    "n_groups=1": lambda: pareto.simplex_grid(1, 5),
    "points=2.5": lambda: pareto.simplex_grid(2, 2.5),  # pyright: ignore[reportArgumentType]
    "counts must hold numbers": lambda: js.channels.entropic_meet(
        np.ones((2, 2, 3)).astype(str)
    ),
    "costs must hold numbers": lambda: js.price_of_fairness(population(), "a"),
    "costs has 1 values": lambda: js.price_of_fairness(
        population(), np.array([np.nan, 1.0])
    ),
}


@pytest.mark.parametrize("message", FOUND)
def test_what_random_calls_came_upon_is_refused_by_name(message):
    with pytest.raises(ValueError, match=message):
        FOUND[message]()


def test_rates_of_laws_that_do_not_exist_are_missing():
    rate = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])
    priors = jnp.full((2, 2), 0.25)
    found = js.bayes_rates(js.Population(priors, js.Poisson(rate)))
    assert np.isfinite(found.rates).all()
    found = js.bayes_rates(js.Population(priors, js.Poisson(-rate)))
    assert np.isnan(found.rates).all()


COLUMNS = {
    "nullable": lambda pandas, codes: pandas.Series(codes).convert_dtypes(),
    "categorical": lambda pandas, codes: pandas.Series(codes).astype("category"),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("door", BY_GROUP)
def test_columns_of_tables_are_codes_too(door, kind):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    column = COLUMNS[kind](pandas, GROUP)
    one, other = BY_GROUP[door](column), BY_GROUP[door](GROUP)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_columns_of_polars_are_codes_and_rows_too(recwarn):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    group = polars.Series(GROUP)
    assert js.metrics.auc(LABEL, SCORE, group) == js.metrics.auc(LABEL, SCORE, GROUP)
    steering, x = js.nearest_ideal(population()), np.zeros(2, np.float32)
    moved = steering(polars.Series(x), polars.Series([0, 1]))
    np.testing.assert_array_equal(moved, steering(x, np.array([0, 1])))
    assert not recwarn.list


def test_no_code_is_missing():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    group = pandas.array([None, *GROUP[1:]], dtype="Int64")
    with pytest.raises(ValueError, match="group must hold integer codes"):
        js.fit_population(X, LABEL, group)


def test_imaginary_parts_are_not_dropped():
    for door in (js.fit_population, lambda x, y, g: fit_mean_match(x, g)):
        with pytest.raises(ValueError, match="x must hold numbers, got dtype complex"):
            door(X + 1j, LABEL, GROUP)
    with pytest.raises(ValueError, match="x must hold numbers, got dtype complex"):
        js.nearest_ideal(population())(np.ones(2) + 1j, np.array([0, 1]))


def test_a_seed_is_no_key():
    channel = js.roc_channel(SCORE, LABEL, GROUP, bins=2)
    for seed in (0, np.array(0), np.random.default_rng(0)):
        with pytest.raises(ValueError, match=r"pass key=jax.random.key\(seed\)"):
            channel(SCORE, GROUP, key=seed)
        with pytest.raises(ValueError, match=r"pass key=jax.random.key\(seed\)"):
            population().sample(seed, 3)
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        assert np.isfinite(channel(SCORE, GROUP, key=key)).all()


def test_half_precision_is_no_overflow(recwarn):
    fit_mean_match(X.astype(np.float16), GROUP)
    assert not recwarn.list


def test_rows_without_columns_or_with_vanishing_ones_are_named():
    with pytest.raises(ValueError, match="x has no columns"):
        js.fit_population(X[:, :0], LABEL, GROUP)
    if not jax.config.jax_enable_x64:
        with pytest.raises(ValueError, match="differences below 1e-19, whose squares"):
            js.fit_population(X * 1e-30, LABEL, GROUP)


CELLS = js.Normal(jnp.zeros((2, 2)), jnp.ones((2, 2)))
QUARTERS = jnp.full((2, 2), 0.25)
NO_POPULATIONS = {
    "text": ("x", "Population, got str"),
    "nothing": (None, "Population, got NoneType"),
    "cells alone": (CELLS, "Population, got Normal"),
    "text for cells": (js.Population(QUARTERS, "x"), "laws of one family"),
    "lists for priors": (js.Population([[0.25] * 2] * 2, CELLS), "jax.numpy.asarray"),
    "lists for parameters": (
        js.Population(QUARTERS, js.Normal([[0.0] * 2] * 2, [[1.0] * 2] * 2)),
        "jax.numpy.asarray",
    ),
    "one number": (
        js.Population(QUARTERS, js.Normal(CELLS.loc, 1.0)),
        "jax.numpy.asarray",
    ),
}
BY_POPULATION = {
    "nearest_ideal": js.nearest_ideal,
    "nearest_ideal_batch": lambda pop: js.nearest_ideal_batch([pop]),
    "ideality_gap": js.ideality_gap,
    "is_ideal": js.is_ideal,
    "ideal_residual": js.ideal_residual,
    "bayes_rates": js.bayes_rates,
    "gaussian_channel": js.gaussian_channel,
}


@pytest.mark.parametrize("kind", NO_POPULATIONS)
@pytest.mark.parametrize("door", BY_POPULATION)
def test_what_is_no_population(door, kind):
    given, message = NO_POPULATIONS[kind]
    with pytest.raises(ValueError, match=message):
        BY_POPULATION[door](given)


@pytest.mark.parametrize("atol", [np.nan, -1.0])
def test_tolerances_that_nothing_meets(atol):
    with pytest.raises(ValueError, match="atol"):
        js.is_ideal(js.Population(QUARTERS, CELLS), atol)
