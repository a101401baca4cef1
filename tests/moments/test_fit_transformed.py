"""Bijections fitted to all cells at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxsteer as js
from jaxsteer.maps import (
    BoxCox,
    Chain,
    Exp,
    RationalQuadraticSpline,
    Sigmoid,
    SinhArcsinh,
    YeoJohnson,
)

pytestmark = pytest.mark.slow


def rows(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    label, group = rng.integers(0, 2, (2, n))
    z = rng.normal(size=n) * (0.5 + 0.2 * group) + label
    return z, label, group


@pytest.mark.parametrize(
    ("truth", "guess", "tolerance"),
    [
        (BoxCox(0.4), BoxCox(1.0), 0.1),
        (YeoJohnson(0.5), YeoJohnson(1.0), 0.1),
        (SinhArcsinh(0.3, 1.4), SinhArcsinh(0.0, 1.0), 0.25),
        (Chain((SinhArcsinh(0.3, 1.4), Exp())), None, 0.25),
    ],
)
def test_parameters_come_back(truth, guess, tolerance):
    z, label, group = rows()
    if isinstance(truth, BoxCox):
        z = z + 2
    x = np.asarray(truth.forward(jnp.asarray(z)))
    start = Chain((SinhArcsinh(0.0, 1.0), Exp())) if guess is None else guess
    pop = js.fit_transformed_population(x, label, group, start)
    found = jax.tree.leaves(pop.conditionals.bijection)
    for ours, theirs in zip(found, jax.tree.leaves(truth), strict=True):
        assert abs(float(ours) - float(theirs)) < tolerance


@pytest.mark.parametrize(
    ("kind", "peer"), [(BoxCox, stats.boxcox), (YeoJohnson, stats.yeojohnson)]
)
def test_one_cell_equals_scipy(kind, peer):
    z, _, _ = rows(500, 1)
    x = np.exp(z)
    # The same rows in every cell.
    label, group = np.tile([0, 0, 1, 1], 500), np.tile([0, 1, 0, 1], 500)
    x = np.repeat(np.exp(z), 4)
    pop = js.fit_transformed_population(x, label, group, kind(1.0))
    _, power = peer(np.exp(z))
    assert abs(float(pop.conditionals.bijection.power) - power) < 2e-3


def test_features_have_their_own_parameters():
    z, label, group = rows()
    first = np.asarray(YeoJohnson(0.3).forward(jnp.asarray(z)))
    second = np.asarray(YeoJohnson(1.6).forward(jnp.asarray(z[::-1].copy())))
    x = np.stack([first, second], 1)
    pop = js.fit_transformed_population(x, label, group, YeoJohnson(1.0))
    powers = np.asarray(pop.conditionals.bijection.power)
    assert powers.shape == (2,) and powers[0] < 0.6 < 1.3 < powers[1]
    alone = js.fit_transformed_population(first, label, group, YeoJohnson(1.0))
    assert np.isclose(powers[0], alone.conditionals.bijection.power, atol=1e-4)
    steering = js.nearest_ideal(pop, maps="shared_covariance", reference=1).require()
    moved = steering.transport(x, group)
    assert moved.shape == x.shape and bool(jnp.all(jnp.isfinite(moved)))
    assert np.allclose(moved[group == 1], x[group == 1], atol=1e-3)
    cellwise = steering.transport(x, group, label)
    assert bool(jnp.all(jnp.isfinite(cellwise)))


def test_likelihood_rises():
    z, label, group = rows()
    x = np.asarray(SinhArcsinh(0.5, 1.2).forward(jnp.asarray(z)))

    def likelihood(pop):
        cells = [pop.cell(int(i), int(a)) for i in (0, 1) for a in (0, 1)]
        logs = np.stack([np.asarray(cell.log_prob(jnp.asarray(x))) for cell in cells])
        return logs[2 * label + group, np.arange(len(x))].mean()

    plain = likelihood(js.fit_population(x, label, group))
    fitted = js.fit_transformed_population(x, label, group, SinhArcsinh(0.0, 1.0))
    assert likelihood(fitted) > plain + 0.01


def test_weights_stand_for_rows():
    z, label, group = rows(400)
    x, times = np.exp(z), 1 + np.arange(400) % 3
    many = js.fit_transformed_population(
        *(np.repeat(a, times) for a in (x, label, group)), BoxCox(1.0)
    )
    weighted = js.fit_transformed_population(
        x, label, group, BoxCox(1.0), weights=times.astype(float)
    )
    powers = [float(pop.conditionals.bijection.power) for pop in (many, weighted)]
    assert np.isclose(*powers, atol=1e-4)


def test_clear_errors():
    z, label, group = rows(100)
    with pytest.raises(ValueError, match="no parameters to fit"):
        js.fit_transformed_population(z, label, group, Sigmoid())
    with pytest.raises(ValueError, match="outside the range of BoxCox"):
        js.fit_transformed_population(z - 5, label, group, BoxCox(1.0))
    with pytest.raises(ValueError, match="scalar parameters, power"):
        js.fit_transformed_population(z, label, group, YeoJohnson(jnp.ones(2)))


def _bent(z):
    """A curve that no power or sinh-arcsinh follows."""
    return z + 0.7 * np.sin(1.5 * z)


def _standard(x):
    return (x - x.mean()) / x.std()


@pytest.mark.slow
def test_a_spline_follows_any_curve():
    rng = np.random.default_rng(11)
    label, group = rng.integers(0, 2, (2, 6000))
    z = rng.normal(size=6000) + 1.5 * label - 0.5 * group
    x = np.stack([_standard(_bent(z)), _standard(np.exp(0.5 * z))], 1)
    start = RationalQuadraticSpline.identity(jnp.linspace(-2.0, 2.5, 8))
    pop = js.fit_transformed_population(x, label, group, start)
    base = np.asarray(pop.conditionals.bijection.inverse(jnp.asarray(x)))
    for column, before in zip(base.T, x.T, strict=True):
        # Seven pieces and straight ends leave a fifth of what was bent at most.
        left, was = (1 - np.corrcoef(v, z)[0, 1] ** 2 for v in (column, before))
        assert left < 0.2 * was
        raw = x[(label == 1) & (group == 0)]
    cell = base[(label == 1) & (group == 0), 1]
    assert abs(stats.skew(cell)) < 0.25 * stats.skew(raw[:, 1])
    bent = js.fit_transformed_population(x, label, group, SinhArcsinh(0.0, 1.0))
    follows, bends = (
        float(jnp.mean(law.cell(1, 0).log_prob(jnp.asarray(raw))))
        for law in (pop, bent)
    )
    assert follows > bends + 0.05


def test_a_spline_needs_one_row_of_knots():
    knots = jnp.linspace(-1.0, 1.0, 4)
    start = RationalQuadraticSpline.identity(jnp.stack([knots, knots]))
    with pytest.raises(ValueError, match=r"knots of shape \[n\]"):
        js.fit_transformed_population(
            np.zeros(4), np.arange(4) % 2, np.arange(4) // 2, start
        )


def test_powers_stay_bounded_and_maps_finite():
    rng = np.random.default_rng(0)
    n = 4000
    label, group = rng.integers(0, 2, (2, n))
    # A few rows far out, and lower tails: free powers go to -11 and beyond 4.
    first = -0.1 * np.expm1(-rng.gamma(1.0, 1.0, n)) + 5 * (rng.uniform(size=n) < 0.02)
    second = label - rng.exponential(1, n) ** 2 * (1 + group)
    x = np.stack([first + 0.05 * label * group, second], 1)
    x = (x - x.mean(0)) / x.std(0)
    pop = js.fit_transformed_population(x, label, group, YeoJohnson(1.0))
    powers = np.asarray(pop.conditionals.bijection.power)
    assert -2 <= powers[0] < -1.9 and 3.9 < powers[1] <= 4
    found = js.nearest_ideal(pop, maps="diagonal").require()
    for moved in (found.transport(x, group), found.transport(x, group, label)):
        assert bool(jnp.isfinite(moved).all())
        assert np.abs(moved).max() < 2 * np.abs(x).max()
    assert 0 < int(js.audit.cut_rows(found, x, group).sum()) < 0.02 * n
    with pytest.raises(ValueError, match="power=5"):
        js.fit_transformed_population(x, label, group, YeoJohnson(5.0))
