"""Counts of resampled rows are multinomial, in any precision and at any size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxsteer.audit._bootstrap import multinomial_counts, row_multiplicities

DRAWS = 4000


def draw(counts, seed=0):
    keys = jax.random.split(jax.random.key(seed), DRAWS)
    counts = jnp.asarray(counts, jnp.int32)
    return np.asarray(jax.jit(jax.vmap(multinomial_counts, (0, None)))(keys, counts))


@pytest.mark.parametrize(
    "counts",
    [
        [1, 0, 3, 0, 2, 0, 0, 4],
        [700, 20, 0, 300, 3, 90, 11, 876],
        [400_000, 25, 0, 90_000, 1_500_000, 7_000, 1, 2_474],
    ],
)
def test_counts_are_multinomial(counts):
    counts = np.array(counts)
    n = counts.sum()
    got = draw(counts)
    assert np.all(got == np.round(got)) and np.all(got >= 0)
    np.testing.assert_array_equal(got.astype(np.int64).sum(1), n)
    np.testing.assert_array_equal(got[:, counts == 0], 0)
    p = counts / n
    some = counts > 0
    error = np.sqrt(n * p * (1 - p) / DRAWS)
    assert np.all(np.abs(got.mean(0) - counts)[some] < 4 * error[some])
    for c in np.flatnonzero(some):
        law = stats.binom(n, p[c])
        # A fraction of a step makes the counts continuous, and their law uniform.
        u = np.random.default_rng(c).uniform(size=DRAWS)
        mass = law.cdf(got[:, c] - 1) + u * law.pmf(got[:, c])
        assert stats.kstest(mass, "uniform").pvalue > 1e-3
    covariance = n * (np.diag(p) - np.outer(p, p))
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))[some][:, some]
    found = np.cov(got[:, some].T)
    assert np.all(np.abs(found - covariance[some][:, some]) < 5 * scale / DRAWS**0.5)


def test_one_full_cell_keeps_every_row():
    np.testing.assert_array_equal(draw([0, 50, 0])[:5], [[0, 50, 0]] * 5)


def test_rows_are_drawn_with_replacement():
    n = 30
    keys = jax.random.split(jax.random.key(1), DRAWS)
    got = np.asarray(jax.vmap(lambda key: row_multiplicities(key, n))(keys))
    np.testing.assert_array_equal(got.sum(1), n)
    law = stats.binom(n, 1 / n)
    for times in range(4):
        share = np.mean(got == times)
        assert abs(share - law.pmf(times)) < 4 * np.sqrt(0.25 / (DRAWS * n))
    assert np.abs(got.mean(0) - 1).max() < 5 / np.sqrt(DRAWS)
