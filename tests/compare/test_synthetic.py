"""The synthetic study, a small one: exact figures against SciPy and against theory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxsteer.compare import (
    INTERVENTIONS,
    intervene,
    study,
    study_table,
    synthetic_populations,
)

GRID = {"separations": (0.5, 1.0), "scales": (0.5, 1.0), "positives": (0.35, 0.5)}


def one(pops, index):
    return jax.tree.map(lambda leaf: leaf[index], pops)


@pytest.mark.parametrize("family", ["normal", "lognormal"])
def test_only_the_nearest_ideal_is_fair_at_every_cost(family):
    rows = {row["intervention"]: row for row in study_table(family, **GRID)}
    assert tuple(rows) == INTERVENTIONS
    for name in ("affirmative", "all groups"):
        # Equal deviations within a group are where roots of the log-ratio are delicate.
        assert rows[name]["worst_gap_max"] < 1e-4
        assert rows[name]["dp_gap_max"] < 1e-4
    for name in ("original", "mean matching", "reweighing"):
        assert rows[name]["worst_gap"] > 0.2
    assert rows["all groups"]["kl"] <= rows["affirmative"]["kl"]
    assert rows["original"]["kl"] == 0


def test_figures_equal_integrals():
    pops, settings = synthetic_populations(**GRID)
    assert settings.shape == (8, 3)
    for name in ("original", "mean matching", "reweighing"):
        found = study(pops, name)
        for index in (0, 5):
            pop = intervene(one(pops, index), name)
            priors = np.asarray(pop.priors, float)
            loc, scale = (
                np.asarray(leaf, float)
                for leaf in (pop.conditionals.loc, pop.conditionals.scale)
            )

            def least(x, priors=priors, loc=loc, scale=scale):
                return np.minimum(
                    *(priors * stats.norm.pdf(x, loc, scale)),
                ).sum()

            expected = integrate.quad(least, -12, 12, limit=300)[0]
            assert float(found["bayes_error"][index]) == pytest.approx(
                expected, abs=1e-4
            )


def test_mean_matching_matches_means():
    for family in ("normal", "lognormal"):
        pops, _ = synthetic_populations(family, **GRID)
        pop = intervene(one(pops, 1), "mean matching")
        share = pop.priors / pop.priors.sum(0)
        law = pop.conditionals
        mean = law.loc if family == "normal" else jnp.exp(law.loc + law.scale**2 / 2)
        mean = jnp.sum(share * mean, 0)
        assert float(mean[0]) == pytest.approx(float(mean[1]), rel=1e-4)


def test_unknown_families_are_refused():
    with pytest.raises(ValueError, match="family='cauchy' is not known"):
        synthetic_populations("cauchy")
