from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsteer.maps import gaussian_transport

EPS = float(jnp.finfo(jnp.result_type(float)).eps)


def psd(seed, values):
    d = len(values)
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    return (q * np.asarray(values, float)) @ q.T


def pair(seed, d=4, low=0.2):
    rng = np.random.default_rng(seed)
    source, target = (psd(seed + k, rng.uniform(low, 2, d)) for k in (0, 1000))
    return rng.normal(size=d), source, rng.normal(size=d), target


@pytest.mark.parametrize("d", [1, 3, 6])
@pytest.mark.parametrize("seed", range(3))
def test_equals_pot(seed, d):
    gaussian = pytest.importorskip("ot.gaussian", reason="POT is not installed")
    moments = pair(seed, d)
    m, source, r, target = moments
    weight, bias = gaussian.bures_wasserstein_mapping(m, r, source, target)
    found = gaussian_transport(*map(jnp.asarray, moments))
    atol = max(1e-12, 500 * EPS)
    np.testing.assert_allclose(found.weight, weight.T, atol=atol)
    np.testing.assert_allclose(found.bias, bias.ravel(), atol=atol)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_moments_are_pushed_exactly_by_a_symmetric_positive_matrix(seed):
    m, source, r, target = pair(seed)
    found = gaussian_transport(*map(jnp.asarray, (m, source, r, target)))
    weight = np.asarray(found.weight, float)
    np.testing.assert_allclose(found(jnp.asarray(m)), r, atol=500 * EPS)
    np.testing.assert_allclose(weight @ source @ weight.T, target, atol=500 * EPS)
    np.testing.assert_allclose(weight, weight.T, atol=200 * EPS)
    assert np.linalg.eigvalsh(weight).min() > 0


def test_moves_less_than_any_other_map_with_the_same_moments():
    _, source, _, target = pair(3)
    zero = jnp.zeros(4)
    found = gaussian_transport(zero, jnp.asarray(source), zero, jnp.asarray(target))
    best = np.trace((found.weight - np.eye(4)) @ source @ (found.weight - np.eye(4)).T)
    rng = np.random.default_rng(0)
    lower, upper = np.linalg.cholesky(source), np.linalg.cholesky(target)
    for _ in range(200):
        q = np.linalg.qr(rng.normal(size=(4, 4)))[0]
        move = upper @ q @ np.linalg.inv(lower) - np.eye(4)
        assert np.trace(move @ source @ move.T) >= best * (1 - 1e3 * EPS)


def test_inverse_is_the_transport_back():
    m, source, r, target = map(jnp.asarray, pair(4))
    there = gaussian_transport(m, source, r, target)
    back = gaussian_transport(r, target, m, source)
    np.testing.assert_allclose(there.inverse().weight, back.weight, atol=2e3 * EPS)
    np.testing.assert_allclose(there.inverse().bias, back.bias, atol=2e3 * EPS)


def test_equal_moments_give_the_identity():
    m, source, _, _ = map(jnp.asarray, pair(5))
    found = gaussian_transport(m, source, m, source)
    np.testing.assert_allclose(found.weight, np.eye(4), atol=200 * EPS)
    np.testing.assert_allclose(found.bias, 0, atol=500 * EPS)


def test_singular_source_is_moved_on_its_range():
    # A plane that source and target share: there, the map is the transport in 2D.
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    plane = q[:, :2]
    small, large = psd(1, [0.5, 2.0]), psd(2, [1.0, 3.0])
    zero3, zero2 = jnp.zeros(3), jnp.zeros(2)
    found = gaussian_transport(
        zero3,
        jnp.asarray(plane @ small @ plane.T),
        zero3,
        jnp.asarray(plane @ large @ plane.T),
    )
    inner = gaussian_transport(zero2, jnp.asarray(small), zero2, jnp.asarray(large))
    expected = plane @ inner.weight @ plane.T
    np.testing.assert_allclose(found.weight, expected, atol=2e3 * EPS)
    grad = jax.grad(
        lambda c: jnp.sum(gaussian_transport(zero3, c, zero3, jnp.eye(3)).weight)
    )(jnp.asarray(plane @ small @ plane.T))
    assert jnp.isfinite(grad).all()


def test_constant_feature_of_both_stays_finite():
    source, target = jnp.diag(jnp.array([1.0, 0.0])), jnp.diag(jnp.array([4.0, 0.0]))
    found = gaussian_transport(jnp.zeros(2), source, jnp.ones(2), target)
    np.testing.assert_allclose(found.weight, np.diag([2.0, 0.0]), atol=20 * EPS)
    np.testing.assert_allclose(found(jnp.zeros(2)), [1.0, 1.0], atol=20 * EPS)


def test_leading_axes_broadcast_and_vmap_agrees():
    moments = [np.stack(part) for part in zip(*map(pair, range(3)), strict=True)]
    m, source, r, target = map(jnp.asarray, moments)
    many = gaussian_transport(m, source, r[0], target[0])
    assert many.weight.shape == (3, 4, 4)
    one = gaussian_transport(m[2], source[2], r[0], target[0])
    np.testing.assert_allclose(many.weight[2], one.weight, atol=200 * EPS)
    np.testing.assert_allclose(many.bias[2], one.bias, atol=200 * EPS)
    mapped = jax.jit(jax.vmap(gaussian_transport, (0, 0, None, None)))(
        m, source, r[0], target[0]
    )
    np.testing.assert_allclose(mapped.weight, many.weight, atol=200 * EPS)
    np.testing.assert_allclose(mapped.bias, many.bias, atol=200 * EPS)


def test_gradient_at_equal_identities_is_exact():
    # Between commuting matrices W = (R / S)^{1/2}, so at R = S = I the slopes of its
    # trace are 1/2 and -1/2 along the identity.
    def trace(source, target):
        zero = jnp.zeros(3)
        return jnp.trace(gaussian_transport(zero, source, zero, target).weight)

    eye = jnp.eye(3)
    by_source, by_target = jax.jit(jax.grad(trace, (0, 1)))(eye, eye)
    np.testing.assert_allclose(by_source, -0.5 * np.eye(3), atol=50 * EPS)
    np.testing.assert_allclose(by_target, 0.5 * np.eye(3), atol=50 * EPS)


def test_gradient_equals_finite_differences():
    _, source, _, target = pair(6, 3)
    rng = np.random.default_rng(0)
    ds = rng.normal(size=(3, 3))
    ds = ds + ds.T

    def weight64(source):
        values, vectors = np.linalg.eigh(source)
        root, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
        values, vectors = np.linalg.eigh(root @ target @ root)
        return inverse @ ((vectors * np.sqrt(values)) @ vectors.T) @ inverse

    step = 1e-5
    expected = (weight64(source + step * ds) - weight64(source - step * ds)) / (
        2 * step
    )
    zero = jnp.zeros(3)
    _, found = jax.jvp(
        lambda s: gaussian_transport(zero, s, zero, jnp.asarray(target)).weight,
        (jnp.asarray(source),),
        (jnp.asarray(ds),),
    )
    rtol = max(1e3 * EPS, 1e-7)
    np.testing.assert_allclose(found, expected, atol=rtol * np.abs(expected).max())


def test_second_derivatives_equal_finite_differences(x64):
    _, source, _, target = (jnp.asarray(part) for part in pair(6, 3))
    zero = jnp.zeros(3)
    probe = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)))

    def energy(pack):
        weight = gaussian_transport(zero, pack[0], zero, pack[1]).weight
        return jnp.sum(jnp.sin(weight) * probe)

    at = jnp.stack([source, target])
    way = np.random.default_rng(2).normal(size=(2, 3, 3))
    way = jnp.asarray(way + np.swapaxes(way, 1, 2))
    gradient = jax.jit(jax.grad(energy))
    step = 1e-5
    expected = (gradient(at + step * way) - gradient(at - step * way)) / (2 * step)
    _, forward = jax.jvp(gradient, (at,), (way,))
    backward = jax.grad(lambda pack: jnp.sum(gradient(pack) * way))(at)
    mapped = jax.vmap(lambda pack: jax.jvp(gradient, (pack,), (way,))[1])(at[None])
    for found in (forward, backward, mapped[0]):
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_gradient_of_a_singular_pair_is_finite():
    cov = jnp.diag(jnp.array([1.0, 0.0, 2.0]))
    zero = jnp.zeros(3)

    def trace(source, target):
        return jnp.trace(gaussian_transport(zero, source, zero, target).weight)

    by_source, by_target = jax.vmap(jax.grad(trace, (0, 1)))(
        jnp.stack([cov, jnp.eye(3)]), jnp.stack([cov, jnp.eye(3)])
    )
    assert jnp.isfinite(by_source).all() and jnp.isfinite(by_target).all()
    # On its range the singular pair is as the regular one: (1/S) / 2.
    np.testing.assert_allclose(
        np.diag(by_target[0])[[0, 2]], [0.5, 0.25], atol=100 * EPS
    )
    np.testing.assert_allclose(by_target[1], 0.5 * np.eye(3), atol=100 * EPS)


@pytest.mark.parametrize("unit", [2.0**-40, 2.0**40])
def test_units_do_not_matter(unit):
    """Their fourth powers leave the range of float32."""
    _, source, _, target = pair(3)
    zero = jnp.zeros(4)
    expected = gaussian_transport(zero, jnp.asarray(source), zero, jnp.asarray(target))
    scaled = [jnp.asarray(cov) * unit * unit for cov in (source, target)]
    found = gaussian_transport(zero, scaled[0], zero, scaled[1])
    np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-5)
