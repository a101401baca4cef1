"""Tests of normality, against SciPy, a formula written out, and their own level."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxsteer as js

RNG = np.random.default_rng(0)


def test_statistics_equal_their_definitions(eps):
    x = RNG.normal(size=(60, 3)) @ RNG.normal(size=(3, 3)) + 1
    found = js.moments.check_normality(
        x, np.zeros(60, int), np.zeros(60, int), n_simulations=99
    )
    centered = x - x.mean(0)
    products = centered @ np.linalg.solve(np.cov(x.T, ddof=0), centered.T)
    assert float(found.skewness[0, 0]) == pytest.approx(
        np.mean(products**3), rel=1e5 * eps
    )
    kurtosis = np.mean(np.diag(products) ** 2)
    assert float(found.kurtosis[0, 0]) == pytest.approx(kurtosis, rel=1e4 * eps)
    score = (float(found.kurtosis[0, 0]) - 15) / np.sqrt(8 * 15 / 60)
    assert float(found.kurtosis_p[0, 0]) == pytest.approx(
        2 * stats.norm.sf(abs(score)), rel=1e-3
    )
    p = stats.chi2.sf(60 * np.mean(products**3) / 6, 10)
    assert float(found.skewness_p[0, 0]) == pytest.approx(p, rel=1e-3)
    for j in range(3):
        law = stats.norm(x[:, j].mean(), x[:, j].std(ddof=1))
        expected = stats.kstest(x[:, j], law.cdf).statistic
        assert float(found.distance[0, 0, j]) == pytest.approx(expected, abs=1e3 * eps)
    # More columns than rows in proportion: the other way to the same sum.
    wide = RNG.normal(size=(40, 8))
    third = js.moments.check_normality(
        wide, np.zeros(40, int), np.zeros(40, int), n_simulations=99
    )
    centered = wide - wide.mean(0)
    products = centered @ np.linalg.solve(np.cov(wide.T, ddof=0), centered.T)
    assert float(third.skewness[0, 0]) == pytest.approx(np.mean(products**3), rel=1e-4)


@pytest.mark.parametrize(("n", "critical"), [(20, 0.190), (400, 0.0443)])
def test_distance_p_values_are_lilliefors(n, critical):
    """Published critical values at 5%: 0.190 for n = 20, 0.886 / sqrt(n) for large n."""
    x = RNG.normal(size=(n, 12)) if n > 20 else RNG.normal(size=(n, 6))
    nothing = np.zeros(n, int)
    found = js.moments.check_normality(x, nothing, nothing, n_simulations=4000)
    distance, p = np.asarray(found.distance[0, 0]), np.asarray(found.distance_p[0, 0])
    clear = np.abs(distance / critical - 1) > 0.05
    assert ((p < 0.05) == (distance > critical))[clear].all()
    # The p-value falls through 5% at the critical value.
    order = np.argsort(distance)
    assert (np.diff(p[order]) <= 0).all()
    at = np.interp(critical, distance[order], p[order])
    assert p.min() > 0.05 or abs(at - 0.05) < 0.03


def test_normal_cells_pass_and_others_do_not():
    n = 300
    label, group = np.divmod(np.arange(4 * n) // n, 2)
    x = RNG.normal(size=(4 * n, 2))
    x[:n, 0] = RNG.exponential(size=n)
    x[n : 2 * n] *= RNG.choice([0.2, 2.0], size=(n, 1))
    found = js.moments.check_normality(x, label, group, key=jax.random.key(3))
    assert found.rejected().tolist() == [[True, True], [False, False]]
    assert (found.count == n).all()


def test_cells_that_are_too_small_are_nan_and_not_rejected():
    x = RNG.normal(size=(43, 3))
    group = np.r_[np.zeros(40, int), np.ones(3, int)]
    found = js.moments.check_normality(x, np.zeros(43, int), group, n_simulations=99)
    assert bool(jnp.isnan(found.skewness[0, 1]))
    assert not bool(found.rejected()[0, 1])


def test_constant_columns_are_nan():
    x = np.stack([RNG.normal(size=50), np.ones(50)], 1)
    found = js.moments.check_normality(
        x, np.zeros(50, int), np.zeros(50, int), n_simulations=99
    )
    assert bool(jnp.isnan(found.kurtosis[0, 0]))
    assert bool(jnp.isnan(found.distance[0, 0, 1]))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="x"):
        js.moments.check_normality(np.array([0.0, np.nan]), [0, 0], [0, 1])
    with pytest.raises(ValueError, match="label"):
        js.moments.check_normality(np.zeros(3), [0, 0], [0, 1, 1])
