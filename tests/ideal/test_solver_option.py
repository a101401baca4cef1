"""The solver option of the front door: three solvers, their limits, their errors."""

from __future__ import annotations

import numpy as np
import optax
import pytest

import jaxsteer as js
from jaxsteer.ideal._nearest import solve
from jaxsteer.solvers import MatrixNewton, Optax, ProjectedGradient
from tests.ideal.problems import random_multivariate

POP = random_multivariate(np.random.default_rng(4), 2, 2, 2, tied=False)
LBFGS = Optax(optimizer=optax.lbfgs(), max_steps=300)
ADAM = Optax(optimizer=optax.adam(optax.cosine_decay_schedule(0.1, 600)))
# First-order steps end where the value's rounding hides their progress.
CONE = ProjectedGradient(max_steps=2000, tolerance=3e-4)


@pytest.mark.parametrize(
    ("maps", "solver"),
    [
        ("positive_definite", CONE),
        ("positive_definite", LBFGS),
        ("general", ADAM),
    ],
)
def test_all_solvers_end_at_the_same_divergence(maps, solver, eps):
    exact = js.nearest_ideal(POP, maps=maps, reference=1)
    found = js.nearest_ideal(POP, maps=maps, solver=solver, reference=1)
    assert exact.status == found.status == js.Status.CONVERGED
    assert exact.kl > 0.01
    np.testing.assert_allclose(found.kl, exact.kl, rtol=max(1e-6, 100 * eps))
    # The searches are not one and the same.
    assert found.steps > exact.steps


def test_the_limits_of_the_solver_reach_it():
    solver = MatrixNewton(max_steps=1)
    one = js.nearest_ideal(POP, maps="positive_definite", solver=solver, reference=1)
    assert one.status == js.Status.MAX_STEPS
    assert one.steps == 1
    best = js.nearest_ideal(POP, maps="positive_definite", reference=1).kl
    assert one.kl > best * 1.001
    with pytest.raises(js.SolveError, match="MAX_STEPS"):
        one.require()


def test_another_tolerance_reference_or_pivot_is_no_other_program():
    def residual(tolerance, **options):
        solver = MatrixNewton(tolerance=tolerance)
        found = js.nearest_ideal(POP, maps="pivot", solver=solver, **options)
        return float(found.residual)

    loose = residual(0.3, reference=0)
    before = solve.programs()
    tight = residual(1e-3, reference=1, pivot=1)
    assert solve.programs() == before
    assert tight <= 1e-3 < loose <= 0.3


@pytest.mark.parametrize("solver", ["newton", MatrixNewton, optax.adam(0.1)])
def test_what_is_no_matrix_solver_is_refused(solver):
    with pytest.raises(ValueError, match=r"solver must be a jaxsteer.solvers"):
        js.nearest_ideal(POP, maps="positive_definite", solver=solver, reference=1)


def test_the_cone_has_no_general_maps():
    with pytest.raises(ValueError, match=r"maps='general' are not in it"):
        js.nearest_ideal(POP, solver=CONE)


def test_a_pinned_template_is_not_for_projected_gradients():
    with pytest.raises(ValueError, match=r"take solver=None, or maps='positive_defin"):
        js.nearest_ideal(POP, intervention="all_groups", maps="pivot", solver=CONE)
