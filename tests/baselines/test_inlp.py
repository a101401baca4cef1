from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.baselines import fit_inlp
from jaxsteer.baselines._logistic import Rows, fit_probe

pytestmark = pytest.mark.slow

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)
N, D, K = 240, 5, 3


def data(seed=0):
    rng = np.random.default_rng(seed)
    z = np.arange(N) % K
    x = rng.normal(size=(N, D)) + rng.normal(size=(K, D))[z] + 2
    return np.asarray(x, DTYPE), z


def test_the_probe_is_the_one_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    x, z = data()
    hot = np.eye(K, dtype=DTYPE)[z]
    share = np.full(N, 1 / N, DTYPE)
    rows = Rows(*map(jnp.asarray, (x, hot, share)), jnp.asarray(0.01, DTYPE))
    found = jax.jit(partial(fit_probe, intercept=True))(rows)
    peer = linear.LogisticRegression(C=1 / (0.01 * N), tol=1e-9, max_iter=1000)
    expected = peer.fit(x, z).coef_
    np.testing.assert_allclose(found[:, :D], expected, atol=20 * EPS**0.5)


@pytest.mark.parametrize("standardize", [False, True])
def test_properties_of_the_projection(standardize):
    x, z = data()
    x[:, 0] *= 4
    found = fit_inlp(x, z, n_steps=2, standardize=standardize)
    weight = np.asarray(found.weight, float)
    after = np.asarray(found(x), float)
    np.testing.assert_allclose(weight @ weight, weight, atol=200 * EPS)
    np.testing.assert_allclose(after.mean(0), x.mean(0), atol=200 * EPS)
    scale = x.std(0) if standardize else np.ones(D)
    turned = weight / scale[:, None] * scale
    np.testing.assert_allclose(turned, turned.T, atol=500 * EPS)
    # Two probes of three classes take two directions each.
    assert np.linalg.matrix_rank(weight, tol=1e-3) == D - 4
    one = np.asarray(fit_inlp(x, z, n_steps=1, standardize=standardize).weight)
    assert np.linalg.matrix_rank(one, tol=1e-3) == D - 2
    np.testing.assert_allclose(one @ weight, weight, atol=500 * EPS)


def test_a_linear_probe_learns_less_and_less():
    linear = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    x, z = data(1)

    def accuracy(rows):
        return linear.LogisticRegression().fit(rows, z).score(rows, z)

    one, two = (accuracy(np.asarray(fit_inlp(x, z, n_steps=s)(x))) for s in (1, 2))
    assert accuracy(x) > 0.6
    assert two <= one < accuracy(x) - 0.1


def test_options_change_the_result():
    x, z = data(2)
    plain = np.asarray(fit_inlp(x, z, n_steps=1).weight)
    assert (
        np.abs(np.asarray(fit_inlp(x, z, n_steps=1, l2=1.0).weight) - plain).max()
        > 1e-3
    )
    # Nothing gains so much, so nothing is projected away.
    unmoved = fit_inlp(x, z, n_steps=1, min_gain=0.9)
    np.testing.assert_array_equal(unmoved.weight, np.eye(D))
    weights = np.asarray(np.random.default_rng(0).integers(1, 4, N), DTYPE)
    weighted = np.asarray(fit_inlp(x, z, n_steps=1, weights=weights).weight)
    assert np.abs(weighted - plain).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_steps": 0}, "n_steps=0 must be"),
        ({"l2": 0.0}, "l2=0.0 must be positive"),
        ({"min_gain": 1.5}, "min_gain=1.5 must be"),
        ({"n_concepts": 4}, "z 3 has no rows"),
        ({"n_concepts": 2}, "z has codes from 0 to 2"),
    ],
)
def test_messages(options, message):
    with pytest.raises(ValueError, match=message):
        fit_inlp(*data(), **options)
