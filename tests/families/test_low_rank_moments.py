"""``LowRankNormal.from_moments`` and ``from_root``: what is kept, and derivatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import DTYPE, EPS, as_numbers
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsteer.families import LowRankNormal, kl_low_rank_normal

KL = jax.jit(kl_low_rank_normal)
TOLERANCE = max(1e-11, 300 * EPS)


def some_root(m, d, seed=0):
    rng = np.random.default_rng(seed)
    return as_numbers(rng.normal(size=(m, d)) * np.linspace(2, 0.3, d) / np.sqrt(m))


@pytest.mark.parametrize("m", [4, 9])  # fewer rows than columns, and more
def test_factor_is_probabilistic_principal_components(m):
    root, d, rank = some_root(m, 6), 6, 2
    cov = root.T @ root
    values, vectors = np.linalg.eigh(cov)
    noise = values[: d - rank].mean()
    lead = vectors[:, d - rank :]
    across = lead @ np.diag(values[d - rank :] - noise) @ lead.T
    mean = jnp.arange(6, dtype=DTYPE)
    for found in (
        LowRankNormal.from_moments(mean, jnp.asarray(cov, DTYPE), rank=rank),
        LowRankNormal.from_root(mean, jnp.asarray(root, DTYPE), rank=rank),
    ):
        np.testing.assert_array_equal(found.mean, mean)
        f = as_numbers(found.factor)
        np.testing.assert_allclose(f @ f.T, across, atol=TOLERANCE)
        np.testing.assert_allclose(jnp.mean(found.diagonal), noise, rtol=TOLERANCE)
        np.testing.assert_allclose(
            np.diag(as_numbers(found.cov)), np.diag(cov), rtol=TOLERANCE
        )


@settings(max_examples=10)
@given(seed=st.integers(0, 2**20))
def test_laws_of_even_noise_are_found_again(seed):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(7, 2)) + 2 * np.eye(7, 2)
    p = LowRankNormal(*map(jnp.asarray, (np.zeros(7), factor, np.full(7, 0.5))))
    found = LowRankNormal.from_moments(p.mean, p.cov, rank=2)
    np.testing.assert_allclose(KL(found, p), 0, atol=100 * EPS)
    np.testing.assert_allclose(found.cov, p.cov, atol=1e3 * EPS)


def test_batches_are_the_members_one_by_one():
    roots = jnp.asarray([[some_root(5, 6, 3 * i + a) for a in (0, 1)] for i in (0, 1)])
    means = jnp.ones((2, 2, 6))
    fit = jax.jit(lambda m, r: LowRankNormal.from_root(m, r, rank=2))
    found = fit(means, roots)
    assert found.factor.shape == (2, 2, 6, 2)
    alone = LowRankNormal.from_root(means[1, 0], roots[1, 0], rank=2)
    np.testing.assert_allclose(found.factor[1, 0], alone.factor, atol=TOLERANCE)
    covs = jnp.swapaxes(roots, -1, -2) @ roots
    other = LowRankNormal.from_moments(means, covs, rank=2)
    np.testing.assert_allclose(other.factor, found.factor, atol=10 * TOLERANCE)


def test_a_sample_that_the_factor_explains_keeps_a_positive_diagonal():
    root = jnp.asarray(some_root(2, 6))
    found = LowRankNormal.from_root(jnp.zeros(6), root, rank=2)
    level = float(jnp.mean(jnp.sum(root * root, 0)))
    assert (found.diagonal >= 0.99e-6 * level).all()
    assert np.isfinite(found.kl(found))


@pytest.mark.parametrize("rank", [0, 6, -1])
def test_ranks_out_of_range_are_refused(rank):
    with pytest.raises(ValueError, match=rf"rank={rank} is out .* 6 features; .* to 5"):
        LowRankNormal.from_moments(jnp.zeros(6), jnp.eye(6), rank=rank)
    with pytest.raises(ValueError, match=rf"rank={rank} is out .* 6 features; .* to 3"):
        LowRankNormal.from_root(jnp.zeros(6), jnp.ones((3, 6)), rank=rank)


def sum_of_entries(pick, make, **options):
    return lambda a: jnp.sum(pick * make(jnp.zeros(6), a, **options).cov)


@pytest.mark.parametrize("case", ["equal", "spread", "few rows", "many rows"])
def test_slopes_equal_finite_differences(x64, case):
    rng = np.random.default_rng(5)
    pick = rng.normal(size=(6, 6))
    pick = pick + pick.T
    if case in ("equal", "spread"):
        # Two equal leading variances: eigenvectors themselves have no derivative there.
        values = [3.0, 3.0 if case == "equal" else 2.0, 1.0, 0.5, 0.5, 0.2]
        turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        at, make = turn @ np.diag(values) @ turn.T, LowRankNormal.from_moments
    else:
        at = rng.normal(size=(4 if case == "few rows" else 9, 6))
        make = LowRankNormal.from_root
    value = jax.jit(sum_of_entries(pick, make, rank=2))
    slope = jax.jit(jax.grad(value))(at)
    for _ in range(4):
        step = rng.normal(size=at.shape)
        step = step + step.T if make == LowRankNormal.from_moments else step
        expected = (value(at + 1e-5 * step) - value(at - 1e-5 * step)) / 2e-5
        np.testing.assert_allclose(np.sum(slope * step), expected, rtol=2e-7, atol=1e-8)
        _, forward = jax.jvp(value, (at,), (step,))
        np.testing.assert_allclose(forward, np.sum(slope * step), rtol=1e-11)


def test_slope_is_finite_at_the_identity_and_with_padded_rows():
    # No gap at all, and rows of zeros as padding makes them.
    value = sum_of_entries(jnp.ones((6, 6)), LowRankNormal.from_moments, rank=2)
    assert np.isfinite(jax.jit(jax.grad(value))(jnp.eye(6))).all()
    value = sum_of_entries(jnp.ones((6, 6)), LowRankNormal.from_root, rank=2)
    root = jnp.zeros((5, 6)).at[:3].set(jnp.asarray(some_root(3, 6)))
    assert np.isfinite(jax.jit(jax.grad(value))(root)).all()
