"""The solver option of the front door: any relative solver, its limits, its errors."""

from __future__ import annotations

import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.solvers import ProjectedGradient, RelativeLBFGS
from tests.ideal.problems import random_multivariate

POP = random_multivariate(np.random.default_rng(4), 2, 2, 2, tied=False)
LBFGS = RelativeLBFGS(memory=3)


@pytest.mark.slow
@pytest.mark.parametrize("maps", ["positive_definite", "general"])
def test_both_solvers_end_at_the_same_divergence(maps, eps):
    default = js.nearest_ideal(POP, maps=maps, reference=1)
    found = js.nearest_ideal(POP, maps=maps, solver=LBFGS, reference=1)
    assert default.status == found.status == js.Status.CONVERGED
    assert default.kl > 0.01
    np.testing.assert_allclose(found.kl, default.kl, rtol=500 * eps)
    # The two searches are not one and the same.
    assert found.residual != default.residual


def test_the_limits_of_the_solver_reach_it():
    solver = RelativeLBFGS(max_steps=1, memory=1)
    one = js.nearest_ideal(POP, maps="positive_definite", solver=solver, reference=1)
    assert one.status == js.Status.MAX_STEPS
    assert one.steps == 1
    best = js.nearest_ideal(POP, maps="positive_definite", reference=1).kl
    assert one.kl > best * 1.001
    with pytest.raises(js.SolveError, match="MAX_STEPS"):
        one.require()


@pytest.mark.parametrize("solver", [ProjectedGradient(), "newton", RelativeLBFGS])
def test_what_is_no_relative_solver_is_refused(solver):
    with pytest.raises(ValueError, match=r"solver must be a jaxsteer.solvers"):
        js.nearest_ideal(POP, maps="positive_definite", solver=solver, reference=1)
