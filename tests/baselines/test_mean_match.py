from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.baselines import fit_mean_match, fit_mimic

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)


def data(seed=0, n=200, d=4, groups=3):
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), rng.integers(0, groups, n - groups)])
    x = rng.normal(size=(n, d)) + 2 * rng.normal(size=(groups, d))[group]
    return jnp.asarray(x), jnp.asarray(group)


def moved(maps, x, group):
    return np.asarray(jax.vmap(lambda m, row: m(row))(pick(maps, group), x), float)


def pick(maps, group):
    return jax.tree.map(lambda leaf: leaf[group], maps)


@pytest.mark.parametrize("reference", [0, 1, 2])
def test_every_group_gets_the_mean_of_the_reference(reference):
    x, group = data()
    maps = fit_mean_match(x, group, reference=reference)
    after = moved(maps, x, group)
    target = np.asarray(x, float)[np.asarray(group) == reference].mean(0)
    for code in range(3):
        own = np.asarray(group) == code
        assert code == reference or abs(np.asarray(x)[own].mean(0) - target).max() > 0.1
        np.testing.assert_allclose(after[own].mean(0), target, atol=50 * EPS)
        shift = after[own] - np.asarray(x, float)[own]
        np.testing.assert_allclose(shift, shift[:1].repeat(own.sum(), 0), atol=20 * EPS)
    np.testing.assert_array_equal(maps.weight, np.stack([np.eye(4)] * 3))
    np.testing.assert_array_equal(maps.bias[reference], np.zeros(4))


def test_the_default_reference_is_group_one():
    x, group = data()
    np.testing.assert_array_equal(fit_mean_match(x, group).bias[1], np.zeros(4))


def test_weights_act_as_repetitions():
    x, group = data(1, n=60)
    weights = np.random.default_rng(0).integers(0, 4, 60)
    weights[:3] = 1
    found = fit_mean_match(x, group, weights=jnp.asarray(weights, DTYPE))
    again = fit_mean_match(jnp.repeat(x, weights, 0), jnp.repeat(group, weights))
    np.testing.assert_allclose(found.bias, again.bias, atol=50 * EPS)
    plain = fit_mean_match(x, group).bias
    assert np.abs(np.asarray(found.bias - plain)).max() > 1e-2


def test_an_offset_loses_no_digits():
    x, group = data(2)
    far = 2.0**12  # exact in both dtypes, so only the method can lose digits
    rounded = jnp.round(x * 256) / 256
    near = fit_mean_match(rounded, group).bias
    np.testing.assert_allclose(
        fit_mean_match(rounded + far, group).bias, near, atol=4 * EPS * far
    )


def test_jit_vmap_and_gradient():
    x, group = data(3)
    fit = partial(fit_mean_match, n_groups=3)
    batch = jnp.stack([x, 2 * x])
    found = jax.jit(jax.vmap(fit, (0, None)))(batch, group)
    np.testing.assert_allclose(found.bias[0], fit(x, group).bias, atol=50 * EPS)
    np.testing.assert_allclose(found.bias[1], 2 * fit(x, group).bias, atol=99 * EPS)
    # The shift of group 0 rises by 1/n_1 with a row of group 1, falls by 1/n_0.
    grad = jax.grad(lambda x: jnp.sum(fit(x, group).bias[0]))(x)
    counts = np.bincount(np.asarray(group))
    expected = np.array([-1 / counts[0], 1 / counts[1], 0])[np.asarray(group)]
    np.testing.assert_allclose(grad, np.stack([expected] * 4, 1), atol=10 * EPS)


def test_an_empty_group_is_nan_while_traced():
    x, group = data(4, groups=2)
    found = jax.jit(partial(fit_mean_match, n_groups=3))(x, group)
    assert jnp.isnan(found.bias[2]).all()
    assert jnp.isfinite(found.bias[:2]).all()


X, A = np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1])
BAD = [
    (X[:, 0], A, {}, r"x must have shape \[n, d\], got \(4,\)"),
    (np.full((4, 2), np.inf), A, {}, "x has 8 values that are not finite"),
    (X, A[:2], {}, "x has 4, group has 2 rows"),
    (X[:0], A[:0], {}, "no rows"),
    (X, A.astype(float), {}, "group must hold integer codes"),
    (X, np.array(["m", "f", "m", "f"]), {}, "jaxsteer.encode_labels"),
    (X, A - 1, {}, "group has codes from -1 to 0"),
    (X, A, {"n_groups": 1}, "group has codes from 0 to 1, expected 0..0"),
    (X, A, {"reference": 2}, "reference=2 is not known; choose one of 0, 1"),
    (X, A * 0, {}, "reference=1 is not known; choose one of 0"),
    (X, A, {"n_groups": 3}, "group 2 has no rows of positive weight"),
    (X, 2 * A, {"reference": 0}, "group 1 has no rows of positive weight"),
    (X, A, {"weights": np.array([0.0, 1, 0, 1])}, "group 0 has no rows of positive"),
    (X, A, {"weights": np.zeros(4)}, "weights must be at least 0"),
    (X, A, {"weights": np.ones(2)}, "weights has 2 rows"),
]


@pytest.mark.parametrize("fit", [fit_mean_match, fit_mimic])
@pytest.mark.parametrize(("x", "group", "options", "message"), BAD)
def test_messages_of_the_group_methods(fit, x, group, options, message):
    with pytest.raises(ValueError, match=message):
        fit(x, group, **options)


@pytest.mark.parametrize("fit", [fit_mean_match, fit_mimic])
def test_traced_codes_need_their_number(fit):
    with pytest.raises(ValueError, match=r"group is traced.*n_groups="):
        jax.jit(fit)(jnp.asarray(X), jnp.asarray(A))


@pytest.mark.parametrize("fit", [fit_mean_match, fit_mimic])
def test_one_group_alone_stays(fit):
    found = fit(X, A * 0, reference=0)
    np.testing.assert_array_equal(found.weight, np.eye(2)[None])
    np.testing.assert_array_equal(found.bias, np.zeros((1, 2)))
