"""Switching: class means go to their targets, and no affine map moves less."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.baselines import fit_leace, fit_switch

N, D = 150, 4
DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)


def data(seed=0, k=3):
    rng = np.random.default_rng(seed)
    z = np.concatenate([np.arange(k), rng.integers(0, k, N - k)])
    x = rng.normal(size=(N, D)) @ (rng.normal(size=(D, D)) + 2 * np.eye(D)) + 3
    return jnp.asarray(x + 2 * rng.normal(size=(k, D))[z]), z


def means(x, z):
    return np.stack([np.asarray(x, float)[z == c].mean(0) for c in range(z.max() + 1)])


@pytest.mark.parametrize(("k", "to"), [(2, None), (3, None), (3, [0, 2, 1])])
def test_class_means_are_switched(k, to):
    x, z = data(k, k)
    order = np.roll(np.arange(k), -1) if to is None else to
    found = fit_switch(x, z, to=to)
    scale = np.abs(np.asarray(x)).max()
    atol = 500 * EPS * scale
    np.testing.assert_allclose(means(found(x), z), means(x, z)[order], atol=atol)
    if k == 2:
        np.testing.assert_allclose(found(found(x)), x, atol=20 * atol)


def test_no_affine_map_with_these_means_moves_less():
    x, z = data()
    found = fit_switch(x, z)
    rows = np.asarray(x, float)
    weight, bias = np.asarray(found.weight, float), np.asarray(found.bias, float)
    moved = rows @ weight.T + bias - rows
    cost = np.mean(np.sum(moved**2, 1))
    flat = np.concatenate([means(x, z), np.ones((3, 1))], 1).T
    fixed, _ = np.linalg.qr(flat)
    rng = np.random.default_rng(0)
    for _ in range(20):
        # A step that moves no class mean.
        step = rng.normal(size=(D, D + 1))
        step -= step @ fixed @ fixed.T
        change = np.concatenate([rows, np.ones((N, 1))], 1) @ step.T
        slope = 2 * np.mean(np.sum(change * moved, 1)) / cost
        assert abs(slope) < 1e5 * EPS


def test_special_cases_erasure_and_the_steering_vector():
    x, z = data()
    center = jnp.broadcast_to(jnp.mean(x, 0), (3, D))
    erased = fit_switch(x, z, to=center)
    np.testing.assert_allclose(erased.weight, fit_leace(x, z).weight, atol=1000 * EPS)
    scale = np.abs(np.asarray(x)).max()
    np.testing.assert_allclose(erased(x), fit_leace(x, z)(x), atol=1000 * EPS * scale)
    vector = jnp.arange(D) / D
    added = fit_switch(x, z, to=jnp.asarray(means(x, z), DTYPE) + vector)
    np.testing.assert_allclose(added.weight, np.eye(D), atol=1000 * EPS)
    np.testing.assert_allclose(added.bias, vector, atol=1000 * EPS * scale)


def test_weights_scales_and_constant_features():
    x, z = data(1)
    weights = np.random.default_rng(1).integers(1, 3, N)
    repeated = np.repeat(np.arange(N), weights)
    found = fit_switch(x, z, weights=jnp.asarray(weights, DTYPE))
    whole = fit_switch(x[repeated], z[repeated])
    np.testing.assert_allclose(found.weight, whole.weight, atol=1000 * EPS)
    units = jnp.array([1.0, 100.0, 0.01, 1.0])
    other = fit_switch(x * units, z)
    np.testing.assert_allclose(
        other.weight * units / units[:, None], fit_switch(x, z).weight, atol=2000 * EPS
    )
    constant = jnp.concatenate([x, jnp.full((N, 1), 7.0)], 1)
    moved = fit_switch(constant, z)
    np.testing.assert_allclose(moved.weight[:D, :D], fit_switch(x, z).weight, atol=1e-4)
    np.testing.assert_array_equal(moved.weight[D], np.eye(D + 1)[D])
    np.testing.assert_array_equal(moved.bias[D], 0)


def test_gradients_are_those_of_differences():
    x, z = data()
    direction = jnp.asarray(np.random.default_rng(2).normal(size=(N, D)))

    @jax.jit
    def size(step):
        return jnp.sum(fit_switch(x + step * direction, z, n_concepts=3).weight ** 2)

    step = 1e-2 if EPS > 1e-10 else 1e-5
    expected = (size(step) - size(-step)) / (2 * step)
    rtol = 2e-2 if EPS > 1e-10 else 1e-6
    found = jax.jit(jax.grad(size))(0.0)
    np.testing.assert_allclose(found, expected, rtol=rtol)


def test_refusals():
    x, z = data()
    with pytest.raises(ValueError, match="to has codes"):
        fit_switch(x, z, to=[0, 1, 3])
    with pytest.raises(ValueError, match="to has shape"):
        fit_switch(x, z, to=[0, 1])
    with pytest.raises(ValueError, match="z 3 has no rows"):
        fit_switch(x, z, n_concepts=4)
