"""Bijections fitted to all cells at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxsteer as js
from jaxsteer.maps import BoxCox, Chain, Exp, Sigmoid, SinhArcsinh, YeoJohnson

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
    steering = js.nearest_ideal(pop, gauge="tied").require()
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
