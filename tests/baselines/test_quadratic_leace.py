from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer import SolveError
from jaxsteer.baselines import fit_quadratic_leace
from jaxsteer.baselines._bures import bures_barycenter

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)
ROOT = EPS**0.5


def data(seed=0, sizes=(100, 100, 100), d=4):
    rng = np.random.default_rng(seed)
    z = np.repeat(np.arange(len(sizes)), sizes)
    mixing = 0.4 * rng.normal(size=(len(sizes), d, d)) + np.eye(d)
    x = np.einsum("nij,nj->ni", mixing[z], rng.normal(size=(len(z), d)))
    return np.asarray(x + rng.normal(size=(len(sizes), d))[z], DTYPE), z


def erased(maps, x, z):
    weight, bias = np.asarray(maps.weight, float), np.asarray(maps.bias, float)
    return np.einsum("nij,nj->ni", weight[z], x) + bias[z]


@pytest.mark.parametrize(
    "sizes", [(100, 100), (100, 100, 100), (40, 160), (30, 90, 180)]
)
def test_equals_concept_erasure(sizes):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    peer = pytest.importorskip(
        "concept_erasure", reason="concept-erasure is not installed"
    )
    x, z = data(sizes=sizes)
    fitter = peer.QuadraticFitter.fit(
        torch.tensor(np.asarray(x, float)), torch.tensor(z), shrinkage=False
    )
    # Its covariances have denominators n - 1: rows that much further from their means.
    means = np.stack([x[z == code].mean(0) for code in range(len(sizes))])[z]
    counts = np.asarray(sizes, float)[z, None]
    wide = np.asarray(means + (x - means) * np.sqrt(counts / (counts - 1)), DTYPE)
    tolerance = 1e-12 if EPS < 1e-9 else None
    maps = fit_quadratic_leace(wide, z, ridge=0.0, tolerance=tolerance)
    eraser = fitter.eraser
    np.testing.assert_allclose(
        maps.weight, eraser.ot_maps.numpy(), atol=max(3 * ROOT, 1e-6)
    )
    after = erased(maps, x, z)
    np.testing.assert_allclose(after.mean(0), x.mean(0), atol=300 * EPS)
    # It takes an unweighted mean of the class means, which moves the mean of the rows.
    theirs = eraser(torch.tensor(np.asarray(x, float)), torch.tensor(z)).numpy()
    shift = theirs.mean(0) - x.mean(0)
    np.testing.assert_allclose(after, theirs - shift, atol=max(20 * ROOT, 1e-5))
    assert (np.abs(shift).max() > 0.01) == (len(set(sizes)) > 1)


def test_classes_get_one_mean_and_one_covariance():
    x, z = data(1, (60, 150, 90))
    after = erased(fit_quadratic_leace(x, z, ridge=0.0), x, z)
    for code in range(3):
        own = after[z == code]
        np.testing.assert_allclose(own.mean(0), x.mean(0), atol=500 * EPS)
        expected = np.cov(after.T, bias=True)
        np.testing.assert_allclose(np.cov(own.T, bias=True), expected, atol=2e3 * EPS)
    before = np.cov(x[z == 0].T, bias=True) - np.cov(x[z == 1].T, bias=True)
    assert np.abs(before).max() > 0.1


def test_a_quadratic_probe_learns_something_before_and_nothing_after():
    linear = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x, z = data(2, (400, 400), d=3)
    x = x / x.std(0)

    def accuracy(rows):
        terms = preprocessing.PolynomialFeatures(2, include_bias=False)
        rows = terms.fit_transform(rows)
        fitted = linear.LogisticRegression(C=1e3, max_iter=2000).fit(rows, z)
        return fitted.score(rows, z)

    assert accuracy(x) > 0.6
    assert accuracy(erased(fit_quadratic_leace(x, z, ridge=0.0), x, z)) < 0.54


def test_two_covariances_take_one_step_and_the_barycenter_is_stationary():
    x, z = data(3, (50, 150))
    covs = jnp.stack([jnp.cov(x[z == c].T, bias=True) for c in (0, 1)])
    found = bures_barycenter(covs, jnp.array([0.25, 0.75]), 100, 30 * ROOT)
    assert int(found.steps) <= 1 and int(found.status) == 0

    def cost(s):
        def squared(c):
            root = np.linalg.cholesky(c)
            values = np.linalg.eigvalsh(root.T @ s @ root)
            return np.trace(s) + np.trace(c) - 2 * np.sqrt(values).sum()

        wide = np.asarray(covs, float)
        return 0.25 * squared(wide[0]) + 0.75 * squared(wide[1])

    best, rng = np.asarray(found.cov, float), np.random.default_rng(0)
    for _ in range(10):
        half = rng.normal(size=(4, 4))
        assert cost(best + 0.05 * (half + half.T)) > cost(best)


def test_what_did_not_converge_is_said():
    x, z = data(4)
    with pytest.raises(SolveError, match="MAX_STEPS after 1 steps"):
        fit_quadratic_leace(x, z, max_steps=1, tolerance=1e-7)
    fit = jax.jit(
        lambda x, z: fit_quadratic_leace(
            x, z, n_concepts=3, max_steps=1, tolerance=1e-7
        )
    )
    assert not jnp.isfinite(fit(x, z).weight).any()


def test_messages():
    x, z = data(5)
    with pytest.raises(ValueError, match=r"ridge=-1.0 must be at least 0"):
        fit_quadratic_leace(x, z, ridge=-1.0)
    with pytest.raises(ValueError, match="z 3 has no rows of positive weight"):
        fit_quadratic_leace(x, z, n_concepts=4)
