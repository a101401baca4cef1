from __future__ import annotations

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, stats

import jaxsteer as js

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
SUBSPACES = ["discriminant", "all"]
BATCH = 12


def population(k, d, *, groups=2, batch=(), kind="free", seed=0, tied=True):
    """Tied normal cells (unless told otherwise) with unequal class separations."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(*batch, 1 if tied else k, groups, d, d))
    cov = root @ root.swapaxes(-1, -2) / d + 0.5 * np.eye(d)
    mean = rng.normal(size=(*batch, k, groups, d))
    if kind == "collinear":
        mean = rng.normal(size=(*batch, 1, groups, d)) * np.arange(k)[:, None, None]
    elif kind == "blind":  # group 0 cannot tell the classes apart
        mean[..., 0, :] = 0.3
    elif kind == "none":
        mean = np.broadcast_to(mean[..., :1, :, :], mean.shape)
    cov = np.broadcast_to(cov, (*mean.shape, d))
    priors = rng.dirichlet(np.full(groups * k, 5.0), batch)
    priors = priors.reshape(*batch, k, groups)
    cells = js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    return js.Population(jnp.asarray(priors), cells)


@lru_cache
def solved(k, d, subspace="discriminant", reference=1, kind="free"):
    pops = population(k, d, batch=(BATCH,), kind=kind)
    return compiled(subspace, reference)(pops)


@lru_cache
def compiled(subspace, reference):
    solve = partial(js.gaussian_channel, subspace=subspace, reference=reference)
    return jax.jit(jax.vmap(solve))


def row(tree, index=0):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def delivered(s):
    """Means ``[K, G, m]`` and covariances of the steered cells, in NumPy."""
    fields = (s.group_maps.weight, s.group_maps.bias, s.noise)
    cells = s.source.conditionals
    w, b, noise, mean, cov = (
        np.asarray(v, float) for v in (*fields, cells.mean, cells.cov)
    )
    means = np.einsum("aij,kaj->kai", w, mean) + b
    covs = np.einsum("aij,kajl,aml->kaim", w, cov, w)
    return means, covs + noise @ noise.swapaxes(-1, -2)


def grams(s):
    """Gram matrices of whitened class contrasts: the groups' and the target's."""
    share = np.asarray(s.source.priors, float).sum(1)
    basis = linalg.null_space(share[None])
    found = []
    own = [(s.source, a) for a in range(s.source.n_groups)]
    for pop, a in (*own, (s.target, 0)):
        mean = np.asarray(pop.conditionals.mean, float)[:, a]
        cov = np.asarray(pop.conditionals.cov, float)[0, a]
        center = share @ mean / share.sum()
        reduced = np.linalg.solve(np.linalg.cholesky(cov), (mean - center).T) @ basis
        found.append(reduced.T @ reduced)
    return found


@pytest.mark.parametrize(("k", "d"), [(2, 2), (3, 4), (4, 6)])
@pytest.mark.parametrize("subspace", SUBSPACES)
def test_groups_coincide_in_the_tied_model(k, d, subspace):
    for reference in (0, 1) if (subspace, k) == ("all", 3) else (1,):
        channels = solved(k, d, subspace, reference)
        assert channels.residual.max() < 100 * EPS
        assert channels.converged.all()
        for index in range(BATCH):
            one = row(channels, index)
            for steered, aim in zip(
                delivered(one),
                (one.target.conditionals.mean, one.target.conditionals.cov),
                strict=True,
            ):
                np.testing.assert_allclose(steered[:, 0], steered[:, 1], atol=2e3 * EPS)
                np.testing.assert_allclose(steered, aim, atol=2e3 * EPS)


@pytest.mark.parametrize(
    ("k", "d", "kind"),
    [(4, 2, "free"), (3, 4, "collinear"), (3, 4, "blind"), (3, 4, "none")],
)
@pytest.mark.parametrize("subspace", SUBSPACES)
def test_degenerate_class_means_leave_no_residual(k, d, kind, subspace):
    if subspace == "all" and d < k - 1:
        with pytest.raises(ValueError, match="needs at least 3 features for 4 classes"):
            solved(k, d, subspace, kind=kind)
        return
    channels = solved(k, d, subspace, kind=kind)
    assert channels.residual.max() < 100 * EPS
    assert channels.converged.all()


@pytest.mark.parametrize("subspace", SUBSPACES)
@pytest.mark.parametrize("index", range(3))
def test_target_is_the_meet_of_the_grams(subspace, index):
    s = row(solved(3, 4, subspace), index)
    first, second, meet = grams(s)
    values, vectors = linalg.eigh(first, second)
    back = np.linalg.inv(vectors)
    expected = back.T @ np.diag(np.minimum(values, 1)) @ back
    atol = 500 * EPS * np.trace(first + second)
    np.testing.assert_allclose(meet, expected, atol=atol)
    assert min(np.linalg.eigvalsh(g - meet).min() for g in (first, second)) > -atol


def test_kl_does_not_depend_on_the_subspace():
    found = [solved(3, 4, *how).kl for how in (SUBSPACES[:1], ("all", 0), ("all", 1))]
    np.testing.assert_allclose(found[1], found[0], rtol=1000 * EPS)
    np.testing.assert_allclose(found[2], found[0], rtol=1000 * EPS)
    parts = solved(3, 4)
    np.testing.assert_allclose(parts.kl, parts.prior_kl + parts.feature_kl)
    assert (parts.kl > 0).all()


@pytest.mark.parametrize("subspace", SUBSPACES)
def test_only_the_better_separated_group_gets_noise(subspace):
    pops = population(3, 4, batch=(BATCH,))
    cells = pops.conditionals
    lower = np.linalg.cholesky(cells.cov)
    # Group 0's whitened class means are half of group 1's.
    white = np.linalg.solve(lower[..., 1, :, :], cells.mean[..., 1, :, None])
    mean = np.stack(
        [(lower[..., 0, :, :] @ white)[..., 0] / 2, cells.mean[..., 1, :]], -2
    )
    cells = js.MultivariateNormal(jnp.asarray(mean), cells.cov)
    found = compiled(subspace, 1)(js.Population(pops.priors, cells))
    np.testing.assert_array_equal(found.noise[:, 0], 0)
    spread = found.noise @ found.noise.mT
    if subspace == "discriminant":
        aim = np.broadcast_to(0.75 * np.eye(2), (BATCH, 2, 2))
        np.testing.assert_allclose(spread[:, 1], aim, atol=2e3 * EPS)
    assert (np.trace(spread[:, 1], axis1=-2, axis2=-1) > 0.1).all()


def test_equal_groups_are_left_alone():
    pops = population(3, 4, batch=(BATCH,))
    cells = jax.tree.map(
        lambda leaf: jnp.stack([leaf[:, :, 1]] * 2, 2), pops.conditionals
    )
    found = compiled("all", 1)(js.Population(pops.priors, cells))
    np.testing.assert_allclose(
        found.group_maps.weight, np.broadcast_to(np.eye(4), (BATCH, 2, 4, 4)),
        atol=2e3 * EPS,
    )  # fmt: skip
    np.testing.assert_allclose(found.group_maps.bias, 0, atol=2e3 * EPS)
    # A factor is the root of a variance, so rounding shows as its root.
    np.testing.assert_allclose(found.noise, 0, atol=(1e3 * EPS) ** 0.5)


@pytest.mark.parametrize("subspace", SUBSPACES)
def test_bayes_rule_has_equal_rates_at_every_cost(subspace):
    raw_gaps = []
    for index in range(BATCH):
        s = row(solved(2, 2, subspace), index)
        mean, cov = delivered(s)
        aim = s.target.conditionals
        target, spread = (np.asarray(v, float) for v in (aim.mean[:, 0], aim.cov[0, 0]))
        normal = np.linalg.solve(spread, target[1] - target[0])
        sd = np.sqrt(np.einsum("i,kaij,j->ka", normal, cov, normal))
        first, second, _ = grams(s)
        for cost in (0.1, 0.3, 1.0, 3.0, 10.0):
            cut = normal @ target.mean(0) + np.log(cost)
            rates = stats.norm.sf((cut - mean @ normal) / sd)
            np.testing.assert_allclose(rates[:, 0], rates[:, 1], atol=1e3 * EPS)
            # Before: each group's own rule, whose separation is the root of its Gram.
            scale = 1 / np.sum(1 / np.asarray(s.source.priors, float).sum(1))
            root = np.sqrt([first[0, 0] / scale, second[0, 0] / scale])
            raw = stats.norm.sf(np.log(cost) / root - root / 2)
            raw_gaps.append(abs(raw[0] - raw[1]))
    assert np.median(raw_gaps) > 0.05


def test_untied_populations_report_their_distance_from_the_model():
    tied, untied = (population(3, 4, batch=(BATCH,), tied=t) for t in (True, False))
    found = compiled("discriminant", 1)(untied)
    assert (found.residual > 1e-2).all()
    assert compiled("discriminant", 1)(tied).residual.max() < 100 * EPS
