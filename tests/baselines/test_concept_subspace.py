from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.baselines import ConceptSubspace, concept_subspace

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)
D = 4


@cache
def data():
    rng = np.random.default_rng(0)
    label = np.arange(300) % 2
    x = rng.normal(size=(300, D)) + np.outer(label, [2.0, 0.0, -1.0, 0.0])
    return np.asarray(x, DTYPE), label


@cache
def fitted(seed=0, l2=1.0, n_rows=None):
    x, label = data()
    key = jax.random.key(seed)
    return concept_subspace(x, label, key=key, n_probes=10, l2=l2, n_rows=n_rows)


def test_the_mean_points_where_the_concept_is():
    found = fitted()
    direction = np.asarray(found.mean / jnp.linalg.norm(found.mean), float)
    expected = np.array([2.0, 0.0, -1.0, 0.0]) / 5**0.5
    assert direction @ expected > 0.9
    assert (np.asarray(found.std) > 0).all()
    np.testing.assert_allclose(found.level, np.abs(data()[0]).mean(), rtol=100 * EPS)


def test_options_and_keys_change_the_result():
    found = np.asarray(fitted().mean)
    assert np.abs(np.asarray(fitted(seed=1).mean) - found).max() > 1e-3
    assert np.abs(np.asarray(fitted(l2=100.0).mean)).max() < 0.5 * np.abs(found).max()
    wide = fitted(n_rows=150)
    # All rows for every probe: nothing is left to vary.
    assert np.asarray(wide.std).max() < 1e-3 < np.asarray(fitted().std).min()


def test_one_probe_is_the_one_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    x, label = data()
    standard = (x - x.mean(0)) / x.std(0)
    peer = linear.LogisticRegression(fit_intercept=False, tol=1e-9).fit(standard, label)
    np.testing.assert_allclose(
        fitted(n_rows=150).mean, peer.coef_[0], atol=20 * EPS**0.5
    )


LAW = ConceptSubspace(
    mean=jnp.array([1.0, -2.0]), std=jnp.array([0.5, 0.1]), level=jnp.array(3.0)
)


@pytest.mark.parametrize("sigma", [1, 2, 4])
def test_samples_lie_between_the_boxes(sigma):
    drawn = np.asarray(LAW.sample(jax.random.key(0), 500, sigma=sigma))
    steps = np.abs((drawn - np.asarray(LAW.mean)) / np.asarray(LAW.std)).max(1)
    assert steps.max() <= sigma + 1e-4 and steps.min() >= sigma - 1 - 1e-4
    assert steps.max() > sigma - 0.1
    vector = LAW.vector(jax.random.key(1), sigma=sigma)
    np.testing.assert_allclose(vector, LAW.mean, atol=0.1 * sigma)


def test_injection():
    h = jnp.array([[1.0, -3.0], [0.5, 0.5]])
    found = LAW.steer(h, 0.25)
    # mean|v| is 1.5; the rows' own sizes are 2 and 0.5.
    expected = 0.75 * h + 0.25 * LAW.mean * jnp.array([[2.0], [0.5]]) / 1.5
    np.testing.assert_allclose(found, expected, rtol=20 * EPS)
    np.testing.assert_array_equal(LAW.steer(h, 0.0), h)
    v = jnp.array([0.0, 1.0])
    affine = LAW.map(0.25, vector=v)
    np.testing.assert_allclose(affine(h), 0.75 * h + 0.25 * v * 6.0, rtol=20 * EPS)
    other = LAW.steer(h, 0.25, vector=v)
    np.testing.assert_allclose(other[0], 0.75 * h[0] + 0.25 * v * 4.0, rtol=20 * EPS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_probes": 1}, "n_probes=1 must be at least 2"),
        ({"n_rows": 151}, "n_rows=151 must be between 2 and"),
        ({"l2": 0.0}, "l2=0.0 must be positive"),
    ],
)
def test_messages(options, message):
    x, label = data()
    with pytest.raises(ValueError, match=message):
        concept_subspace(x, label, key=jax.random.key(0), **options)


def test_more_messages():
    x, label = data()
    with pytest.raises(ValueError, match="label has codes from 0 to 2"):
        concept_subspace(x, label * 2, key=jax.random.key(0))
    with pytest.raises(ValueError, match="label is traced"):
        jax.jit(lambda z: concept_subspace(x, z, key=jax.random.key(0)))(label)
    with pytest.raises(ValueError, match="sigma=0 must be"):
        LAW.sample(jax.random.key(0), 3, sigma=0)
