from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.latent import fit_rome_em, released_choices, rome_standard_errors

from .mixtures import draw, with_ones

Y, X, S, Z = draw(n=300)
CODES, CX, CS, CZ = draw(outcome="classes", seed=3)


def test_pooled_errors_are_those_of_least_squares(eps):
    found = fit_rome_em(Y, X, S, 1, ridge=0.0, standard_errors=True)
    rows = with_ones(X)
    inverse = np.linalg.inv(rows.T @ rows)
    v = float(found.variance[0])
    expected = np.sqrt(v * np.diag(inverse))
    np.testing.assert_allclose(
        found.standard_errors.coef[0], expected, rtol=max(1e4 * eps, 1e-6)
    )
    assert float(found.standard_errors.variance[0]) == pytest.approx(
        v * np.sqrt(2 / len(Y)), rel=max(1e4 * eps, 1e-6)
    )
    assert np.asarray(found.standard_errors.membership) == pytest.approx(0.0)


def numeric_errors(fit, y, x, s):
    """Invert the Hessian of the plain likelihood in plain coordinates (two groups)."""
    x, s, y = (jnp.asarray(v, float) for v in (with_ones(x), with_ones(s), y))
    first = jnp.asarray(fit.membership[0] - fit.membership[1])
    sizes = [first.size, fit.coef.size]

    def value(free):
        log_odds, coef, log_v = jnp.split(free, [sizes[0], sum(sizes)])
        gap = y[:, None] - x @ coef.reshape(fit.coef.shape).T
        v = jnp.exp(log_v)
        density = -0.5 * gap**2 / v - 0.5 * jnp.log(2 * jnp.pi * v)
        log_share = jax.nn.log_sigmoid(jnp.stack([s @ log_odds, -s @ log_odds], 1))
        return jnp.sum(jax.nn.logsumexp(density + log_share, 1))

    start = [first, jnp.asarray(fit.coef).reshape(-1), jnp.log(fit.variance)]
    information = -jax.hessian(value)(jnp.concatenate(start))
    found = np.sqrt(np.diag(np.linalg.inv(np.asarray(information))))
    return found[: sizes[0]], found[sizes[0] : sum(sizes)], found[sum(sizes) :]


def test_errors_are_the_inverse_information(x64):
    fit = fit_rome_em(
        Y, X, S, 2, variance="group", ridge=0.0, tolerance=1e-13, standard_errors=True
    ).require()
    log_odds, coef, log_v = numeric_errors(fit, Y, X, S)
    errors = fit.standard_errors
    # Half of the log-odds' coefficients, as rows of the membership sum to zero.
    np.testing.assert_allclose(errors.membership[0], log_odds / 2, rtol=1e-6)
    np.testing.assert_allclose(errors.membership[1], log_odds / 2, rtol=1e-6)
    np.testing.assert_allclose(errors.coef, coef.reshape(2, -1), rtol=1e-6)
    np.testing.assert_allclose(errors.variance, log_v * fit.variance, rtol=1e-6)


def test_errors_cover_the_truth():
    """Nine in ten 90 % intervals should hold the truth: 8 fits, 6 coefficients."""
    hits = []
    for seed in range(8):
        y, x, s, z = draw(n=300, seed=7)  # the same truth
        rng = np.random.default_rng(seed)
        coef = np.array([[1.0, 2.0, -1.0], [0.0, -2.0, 1.5]])
        y = (with_ones(x) * coef[z]).sum(1) + 0.5 * rng.normal(size=len(x))
        fit = fit_rome_em(y, x, s, 2, init=z, standard_errors=True)
        gap = np.abs(np.asarray(fit.coef) - coef)
        hits.append(gap < 1.645 * np.asarray(fit.standard_errors.coef))
    assert 0.75 < np.mean(hits) <= 0.99


@pytest.mark.slow
def test_errors_of_classes_and_of_a_fixed_variance():
    fit = fit_rome_em(
        CODES,
        CX,
        CS,
        2,
        family="categorical",
        init=CZ,
        ridge=0.1,
        standard_errors=True,
    )
    errors = np.asarray(fit.standard_errors.coef)
    assert errors.shape == fit.coef.shape == (2, 3, 3)
    assert (errors > 0).all()
    fixed = fit_rome_em(Y, X, S, 2, init=Z, variance=0.1, standard_errors=True)
    assert np.asarray(fixed.standard_errors.variance).tolist() == [0, 0]
    weighted = rome_standard_errors(fixed, Y, X, S, weights=np.full(len(Y), 4.0))
    np.testing.assert_allclose(
        weighted.standard_errors.coef, fixed.standard_errors.coef / 2, rtol=5e-3
    )


def test_one_vs_rest_has_none():
    fit = fit_rome_em(Y, X, S, 2, **released_choices(), max_steps=3)
    with pytest.raises(ValueError, match="no likelihood"):
        rome_standard_errors(fit, Y, X, S)
