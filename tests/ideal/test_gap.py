"""The ideality gap as a loss."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from tests.ideal.problems import (
    along,
    random_direction,
    random_multivariate,
    random_univariate,
)

POP = random_multivariate(np.random.default_rng(0), 2, 2, 3, tied=False)


@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
@pytest.mark.parametrize("maps", ["positive_definite", "shared_covariance"])
def test_envelope_gradient_equals_finite_differences(maps, intervention, x64):
    # Where the tied model holds: elsewhere its flat directions matter to the gap.
    rng = np.random.default_rng(4)
    pop = (
        random_multivariate(rng, 2, 2, 3, tied=True)
        if maps == "shared_covariance"
        else POP
    )
    direction = random_direction(np.random.default_rng(1), pop)

    @jax.jit
    def gap(t):
        return js.ideality_gap(
            along(pop, t, direction), intervention=intervention, maps=maps, reference=1
        )

    step = 1e-5
    finite = (gap(step) - gap(-step)) / (2 * step)
    assert jnp.allclose(jax.grad(gap)(0.0), finite, rtol=1e-5, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("intervention", "priors"),
    [("all_groups", "reweigh"), ("affirmative", "joint"), ("affirmative", "keep")],
)
def test_univariate_gap_has_the_gradient_of_the_divergence(intervention, priors, eps):
    pop = random_univariate(np.random.default_rng(2), 2, 3)

    def moved(loc):
        cells = js.Normal(loc, pop.conditionals.scale)
        return js.Population(pop.priors, cells)

    def gap(loc):
        return js.ideality_gap(
            moved(loc), intervention=intervention, priors=priors, reference=1
        )

    def kl(loc):
        return js.nearest_ideal(
            moved(loc), intervention=intervention, priors=priors, reference=1
        ).kl

    loc = pop.conditionals.loc
    (value, slope), (expected, other) = (
        jax.value_and_grad(fn)(loc) for fn in (gap, kl)
    )
    assert jnp.allclose(value, expected, rtol=100 * eps)
    assert jnp.allclose(slope, other, atol=eps**0.5)


def test_descent_on_the_gap_makes_groups_alike():
    pop = random_univariate(np.random.default_rng(3), 2, 2)

    @jax.jit
    def gap(loc):
        cells = js.Normal(loc, pop.conditionals.scale)
        return js.ideality_gap(js.Population(pop.priors, cells), reference=1)

    loc = pop.conditionals.loc
    first = gap(loc)
    for _ in range(200):
        loc = loc - 0.5 * jax.grad(gap)(loc)
    assert gap(loc) < first
    scales = pop.conditionals.scale
    # What is left is what means cannot mend: the ratios of scales, and the priors.
    same = js.Normal(jnp.zeros_like(loc), scales)
    floor = js.nearest_ideal(js.Population(pop.priors, same), reference=1).kl
    assert jnp.allclose(gap(loc), floor, atol=1e-3)


def test_options_are_checked():
    with pytest.raises(ValueError, match="maps='round' is not known"):
        js.ideality_gap(POP, maps="round", reference=1)


def test_the_status_and_the_steering_are_not_asked_for_together():
    with pytest.raises(ValueError, match=r"leave return_status out"):
        js.ideality_gap(POP, return_status=True, return_steering=True)


def test_a_bounded_search_bounds_the_gap_from_above():
    start = js.nearest_ideal(POP, maps="shared_covariance", reference=1)
    options = {"reference": 1, "start": start}
    solver = js.solvers.MatrixNewton(max_steps=1, max_products=1)

    def bounded(mean):
        cells = js.MultivariateNormal(mean, POP.conditionals.cov)
        return js.ideality_gap(
            js.Population(POP.priors, cells),
            solver=solver,
            return_steering=True,
            **options,
        )

    mean = POP.conditionals.mean
    (bound, found), slope = jax.value_and_grad(bounded, has_aux=True)(mean)
    assert found.status == js.Status.MAX_STEPS
    assert float(js.nearest_ideal(POP, **options).kl) < float(bound) < float(start.kl)
    # The gradient is that of the divergence with the maps that were reached held still.
    np.testing.assert_allclose(found.target.kl(POP), bound, rtol=1e-5)
    assert np.isfinite(slope).all()
    assert float(jnp.abs(slope).max()) > 1e-3


def test_many_features_of_groups_that_are_images_of_each_other():
    # From the maps of a shared covariance, the only other start at so many features, 8
    # steps do not get there.
    rng = np.random.default_rng(3)
    d = 136
    root = rng.normal(size=(2, d, 2 * d)) / (2 * d) ** 0.5
    root[1, :, :d] *= 2
    cov = root @ root.swapaxes(1, 2)
    mean = rng.normal(size=(2, d)) * [[0], [1]]
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    turn[0] *= np.sign(np.linalg.det(turn))
    cells = js.MultivariateNormal(
        jnp.asarray(np.stack([mean, mean @ turn.T], 1)),
        jnp.asarray(np.stack([cov, turn @ cov @ turn.T], 1)),
    )
    pop = js.Population(jnp.full((2, 2), 0.25), cells)
    solver = js.solvers.MatrixNewton(max_steps=8, max_products=16)
    gap, status = js.ideality_gap(pop, reference=0, solver=solver, return_status=True)
    assert status == js.Status.CONVERGED
    assert float(gap) < 1e-3


@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
@pytest.mark.parametrize("equal", [slice(None), slice(1)])
def test_equal_classes_have_a_gradient(intervention, equal):
    """Of one group or of all; their means differ by rounding at most."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(2, 3, 6))
    cov = np.broadcast_to(
        half @ half.swapaxes(-1, -2) / 6 + 0.1 * np.eye(3), (3, 2, 3, 3)
    )
    mean = rng.normal(size=(3, 2, 3))
    mean[:, equal] = mean[:1, equal]
    priors = jnp.asarray(rng.dirichlet(np.ones(6)).reshape(3, 2))

    def gap(mean):
        cells = js.MultivariateNormal(mean, jnp.asarray(cov))
        return js.ideality_gap(
            js.Population(priors, cells),
            intervention=intervention,
            reference=1,
            maps="shared_covariance",
        )

    slope = jax.grad(gap)(jnp.asarray(mean))
    # As large as those between classes that differ, not one over rounding.
    assert jnp.isfinite(slope).all() and jnp.abs(slope).max() < 2
    if equal == slice(None):
        assert jnp.abs(slope).max() < 1e-3
