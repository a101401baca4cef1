"""Each cluster goes to its own place, softly in between."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.baselines import fit_mixture_transport
from jaxsteer.maps import gaussian_transport

D = 2
KEY = jax.random.key(0)
rng = np.random.default_rng(0)
NOISE = rng.normal(size=(300, D))
CODE = np.arange(300) % 3
CENTRES = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
# Two clusters swap sides of the third: no affine map of all rows does this.
GOALS = np.array([[0.0, -5.0], [20.0, 20.0], [40.0, 0.0]])
X = jnp.asarray(CENTRES[CODE] + NOISE, jnp.float32)
TARGET = jnp.asarray(GOALS[CODE] + 2 * NOISE, jnp.float32)


def moments(x):
    x = np.asarray(x, float)
    return x.mean(0), np.cov(x.T, ddof=0)


@pytest.mark.parametrize("transport", ["gaussian", "mean"])
def test_one_component_is_the_transport_of_the_moments(transport):
    found = fit_mixture_transport(
        X, TARGET, n_components=1, key=KEY, transport=transport
    )
    (mean, cov), (goal, goal_cov) = moments(X), moments(TARGET)
    if transport == "gaussian":
        expected = gaussian_transport(
            *(jnp.asarray(a, jnp.float32) for a in (mean, cov, goal, goal_cov))
        )
        np.testing.assert_allclose(found(X), expected(X), rtol=1e-3, atol=1e-3)
    else:
        np.testing.assert_allclose(found(X), X + (goal - mean), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.coupling, [[1]], rtol=1e-5)


@pytest.mark.parametrize("transport", ["gaussian", "mean"])
def test_each_cluster_takes_the_moments_of_the_nearest_plan(transport):
    found = fit_mixture_transport(
        X, TARGET, n_components=3, key=KEY, transport=transport, shrinkage=1e-3
    )
    # The plan that costs least among all pairings.
    order = [int(np.argmin(np.sum((CENTRES - m) ** 2, 1))) for m in found.means]
    plans = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    costs = [np.sum((CENTRES - GOALS[list(p)]) ** 2) for p in plans]
    best = plans[int(np.argmin(costs))]
    y = np.asarray(found(X))
    for code in range(3):
        mean, cov = moments(y[code == CODE])
        goal, goal_cov = moments(np.asarray(TARGET)[best[code] == CODE])
        np.testing.assert_allclose(mean, goal, atol=0.05)
        if transport == "gaussian":
            np.testing.assert_allclose(cov, goal_cov, atol=0.1)
        else:
            np.testing.assert_allclose(cov, moments(X[code == CODE])[1], atol=0.05)
    np.testing.assert_allclose(np.asarray(found.coupling).sum(1), 1 / 3, atol=1e-5)
    np.testing.assert_allclose(np.asarray(found.coupling).sum(0), 1 / 3, atol=1e-5)
    assert sorted(order) == [0, 1, 2]
    share = np.asarray(found.responsibilities(X))
    np.testing.assert_allclose(share.sum(1), 1, rtol=1e-5)
    assert (np.asarray(order)[share.argmax(1)] == CODE).all()


def test_between_clusters_maps_are_mixed_by_responsibility():
    found = fit_mixture_transport(X, TARGET, n_components=(3, 2), key=KEY)
    assert found.coupling.shape == (3, 2)
    np.testing.assert_allclose(
        np.asarray(found.coupling).sum(1), found.weights, atol=1e-5
    )
    point = X[:1] * 0 + 7.0
    share = np.asarray(found.responsibilities(point))[0]
    each = [
        np.asarray(w @ point[0] + b)
        for w, b in zip(found.maps.weight, found.maps.bias, strict=True)
    ]
    np.testing.assert_allclose(found(point)[0], share @ np.stack(each), rtol=1e-4)
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(found, point), found(point))


def test_a_warm_coupling_spreads_and_shrinkage_shares_covariances():
    options = {"n_components": 3, "key": KEY}
    cold = fit_mixture_transport(X, TARGET, **options)
    warm = fit_mixture_transport(X, TARGET, entropy=10.0, **options)
    assert (np.asarray(warm.coupling) > 0.05).all()
    assert np.asarray(cold.coupling).max(1).min() > 0.33
    one = fit_mixture_transport(X, TARGET, shrinkage=1.0, **options)
    np.testing.assert_allclose(one.whiteners - one.whiteners[:1], 0, atol=1e-5)
    assert np.ptp(np.asarray(cold.whiteners), axis=0).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transport": "all"}, "'gaussian', 'mean'"),
        ({"shrinkage": 0.0}, "shrinkage=0.0"),
        ({"entropy": 0.0}, "entropy=0.0"),
        ({"n_components": (1, 400)}, "target has 300 rows"),
        ({"target": TARGET[:, :1]}, "same"),
        ({"x": X * jnp.array([1.0, 0.0])}, "singular"),
    ],
)
def test_refusals(change, message):
    given = {"x": X, "target": TARGET, "n_components": 2, "key": KEY}
    with pytest.raises(ValueError, match=message):
        fit_mixture_transport(**{**given, **change})
