from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxsteer.latent import (
    fit_rome_em,
    maximin_weights,
    robust_aggregate,
)

from .mixtures import draw


def random_gram(seed, n=4):
    rng = np.random.default_rng(seed)
    f = rng.normal(size=(40, n)) + rng.normal(size=n)
    return f.T @ f / 40


def by_cvxpy(gram, prior=None, radius=None):
    cvxpy = pytest.importorskip("cvxpy", reason="cvxpy is not installed")
    v = cvxpy.Variable(len(gram))
    constraints = [v >= 0, cvxpy.sum(v) == 1]
    if radius is not None:
        constraints.append(cvxpy.norm(v - prior) <= radius)
    root = np.linalg.cholesky(gram).T
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(root @ v)), constraints).solve(
        solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12
    )
    return v.value


def polished(start, gram, prior, radius):
    constraints = [{"type": "eq", "fun": lambda v: v.sum() - 1}]
    if radius is not None:
        ball = lambda v: radius**2 - np.sum((v - prior) ** 2)  # noqa: E731
        constraints.append({"type": "ineq", "fun": ball})
    return minimize(
        lambda v: v @ gram @ v,
        start,
        jac=lambda v: 2 * gram @ v,
        method="SLSQP",
        bounds=[(0, 1)] * len(start),
        constraints=constraints,
        options={"ftol": 1e-15, "maxiter": 500},
    ).x


@pytest.mark.parametrize("radius", [None, 0.05, 0.3])
def test_weights_are_those_of_a_convex_solver(x64, radius):
    for seed in range(8):
        gram = random_gram(seed)
        prior = np.random.default_rng(seed).dirichlet(np.ones(4))
        found = maximin_weights(jnp.asarray(gram), prior=prior, radius=radius)
        assert found.converged
        conic, x = by_cvxpy(gram, prior, radius), np.asarray(found.x)
        assert x @ gram @ x <= conic @ gram @ conic + 1e-12
        # A conic solver's weights are as good as the root of its gap: polished by SciPy.
        expected = polished(conic, gram, prior, radius)
        np.testing.assert_allclose(x, expected, atol=1e-6)


def test_weights_in_any_precision():
    gram = jnp.asarray(random_gram(3), jnp.float32)
    found = maximin_weights(gram)
    np.testing.assert_allclose(found.x, by_cvxpy(random_gram(3)), atol=1e-4)


def test_the_ball_leads_from_the_prior_to_the_simplex():
    gram, prior = random_gram(1), np.array([0.4, 0.3, 0.2, 0.1])
    still = maximin_weights(gram, prior=prior, radius=0.0)
    np.testing.assert_allclose(still.x, prior, atol=1e-6)
    free = maximin_weights(gram)
    wide = maximin_weights(gram, prior=prior, radius=2.0)
    np.testing.assert_allclose(wide.x, free.x, atol=1e-4)
    values = [
        float(maximin_weights(gram, prior=prior, radius=r).value)
        for r in (0.0, 0.1, 0.2, 0.4)
    ]
    assert np.diff(values).max() <= 1e-6 and values[-1] < values[0] - 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gram": np.zeros((2, 3))}, "gram must have shape"),
        ({"gram": np.full((2, 2), np.nan)}, "gram has 4 values that are not finite"),
        ({"radius": 0.1}, "radius needs prior"),
        ({"radius": -0.1, "prior": [0.5, 0.5]}, "radius=-0.1 must be at least 0"),
        ({"prior": np.ones(3) / 3}, "prior must have shape"),
        ({"prior": np.ones(2)}, "prior must hold probabilities"),
    ],
)
def test_unusable_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        maximin_weights(**{"gram": np.eye(2), **options})


Y, X, S, Z = draw(n=300, noise=0.5)
FIT = {"init": Z, "max_steps": 60}


@pytest.fixture(scope="module")
def fitted():
    return fit_rome_em(Y, X, S, 2, **FIT)


def test_plain_moments_are_means_of_products(fitted):
    found = robust_aggregate(Y, X, S, fitted, folds=1, correct_bias=False, center=False)
    f = np.asarray(fitted.predict_groups(X), float)
    np.testing.assert_allclose(found.plain_gram, f.T @ f / len(Y), rtol=1e-4)
    np.testing.assert_allclose(found.gram, found.plain_gram, rtol=1e-4)
    best = maximin_weights(found.gram)
    np.testing.assert_allclose(found.weights, best.x, atol=1e-4)
    weights = np.asarray(found.weights)
    np.testing.assert_allclose(found.predict(X), f @ weights, rtol=1e-3, atol=1e-3)
    assert float(found.guaranteed) == pytest.approx(
        weights @ np.asarray(found.gram) @ weights, rel=1e-4
    )


def test_correction_is_the_formula(fitted):
    found = robust_aggregate(Y, X, S, fitted, folds=1, center=False)
    f = np.asarray(fitted.predict_groups(X), float)
    theta = np.asarray(fitted.responsibilities, float)
    bias = np.zeros((2, 2))
    for k in range(2):
        for j in range(2):
            rows = theta[:, j] * f[:, k] * (f[:, j] - Y)
            bias[k, j] = rows.sum() / theta[:, j].sum()
    expected = f.T @ f / len(Y) - bias - bias.T
    np.testing.assert_allclose(found.gram, expected, rtol=2e-3, atol=2e-3)


def test_cross_fitting_lowers_the_bias_of_second_moments():
    """With few rows the plain diagonal is too large by the variance of the fit."""
    gaps = {"plain": [], "corrected": []}
    truth = np.array([[0.0, 1.0], [0.0, -1.0]])  # slopes, no intercept
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(300, 2))
        s = rng.normal(size=(300, 2))
        z = (rng.random(300) < 1 / (1 + np.exp(-3 * s[:, 0]))).astype(int)
        y = (truth[z] * x).sum(1) + 3.0 * rng.normal(size=300)
        fit = fit_rome_em(y, x, s, 2, init=z, max_steps=1)
        options = {"folds": 2, "max_steps": 1, "center": False}
        found = robust_aggregate(y, x, s, fit, **options)
        gaps["plain"].append(np.trace(found.plain_gram) - 2.0)
        gaps["corrected"].append(np.trace(found.gram) - 2.0)
    assert abs(np.mean(gaps["corrected"])) < abs(np.mean(gaps["plain"]))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("radius", 0.01),
        ("correct_bias", False),
        ("center", False),
        ("density_ratio", "membership"),
        ("folds", 3),
        ("key", jax.random.key(3)),
        ("max_steps", 1),
    ],
)
def test_every_option_changes_the_result(fitted, option, value):
    plain = robust_aggregate(Y, X, S, fitted)
    changed = robust_aggregate(Y, X, S, fitted, **{option: value})
    gap = np.abs(np.asarray(plain.weights) - np.asarray(changed.weights)).max()
    gap += np.abs(np.asarray(plain.gram) - np.asarray(changed.gram)).max()
    assert gap > 1e-5


def test_a_constant_added_to_the_outcome_changes_nothing(fitted):
    moved = fit_rome_em(Y + 50, X, S, 2, **FIT)
    plain, shifted = (
        robust_aggregate(y, X, S, fit, folds=1)
        for y, fit in ((Y, fitted), (Y + 50, moved))
    )
    np.testing.assert_allclose(plain.weights, shifted.weights, atol=5e-3)


def test_clip_matters_where_ratios_do(fitted):
    wide, narrow = (
        robust_aggregate(
            Y, X, S, fitted, folds=1, density_ratio="membership", clip=clip
        )
        for clip in (50.0, 1.0)
    )
    plain = robust_aggregate(Y, X, S, fitted, folds=1)
    np.testing.assert_allclose(narrow.gram, plain.gram, rtol=1e-5)
    assert np.abs(np.asarray(wide.gram) - np.asarray(plain.gram)).max() > 1e-4


def test_unusable_aggregates(fitted):
    for options, message in (
        ({"folds": 0}, "folds=0 must be from 1"),
        ({"clip": 0.5}, "clip=0.5 must be at least 1"),
        ({"density_ratio": "both"}, "density_ratio='both' is not known"),
    ):
        with pytest.raises(ValueError, match=message):
            robust_aggregate(Y, X, S, fitted, **options)
    with pytest.raises(ValueError, match="fit has 300 rows and y has 299"):
        robust_aggregate(Y[:-1], X[:-1], S[:-1], fitted)


@pytest.mark.slow
def test_aggregates_of_classes():
    y, x, s, z = draw(outcome="classes", seed=3)
    fit = fit_rome_em(y, x, s, 2, family="categorical", init=z, max_steps=20)
    found = robust_aggregate(y, x, s, fit)
    assert found.predict(x).shape == (300, 3)
    assert np.allclose(found.predict(x).sum(1), 1, atol=1e-4)
    binary = (y > 0).astype(int)
    fit = fit_rome_em(binary, x, s, 2, family="bernoulli", init=z, max_steps=20)
    assert robust_aggregate(binary, x, s, fit).predict(x).shape == (300,)
