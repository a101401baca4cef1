from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.moments import cell_moments

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
MOMENTS = jax.jit(cell_moments, static_argnums=2)


def sample(n, d=3, cells=4, seed=0, empty=None):
    """Rows in cells of unequal sizes; one of them may be empty."""
    rng = np.random.default_rng(seed)
    shares = np.arange(1, cells + 1, dtype=float)
    if empty is not None:
        shares[empty] = 0
    cell = rng.choice(cells, n, p=shares / shares.sum())
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + cell[:, None]
    return np.asarray(jnp.asarray(x), float), cell, rng.uniform(0, 3, n)


def reference(x, w):
    """NumPy's own weighted moments of one cell, in float64."""
    mean = np.average(x, axis=0, weights=w)
    return mean, np.cov(x.T, aweights=w, ddof=0)


# 32 rows a block up to 4096 rows, 256 beyond: both, and just at the border.
@pytest.mark.parametrize("n", [37, 4096, 4097, 9000])
@pytest.mark.parametrize("empty", [None, 1])
def test_equals_numpy_cell_by_cell(n, empty):
    x, cell, w = sample(n, empty=empty)
    found = MOMENTS(jnp.asarray(x), jnp.asarray(cell), 4, jnp.asarray(w))
    for c in range(4):
        mine, weights = x[cell == c], w[cell == c]
        rtol = 50 * EPS * np.sqrt(len(mine) + 1)
        np.testing.assert_allclose(found.mass[c], weights.sum(), rtol=rtol)
        if c == empty:
            assert not found.mean[c].any()
            assert not found.cov[c].any()
            assert found.effective_count[c] == 0
            continue
        mean, cov = reference(mine, weights)
        scale = np.abs(cov).max()
        np.testing.assert_allclose(found.mean[c], mean, atol=rtol * np.abs(x).max())
        np.testing.assert_allclose(found.cov[c], cov, atol=rtol * scale)
        kish = weights.sum() ** 2 / (weights**2).sum()
        np.testing.assert_allclose(found.effective_count[c], kish, rtol=rtol)
        power = np.sum((mine - mean) ** 2, 1) ** 2
        unit = (np.trace(cov) / 3) ** 2
        fourth = np.average(power, weights=weights) / unit
        np.testing.assert_allclose(found.fourth[c], fourth, rtol=rtol)


def test_covariances_are_exactly_symmetric():
    x, cell, w = sample(200)
    cov = MOMENTS(jnp.asarray(x), jnp.asarray(cell), 4, jnp.asarray(w)).cov
    np.testing.assert_array_equal(cov, np.swapaxes(cov, 1, 2))


def test_order_of_the_rows_does_not_matter():
    x, cell, w = sample(300)
    turn = np.random.default_rng(1).permutation(300)
    one = MOMENTS(jnp.asarray(x), jnp.asarray(cell), 4, jnp.asarray(w))
    other = MOMENTS(*(jnp.asarray(v[turn]) for v in (x, cell)), 4, jnp.asarray(w[turn]))
    np.testing.assert_allclose(one.cov, other.cov, rtol=1e3 * EPS, atol=100 * EPS)


def test_weights_equal_repeated_rows():
    x, cell, _ = sample(60)
    times = np.random.default_rng(2).integers(0, 4, 60)
    weighted = MOMENTS(*map(jnp.asarray, (x, cell)), 4, jnp.asarray(times, float))
    many = (jnp.asarray(np.repeat(v, times, axis=0)) for v in (x, cell))
    repeated = MOMENTS(*many, 4, jnp.ones(times.sum()))
    np.testing.assert_array_equal(weighted.mass, repeated.mass)
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=200 * EPS)
    np.testing.assert_allclose(
        weighted.cov, repeated.cov, rtol=200 * EPS, atol=50 * EPS
    )


def test_large_offsets_keep_the_covariance():
    rng = np.random.default_rng(3)
    n = 50_000
    x = jnp.asarray(1e4 + rng.normal(size=(n, 2)), jnp.float32)
    cell = rng.integers(0, 2, n)
    found = MOMENTS(x, jnp.asarray(cell), 2, jnp.ones(n, jnp.float32))
    exact = np.asarray(x, np.float64)
    for c in range(2):
        mean, cov = reference(exact[cell == c], np.ones((cell == c).sum()))
        # A product of raw values would be off by 1e8 * 6e-8 = 6.
        np.testing.assert_allclose(found.cov[c], cov, atol=2e-5)
        np.testing.assert_allclose(found.mean[c], mean, atol=1e-3)


@pytest.mark.parametrize("code", [-1, 4])
def test_codes_out_of_range_show(code):
    x, cell, w = sample(50)
    cell[3] = code
    found = MOMENTS(jnp.asarray(x), jnp.asarray(cell), 4, jnp.asarray(w))
    assert np.isnan(found.mean).all()
    assert np.isnan(found.cov).all()


def test_slopes_equal_finite_differences(x64):
    x, cell, w = sample(24, d=2, cells=2, seed=5)
    w[0] = 0.0
    pick = np.random.default_rng(6).normal(size=(2, 2, 2))

    @jax.jit
    def value(x, w):
        found = cell_moments(x, jnp.asarray(cell), 2, w)
        rest = found.mass + found.effective_count + found.fourth
        return jnp.sum(pick * found.cov) + jnp.sum(found.mean) + 0.1 * jnp.sum(rest)

    slopes = jax.jit(jax.grad(value, (0, 1)))(x, w)
    for k, slope in enumerate(slopes):
        for index in list(np.ndindex(*slope.shape))[:12]:
            step = [np.zeros_like(x), np.zeros_like(w)]
            step[k][index] = 1e-5
            up, down = (value(x + s * step[0], w + s * step[1]) for s in (1, -1))
            np.testing.assert_allclose(slope[index], (up - down) / 2e-5, atol=1e-7)


def test_slope_at_weight_zero_is_finite():
    x, cell, w = sample(24)
    w[0] = 0.0
    rows = jnp.asarray(x), jnp.asarray(cell)
    slope = jax.jit(jax.grad(lambda w: jnp.sum(cell_moments(*rows, 4, w).cov)))
    found = slope(jnp.asarray(w))
    assert np.isfinite(found).all()
    assert found[0] != 0
