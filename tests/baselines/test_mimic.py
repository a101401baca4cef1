from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsteer.baselines import fit_mimic

pytestmark = pytest.mark.slow

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)


def data(seed=0, n=300, d=4, groups=2):
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), rng.integers(0, groups, n - groups)])
    mixing = 0.3 * rng.normal(size=(groups, d, d)) + np.eye(d)
    x = np.einsum("nij,nj->ni", mixing[group], rng.normal(size=(n, d)))
    return x + rng.normal(size=(groups, d))[group], group


def fit(x, group, **options):
    return fit_mimic(jnp.asarray(x), jnp.asarray(group), **options)


def apply(maps, x, code):
    weight, bias = np.asarray(maps.weight[code]), np.asarray(maps.bias[code])
    return np.asarray(x, float) @ weight.T.astype(float) + bias


@pytest.mark.parametrize("ridge", [1e-5, 1e-2])
def test_equals_pot(ridge):
    gaussian = pytest.importorskip("ot.gaussian", reason="POT is not installed")
    x, group = data()
    weight, bias = gaussian.empirical_bures_wasserstein_mapping(
        x[group == 0], x[group == 1], reg=ridge
    )
    found = fit(x, group, ridge=ridge)
    atol = max(500 * EPS, 1e-10)
    np.testing.assert_allclose(found.weight[0], weight.T, atol=atol)
    np.testing.assert_allclose(found.bias[0], bias.ravel(), atol=atol)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), reference=st.integers(0, 2))
def test_every_group_gets_the_moments_of_the_reference(seed, reference):
    x, group = data(seed, n=200, d=3, groups=3)
    maps = fit(x, group, reference=reference, ridge=0.0)
    target = x[group == reference]
    for code in range(3):
        after = apply(maps, x[group == code], code)
        np.testing.assert_allclose(after.mean(0), target.mean(0), atol=2e3 * EPS)
        expected = np.cov(target.T, bias=True)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            np.cov(after.T, bias=True), expected, atol=5e3 * EPS * scale
        )


def test_the_reference_stays_exactly():
    x, group = data(1, groups=3)
    maps = fit(x, group, reference=2)
    np.testing.assert_array_equal(maps.weight[2], np.eye(4))
    np.testing.assert_array_equal(maps.bias[2], np.zeros(4))
    assert np.abs(np.asarray(maps.weight[0]) - np.eye(4)).max() > 0.01


def test_weights_act_as_repetitions():
    x, group = data(2, n=80)
    weights = np.random.default_rng(0).integers(0, 4, 80)
    weights[:2] = 1
    found = fit(x, group, weights=jnp.asarray(weights, DTYPE))
    again = fit(np.repeat(x, weights, 0), np.repeat(group, weights))
    np.testing.assert_allclose(found.weight, again.weight, atol=500 * EPS)
    np.testing.assert_allclose(found.bias, again.bias, atol=500 * EPS)
    assert np.abs(np.asarray(found.weight - fit(x, group).weight)).max() > 1e-2


def test_constant_and_collinear_columns_stay_finite_and_matched():
    x, group = data(3, d=3)
    wide = np.column_stack([x, np.full(len(x), 7.0), x[:, 0] + x[:, 1]])
    ridge = 1e-3
    maps = fit(wide, group, ridge=ridge)
    assert jnp.isfinite(maps.weight).all() and jnp.isfinite(maps.bias).all()
    after = apply(maps, wide[group == 0], 0)
    np.testing.assert_allclose(after[:, 3], 7, atol=1e4 * EPS)
    # W (S + r I) W' = T + r I: what the ridge costs is known exactly.
    weight = np.asarray(maps.weight[0], float)
    slack = ridge * (np.eye(5) - weight @ weight.T)
    expected = np.cov(wide[group == 1].T, bias=True) + slack
    np.testing.assert_allclose(np.cov(after.T, bias=True), expected, atol=2e4 * EPS)


def test_group_smaller_than_the_feature_count():
    x, group = data(4, n=40, d=30)
    group[:] = 1
    group[:5] = 0
    maps = fit(x, group)
    after = apply(maps, x[:5], 0)
    np.testing.assert_allclose(after.mean(0), x[5:].mean(0), atol=1e5 * EPS)


def test_jit_vmap_and_gradient():
    x, group = data(5, n=60, d=3)
    codes = jnp.asarray(group)
    fit_two = partial(fit_mimic, n_groups=2)
    batch = jnp.asarray(np.stack([x, x**3]))
    found = jax.jit(jax.vmap(fit_two, (0, None)))(batch, codes)
    for row in range(2):
        alone = fit_two(batch[row], codes)
        np.testing.assert_allclose(found.weight[row], alone.weight, atol=2e3 * EPS)

    rng = np.random.default_rng(0)
    out, dx = rng.normal(size=(3, 3)), rng.normal(size=x.shape)
    grad = jax.jit(jax.grad(lambda x: jnp.sum(fit_two(x, codes).weight[0] * out)))
    found = np.sum(np.asarray(grad(batch[0]), float) * dx)

    def weight64(x):
        source, target = (
            np.cov(x[group == code].T, bias=True) + 1e-5 * np.eye(3) for code in (0, 1)
        )
        root, inverse = power(source, 0.5), power(source, -0.5)
        return inverse @ power(root @ target @ root, 0.5) @ inverse

    step = 1e-5
    slope = (weight64(x + step * dx) - weight64(x - step * dx)) / (2 * step)
    expected = np.sum(slope * out)
    assert abs(expected) > 1e-3
    np.testing.assert_allclose(found, expected, atol=max(2e3 * EPS, 1e-7))


def power(a, exponent):
    values, vectors = np.linalg.eigh(a)
    return (vectors * values**exponent) @ vectors.T


def test_gradient_is_finite_at_equal_covariances():
    x = np.concatenate([np.eye(3), -np.eye(3)])
    x, group = np.concatenate([x, x + 1]), np.repeat([0, 1], 6)
    grad = jax.grad(lambda x: jnp.sum(fit_mimic(x, jnp.asarray(group)).weight ** 2))(
        jnp.asarray(x)
    )
    assert jnp.isfinite(grad).all()


def test_negative_ridge_is_refused():
    x, group = data()
    with pytest.raises(ValueError, match=r"ridge=-1.0 must be at least 0"):
        fit(x, group, ridge=-1.0)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_a_group_of_one_row_goes_to_the_mean_in_any_units(unit):
    x = np.random.default_rng(0).normal(size=(24, 2)) * unit
    group = np.array([0] + [1] * 12 + [2] * 11)
    maps = fit_mimic(x, group, reference=1)
    moved = maps.weight[0] @ jnp.asarray(x[0]) + maps.bias[0]
    assert np.abs(moved - x[group == 1].mean(0)).max() < 1e-2 * unit
