"""Sampling errors of a steering, against formulas, resampling and fresh samples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ks_2samp

import jaxsteer as js
from jaxsteer.audit import sample_size_curve, steering_uncertainty
from jaxsteer.audit._sample_size import draw_fit
from tests.audit.rules import ratio_cost

LOC = np.array([[0.0, 0.4], [1.0, 2.0]])
SCALE = np.array([[1.0, 0.7], [1.5, 1.0]])
TRUTH = js.Population(
    jnp.full((2, 2), 0.25), js.Normal(jnp.asarray(LOC), jnp.asarray(SCALE))
)
COSTS = jnp.asarray([ratio_cost(0.5), ratio_cost(2.0)])


def sample(seed, n=800):
    rng = np.random.default_rng(seed)
    label, group = np.arange(n) % 2, np.arange(n) // 2 % 2
    return rng.normal(LOC[label, group], SCALE[label, group]), label, group


def raw_gap(steering):
    return js.bayes_rates(steering.source).rate_gaps[1]


def test_the_error_of_a_mean_is_the_textbooks():
    x, label, group = sample(0)
    found = steering_uncertainty(x, label, group, lambda s: s.source.conditionals.loc)
    for i in range(2):
        for a in range(2):
            mine = x[(label == i) & (group == a)]
            expected = mine.std() / np.sqrt(len(mine))
            assert float(found.standard_error[i, a]) == pytest.approx(
                expected, rel=1e-4
            )
    width = found.high - found.estimate
    np.testing.assert_allclose(width, 1.959964 * found.standard_error, rtol=1e-3)


@pytest.mark.slow
def test_both_methods_equal_the_spread_of_fresh_samples():
    rows = sample(1)
    delta = steering_uncertainty(*rows, reference=1)
    boot = steering_uncertainty(*rows, reference=1, method="bootstrap", n_resamples=300)

    @jax.jit
    def solve(x):
        pop = js.fit_population(
            x, rows[1], rows[2], shrinkage=None, n_classes=2, n_groups=2
        )
        return js.audit.kl_and_maps(js.nearest_ideal(pop, reference=1))

    drawn = [solve(jnp.asarray(sample([2, seed])[0])) for seed in range(300)]
    fresh = jax.tree.map(lambda *leaves: jnp.std(jnp.stack(leaves), 0), *drawn)
    for name in ("kl", "feature_kl"):
        assert float(delta.standard_error[name]) == pytest.approx(
            float(fresh[name]), rel=0.2
        )
        assert float(boot.standard_error[name]) == pytest.approx(
            float(delta.standard_error[name]), rel=0.2
        )
    for leaf, own in zip(fresh["maps"], delta.standard_error["maps"], strict=True):
        np.testing.assert_allclose(own, leaf, rtol=0.25, atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_intervals_cover_the_truth_as_often_as_they_say():
    truth = float(js.bayes_rates(TRUTH).rate_gaps[1])
    hits = []
    for seed in range(60):
        found = steering_uncertainty(
            *sample([3, seed]),
            lambda s: js.bayes_rates(s.source).rate_gaps[1],
            level=0.9,
        )
        hits.append(bool(found.low <= truth <= found.high))
    # Four standard errors of 60 draws around nine tenths.
    assert abs(np.mean(hits) - 0.9) < 4 * np.sqrt(0.09 / 60)


def test_bad_options_are_refused():
    rows = sample(0, 40)
    with pytest.raises(ValueError, match="method='jackknife' is not known"):
        steering_uncertainty(*rows, reference=1, method="jackknife")
    with pytest.raises(ValueError, match="level=2 must lie between"):
        steering_uncertainty(*rows, reference=1, level=2)
    with pytest.raises(ValueError, match="n_resamples=1 must be"):
        steering_uncertainty(*rows, reference=1, method="bootstrap", n_resamples=1)
    with pytest.raises(ValueError, match="x"):
        steering_uncertainty(np.full(40, np.nan), *rows[1:])


def test_gaps_fall_with_the_root_of_the_rows():
    sizes = [50, 200, 800]
    curve = sample_size_curve(TRUTH, sizes, COSTS, n_simulations=60, reference=1)
    assert curve.gap.shape == (3, 60) and not curve.failed.any()
    half = curve.quantile(0.5)
    assert float(curve.raw_gap) > 2 * float(half[0])
    # A root law: four times the rows, half the gap.
    np.testing.assert_allclose(half[:-1] / half[1:], 2, rtol=0.35)
    needed = curve.rows_needed(float(curve.quantile(0.9)[1]))
    assert needed == 200
    assert curve.rows_needed(0.0) is None


@pytest.mark.slow
def test_multivariate_cells_need_more_rows():
    mean = jnp.asarray(np.stack([LOC, LOC[::-1] * 0.3], -1))
    cov = jnp.asarray((SCALE**2)[..., None, None] * np.eye(2))
    pop = js.Population(TRUTH.priors, js.MultivariateNormal(mean, cov))
    curve = sample_size_curve(
        pop, [30, 300], COSTS, n_simulations=20, maps="positive_definite"
    )
    assert float(curve.quantile(0.5)[0]) > 1.5 * float(curve.quantile(0.5)[1])


def test_populations_and_sizes_that_do_not_serve_are_refused():
    with pytest.raises(ValueError, match="rows_per_cell"):
        sample_size_curve(TRUTH, [1], COSTS)
    with pytest.raises(ValueError, match="costs must have shape"):
        sample_size_curve(TRUTH, [10], COSTS[0])
    logs = js.Population(
        TRUTH.priors, js.LogNormal(jnp.asarray(LOC), jnp.asarray(SCALE))
    )
    with pytest.raises(ValueError, match="strip a shared bijection"):
        sample_size_curve(logs, [10], COSTS)


def test_fits_are_drawn_from_the_law_of_fits_to_rows():
    rng = np.random.default_rng(0)
    n, draws = 6, 4000
    root = rng.normal(size=(3, 3))
    mean, cov = rng.normal(size=3), root @ root.T
    rows = mean + rng.normal(size=(draws, n, 3)) @ root.T
    means = rows.mean(1)
    covs = np.einsum("rni,rnj->rij", *2 * [rows - means[:, None]]) / n
    cells = js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    keys = jax.random.split(jax.random.key(1), draws)
    drawn = jax.vmap(lambda key: draw_fit(key, cells, jnp.asarray(float(n))))(keys)
    one = js.Normal(cells.mean[0], jnp.sqrt(cells.cov[0, 0]))
    single = jax.vmap(lambda key: draw_fit(key, one, jnp.asarray(float(n))))(keys)
    pairs = [
        (means[:, 0], drawn.mean[:, 0]),
        (means[:, 0], single.loc),
        (covs[:, 0, 0], single.scale**2),
        (covs[:, 0, 1], drawn.cov[:, 0, 1]),
        (covs[:, 2, 2], drawn.cov[:, 2, 2]),
        (np.linalg.slogdet(covs)[1], jnp.linalg.slogdet(drawn.cov)[1]),
    ]
    for by_rows, by_law in pairs:
        assert ks_2samp(by_rows, np.asarray(by_law)).pvalue > 1e-3
