from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.baselines import fit_leace, fit_oracle_leace

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)


def data(seed=0, n=300, d=5, k=3):
    rng = np.random.default_rng(seed)
    z = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    x = rng.normal(size=(n, d)) + 2 * rng.normal(size=(k, d))[z] + 3
    return np.asarray(x, DTYPE), z


def class_means(x, z):
    x = np.asarray(x, float)
    return np.stack([x[z == code].mean(0) for code in np.unique(z)])


@pytest.mark.parametrize("real", [False, True])
def test_equals_concept_erasure(real):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    peer = pytest.importorskip(
        "concept_erasure", reason="concept-erasure is not installed"
    )
    x, z = data()
    hot = np.eye(3)[z]
    if real:
        z = np.asarray(hot[:, :2] @ [[1.0, 2.0], [0.5, -1.0]] + 0.1 * x[:, :2], DTYPE)
        hot = z
    wide = torch.tensor(np.asarray(x, float))
    eraser = peer.OracleEraser.fit(wide, torch.tensor(np.asarray(hot, float)))
    expected = eraser(wide, torch.tensor(np.asarray(hot, float))).numpy()
    found = fit_oracle_leace(x, z)(x, z)
    np.testing.assert_allclose(found, expected, atol=max(200 * EPS, 1e-9))


def test_class_means_are_equal_and_the_movement_is_least():
    x, z = data(1)
    found = fit_oracle_leace(x, z)
    after = np.asarray(found(x, z), float)
    means = class_means(after, z)
    np.testing.assert_allclose(means - means[0], 0, atol=100 * EPS)
    np.testing.assert_allclose(after.mean(0), x.mean(0), atol=100 * EPS)
    # Without the classes of new rows LEACE must move them more.
    moved = np.square(after - x).sum()
    assert moved < np.square(np.asarray(fit_leace(x, z)(x)) - x).sum()
    maps = found.maps()
    for code in range(3):
        one = jax.tree.map(lambda leaf, c=code: leaf[c], maps)
        np.testing.assert_allclose(one(x[z == code]), after[z == code], atol=100 * EPS)


def test_a_rare_class_is_erased_and_weights_are_repetitions():
    x, z = data(2, n=400, k=2)
    z[:] = 0
    z[:2] = 1
    x[:2] += 1
    after = fit_oracle_leace(x, z)(x, z)
    np.testing.assert_allclose(np.ptp(class_means(after, z), axis=0), 0, atol=1e3 * EPS)
    weights = np.random.default_rng(0).integers(1, 4, 400)
    found = fit_oracle_leace(x, z, weights=np.asarray(weights, DTYPE))
    again = fit_oracle_leace(np.repeat(x, weights, 0), np.repeat(z, weights))
    np.testing.assert_allclose(found.coef, again.coef, atol=1e3 * EPS)


def test_jit_and_messages():
    x, z = data(3)
    jitted = jax.jit(lambda x, z: fit_oracle_leace(x, z, n_concepts=3))(x, z)
    np.testing.assert_allclose(jitted.coef, fit_oracle_leace(x, z).coef, atol=200 * EPS)
    with pytest.raises(ValueError, match=r"z has codes from 0 to 2, expected 0\.\.1"):
        fit_oracle_leace(x, z, n_concepts=2)
    with pytest.raises(ValueError, match=r"x must have shape \[n, d\]"):
        fit_oracle_leace(x[0], z)
