from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer import Status
from jaxsteer.latent import (
    fit_rome_em,
    match_groups,
    released_choices,
    select_rome_em,
    simulate_rome,
)

from .mixtures import brute_log_likelihood, draw, with_ones

Y, X, S, Z = draw()
CODES, CX, CS, CZ = draw(outcome="classes", seed=3)
FAST = {"restarts": 4, "max_steps": 60}


def fit(**options):
    return fit_rome_em(Y, X, S, 2, **{**FAST, **options})


def fit_classes(**options):
    return fit_rome_em(CODES, CX, CS, 2, family="categorical", **{**FAST, **options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"variance": "group"},
        {"variance": 0.5},
        {"weights": np.linspace(0.5, 2, len(Y))},
    ],
    ids=["common", "group", "fixed", "weights"],
)
def test_log_likelihood_is_the_mixtures_own(options, eps):
    found = fit(**options)
    direct = brute_log_likelihood(
        Y,
        X,
        S,
        found.membership,
        found.coef,
        found.variance,
        weights=options.get("weights"),
    )
    assert float(found.log_likelihood) == pytest.approx(direct, rel=1e3 * eps)


def test_log_likelihood_of_classes_is_the_mixtures_own(eps):
    found = fit_classes()
    direct = brute_log_likelihood(CODES, CX, CS, found.membership, found.coef, None)
    assert float(found.log_likelihood) == pytest.approx(direct, rel=1e3 * eps)


@pytest.mark.slow
def test_log_likelihood_of_two_classes_is_the_mixtures_own(eps):
    binary = (CODES > 0).astype(int)
    found = fit_rome_em(binary, CX, CS, 2, family="bernoulli", **FAST)
    both = np.stack([np.zeros(found.coef.shape), np.asarray(found.coef)], 1)
    direct = brute_log_likelihood(binary, CX, CS, found.membership, both, None)
    assert float(found.log_likelihood) == pytest.approx(direct, rel=1e3 * eps)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("damping", [1.0, 0.4])
@pytest.mark.parametrize("kind", ["common", "group", "classes"])
def test_every_step_raises_the_objective(x64, kind, ridge, damping):
    options = {"ridge": ridge, "damping": damping, "tolerance": 1e-12, "init": "labels"}
    found = (
        fit_classes(**options) if kind == "classes" else fit(variance=kind, **options)
    )
    trace = np.asarray(found.trace)
    trace = trace[np.isfinite(trace)]
    assert len(trace) > 10
    assert np.diff(trace).min() >= -1e-9
    assert trace[-1] > trace[0] + 1
    # The objective is the log-likelihood less the penalty, and no more than it.
    if ridge == 0:
        assert trace[-1] == pytest.approx(float(found.log_likelihood), abs=1e-6)
    else:
        assert trace[-1] < float(found.log_likelihood)


def test_unnormalized_choices_do_lower_the_likelihood(x64):
    """The released choices are not monotone; a test that could not fail shows nothing."""
    found = fit(**{**released_choices(), "variance": 1.0, "tolerance": 1e-12})
    trace = np.asarray(found.trace)
    assert np.diff(trace[np.isfinite(trace)]).min() < -1e-6


def test_one_group_is_pooled_regression(eps):
    found = fit_rome_em(Y, X, S, 1, ridge=0.0)
    expected, *_ = np.linalg.lstsq(with_ones(X), Y, rcond=None)
    np.testing.assert_allclose(found.coef[0], expected, rtol=2e3 * eps, atol=2e3 * eps)
    gap = Y - with_ones(X) @ expected
    assert float(found.variance[0]) == pytest.approx(np.mean(gap**2), rel=2e3 * eps)
    assert found.n_parameters == 4
    assert float(found.bic) == pytest.approx(
        -2 * float(found.log_likelihood) + 4 * np.log(len(Y)), rel=1e3 * eps
    )
    assert float(found.aic) == pytest.approx(-2 * float(found.log_likelihood) + 8)
    assert np.asarray(found.responsibilities) == pytest.approx(1.0)


def test_responsibilities_are_bayes_rule(eps):
    found = fit()
    share = np.asarray(found.group_probabilities(S), float)
    mean = np.asarray(found.predict_groups(X), float)
    v = np.asarray(found.variance, float)
    density = np.exp(-((Y[:, None] - mean) ** 2) / (2 * v)) / np.sqrt(v)
    expected = share * density / (share * density).sum(1, keepdims=True)
    tolerance = 2e4 * eps
    np.testing.assert_allclose(found.responsibilities, expected, atol=tolerance)
    np.testing.assert_allclose(found.posterior(Y, X, S), expected, atol=tolerance)
    np.testing.assert_allclose(
        found.predict(X, S), (share * mean).sum(1), rtol=tolerance, atol=tolerance
    )
    assert float(found.score(Y, X, S)) == pytest.approx(
        float(found.log_likelihood), rel=1e3 * eps
    )
    order = (found.responsibilities.argmax(1) == 1).mean()
    assert order <= 0.5  # groups come by size


def test_scales_and_offsets_do_not_matter(eps):
    plain = fit(ridge=0.1)
    moved = fit_rome_em(
        1e3 * Y + 7e3, X * 50 - 30, S * np.array([1e-3, 20.0]), 2, ridge=0.1, **FAST
    )
    np.testing.assert_allclose(
        plain.responsibilities,
        moved.responsibilities,
        atol=1e-3 if eps > 1e-10 else 1e-8,
    )
    assert float(moved.log_likelihood) == pytest.approx(
        float(plain.log_likelihood) - len(Y) * np.log(1e3), rel=1e4 * eps
    )


@pytest.mark.slow
def test_recovers_the_papers_simulation():
    """A small version of benchmarks/bench_rome_simulation.py."""
    errors = {"ours": [], "released": []}
    for seed in range(3):
        sample = simulate_rome(3000, seed=seed)
        rows = (sample.y, sample.x, sample.s, 4)
        ours = fit_rome_em(*rows, restarts=8).require()
        options = {**released_choices(), "restarts": 8, "max_steps": 100}
        fits = {"ours": ours, "released": fit_rome_em(*rows, **options)}
        for name, fit in fits.items():
            order = match_groups(fit.coef, sample.coef)
            gap = np.abs(np.asarray(fit.permute(order).coef) - sample.coef)
            # Medians: in the smallest group a binary column is nearly always 0.
            errors[name].append(np.median(gap, 1))
        found = ours.permute(match_groups(ours.coef, sample.coef))
        assert float(found.variance[0]) == pytest.approx(0.01, rel=0.1)
        sure = np.asarray(found.responsibilities).argmax(1)
        assert (sure == sample.group).mean() > 0.95
        # Memberships as well, up to the common shift that no data can tell.
        slopes = np.asarray(found.membership)[:, 1:]
        truth = sample.membership - sample.membership.mean(0)
        assert np.abs(slopes - truth).mean() < 0.4 * np.abs(truth).mean()
    ours, released = (np.mean(errors[name], 0) for name in ("ours", "released"))
    assert ours.max() < 0.02
    assert ours.mean() < 0.8 * released.mean()


@pytest.mark.slow
def test_bic_finds_the_number_of_groups():
    y, x, s, _ = draw(n=300, n_groups=3, seed=5)
    found = select_rome_em(y, x, s, range(1, 5), restarts=4, max_steps=100)
    assert found.best.n_groups == 3
    table = found.table()
    assert table["n_groups"] == [1, 2, 3, 4]
    assert np.argmin(table["bic"]) == 2
    assert np.diff(table["log_likelihood"]).min() > -1
    aic = select_rome_em(y, x, s, (1, 2), criterion="aic", restarts=4, max_steps=20)
    assert aic.values.tolist() == aic.table()["aic"]
    with pytest.raises(ValueError, match="n_groups is empty"):
        select_rome_em(y, x, s, ())


def test_restarts_are_the_same_alone_and_together():
    together = fit()
    chunked = fit(batch_size=3)
    np.testing.assert_allclose(
        together.restart_objectives, chunked.restart_objectives, rtol=1e-4
    )
    assert together.restart_objectives.shape == (4,)
    best = np.nanmax(together.restart_objectives)
    assert float(together.trace[int(together.steps)]) == pytest.approx(best)


def test_given_starts_keep_their_names():
    found = fit(init=Z)
    agree = (np.asarray(found.responsibilities).argmax(1) == Z).mean()
    swapped = fit(init=1 - Z)
    assert agree > 0.9
    np.testing.assert_allclose(
        np.asarray(swapped.responsibilities)[:, ::-1],
        found.responsibilities,
        atol=5e-3,
    )
    soft = fit(init=np.eye(2)[Z])
    np.testing.assert_allclose(soft.responsibilities, found.responsibilities, atol=5e-3)


@pytest.mark.slow
def test_an_empty_group_stays_finite():
    found = fit_rome_em(Y, X, S, 3, init=np.eye(3)[Z], max_steps=20)
    assert np.isfinite(np.asarray(found.coef)).all()
    assert np.isfinite(float(found.log_likelihood))
    few = fit_rome_em(Y[:9], X[:9], S[:9], 4, restarts=4, max_steps=50)
    for leaf in jax.tree.leaves((few.params, few.log_likelihood)):
        assert np.isfinite(np.asarray(leaf)).all()


@pytest.mark.slow
def test_separable_memberships_and_classes_stay_finite():
    y = (X[:, 0] > 1).astype(int)
    found = fit_rome_em(y, X, S, 2, family="bernoulli", **FAST)
    assert np.isfinite(np.asarray(found.coef)).all()
    assert float(found.log_likelihood) > -5
    constant = np.concatenate([S, np.ones((len(S), 1))], 1)
    again = fit_rome_em(Y, np.concatenate([X, X[:, :1]], 1), constant, 2, **FAST)
    assert np.isfinite(np.asarray(again.coef)).all()
    assert float(again.log_likelihood) == pytest.approx(
        float(fit().log_likelihood), abs=0.5
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("variance", "group"),
        ("variance", 2.0),
        ("membership", "one_vs_rest"),
        ("membership_intercept", False),
        ("intercept", False),
        ("weights", np.linspace(0.1, 3, 300)),
        ("init", "labels"),
        ("key", jax.random.key(5)),
        ("restarts", 1),
        ("damping", 0.5),
        ("newton_steps", 4),
        ("ridge", 30.0),
        ("min_variance", 0.5),
        ("max_steps", 2),
        ("tolerance", 0.5),
    ],
)
def test_every_option_changes_the_fit(option, value):
    options = {"restarts": 4, "max_steps": 5, "init": "partition"}
    plain = fit_rome_em(Y, X, S, 2, **options)
    changed = fit_rome_em(Y, X, S, 2, **{**options, option: value})
    left, right = (np.asarray(f.restart_objectives) for f in (plain, changed))
    assert left.shape != right.shape or np.abs(left - right).max() > 1e-4


def test_shapes_without_intercepts():
    found = fit(intercept=False, membership_intercept=False)
    assert found.coef.shape == (2, 2) and found.membership.shape == (2, 2)
    rows = np.asarray(found.predict_groups(X))
    np.testing.assert_allclose(rows, X @ np.asarray(found.coef).T, rtol=1e-3, atol=1e-3)


def test_status_tells_how_it_ended():
    assert fit(max_steps=1).status == Status.MAX_STEPS
    assert fit(max_steps=500).status == Status.CONVERGED
    with pytest.raises(Exception, match="MAX_STEPS"):
        fit(max_steps=1).require()


def test_permute():
    found = fit(standard_errors=True)
    turned = found.permute([1, 0])
    for name in ("membership", "coef", "variance"):
        left, right = getattr(found, name), getattr(turned, name)
        np.testing.assert_array_equal(left[::-1], right)
        left = getattr(found.standard_errors, name)
        np.testing.assert_array_equal(left[::-1], getattr(turned.standard_errors, name))
    with pytest.raises(ValueError, match="each once"):
        found.permute([0, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": Y[:-1]}, "one entry a row"),
        ({"y": Y[:, None]}, r"y must have shape \[n\]"),
        ({"x": X[..., None]}, r"x must have shape"),
        ({"x": np.where(X > 2, np.nan, X)}, "x has .* not finite"),
        ({"n_groups": 0}, "n_groups=0 must be a whole number"),
        ({"n_groups": 301}, "more than the 300 rows"),
        ({"family": "poisson"}, "family='poisson' is not known"),
        ({"membership": "probit"}, "membership='probit' is not known"),
        ({"variance": "none"}, "variance='none' is not known"),
        ({"variance": -1.0}, "must be positive"),
        ({"family": "bernoulli"}, "y must hold integer codes"),
        ({"n_classes": 3}, "n_classes=3 is for classes"),
        ({"damping": 0.0}, "damping=0.0 must be above 0"),
        ({"ridge": -1.0}, "ridge=-1.0 must be at least 0"),
        ({"init": "best"}, "init='best' is not known"),
        ({"init": np.zeros((3, 3))}, r"init must be .* got shape \[3, 3\]"),
        ({"init": np.full(len(Y), 2)}, "init has codes from 2 to 2"),
        ({"weights": -np.ones(len(Y))}, "weights must be at least 0"),
    ],
)
def test_unusable_arguments(change, message):
    arguments = {"y": Y, "x": X, "s_membership": S, "n_groups": 2, **change}
    with pytest.raises(ValueError, match=message):
        fit_rome_em(**arguments)


def test_unusable_classes():
    with pytest.raises(ValueError, match="variance='group' is for family='normal'"):
        fit_classes(variance="group")
    with pytest.raises(ValueError, match="one class only"):
        fit_rome_em(np.zeros(300, int), X, S, 2, family="categorical")
    with pytest.raises(ValueError, match=r"x must have shape \[n, 2\]"):
        fit().predict_groups(X[:, :1])


@pytest.mark.slow
def test_more_classes_than_seen():
    found = fit_classes(n_classes=4, max_steps=5)
    assert found.predict_groups(CX).shape == (300, 2, 4)
    assert found.predict(CX, CS).shape == (300, 4)
    assert jnp.allclose(found.predict(CX, CS).sum(1), 1, atol=1e-4)


def test_match_groups():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(5, 3))
    order = rng.permutation(5)
    found = reference[order] + 0.01
    assert reference[order][match_groups(found, reference)] == pytest.approx(reference)
    with pytest.raises(ValueError, match="one shape"):
        match_groups(found, reference[:4])
