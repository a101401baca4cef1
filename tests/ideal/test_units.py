"""An offset or a unit of the features changes the units of the maps and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import jaxsteer as js
from jaxsteer.solvers import definite_frame

K, G, D = 2, 2, 3
RNG = np.random.default_rng(0)
MEAN = RNG.normal(size=(K, G, D))
ROOT = RNG.normal(size=(K, G, D, D))
COV = ROOT @ ROOT.swapaxes(-1, -2) / D + 0.3 * np.eye(D)
PRIORS = np.array([[0.3, 0.2], [0.3, 0.2]])
KINDS = ("general", "positive_definite", "pivot", "shared_covariance")


def in_units(scale, offset, dtype=None):
    """The one population of this file, with its features in other units."""
    scale = np.broadcast_to(np.asarray(scale, float), (D,))
    cells = js.MultivariateNormal(
        jnp.asarray(MEAN * scale + offset, dtype),
        jnp.asarray(COV * scale[:, None] * scale, dtype),
    )
    return js.Population(jnp.asarray(PRIORS, dtype), cells)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    """A kind of maps, with what it finds in ordinary units."""
    return request.param, js.nearest_ideal(in_units(1.0, 0.0), maps=request.param)


# Powers of 2 round nothing. An offset of 2^17 deviations leaves 6 bits of a mean's
# fraction in float32; the input's own rounding moves the divergence in its fourth digit.
@pytest.mark.parametrize(
    ("scale", "offset", "rtol"),
    [
        (2.0**-40, 0.0, 1e-4),
        (2.0**40, 0.0, 1e-4),
        (2.0**60, 0.0, 1e-4),
        (1, 2.0**17, 5e-3),
    ],
)
def test_one_unit_for_all(kind, scale, offset, rtol):
    """The divergence stays, and maps are the same ones in other units."""
    maps, found = kind
    moved = js.nearest_ideal(in_units(scale, offset), maps=maps).require()
    np.testing.assert_allclose(moved.kl, found.kl, rtol=rtol)
    weight = np.asarray(moved.group_maps.weight, float)
    np.testing.assert_allclose(weight, found.group_maps.weight, atol=20 * rtol)
    # At a point near the data: their constant terms are as long as the offset.
    x = np.ones((2, D), float)
    here = np.asarray(found.transport(x, np.arange(2)))
    there = np.asarray(moved.transport(x * scale + offset, np.arange(2)), float)
    away = np.finfo(np.asarray(moved.kl).dtype).eps * 8 * (1 + offset)
    np.testing.assert_allclose((there - offset) / scale, here, atol=20 * rtol + away)


def test_a_unit_for_each_feature():
    """General maps are found whatever the units, one a feature."""
    scale = np.array([2.0**-30, 1.0, 2.0**30])
    found = js.nearest_ideal(in_units(1.0, 0.0))
    moved = js.nearest_ideal(in_units(scale, 0.0)).require()
    np.testing.assert_allclose(moved.kl, found.kl, rtol=1e-4)
    back = moved.group_maps.weight * scale / scale[:, None]
    np.testing.assert_allclose(back, found.group_maps.weight, atol=2e-3)


def test_the_reference_stays_to_the_last_digit():
    """Units come and go without a trace in cells that nothing moved."""
    pop = in_units(np.array([3e-9, 1.0, 7e9]), 12345.678)
    found = js.nearest_ideal(pop, reference=0)
    for now, before in zip(
        jax.tree.leaves(found.target.conditionals),
        jax.tree.leaves(pop.conditionals),
        strict=True,
    ):
        np.testing.assert_array_equal(now[:, 0], before[:, 0])
    np.testing.assert_array_equal(found.group_maps.weight[0], np.eye(D))
    np.testing.assert_array_equal(found.group_maps.bias[0], 0)


def test_derivatives_follow_the_units():
    """The slope in other units is the slope, in those units."""

    def gap(shift, pop):
        mean = pop.conditionals.mean + shift
        cells = js.MultivariateNormal(mean, pop.conditionals.cov)
        return js.ideality_gap(js.Population(pop.priors, cells))

    none = jnp.zeros((K, G, D))
    slope = jax.grad(gap)(none, in_units(1.0, 0.0))
    scaled = jax.grad(gap)(none, in_units(2.0**20, 0.0))
    np.testing.assert_allclose(scaled * 2.0**20, slope, atol=2e-3)
    # A shift of everything shifts every point as much: x + s goes to T(x) + s.
    along = jnp.ones((K, G, D))
    _, tangent = jax.jvp(
        lambda t: (
            js.nearest_ideal(
                js.Population(
                    jnp.asarray(PRIORS),
                    js.MultivariateNormal(
                        jnp.asarray(MEAN) + t * along, jnp.asarray(COV)
                    ),
                ),
                maps="pivot",
            ).target.conditionals.mean
        ),
        (jnp.zeros(()),),
        (jnp.ones(()),),
    )
    np.testing.assert_allclose(tangent, 1, atol=1e-3)


@pytest.mark.parametrize("family", ["low rank", "transformed", "product"])
def test_other_laws_of_normal_vectors(family):
    """Factors, bijections and blocks carry their units along."""

    def population(scale):
        scale = np.asarray(scale, float)
        mean, spread = jnp.asarray(MEAN * scale), jnp.asarray(COV * scale * scale)
        if family == "low rank":
            factor = jnp.asarray(ROOT[..., :1] * scale)
            cells = js.LowRankNormal(mean, factor, jnp.full((K, G, D), scale**2))
        elif family == "transformed":
            base = js.MultivariateNormal(mean, spread)
            cells = js.TransformedNormal(base, js.maps.Exp())
        else:
            cells = js.Product(
                (js.MultivariateNormal(mean, spread), js.Bernoulli(jnp.zeros((K, G))))
            )
        return js.Population(jnp.asarray(PRIORS), cells)

    found = js.nearest_ideal(population(1.0), maps="pivot").require()
    moved = js.nearest_ideal(population(2.0**35), maps="pivot").require()
    np.testing.assert_allclose(moved.kl, found.kl, rtol=1e-4)
    if family == "transformed":  # its data would overflow: compare beneath
        weights = [each.group_maps.base.weight for each in (moved, found)]
        biases = [moved.group_maps.base.bias / 2.0**35, found.group_maps.base.bias]
        np.testing.assert_allclose(*weights, atol=2e-3)
        np.testing.assert_allclose(*biases, atol=2e-3)
        return
    x = np.ones((2, D + (family == "product")))
    units = np.full(x.shape[1], 2.0**35)
    units[D:] = 1
    group = np.arange(2)
    there = np.asarray(moved.transport(x * units, group)) / units
    np.testing.assert_allclose(there, found.transport(x, group), rtol=2e-3, atol=2e-3)


def test_the_first_frame_of_definite_maps_solves_the_case_of_equal_classes():
    """``s moment s metric = 1``, and both are diagonal in the frame's coordinates."""
    moment, metric = jnp.asarray(COV[0]), jnp.asarray(COV[1] / 2)
    frame = definite_frame(metric, moment)
    definite = frame @ frame.mT
    product = definite @ moment @ definite @ metric
    atol = 100 * float(jnp.finfo(product.dtype).eps)
    np.testing.assert_allclose(
        product, np.broadcast_to(np.eye(D), product.shape), atol=20 * atol
    )
    for matrix in (metric, moment):
        seen = np.asarray(frame.mT @ matrix @ frame)
        away = seen * (1 - np.eye(D))
        np.testing.assert_allclose(away, 0, atol=20 * atol)


@pytest.mark.parametrize(
    ("maps", "power"),
    [("positive_definite", p) for p in (2, 4, 9)] + [("pivot", p) for p in (2, 4)],
)
def test_definite_maps_in_unlike_units(maps, power):
    """Features of which one is 10^18 times as long as another; in float32, too."""
    scale = np.array([10.0**-power, 1.0, 10.0**power])
    found = js.nearest_ideal(in_units(scale, 0.0), maps=maps).require()
    assert found.verify().ok, str(found.verify())
    # Ever more unlike units leave triangular maps: a long feature's part in a short one
    # shows, and its counterpart does not.
    if power >= 4:
        expected = triangular_kl(np.asarray(found.target.priors[:, 1], float))
        np.testing.assert_allclose(found.feature_kl, expected, rtol=1e-4)


def triangular_kl(weights):
    """The divergence of the best upper triangular map to group 1, by SciPy."""
    upper = np.triu_indices(D)

    def divergence(numbers):
        matrix = np.zeros((D, D))
        matrix[upper], shift = numbers[: len(upper[0])], numbers[len(upper[0]) :]
        total = 0.0
        for k in range(K):
            precision = np.linalg.inv(COV[k, 1])
            moved = matrix @ COV[k, 0] @ matrix.T
            gap = matrix @ MEAN[k, 0] + shift - MEAN[k, 1]
            spread = np.trace(precision @ moved) - D
            spread -= np.linalg.slogdet(precision @ moved)[1]
            total += weights[k] / 2 * (spread + gap @ precision @ gap)
        return total

    start = np.concatenate([np.eye(D)[upper], np.zeros(D)])
    return minimize(divergence, start, method="BFGS", options={"gtol": 1e-9}).fun
