from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsteer.baselines import fit_leace

pytestmark = pytest.mark.slow

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)


def data(seed=0, n=300, d=5, k=3, shift=2.0):
    rng = np.random.default_rng(seed)
    z = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    mixing = rng.normal(size=(d, d)) + 2 * np.eye(d)
    x = rng.normal(size=(n, d)) @ mixing + shift * rng.normal(size=(k, d))[z] + 3
    return x, z


def erase(x, z, **options):
    return fit_leace(jnp.asarray(x), jnp.asarray(z), **options)


def class_means(x, z):
    x = np.asarray(x, float)
    return np.stack([x[z == code].mean(0) for code in np.unique(z)])


def spread(x, z):
    """Largest difference between class means, in standard deviations."""
    x = np.asarray(x, float)
    return (np.ptp(class_means(x, z), axis=0) / x.std(0)).max()


def test_equals_concept_erasure():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    peer = pytest.importorskip(
        "concept_erasure", reason="concept-erasure is not installed"
    )
    for seed, k in ((0, 2), (1, 3), (2, 5)):
        x, z = data(seed, k=k)
        eraser = peer.LeaceEraser.fit(
            torch.tensor(x),
            torch.nn.functional.one_hot(torch.tensor(z)).double(),
            shrinkage=False,
            constrain_cov_trace=False,
            svd_tol=1e-8,
        )
        found = erase(x, z)
        atol = max(100 * EPS, 1e-10)
        np.testing.assert_allclose(found.weight, eraser.P.numpy(), atol=atol)
        expected = eraser(torch.tensor(x)).numpy()
        np.testing.assert_allclose(found(jnp.asarray(x)), expected, atol=10 * atol)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), k=st.integers(2, 4))
def test_properties_of_the_eraser(seed, k):
    x, z = data(seed, n=120, d=5, k=k)
    found = erase(x, z)
    weight = np.asarray(found.weight, float)
    after = np.asarray(found(jnp.asarray(x)), float)
    atol = 1e4 * EPS
    assert spread(x, z) > 0.1
    assert spread(after, z) < atol
    np.testing.assert_allclose(after.mean(0), x.mean(0), atol=atol)
    np.testing.assert_allclose(weight @ weight, weight, atol=atol)
    np.testing.assert_allclose(found(jnp.asarray(after)), after, atol=atol)
    removed = np.linalg.svd(np.eye(5) - weight, compute_uv=False)
    assert (removed > 1e3 * EPS).sum() == k - 1


@pytest.mark.parametrize("k", [2, 3])
def test_no_other_eraser_moves_less_in_any_norm(k):
    x, z = data(7, k=k)
    weight = np.asarray(erase(x, z).weight, float)
    centered = x - x.mean(0)
    cov = centered.T @ centered / len(x)
    cross = (class_means(x, z) - x.mean(0)).T
    # Every matrix that erases is the eraser plus something that kills the cross term.
    keep = np.eye(5) - cross @ np.linalg.pinv(cross)
    rng = np.random.default_rng(0)
    for size in (1e-2, 1e-1, 1.0):
        for _ in range(50):
            other = weight + size * rng.normal(size=(5, 5)) @ keep
            np.testing.assert_allclose(other @ cross, 0, atol=1e4 * EPS)
            half = rng.normal(size=(5, 5))
            for norm in (np.eye(5), half @ half.T):
                cost, best = (
                    np.trace(norm @ (w - np.eye(5)) @ cov @ (w - np.eye(5)).T)
                    for w in (other, weight)
                )
                assert cost >= best * (1 - 1e3 * EPS)


def test_a_linear_probe_learns_something_before_and_nothing_after():
    linear = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    x, z = data(1, n=2000, k=2, shift=1.0)
    x = x / x.std(0)
    after = np.asarray(erase(x, z)(jnp.asarray(x)), float)
    share = np.bincount(z).max() / len(z)

    def probe(features):
        fitted = linear.LogisticRegression(C=1e6, max_iter=1000).fit(features, z)
        return fitted.score(features, z), np.abs(fitted.coef_).max()

    accuracy, coefficient = probe(x)
    assert accuracy > share + 0.1 and coefficient > 0.1
    accuracy, coefficient = probe(after)
    # At equal class means the constant probe is the optimum of the logistic loss.
    assert accuracy <= share + 2e-3
    assert coefficient < 1e-2


def test_a_class_of_half_a_percent_is_erased():
    rng = np.random.default_rng(0)
    n, rare = 20_000, 100
    z = np.zeros(n, int)
    z[:rare] = 1
    x = rng.normal(size=(n, 4))
    x[z == 1, 0] += 0.5
    assert spread(x, z) > 0.3
    found = erase(x, z)
    assert spread(found(jnp.asarray(x)), z) < 2e3 * EPS
    # Neither is it at features a million times smaller, or in mixed units.
    for scale in (1e-6, 1e6, np.array([1e-4, 1.0, 1e3, 1e5])):
        small = erase(x * scale, z)
        assert spread(small(jnp.asarray(x * scale)), z) < 2e3 * EPS
        relative = np.asarray(small.weight) / (np.ones(4) * scale)[:, None] * scale
        np.testing.assert_allclose(relative, found.weight, atol=200 * EPS)


@pytest.mark.parametrize("offset", [0.0, 0.1, 1e4])
def test_constant_column_is_left_alone(offset):
    x, z = data(2)
    padded = np.insert(x, 2, offset, axis=1)
    found = erase(padded, z)
    assert jnp.isfinite(found.weight).all()
    alone = erase(x, z)
    inner = np.delete(np.delete(np.asarray(found.weight), 2, 0), 2, 1)
    np.testing.assert_allclose(inner, alone.weight, atol=200 * EPS)
    np.testing.assert_array_equal(np.delete(found.weight[2], 2), 0)
    np.testing.assert_array_equal(np.delete(found.weight[:, 2], 2), 0)
    assert found.weight[2, 2] == 1 and found.bias[2] == 0


def test_collinear_columns_are_erased_without_nan():
    x, z = data(3)
    wide = np.column_stack([x, 3 * x[:, 0], x[:, 0] - 2 * x[:, 1]])
    found = erase(wide, z)
    after = np.asarray(found(jnp.asarray(wide)), float)
    assert spread(after, z) < 1e4 * EPS
    alone = erase(x, z)(jnp.asarray(x))
    np.testing.assert_allclose(after[:, :5], alone, atol=1e4 * EPS)


def test_fewer_rows_than_features():
    x, z = data(4, n=8, d=20, k=2)
    after = np.asarray(erase(x, z)(jnp.asarray(x)), float)
    assert np.isfinite(after).all()
    np.testing.assert_allclose(*class_means(after, z), atol=1e4 * EPS)


def test_concept_without_information_leaves_everything():
    x, _ = data(5)
    for z in (np.zeros(len(x), int), np.zeros(len(x)), np.ones((len(x), 2))):
        found = erase(x, z)
        np.testing.assert_array_equal(found.weight, np.eye(5))
        np.testing.assert_array_equal(found.bias, np.zeros(5))


def test_codes_are_the_same_as_one_hot_concepts():
    x, z = data(6, k=3)
    hot = np.eye(3)[z].astype(DTYPE)
    np.testing.assert_allclose(erase(x, z).weight, erase(x, hot).weight, atol=200 * EPS)
    binary = (z == 1).astype(DTYPE)
    np.testing.assert_allclose(
        erase(x, (z == 1).astype(int)).weight, erase(x, binary).weight, atol=200 * EPS
    )


def test_real_concepts_are_uncorrelated_after():
    rng = np.random.default_rng(8)
    x = rng.normal(size=(400, 6))
    z = x[:, :2] @ rng.normal(size=(2, 2)) + rng.normal(size=(400, 2))
    z = np.column_stack([z, z.sum(1), 1e5 * z[:, 0]]).astype(DTYPE)
    found = erase(x, z)
    after = np.asarray(found(jnp.asarray(x)), float)
    corr = np.corrcoef(after.T, z.T)[:6, 6:]
    assert np.abs(np.corrcoef(x.T, z.T)[:6, 6:]).max() > 0.3
    assert np.abs(corr).max() < 1e3 * EPS
    removed = np.linalg.svd(np.eye(6) - found.weight, compute_uv=False)
    assert (removed > 1e3 * EPS).sum() == 2


def test_weights_act_as_repetitions():
    x, z = data(9, n=60)
    weights = np.random.default_rng(0).integers(0, 4, 60)
    weights[:3] = 1
    weighted = erase(x, z, weights=jnp.asarray(weights, DTYPE))
    repeated = erase(np.repeat(x, weights, 0), np.repeat(z, weights))
    np.testing.assert_allclose(weighted.weight, repeated.weight, atol=500 * EPS)
    np.testing.assert_allclose(weighted.bias, repeated.bias, atol=2e3 * EPS)
    assert np.abs(np.asarray(weighted.weight - erase(x, z).weight)).max() > 1e-3


@pytest.mark.parametrize("shrinkage", [0.3, 1.0, "oas"])
def test_shrinkage_changes_the_metric_and_still_erases(shrinkage):
    x, z = data(10, n=30)
    plain, shrunk = erase(x, z), erase(x, z, shrinkage=shrinkage)
    assert np.abs(np.asarray(plain.weight - shrunk.weight)).max() > 1e-3
    assert spread(shrunk(jnp.asarray(x)), z) < 1e4 * EPS
    none = erase(x, z, shrinkage=0.0)
    np.testing.assert_allclose(none.weight, plain.weight, atol=10 * EPS)


def test_oas_equals_scikit_learn():
    covariance = pytest.importorskip("sklearn.covariance", reason="needs scikit-learn")
    x, z = data(11, n=40)
    amount = covariance.oas(x / x.std(0))[1]
    assert 0.01 < amount < 1
    np.testing.assert_allclose(
        erase(x, z, shrinkage="oas").weight,
        erase(x, z, shrinkage=float(amount)).weight,
        atol=500 * EPS,
    )


def test_rank_tolerance_leaves_weak_correlations():
    rng = np.random.default_rng(12)
    z = rng.integers(0, 2, 2000)
    x = rng.normal(size=(2000, 3))
    x[:, 0] += 0.2 * z  # a correlation of about 0.1
    np.testing.assert_array_equal(erase(x, z, rank_tol=0.5).weight, np.eye(3))
    assert spread(erase(x, z, rank_tol=0.01)(jnp.asarray(x)), z) < 1e3 * EPS


def test_jit_with_traced_codes_and_vmap():
    batches = [data(seed) for seed in range(3)]
    x = jnp.asarray(np.stack([b[0] for b in batches]))
    z = jnp.asarray(np.stack([b[1] for b in batches]))
    found = jax.jit(jax.vmap(partial(fit_leace, n_concepts=3)))(x, z)
    for row in range(3):
        alone = fit_leace(x[row], z[row])
        np.testing.assert_allclose(found.weight[row], alone.weight, atol=200 * EPS)
        np.testing.assert_allclose(found.bias[row], alone.bias, atol=2e3 * EPS)


def test_more_codes_than_seen_changes_nothing():
    x, z = data(13)
    np.testing.assert_allclose(
        erase(x, z, n_concepts=7).weight, erase(x, z).weight, atol=100 * EPS
    )


def erase64(x, z):
    centered, hot = x - x.mean(0), np.eye(z.max() + 1)[z]
    cov = centered.T @ centered / len(x)
    values, vectors = np.linalg.eigh(cov)
    whitener = (vectors / np.sqrt(values)) @ vectors.T
    u = np.linalg.svd(whitener @ centered.T @ (hot - hot.mean(0)))[0]
    u = u[:, : z.max()]
    return np.eye(x.shape[1]) - np.linalg.inv(whitener) @ u @ u.T @ whitener


def test_gradient_in_the_features_equals_finite_differences():
    x, z = data(14, n=60, d=3)
    x = (x - x.mean(0)) / x.std(0)
    rng = np.random.default_rng(0)
    out, dx = rng.normal(size=(3, 3)), rng.normal(size=x.shape)
    codes = jnp.asarray(z)
    grad = jax.jit(
        jax.grad(lambda x: jnp.sum(fit_leace(x, codes, n_concepts=3).weight * out))
    )(jnp.asarray(x))
    step = 1e-5
    slope = (erase64(x + step * dx, z) - erase64(x - step * dx, z)) / (2 * step)
    expected = np.sum(slope * out)
    assert abs(expected) > 1e-3
    np.testing.assert_allclose(
        np.sum(np.asarray(grad, float) * dx), expected, atol=max(2e4 * EPS, 1e-7)
    )


def test_gradient_with_a_constant_column_is_finite():
    x, z = data(15, n=40)
    padded = jnp.asarray(np.insert(x, 0, 1.0, axis=1))
    grad = jax.grad(lambda x: jnp.sum(fit_leace(x, jnp.asarray(z)).weight ** 2))
    assert jnp.isfinite(grad(padded)).all()


def test_integer_features_are_taken():
    x = np.array([[0, 1], [0, -1], [2, 1], [2, -1]])
    found = fit_leace(jnp.asarray(x), jnp.asarray([0, 0, 1, 1]))
    np.testing.assert_allclose(found.weight, np.diag([0.0, 1.0]), atol=20 * EPS)


X, Z = np.arange(8.0).reshape(4, 2) ** 2, np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("x", "z", "options", "message"),
    [
        (X[0], Z, {}, r"x must have shape \[n, d\], got \(2,\)"),
        (X * np.nan, Z, {}, "x has 8 values that are not finite"),
        (X, Z[:3], {}, "x has 4, z has 3 rows"),
        (X, np.array(["a", "b", "a", "b"]), {}, "z must hold integer codes"),
        (X, Z - 1, {}, "z has codes from -1 to 0, expected"),
        (X, Z, {"n_concepts": 1}, "z has codes from 0 to 1, expected 0..0"),
        (X, X[:, 0], {"n_concepts": 2}, "n_concepts=2 counts integer codes"),
        (X, X[None].repeat(4, 0), {}, r"z must have shape \[n\] or \[n, k\]"),
        (X, np.stack([Z, Z], 1), {}, "z holds integers, so it must be codes"),
        (X, np.full((4, 1), np.inf), {}, "z has 4 values that are not finite"),
        (X, Z, {"weights": -np.ones(4)}, "weights must be at least 0"),
        (X, Z, {"weights": np.ones(3)}, "weights has 3 rows"),
        (X, Z, {"shrinkage": 1.5}, "shrinkage=1.5 must be between 0 and 1"),
        (X, Z, {"shrinkage": "ledoit"}, "shrinkage='ledoit' is not known"),
        (X, Z, {"rank_tol": -1.0}, "rank_tol=-1.0 must be at least 0"),
    ],
)
def test_messages(x, z, options, message):
    with pytest.raises(ValueError, match=message):
        fit_leace(x, z, **options)


def test_traced_codes_need_their_number():
    with pytest.raises(ValueError, match=r"z is traced.*n_concepts="):
        jax.jit(fit_leace)(jnp.asarray(X), jnp.asarray(Z))
