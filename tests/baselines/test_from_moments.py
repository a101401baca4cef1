"""Fits from moments, and fits of concrete rows against the traced forms."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer import moments
from jaxsteer.baselines import (
    fit_leace,
    fit_mimic,
    leace_from_moments,
    mimic_from_moments,
)
from jaxsteer.baselines._leace_moments import keeps_all_directions
from jaxsteer.maps import LowRankMap

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)
N, D, K = 600, 6, 3


def data(seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    z = np.concatenate([np.arange(K), rng.integers(0, K, N - K)])
    # Well conditioned: maps along directions of no variance are anybody's guess.
    mixing = np.linalg.qr(rng.normal(size=(D, D)))[0] * np.linspace(0.5, 2, D)
    x = rng.normal(size=(N, D)) @ mixing + rng.normal(size=(K, D))[z] + offset
    return np.asarray(x, DTYPE), z


def close(found, expected, factor=1000):
    scale = 1 + np.abs(np.asarray(expected)).max()
    np.testing.assert_allclose(found, expected, atol=factor * EPS * scale)


def streamed(x, z, **options):
    parts = ((x[i : i + 200], z[i : i + 200]) for i in range(0, len(x), 200))
    return moments.accumulate(parts, n_classes=K, **options)


def test_leace_of_streamed_rows_is_leace_of_all():
    x, z = data()
    state = streamed(x, z, scatter="pooled")
    mass, mean = moments.marginal_means(state, "class")
    cov = moments.marginal_covariances(state, "all")[0]
    found = leace_from_moments(mass, mean, cov)
    assert isinstance(found, LowRankMap)
    close(found.to_dense().weight, fit_leace(x, z).weight)
    close(found(x), fit_leace(x, z)(x))
    shrunk = leace_from_moments(mass, mean, cov, shrinkage=0.5).to_dense().weight
    close(shrunk, fit_leace(x, z, shrinkage=0.5).weight)
    assert np.abs(np.asarray(shrunk - found.to_dense().weight)).max() > 1e-3


def test_mimic_of_streamed_rows_is_mimic_of_all():
    x, z = data(1)
    state = streamed(x, z)
    mean = moments.marginal_means(state, "class")[1]
    cov = moments.marginal_covariances(state, "class")
    found = mimic_from_moments(mean, cov, reference=2)
    expected = fit_mimic(x, z, reference=2)
    close(found.weight, expected.weight)
    close(found.bias, expected.bias)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_concrete_and_traced_rows_give_the_same(offset):
    x, z = data(2, offset)
    weights = np.asarray(np.random.default_rng(0).uniform(0.5, 2, N), DTYPE)
    for fit in (
        partial(fit_leace, n_concepts=K),
        partial(fit_mimic, n_groups=K),
    ):
        found = fit(x, z, weights=weights)
        traced = jax.jit(lambda x, z, w, fit=fit: fit(x, z, weights=w))(x, z, weights)
        # What the offset leaves of the digits.
        factor = 1000 * (1 + offset)
        close(found.weight, traced.weight, factor)
        if fit.func is fit_leace:
            close(found(x), traced(x), factor)
            continue
        for code in range(K):
            one, two = (
                jax.tree.map(lambda m, c=code: m[c], f) for f in (found, traced)
            )
            close(one(x[z == code]), two(x[z == code]), factor)


def test_half_precision_rows_are_summed_in_float32():
    x, z = data(3, 5.0)
    half = jnp.asarray(x, jnp.bfloat16)
    wide = half.astype(jnp.float32)
    for fit in (fit_leace, partial(fit_mimic, reference=0)):
        found, expected = fit(half, z), fit(wide, z)
        assert found.weight.dtype == jnp.float32
        np.testing.assert_allclose(found.weight, expected.weight, atol=1e-5)


def test_rows_that_are_constants_of_a_trace():
    x, z = data(5)
    for fit in (fit_leace, fit_mimic):
        found = jax.jit(lambda t, fit=fit: t * fit(x, z).weight)(1.0)
        close(found, fit(x, z).weight)


@pytest.mark.parametrize(("ratio", "enough"), [(1e-1, True), (0.5 * EPS, False)])
def test_near_singular_matrices_are_told_apart(ratio, enough):
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0]
    values = np.ones(D)
    values[0] = ratio
    a = jnp.asarray(turn * values @ turn.T)
    assert bool(keeps_all_directions(a, jnp.linalg.cholesky(a))) is enough


def test_overflow_is_said():
    x, z = data(4)
    with pytest.raises(ValueError, match=r"values above .* float.* standardize"):
        fit_leace(x * np.asarray(jnp.finfo(DTYPE).max / 100, DTYPE), z)


MEAN, COV = np.zeros((2, 3)), np.stack([np.eye(3)] * 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: leace_from_moments(np.ones(3), MEAN, np.eye(3)), "do not agree"),
        (lambda: leace_from_moments(np.ones(2), MEAN, np.eye(2)), "do not agree"),
        (lambda: leace_from_moments(-np.ones(2), MEAN, np.eye(3)), "mass must be"),
        (
            lambda: leace_from_moments(np.ones(2), MEAN, np.eye(3), shrinkage="oas"),
            "needs the number of rows",
        ),
        (
            lambda: leace_from_moments(np.ones(2), MEAN * np.nan, np.eye(3)),
            "mean has 6 values",
        ),
        (lambda: jax.jit(leace_from_moments)(np.ones(2), MEAN, np.eye(3)), "is traced"),
        (lambda: mimic_from_moments(MEAN, np.eye(3)), "do not agree"),
        (lambda: mimic_from_moments(MEAN, COV, reference=2), "reference=2"),
        (lambda: mimic_from_moments(MEAN, COV, ridge=-1.0), "ridge=-1.0"),
        (lambda: mimic_from_moments(MEAN, COV + np.inf), "cov has"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError, match=message):
        make()
