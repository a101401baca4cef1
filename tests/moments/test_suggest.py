"""Families ranked by rows held out, and what depends on the choice."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import jaxsteer as js
from jaxsteer.moments import family_candidates, suggest_family

RNG = np.random.default_rng(1)
N = 1200
LABEL, GROUP = RNG.integers(0, 2, (2, N))


def some(x, *names):
    every = family_candidates(x)
    return {name: every[name] for name in names}


def test_the_family_that_made_the_rows_wins():
    x = RNG.gumbel(LABEL + 0.5 * GROUP, 1 + GROUP)
    found = suggest_family(x, LABEL, GROUP, some(x, "normal", "gumbel", "laplace"))
    assert found.best == "gumbel"
    assert (
        found.behind[0] == 0 and (found.behind[1:] > 2 * found.standard_error[1:]).all()
    )


def test_held_out_likelihood_equals_scipy():
    x = RNG.normal(LABEL, 1 + GROUP)
    found = suggest_family(x, LABEL, GROUP, some(x, "normal"), n_folds=2, seed=3)
    total, cell = 0.0, LABEL * 2 + GROUP
    order = np.random.default_rng(3).permutation(N)
    order = order[np.argsort(cell[order], kind="stable")]
    fold = np.empty(N, int)
    fold[order] = np.arange(N) % 2
    for part in range(2):
        for code in range(4):
            fit, out = (
                x[(fold != part) & (cell == code)],
                x[(fold == part) & (cell == code)],
            )
            total += stats.norm(fit.mean(), fit.std()).logpdf(out).sum()
    # The variance may be divided by n or by one less.
    assert found.log_likelihood[0] == pytest.approx(total / N, rel=1e-3)


def test_candidates_fit_the_support():
    assert set(family_candidates(np.array([0, 3, 2]))) == {"poisson", "geometric"}
    assert "bernoulli" in family_candidates(np.array([0, 1]))
    assert "lognormal" not in family_candidates(np.array([-1.0, 2.0]))
    assert "beta" in family_candidates(np.array([0.1, 0.9]))
    assert set(family_candidates(np.zeros((3, 2)))) == {
        "normal",
        "diagonal_normal",
        "yeo_johnson",
        "sinh_arcsinh",
    }


def test_counts_are_compared_with_counts():
    x = RNG.poisson(2.0 + 2 * LABEL)
    found = suggest_family(x, LABEL, GROUP)
    assert found.families == ("poisson", "geometric")


def test_candidates_that_fail_are_named():
    def fails(*_, **__):
        raise ValueError("no such thing")

    x = RNG.normal(size=N)
    found = suggest_family(x, LABEL, GROUP, {**some(x, "normal"), "other": fails})
    assert found.failed == {"other": "no such thing"}
    with pytest.raises(ValueError, match="none of them could be fitted"):
        suggest_family(x, LABEL, GROUP, {"other": fails})
    with pytest.raises(ValueError, match="n_folds=1 must be"):
        suggest_family(x, LABEL, GROUP, n_folds=1)


def test_sensitivity_tells_families_apart():
    x = np.exp(RNG.normal(0.3 * LABEL - 0.4 * GROUP, 0.6))
    found = js.audit.family_sensitivity(x, LABEL, GROUP, some(x, "normal", "lognormal"))
    assert found.families == ("normal", "lognormal")
    assert np.allclose(np.diag(found.disagreement), 0)
    assert np.allclose(found.disagreement, found.disagreement.T)
    assert found.disagreement[0, 1] > 0.02
    # The same family twice, under another name, agrees with itself.
    twice = some(x, "lognormal")
    same = js.audit.family_sensitivity(
        x, LABEL, GROUP, {**twice, "again": twice["lognormal"]}
    )
    assert same.disagreement.max() == 0
    assert same.kl[0] == same.kl[1] == found.kl[1]
