"""SPLINCE: the concept is gone, the covariance with the label is as it was."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.baselines import fit_leace, fit_splince

N, D = 200, 4
DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)


def data(seed=0, k=2, d=D):
    rng = np.random.default_rng(seed)
    z = np.concatenate([np.arange(k), rng.integers(0, k, N - k)])
    # Label and concept go together in three rows of four.
    label = np.where(rng.random(N) < 0.75, z % 2, rng.integers(0, 2, N))
    label[:2] = [0, 1]
    x = rng.normal(size=(N, d)) @ (rng.normal(size=(d, d)) + 2 * np.eye(d)) + 3
    x += rng.normal(size=(k, d))[z] + 1.5 * rng.normal(size=(2, d))[label]
    return jnp.asarray(x), z, label


def scaled(x, like, codes):
    """Covariances of `x` in units of the features `like`."""
    x, like = np.asarray(x, float), np.asarray(like, float)
    hot = np.eye(codes.max() + 1)[codes]
    return (x - x.mean(0)).T @ hot / N / like.std(0)[:, None]


@pytest.mark.parametrize("k", [2, 3])
def test_the_concept_is_gone_and_the_label_stays(k):
    x, z, label = data(k, k)
    atol = 300 * EPS
    found = fit_splince(x, z, label)
    y = found(x)
    np.testing.assert_allclose(scaled(y, x, z), 0, atol=atol)
    np.testing.assert_allclose(scaled(y, x, label), scaled(x, x, label), atol=atol)
    # LEACE takes of the label what goes with the concept.
    lost = scaled(fit_leace(x, z)(x), x, label) - scaled(x, x, label)
    assert np.abs(lost).max() > 0.02
    # A projection about the mean, of rank d - (k - 1).
    spread = np.abs(np.asarray(x)).max()
    np.testing.assert_allclose(found(y), y, atol=30 * atol * spread)
    np.testing.assert_allclose(np.mean(y, 0), np.mean(x, 0), atol=30 * atol * spread)
    singular = np.linalg.svd(np.asarray(found.to_dense().weight), compute_uv=False)
    assert (singular > 1e-3).sum() == D - (k - 1)


def test_of_all_maps_that_do_both_it_moves_least():
    x, z, label = data()
    found = fit_splince(x, z, label).to_dense()
    rows = np.asarray(x, float)
    rows = rows - rows.mean(0)
    cov = rows.T @ rows / N
    ends = [rows.T @ np.eye(2)[codes][:, 1] / N for codes in (z, label)]
    base = np.asarray(found.weight, float)
    cost = np.trace((base - np.eye(D)) @ cov @ (base - np.eye(D)).T)
    # Directions in which the constraints leave a map free.
    fixed, _ = np.linalg.qr(np.stack(ends, 1))
    rng = np.random.default_rng(0)
    slopes = []
    for _ in range(20):
        step = rng.normal(size=(D, D))
        step -= step @ fixed @ fixed.T
        slopes.append(2 * np.trace(step @ cov @ (base - np.eye(D)).T) / cost)
    # At the least the first order is zero, and the problem is convex.
    np.testing.assert_allclose(slopes, 0, atol=3000 * EPS)


def test_without_shared_directions_it_is_leace():
    rng = np.random.default_rng(0)
    z, label = np.repeat([0, 1], 4), np.tile([0, 1], 4)
    cells = np.stack([z * 2.0, label * 3.0, np.tile([1.0, 1.0, -1.0, -1.0], 2)], 1)
    x = jnp.asarray(cells) @ jnp.asarray(rng.normal(size=(3, 3)))
    assert abs(np.corrcoef(z, label)[0, 1]) < 1e-12
    np.testing.assert_allclose(
        fit_splince(x, z, label).to_dense().weight,
        fit_leace(x, z).weight,
        atol=3000 * EPS,
    )


def test_weights_real_concepts_and_options():
    x, z, label = data(3)
    weights = np.random.default_rng(1).integers(0, 3, N)
    repeated = np.repeat(np.arange(N), weights)
    found = fit_splince(x, z, label, weights=jnp.asarray(weights, DTYPE))
    whole = fit_splince(x[repeated], z[repeated], label[repeated])
    np.testing.assert_allclose(
        found.to_dense().weight, whole.to_dense().weight, atol=1000 * EPS
    )
    real = fit_splince(x, z.astype(float), label.astype(float)[:, None])
    np.testing.assert_allclose(
        real.to_dense().weight,
        fit_splince(x, z, label).to_dense().weight,
        atol=1000 * EPS,
    )
    shrunk = fit_splince(x, z, label, shrinkage=0.5)
    np.testing.assert_allclose(scaled(shrunk(x), x, z), 0, atol=300 * EPS)
    assert np.abs(shrunk.to_dense().weight - real.to_dense().weight).max() > 1e-3
    everything = fit_splince(x, z, label, rank_tol=10.0)
    np.testing.assert_array_equal(everything.to_dense().weight, np.eye(D))


def test_gradients_are_those_of_differences():
    x, z, label = data()
    direction = jnp.asarray(np.random.default_rng(2).normal(size=(N, D)))

    @jax.jit
    def size(step):
        moved = fit_splince(x + step * direction, z, label, n_concepts=2, n_classes=2)
        return jnp.sum(moved.to_dense().weight ** 2)

    step = 1e-2 if EPS > 1e-10 else 1e-5
    expected = (size(step) - size(-step)) / (2 * step)
    found = jax.jit(jax.grad(size))(0.0)
    np.testing.assert_allclose(found, expected, rtol=2e-2 if EPS > 1e-10 else 1e-6)


def test_refusals():
    x, z, label = data()
    with pytest.raises(ValueError, match="cannot be erased and kept"):
        fit_splince(x, z, z)
    with pytest.raises(ValueError, match=r"x must have shape"):
        fit_splince(x[:, 0], z, label)
    with pytest.raises(ValueError, match="label has"):
        fit_splince(x, z, label[:5])
    with pytest.raises(ValueError, match="rank_tol"):
        fit_splince(x, z, label, rank_tol=-1.0)
    with pytest.raises(ValueError, match="shrinkage"):
        fit_splince(x, z, label, shrinkage="all")
