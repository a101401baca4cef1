"""The Gaussian channel on rows, under transformations of JAX, and its messages."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from tests.channels.test_gaussian_channel import (
    BATCH,
    EPS,
    SUBSPACES,
    compiled,
    population,
    row,
    solved,
)

KEY = jax.random.key


@pytest.fixture(scope="module")
def rows():
    s = row(solved(3, 4, "all", 1))
    return s.source.sample(KEY(0), 40_000)


@pytest.mark.parametrize("subspace", SUBSPACES)
def test_steered_rows_have_one_law_given_the_class(subspace, rows):
    x, label, group = (np.asarray(v) for v in rows)
    s = row(solved(3, 4, subspace))
    steered = np.asarray(s.transport(x, group, key=KEY(1)), float)
    assert steered.shape == (40_000, 2 if subspace == "discriminant" else 4)
    for y in range(3):
        cells = [steered[(label == y) & (group == a)] for a in (0, 1)]
        covs = [np.cov(cell.T) for cell in cells]
        share = sum(1 / len(cell) for cell in cells)
        error = np.sqrt(np.diagonal(covs[0]) * share)
        assert (abs(cells[0].mean(0) - cells[1].mean(0)) < 5 * error).all()
        variance = np.outer(np.diagonal(covs[0]), np.diagonal(covs[0])) + covs[0] ** 2
        assert (abs(covs[0] - covs[1]) < 5 * np.sqrt(variance * share)).all()


def test_no_probe_reads_the_group_from_the_discriminants(rows):
    linear = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    from sklearn.metrics import roc_auc_score

    x, label, group = (np.asarray(v) for v in rows)
    steered = np.asarray(row(solved(3, 4)).transport(x, group, key=KEY(1)))
    for y in range(3):
        mine = np.flatnonzero(label == y)
        fit, held = mine[::2], mine[1::2]
        score = {}
        for name, features in (("raw", x), ("steered", steered)):
            probe = linear.LogisticRegression().fit(features[fit], group[fit])
            score[name] = roc_auc_score(
                group[held], probe.decision_function(features[held])
            )
        n, ones = len(held), group[held].sum()
        noise = np.sqrt((n + 1) / (12 * ones * (n - ones)))
        assert abs(score["steered"] - 0.5) < 4 * noise
        assert score["raw"] > 0.6


def test_the_key_alone_decides_and_deterministic_leaves_the_noise_out(rows):
    x, _, group = (v[:500] for v in rows)
    s = row(solved(3, 4, "all"))
    first = s.transport(x, group, key=KEY(1))
    np.testing.assert_array_equal(s.transport(x, group, key=KEY(1)), first)
    assert (s.transport(x, group, key=KEY(2)) != first).any()
    quiet = s.transport(x, group, deterministic=True)
    weight, bias = s.group_maps.weight[group], s.group_maps.bias[group]
    expected = np.einsum("nij,nj->ni", weight, x) + bias
    np.testing.assert_allclose(quiet, expected, atol=200 * EPS)
    assert np.abs(first - quiet).max() > 0.1


def test_strength_interpolates_the_map_and_the_noise(rows):
    x, _, group = (v[:500] for v in rows)
    s = row(solved(3, 4, "all"))
    full, quiet = (s.transport(x, group, key=KEY(1), deterministic=q) for q in (0, 1))
    half = s.transport(x, group, key=KEY(1), strength=0.5)
    np.testing.assert_allclose(half, (x + full) / 2, atol=200 * EPS)
    none = s.transport(x, group, key=KEY(1), strength=0)
    np.testing.assert_allclose(none, x, atol=10 * EPS)
    traced = jax.jit(
        lambda t: s.transport(x, group, strength=t, deterministic=True)
    )(0.5)  # fmt: skip
    np.testing.assert_allclose(traced, (x + quiet) / 2, atol=200 * EPS)


def test_vmap_gives_each_problem_its_own_answer():
    batch = solved(3, 4, "all")
    solve = jax.jit(js.gaussian_channel, static_argnames="subspace")
    alone = solve(row(batch.source, 7), subspace="all", reference=1)
    for one, many in zip(
        jax.tree.leaves(alone), jax.tree.leaves(row(batch, 7)), strict=True
    ):
        np.testing.assert_allclose(one, many, atol=2e3 * EPS, rtol=2e3 * EPS)


@pytest.mark.slow
@pytest.mark.parametrize("subspace", SUBSPACES)
def test_gradients_equal_finite_differences(subspace):
    pop = population(3, 3, seed=4)
    step = 2e-2 if EPS > 1e-10 else 1e-4
    rng = np.random.default_rng(0)
    tangent = jnp.asarray(rng.normal(size=pop.conditionals.mean.shape))

    def summary(mean):
        cells = js.MultivariateNormal(mean, pop.conditionals.cov)
        s = js.gaussian_channel(
            js.Population(pop.priors, cells), subspace=subspace, reference=1
        )
        moved = jax.vmap(lambda m, x: m(x))(s.group_maps, mean[0])
        # The factor of the group that binds is 0, where a plain root has no slope.
        return s.kl + jnp.sum(s.noise) + jnp.sum(jnp.cos(moved))

    gradient = jax.jit(jax.grad(summary))(pop.conditionals.mean)
    value = jax.jit(jax.vmap(summary))
    mean = pop.conditionals.mean
    ends = value(jnp.stack([mean + step * tangent, mean - step * tangent]))
    expected = (ends[0] - ends[1]) / (2 * step)
    rtol = 2e-2 if EPS > 1e-10 else 1e-5
    np.testing.assert_allclose(jnp.vdot(gradient, tangent), expected, rtol=rtol)


def test_diagonal_cells_count_as_full_ones():
    rng = np.random.default_rng(0)
    loc = jnp.asarray(rng.normal(size=(BATCH, 2, 2, 2)))
    scale = jnp.asarray(rng.uniform(0.5, 2, (BATCH, 1, 2, 2))) * jnp.ones((2, 1, 1))
    cells = js.DiagonalNormal(loc, scale)
    solve, priors = compiled("discriminant", 1), jnp.full((BATCH, 2, 2), 0.25)
    found = solve(js.Population(priors, cells))
    dense = solve(js.Population(priors, cells.to_dense()))
    assert found.residual.max() < 100 * EPS
    np.testing.assert_allclose(found.group_maps.weight, dense.group_maps.weight)
    np.testing.assert_allclose(found.noise, dense.noise)


def cells_of(k, g, d):
    return js.MultivariateNormal(jnp.zeros((k, g, d)), jnp.zeros((k, g, d, d)))


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        (lambda k, g, d: cells_of(k, 1, d), {},
         "at least two classes and two groups, got 2 and 1; with one of either"),
        (lambda k, g, d: cells_of(1, g, d), {},
         "at least two classes and two groups, got 1 and 3; with one of either"),
        (cells_of, {"covariances": "own"},
         "covariances='own' is not known; choose one of 'pooled', 'class'"),
        (cells_of, {"covariances": "class", "subspace": "all"},
         "covariances='class' is exact for two classes.*got 2 .*subspace='all'"),
        (lambda k, g, d: cells_of(3, g, d), {"covariances": "class"},
         "covariances='class' is exact for two classes.*got 3 classes"),
        (lambda k, g, d: js.Normal(jnp.zeros((k, g)), jnp.ones((k, g))), {},
         "needs normal cells over features .n, d., got Normal; fit x of shape"),
        (cells_of, {"subspace": "some"},
         "subspace='some' is not known; choose one of 'discriminant', 'all'"),
    ],
)  # fmt: skip
def test_populations_that_do_not_fit_are_refused(cells, options, message):
    cells = cells(2, 3, 2)
    shape = jax.tree.leaves(cells)[0].shape[:2]
    with pytest.raises(ValueError, match=message):
        js.gaussian_channel(js.Population(jnp.full(shape, 1 / 6), cells), **options)


@pytest.mark.parametrize("reference", [2, -1])
def test_an_unknown_reference_is_refused(reference):
    pop = js.Population(jnp.full((2, 2), 0.25), cells_of(2, 2, 2))
    with pytest.raises(ValueError, match=f"reference={reference} is not one of the"):
        js.gaussian_channel(pop, reference=reference)


def test_what_a_channel_cannot_do_is_said(rows):
    x, label, group = (v[:10] for v in rows)
    s = row(solved(3, 4))
    with pytest.raises(ValueError, match=r"key is missing: a channel is exactly fair"):
        s.transport(x, group)
    with pytest.raises(ValueError, match="use subspace='all' or strength=1"):
        s.transport(x, group, key=KEY(0), strength=0.5)
    with pytest.raises(ValueError, match="a channel has no cell maps"):
        s.transport(x, group, label, key=KEY(0))
    with pytest.raises(ValueError, match="a channel has no cell maps"):
        _ = s.cell_maps
    with pytest.raises(ValueError, match="group has codes from"):
        s.transport(x, group + 2, key=KEY(0))
    with pytest.raises(ValueError, match=r"x must have shape \[n, 4\]"):
        s.transport(x[:, :3], group, key=KEY(0))
