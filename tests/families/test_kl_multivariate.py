from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import EPS, FAMILIES, SCALAR, build, member, parameters, reference_kl
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsteer.families import (
    DiagonalNormal,
    MultivariateNormal,
    Normal,
    kl_diagonal_normal,
    kl_divergence,
    kl_multivariate_normal,
)
from jaxsteer.maps import AffineMap

seeds = st.integers(0, 2**20)
KL = jax.jit(kl_divergence)
# float64 to 1e-9; in float32 the conditions of these covariances (up to about 100)
# multiply the rounding.
RTOL = max(1e-9, 300 * EPS)


@functools.cache
def torch_laws():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    return torch, torch.distributions


def torch_law(name, *values):
    torch, laws = torch_laws()
    values = [torch.as_tensor(v) for v in values]
    if name == "LowRankNormal":
        return laws.LowRankMultivariateNormal(*values)
    loc, second = values
    if name in SCALAR:
        law = laws.Normal(loc, second)
        return laws.LogNormal(loc, second) if name == "LogNormal" else law
    if name == "DiagonalNormal":
        return laws.Independent(laws.Normal(loc, second), 1)
    base = laws.MultivariateNormal(loc, second)
    if name == "MultivariateNormal":
        return base
    return laws.TransformedDistribution(base, [laws.ExpTransform()])


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_equals_torch(name, seed):
    _, laws = torch_laws()
    p, q = parameters(name, seed, (4,)), parameters(name, seed + 1, (4,))
    expected = laws.kl_divergence(torch_law(name, *p), torch_law(name, *q)).numpy()
    found = KL(build(name, *p), build(name, *q))
    np.testing.assert_allclose(found, expected, rtol=RTOL)


@pytest.mark.parametrize(
    ("name", "batches"),
    [
        ("Normal", ((3, 1), (4,))),
        ("DiagonalNormal", ((4,), (2, 1))),
        ("MultivariateNormal", ((3, 1), (4,))),
        ("MultivariateNormal", ((2, 3), ())),
    ],
)
def test_broadcasts_like_numpyro(name, batches):
    pytest.importorskip("numpyro", reason="NumPyro is not installed")
    import numpyro.distributions as laws

    def law(loc, second):
        if name == "MultivariateNormal":
            return laws.MultivariateNormal(loc, second)
        flat = laws.Normal(loc, second)
        return flat if name == "Normal" else flat.to_event(1)

    p, q = (member(name, k, batch) for k, batch in enumerate(batches))
    pair = (jax.tree.leaves(v) for v in (p, q))
    expected = laws.kl_divergence(*(law(*leaves) for leaves in pair))
    found = KL(p, q)
    assert found.shape == np.broadcast_shapes(*batches)
    np.testing.assert_allclose(found, expected, rtol=5 * RTOL)


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_affine_changes_of_variables_keep_the_divergence(seed):
    p, q = member("MultivariateNormal", seed), member("MultivariateNormal", seed + 1)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 2, 3)
    move = AffineMap(jnp.asarray(turn), jnp.asarray(rng.normal(size=3)))
    found = KL(p.pushforward(move), q.pushforward(move))
    np.testing.assert_allclose(found, KL(p, q), rtol=20 * RTOL)


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_independent_features_add_up(seed):
    p, q = member("DiagonalNormal", seed), member("DiagonalNormal", seed + 1)
    parts = [KL(Normal(*a), Normal(*b)) for a, b in zip(rows(p), rows(q), strict=True)]
    for pair in ((p, q), (p.to_dense(), q), (p, q.to_dense())):
        np.testing.assert_allclose(KL(*pair), sum(parts), rtol=RTOL)


def rows(p):
    return list(zip(p.loc, p.scale, strict=True))


@pytest.mark.parametrize("excess", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("seed", range(3))
def test_nearly_equal_covariances_keep_most_digits(seed, excess):
    _, second = parameters("MultivariateNormal", seed)
    bump = np.random.default_rng(seed).normal(size=(3, 3))
    near = np.asarray(jnp.asarray(second + excess * (bump + bump.T)), float)
    # Eigenvalues of Q^-1 (P - Q): no cancellation in float64.
    x = np.linalg.eigvals(np.linalg.solve(second, near - second)).real
    expected = 0.5 * np.sum(x - np.log1p(x))
    zero = np.zeros(3)
    pair = (build("MultivariateNormal", zero, c) for c in (near, second))
    # The textbook formula would lose all of them: its error is EPS / excess^2.
    np.testing.assert_allclose(KL(*pair), expected, rtol=30 * EPS / excess)


@pytest.mark.parametrize("divergence", [kl_multivariate_normal, kl_diagonal_normal])
def test_other_dimensions_are_refused(divergence):
    name = "DiagonalNormal" if divergence is kl_diagonal_normal else FAMILIES[2]
    for d in (1, 2):  # one feature must not broadcast
        with pytest.raises(ValueError, match=rf"p has {d} features, q has 3; .*space"):
            divergence(member(name, 0, d=d), member(name, 1))


@pytest.mark.parametrize("cov", [np.zeros((2, 2)), np.ones((2, 2)), -np.eye(2)])
def test_singular_covariance_gives_nan_in_its_own_row(cov):
    good = np.eye(2)
    bad = MultivariateNormal(jnp.zeros((2, 2)), jnp.asarray(np.stack([cov, good])))
    for found in (KL(bad, member(FAMILIES[2], 0, d=2)), bad.log_prob(jnp.zeros(2))):
        assert np.isnan(found[0])
        assert np.isfinite(found[1])


def test_reference_formula_agrees_in_float64():
    p, q = (parameters("DiagonalNormal", k) for k in (0, 1))
    found = KL(DiagonalNormal(*map(jnp.asarray, p)), build("DiagonalNormal", *q))
    np.testing.assert_allclose(found, reference_kl("DiagonalNormal", p, q), rtol=RTOL)
