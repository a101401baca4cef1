"""``fit_population(covariance=...)``: tied, diagonal and low-rank populations."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moment_rows import EPS, close, some_rows

from jaxsteer.families import (
    DiagonalNormal,
    LowRankNormal,
    MultivariateLogNormal,
    MultivariateNormal,
    TransformedNormal,
    kl_divergence,
)
from jaxsteer.moments import fit_population

X, LABEL, GROUP = some_rows(d=5)
KL = jax.jit(kl_divergence)


def cell_of(i, a, x=X):
    return x[(i == LABEL) & (a == GROUP)]


def within(a, x=X):
    """Rows of a group less the mean of their class."""
    return np.concatenate([cell_of(i, a, x) - cell_of(i, a, x).mean(0) for i in (0, 1)])


def fit(x, label=LABEL, group=GROUP, **options):
    return fit_population(x, label, group, n_classes=2, n_groups=2, **options)


def outer(factor):
    return np.asarray(factor @ np.swapaxes(factor, -1, -2))


@pytest.mark.parametrize("shrinkage", [None, "oas", "ledoit-wolf", 0.3])
def test_tied_covariances_are_those_within_the_classes_of_a_group(shrinkage):
    uneven = np.r_[: len(X)][(LABEL == 0) | (np.arange(len(X)) % 3 > 0)]
    x, label, group = X[uneven], LABEL[uneven], GROUP[uneven]
    pop = fit_population(x, label, group, shrinkage=shrinkage, covariance="tied")
    law = pop.conditionals
    assert type(law) is MultivariateNormal
    assert law.cov.shape == (2, 2, 5, 5)
    for a in (0, 1):
        parts = [x[(label == i) & (group == a)] for i in (0, 1)]
        rows = np.concatenate([part - part.mean(0) for part in parts])
        np.testing.assert_array_equal(law.cov[0, a], law.cov[1, a])
        for i in (0, 1):
            close(law.mean[i, a], parts[i].mean(0))
        close(law.cov[0, a], shrunk(rows, shrinkage), factor=2e3)


def shrunk(rows, shrinkage):
    cov = rows.T @ rows / len(rows)
    if isinstance(shrinkage, str):
        peers = pytest.importorskip(
            "sklearn.covariance", reason="scikit-learn is not installed"
        )
        peer = {"oas": peers.OAS, "ledoit-wolf": peers.LedoitWolf}[shrinkage]
        return peer(assume_centered=True).fit(rows).covariance_
    shrinkage = shrinkage or 0.0
    target = np.trace(cov) / len(cov) * np.eye(len(cov))
    return (1 - shrinkage) * cov + shrinkage * target


def test_diagonal_is_the_diagonal_family():
    found = fit_population(X, LABEL, GROUP, covariance="diagonal")
    expected = fit_population(X, LABEL, GROUP, "diagonal_normal")
    assert type(found.conditionals) is DiagonalNormal
    again = fit_population(X, LABEL, GROUP, "diagonal_normal", covariance="diagonal")
    for leaf, same, once in zip(
        *(jax.tree.leaves(pop) for pop in (found, expected, again)), strict=True
    ):
        np.testing.assert_array_equal(leaf, same)
        np.testing.assert_array_equal(leaf, once)


@pytest.mark.parametrize(
    ("covariance", "kind", "base"),
    [
        ("tied", MultivariateLogNormal, MultivariateNormal),
        ("diagonal", TransformedNormal, DiagonalNormal),
        ("low_rank", TransformedNormal, LowRankNormal),
    ],
)
def test_log_normals_are_fitted_to_the_logarithms(covariance, kind, base):
    x = np.exp(X)
    found = fit_population(x, LABEL, GROUP, "lognormal", covariance=covariance)
    law = found.conditionals
    assert type(law) is kind
    assert type(law.base) is base
    expected = fit_population(np.log(x), LABEL, GROUP, covariance=covariance)
    close(KL(law.base, expected.conditionals), np.zeros((2, 2)), 1e3)
    x, *_ = found.sample(jax.random.key(0), 7)
    assert x.shape == (7, 5)
    assert (x > 0).all()
    assert np.isfinite(jax.jit(lambda law, x: law.log_prob(x))(law, x[0])).all()


@pytest.mark.parametrize("rows", [80, 28])  # 20 rows a cell, and 7, for 12 columns
@pytest.mark.parametrize("rank", [1, 3])
def test_low_rank_equals_scikit_learns_principal_components(rows, rank):
    decomposition = pytest.importorskip(
        "sklearn.decomposition", reason="scikit-learn is not installed"
    )
    x, label, group = some_rows(rows, d=12, seed=2)
    options = {"covariance": "low_rank", "rank": rank}
    even = fit_population(x, label, group, shrinkage=1.0, **options).conditionals
    own = fit_population(x, label, group, shrinkage=None, **options).conditionals
    assert type(even) is LowRankNormal
    for i, a in np.ndindex(2, 2):
        mine = x[(label == i) & (group == a)]
        peer = decomposition.PCA(rank, svd_solver="full").fit(mine)
        unbiased = len(mine) / (len(mine) - 1)
        # scikit-learn averages over min(n, d) directions, the model over d.
        over = (min(mine.shape) - rank) / (12 - rank)
        noise = peer.noise_variance_ / unbiased * over
        close(even.diagonal[i, a], np.full(12, noise), factor=2e3)
        lead = peer.components_.T
        spread = peer.explained_variance_ / unbiased - noise
        close(outer(even.factor[i, a]), lead @ np.diag(spread) @ lead.T, factor=2e3)
        close(outer(own.factor[i, a]), outer(even.factor[i, a]))
        close(jnp.diagonal(own.cov[i, a]), mine.var(0))


def test_columns_that_keep_their_variances_come_near_factor_analysis():
    decomposition = pytest.importorskip(
        "sklearn.decomposition", reason="scikit-learn is not installed"
    )
    rng = np.random.default_rng(4)
    noise = np.exp(rng.normal(size=12))
    x = rng.normal(size=(2000, 2)) @ rng.normal(size=(2, 12)) * 2
    x = np.asarray(jnp.asarray(x + rng.normal(size=x.shape) * np.sqrt(noise)), float)
    one = np.zeros(len(x), int)
    scores = {}
    for shrinkage in (1.0, None, "oas"):
        law = fit_population(
            x, one, one, shrinkage=shrinkage, covariance="low_rank", rank=2
        ).conditionals
        scores[shrinkage] = float(jnp.mean(law.log_prob(jnp.asarray(x)[:, None, None])))
    best = decomposition.FactorAnalysis(2, tol=1e-8).fit(x).score(x)
    even = decomposition.PCA(2).fit(x).score(x)
    assert scores[1.0] == pytest.approx(even, rel=1e-3)
    assert best >= scores[None] - 1e-4
    assert best - scores[None] < 0.3 * (best - even)
    # 2,000 rows say that the columns differ: hardly any shrinkage is left.
    assert scores["oas"] == pytest.approx(scores[None], abs=1e-2)


def test_every_shrinkage_of_the_diagonal_gives_another_answer():
    kinds = (None, "oas", 0.9, 1.0)
    options = {"covariance": "low_rank", "rank": 2}
    laws = [fit(X, shrinkage=k, **options).conditionals for k in kinds]
    for one, law in enumerate(laws):
        close(jnp.mean(law.diagonal, -1), jnp.mean(laws[0].diagonal, -1))
        close(outer(law.factor), outer(laws[0].factor))
        for other in laws[:one]:
            assert np.abs(law.diagonal - other.diagonal).max() > 1e-3, kinds[one]
    assert (np.ptp(laws[3].diagonal, -1) < 50 * EPS * laws[3].diagonal.max()).all()
    same = fit(X, shrinkage="ledoit-wolf", **options).conditionals
    np.testing.assert_array_equal(same.diagonal, laws[1].diagonal)


def test_default_rank_follows_columns_and_rows():
    def rank(x, label, group):
        law = fit_population(x, label, group, covariance="low_rank").conditionals
        return law.factor.shape[-1]

    assert rank(*some_rows(80, d=3)) == 2  # d - 1
    assert rank(*some_rows(80, d=30)) == 5  # 20 rows a cell
    assert rank(*some_rows(16, d=30)) == 1
    assert rank(*some_rows(400, d=30)) == 10
    x, label, group = some_rows(80, d=30)
    weights = np.where(np.arange(80) < 40, 1.0, 1e-3)  # 10 rows count
    found = fit_population(x, label, group, weights=weights, covariance="low_rank")
    assert found.conditionals.factor.shape[-1] == 2


def truth_and_rows(d, rows, seed):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(d, 3)) * [2, 1.5, 1]
    noise = np.exp(0.5 * rng.normal(size=d))
    values = (np.zeros(d), factor, noise)
    truth = LowRankNormal(*(jnp.asarray(v, float) for v in values))
    label, group = np.arange(rows) % 2, np.arange(rows) // 2 % 2
    x = rng.normal(size=(rows, 3)) @ factor.T
    return truth, x + np.sqrt(noise) * rng.normal(size=x.shape), label, group


@pytest.mark.parametrize("seed", range(3))
def test_small_cells_come_nearer_to_the_truth(seed):
    truth, *rows = truth_and_rows(30, 160, seed)  # 40 rows a cell, 30 columns
    truth = truth.to_dense()

    def error(**options):
        law = fit_population(*rows, **options).conditionals
        return np.asarray(KL(truth, law))

    plain = error(shrinkage=None)
    for options in ({}, {"rank": 3}, {"shrinkage": None}, {"shrinkage": 1.0}):
        assert (error(covariance="low_rank", **options) < 0.3 * plain).all()
    assert (error(covariance="tied", shrinkage=None) < 0.5 * plain).all()


@pytest.mark.parametrize("seed", range(3))
def test_fewer_rows_than_columns_beat_shrinkage_to_the_identity(seed):
    truth, *rows = truth_and_rows(60, 160, seed)
    with pytest.raises(ValueError, match="fewer effective rows"):
        fit_population(*rows, shrinkage=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit_population(*rows, covariance="low_rank", rank=3).conditionals
    with pytest.warns(UserWarning, match="covariance='tied', 'low_rank' or 'diagonal'"):
        full = fit_population(*rows).conditionals
    assert (KL(truth, found) < 0.8 * KL(truth, full)).all()


def test_traced_codes_give_the_same_answer():
    for rows in (80, 32):
        x, label, group = some_rows(rows, d=12, seed=3)

        @jax.jit
        def traced(x, label, group):
            return fit(x, label, group, covariance="low_rank", rank=2)

        found, expected = (
            traced(x, label, group),
            fit(x, label, group, covariance="low_rank", rank=2),
        )
        close(found.priors, expected.priors)
        law, same = found.conditionals, expected.conditionals
        close(law.diagonal, same.diagonal, factor=1e3)
        close(outer(law.factor), outer(same.factor), factor=1e3)


@pytest.mark.parametrize("covariance", ["tied", "diagonal", "low_rank"])
def test_weights_count_as_repeated_rows(covariance):
    times = np.random.default_rng(1).integers(0, 4, len(X))
    options = {"covariance": covariance, "shrinkage": 0.3}
    options |= {"rank": 2} if covariance == "low_rank" else {}
    weighted = fit(X, weights=times, **options)
    repeated = fit(*(np.repeat(v, times, axis=0) for v in (X, LABEL, GROUP)), **options)
    close(weighted.priors, repeated.priors)
    close(weighted.conditionals.mean, repeated.conditionals.mean)
    close(weighted.conditionals.cov, repeated.conditionals.cov, factor=1e3)


def test_cells_of_all_sizes_are_fitted_each_by_its_own_rows():
    rng = np.random.default_rng(7)
    counts = np.array([[5, 90], [17, 20], [300, 33]])
    cell = rng.permutation(np.repeat(np.arange(6), counts.reshape(-1)))
    label, group = cell // 2, cell % 2
    x = rng.normal(size=(len(cell), 25)) @ rng.normal(size=(25, 25)) + label[:, None]
    x = np.asarray(jnp.asarray(x), float)
    law = fit_population(
        x, label, group, shrinkage=None, covariance="low_rank", rank=2
    ).conditionals
    for i, a in ((0, 0), (1, 1), (2, 0)):
        mine = (label == i) & (group == a)
        one = np.zeros(mine.sum(), int)
        alone = fit_population(
            x[mine], one, one, shrinkage=None, covariance="low_rank", rank=2
        ).conditionals
        close(law.mean[i, a], alone.mean[0, 0])
        close(law.cov[i, a], alone.cov[0, 0], factor=1e3)


@pytest.mark.parametrize("covariance", ["tied", "low_rank"])
def test_vmap_over_samples_equals_a_loop(covariance):
    xs = jnp.stack([jnp.asarray(X), 2 * jnp.asarray(X)[:, ::-1]])
    law = jax.jit(jax.vmap(lambda x: fit(x, covariance=covariance)))(xs).conditionals
    for k in range(2):
        close(law.cov[k], fit(xs[k], covariance=covariance).conditionals.cov, 1e3)


@pytest.mark.parametrize("shrinkage", [None, "oas", 0.4])
@pytest.mark.parametrize("covariance", ["tied", "diagonal", "low_rank"])
@pytest.mark.parametrize("columns", [5, 24])
def test_slopes_equal_finite_differences(x64, covariance, shrinkage, columns):
    x, label, group = some_rows(80, d=columns)
    pick = np.random.default_rng(5).normal(size=(2, 2, columns, columns))
    pick = pick + np.swapaxes(pick, -1, -2)

    @jax.jit
    def value(x, w):
        pop = fit(
            x, label, group, shrinkage=shrinkage, weights=w, covariance=covariance
        )
        rest = jnp.sum(pop.conditionals.mean) + jnp.sum(pick[0, 0, 0, 0] * pop.priors)
        return jnp.sum(pick * pop.conditionals.cov) + rest

    weights = np.linspace(0.5, 1.5, len(x))
    slopes = jax.jit(jax.grad(value, (0, 1)))(x, weights)
    rng = np.random.default_rng(6)
    for _ in range(3):
        dx, dw = rng.normal(size=x.shape), rng.normal(size=weights.shape)
        up, down = (value(x + s * dx, weights + s * dw) for s in (1e-6, -1e-6))
        found = np.sum(slopes[0] * dx) + np.sum(slopes[1] * dw)
        np.testing.assert_allclose(found, (up - down) / 2e-6, rtol=1e-5, atol=1e-5)


def test_large_offsets_keep_the_covariances():
    x = jnp.asarray(1e3 + X, jnp.float32)
    exact = np.asarray(x, np.float64)
    tied = fit(x, shrinkage=None, covariance="tied").conditionals
    low = fit(x, shrinkage=None, covariance="low_rank", rank=2).conditionals
    for i, a in np.ndindex(2, 2):
        rows = within(a, exact)
        atol = 2e-5 * np.abs(rows).max() ** 2
        np.testing.assert_allclose(tied.cov[i, a], rows.T @ rows / 40, atol=atol)
        variances = cell_of(i, a, exact).var(0)
        np.testing.assert_allclose(jnp.diagonal(low.cov[i, a]), variances, atol=atol)
