"""Solvers that know nothing of fairness, and how they say how they ended."""

from typing import TypeAlias

from jaxsteer._compilation import limit_programs
from jaxsteer.solvers._chart import Chart, Expansion, MatrixObjective
from jaxsteer.solvers._fixed_point import (
    DIFFERENTIATE,
    Differentiate,
    FixedPoint,
    at_root,
    dense_tangent_solve,
    fixed_point,
)
from jaxsteer.solvers._frames import coordinates, definite_frame, random_matrices
from jaxsteer.solvers._lattice_search import search_lattice
from jaxsteer.solvers._matrix_newton import MatrixNewton
from jaxsteer.solvers._matrix_optax import Optax
from jaxsteer.solvers._matrix_projected_gradient import ConeProjectedGradient
from jaxsteer.solvers._matrix_search import Job, SearchEnd, Starts, search
from jaxsteer.solvers._matrix_stationary import attach_derivative
from jaxsteer.solvers._optax import (
    Reparametrized,
    from_log_cholesky,
    log_cholesky,
)
from jaxsteer.solvers._projected_gradient import ProjectedGradient
from jaxsteer.solvers._simplex import (
    minimize_on_simplex,
    project_simplex,
    project_simplex_ball,
)
from jaxsteer.solvers._small_newton import LocalMinimum, minimize_newton
from jaxsteer.solvers._solution import (
    Solution,
    SolveError,
    Status,
    final_status,
    require_converged,
)

# What searches for maps: any of the three.
Solver: TypeAlias = MatrixNewton | Optax | ProjectedGradient

__all__ = [
    "MatrixNewton",
    "Optax",
    "ProjectedGradient",
    "Solution",
    "SolveError",
    "Status",
    "limit_programs",
]
