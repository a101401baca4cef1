"""Products of long matrices on the host, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsteer.baselines import fit_leace
from jaxsteer.baselines._leace_moments import moments_of_rows, moments_on_host
from jaxsteer.linalg._host_gram import CHUNK, host_gram, origin_of


def wholly(x):
    return lambda start, stop, buffer: x[start:stop]


def copied(x):
    def chunk(start, stop, buffer):
        buffer[:] = x[start:stop]
        return buffer

    return chunk


@pytest.mark.parametrize("n", [1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk", [wholly, copied])
def test_equals_numpy(n, dtype, chunk):
    rng = np.random.default_rng(0)
    x, r = rng.normal(size=(n, 5)).astype(dtype), rng.normal(size=(n, 3)).astype(dtype)
    gram, cross = host_gram(chunk(x), n, 5, dtype, lambda start, stop: r[start:stop])
    wide = x.astype(np.float64)
    atol = 20 * np.finfo(dtype).eps * n
    np.testing.assert_allclose(gram, wide.T @ wide, atol=atol)
    np.testing.assert_allclose(cross, wide.T @ r.astype(np.float64), atol=atol)
    np.testing.assert_array_equal(gram, gram.T)


@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_rows_of_any_layout(order):
    x = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    given = (
        np.repeat(x, 2, 1)[:, ::2] if order == "strided" else np.array(x, order=order)
    )
    gram, cross = host_gram(wholly(given), 50, 8, np.float32)
    np.testing.assert_allclose(gram, x.T @ x, rtol=1e-4, atol=1e-4)
    assert cross.shape == (8, 0)


def test_rows_are_centered_only_where_that_saves_digits():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 2))
    assert not origin_of(rows + np.array([0.3, -1.8])).any()
    np.testing.assert_allclose(origin_of(rows + np.array([0.0, 9.0])), [0, 9], atol=0.2)
    constant = np.column_stack([rows[:, 0], np.full(3000, 5.0)])
    assert origin_of(constant)[1] == 5


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0, 1e3])
def test_moments_of_shifted_rows_keep_their_digits(shift):
    rng = np.random.default_rng(1)
    z = rng.integers(0, 3, 9000)
    x = (rng.normal(size=(9000, 4)) + z[:, None] + shift).astype(np.float32)
    found = moments_on_host(x, z, True, 3, None)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(found.mean, wide.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.corr, np.corrcoef(wide.T), atol=3e-6)
    np.testing.assert_allclose(found.scale, wide.std(0), rtol=3e-6)


def test_real_concepts_and_weights_equal_the_traceable_form():
    rng = np.random.default_rng(2)
    x, z = rng.normal(size=(500, 4)) + 0.2, rng.normal(size=(500, 2))
    weights = rng.uniform(0.1, 2.0, 500)
    here = moments_on_host(x, z, False, 2, weights)
    there = moments_of_rows(
        *(np.asarray(part, here.corr.dtype) for part in (x, z, weights))
    )
    for own, other in zip(here, there, strict=True):
        np.testing.assert_allclose(own, other, rtol=2e-5, atol=2e-6)


def test_infinite_products_are_named():
    x = (1e30 * np.arange(20.0).reshape(10, 2)).astype(np.float32)
    with pytest.raises(ValueError, match=r"x has values above .* standardize"):
        fit_leace(x, np.arange(10) % 2)
