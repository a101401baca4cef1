"""The convex kinds of maps against conic solvers."""

from __future__ import annotations

import numpy as np
import pytest

import jaxsteer as js
from tests.ideal.convex import conic_feature_kl
from tests.ideal.problems import random_multivariate

pytestmark = pytest.mark.slow

ACCURATE = {
    "CLARABEL": {},
    "SCS": {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 200_000},
}


@pytest.mark.parametrize("d", [2, 5, 10, 20])
@pytest.mark.parametrize("maps", ["positive_definite", "pivot"])
def test_equal_conic_solvers(maps, d, x64):
    pytest.importorskip("cvxpy", reason="cvxpy is a peer: pip install .[peers]")
    pop = random_multivariate(np.random.default_rng(d), 2, 2, d, tied=False)
    found = js.nearest_ideal(pop, maps=maps, reference=1).require()
    for solver, limits in ACCURATE.items():
        best = conic_feature_kl(pop, maps, solver, **limits)
        assert abs(float(found.feature_kl) - best) < 1e-6 * abs(best), solver


def test_a_pivot_changes_the_symmetric_gauge_alone(x64):
    pop = random_multivariate(np.random.default_rng(1), 2, 2, 3, tied=False)
    first, second = (
        js.nearest_ideal(pop, maps="pivot", pivot=pivot, reference=1).kl
        for pivot in (0, 1)
    )
    assert abs(first - second) > 1e-3
    relabeled = js.Population(
        pop.priors[::-1],
        js.MultivariateNormal(pop.conditionals.mean[::-1], pop.conditionals.cov[::-1]),
    )
    assert np.isclose(
        js.nearest_ideal(relabeled, maps="pivot", pivot=1, reference=1).kl,
        first,
        rtol=1e-9,
    )
