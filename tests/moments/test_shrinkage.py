from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.moments import (
    cell_moments,
    ledoit_wolf_intensity,
    oas_intensity,
    shrink,
)

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
INTENSITIES = {"oas": oas_intensity, "ledoit-wolf": ledoit_wolf_intensity}
MOMENTS = jax.jit(cell_moments, static_argnums=2)


def rows(n=90, d=5, seed=0):
    rng = np.random.default_rng(seed)
    cell = np.repeat([0, 1, 1, 2, 2, 2], n // 6)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 3 * cell[:, None]
    return np.asarray(jnp.asarray(x), float), cell


def moments_of(x, cell, weight=1.0):
    weights = jnp.full(len(x), weight)
    return MOMENTS(jnp.asarray(x), jnp.asarray(cell), 3, weights)


@pytest.mark.parametrize("n", [24, 90, 600])  # the smallest cell has 4 rows, d = 5
@pytest.mark.parametrize("kind", INTENSITIES)
def test_equals_scikit_learn(kind, n):
    covariance = pytest.importorskip(
        "sklearn.covariance", reason="scikit-learn is not installed"
    )
    peer = {"oas": covariance.OAS, "ledoit-wolf": covariance.LedoitWolf}[kind]
    x, cell = rows(n)
    moments = moments_of(x, cell)
    found, shrunk = INTENSITIES[kind](moments), shrink(moments, kind)
    for c in range(3):
        fitted = peer().fit(x[cell == c])
        rtol = max(1e-10, 2e3 * EPS)
        np.testing.assert_allclose(found[c], fitted.shrinkage_, rtol=rtol)
        scale = np.abs(fitted.covariance_).max()
        np.testing.assert_allclose(shrunk[c], fitted.covariance_, atol=rtol * scale)


@pytest.mark.parametrize("kind", INTENSITIES)
@pytest.mark.parametrize("scale", [1e-12, 1e10])
def test_intensity_does_not_see_the_unit(kind, scale):
    x, cell = rows()
    x = jnp.asarray(x, jnp.float32)
    weights = jnp.ones(len(x), jnp.float32)
    one, other = (MOMENTS(v, jnp.asarray(cell), 3, weights) for v in (x, x * scale))
    found = INTENSITIES[kind](other)
    np.testing.assert_allclose(found, INTENSITIES[kind](one), rtol=1e-4)
    assert (found < 0.9).all()


@pytest.mark.parametrize("kind", INTENSITIES)
def test_common_factor_of_the_weights_does_not_matter(kind):
    x, cell = rows()
    one, other = (INTENSITIES[kind](moments_of(x, cell, w)) for w in (1.0, 0.01))
    np.testing.assert_allclose(one, other, rtol=200 * EPS)


@pytest.mark.parametrize("kind", INTENSITIES)
def test_spherical_or_lifeless_cells_are_all_target(kind):
    x = np.repeat(np.eye(2), 2, axis=0) * [[1], [-1], [1], [-1]]
    found = INTENSITIES[kind](moments_of(np.tile(x, (3, 1)), np.repeat([0, 1, 2], 4)))
    np.testing.assert_array_equal(found, np.ones(3))
    lifeless = INTENSITIES[kind](moments_of(np.ones((6, 2)), np.repeat([0, 1, 2], 2)))
    np.testing.assert_array_equal(lifeless, np.ones(3))


def test_intensities_interpolate():
    moments = moments_of(*rows())
    cov = np.asarray(moments.cov)
    np.testing.assert_array_equal(shrink(moments, None), cov)
    np.testing.assert_array_equal(shrink(moments, 0), cov)
    level = np.trace(cov, axis1=1, axis2=2) / 5
    target = level[:, None, None] * np.eye(5)
    atol = 20 * EPS * np.abs(cov).max()
    np.testing.assert_allclose(shrink(moments, 1), target, atol=atol)
    quarter = 0.75 * cov + 0.25 * target
    for value in (0.25, np.float32(0.25), np.float64(0.25)):
        np.testing.assert_allclose(shrink(moments, value), quarter, atol=atol)


@pytest.mark.parametrize("value", ["OAS", "auto", -0.1, 1.5, True, float("nan")])
def test_unknown_shrinkage_is_refused(value):
    with pytest.raises(ValueError, match=r"shrinkage=.* is not known; give 'oas', "):
        shrink(moments_of(*rows()), value)
