from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import EPS, FAMILIES, build, member, parameters, reference_kl
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsteer.families import kl_divergence

KL = jax.jit(kl_divergence)
SLOPES = jax.jit(jax.grad(lambda p, q: jnp.sum(kl_divergence(p, q)), (0, 1)))


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_zero_with_zero_slope_at_itself(name, seed):
    p = member(name, seed, (4,))
    np.testing.assert_allclose(KL(p, p), 0, atol=1e3 * EPS**2)
    for slope in jax.tree.leaves(SLOPES(p, p)):
        np.testing.assert_allclose(slope, 0, atol=200 * EPS)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), nearness=st.floats(1e-9, 1))
def test_never_negative(name, seed, nearness):
    p, far = member(name, seed, (4,)), member(name, seed + 1, (4,))
    q = jax.tree.map(lambda a, b: a + nearness * (b - a), p, far)
    assert (np.asarray(KL(p, q)) >= 0).all()
    assert (np.asarray(KL(p, far)) > 0).all()


def finite_differences(fn, x, step=1e-5):
    """Central differences of a float64 function, entry by entry."""
    out = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        out[index] = (fn(up) - fn(down)) / (2 * step)
    return out


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", FAMILIES)
def test_slopes_equal_finite_differences(name, seed):
    raw = [*parameters(name, seed), *parameters(name, seed + 9)]
    raw = [np.array(v, float) for v in raw]
    half = len(raw) // 2
    pair = build(name, *raw[:half]), build(name, *raw[half:])
    leaves = jax.tree.leaves(SLOPES(*pair))
    for k, slope in enumerate(leaves):

        def moved(v, k=k):
            values = [*raw[:k], v, *raw[k + 1 :]]
            return reference_kl(name, values[:half], values[half:])

        expected = finite_differences(moved, raw[k])
        slope = np.asarray(slope, float)
        if slope.shape == (
            3,
            3,
        ):  # only the symmetric part of such a slope has a meaning
            slope, expected = slope + slope.T, expected + expected.T
        scale = 1 + np.abs(expected).max()
        atol = max(1e-7, 300 * EPS) * scale
        np.testing.assert_allclose(slope, expected, atol=atol)


@functools.cache
def batched_pair(name):
    return member(name, 0, (4,)), member(name, 1, (4,))


@pytest.mark.parametrize("name", FAMILIES)
def test_vmap_along_any_axis_equals_the_batch(name):
    @jax.jit
    def every_way(p, q):
        last = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), p)
        by_last_axis = jax.vmap(kl_divergence, in_axes=(-1, 0))(last, q)
        by_column = jax.vmap(lambda a: kl_divergence(a, q), out_axes=1)(p)
        return by_last_axis, by_column

    p, q = batched_pair(name)
    expected = KL(p, q)
    found, by_column = every_way(p, q)
    np.testing.assert_allclose(found, expected, rtol=50 * EPS)
    np.testing.assert_allclose(jnp.diagonal(by_column), expected, rtol=50 * EPS)
    one = jax.tree.map(lambda leaf: leaf[1], p)  # column 1 is p[1] against every q
    np.testing.assert_allclose(by_column[:, 1], KL(one, q), rtol=50 * EPS)


@pytest.mark.parametrize("name", FAMILIES)
def test_eager_equals_jit_and_forward_equals_reverse(name):
    p, q = batched_pair(name)
    np.testing.assert_allclose(kl_divergence(p, q), KL(p, q), rtol=50 * EPS)
    slopes = SLOPES(p, q)[0]
    one = jax.tree.map(jnp.ones_like, p)
    _, forward = jax.jvp(lambda p: jnp.sum(KL(p, q)), (p,), (one,))
    total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(slopes))
    np.testing.assert_allclose(forward, total, rtol=1e3 * EPS, atol=1e3 * EPS)
