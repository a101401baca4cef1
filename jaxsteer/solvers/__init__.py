"""Solvers that know nothing of fairness, and how they say how they ended."""

from jaxsteer.solvers._fixed_point import (
    DIFFERENTIATE,
    Differentiate,
    FixedPoint,
    dense_tangent_solve,
    fixed_point,
)
from jaxsteer.solvers._lattice_search import LatticeSearch, search_lattice
from jaxsteer.solvers._status import SolveError, Status, require_converged

__all__ = [
    "DIFFERENTIATE",
    "Differentiate",
    "FixedPoint",
    "LatticeSearch",
    "SolveError",
    "Status",
    "dense_tangent_solve",
    "fixed_point",
    "require_converged",
    "search_lattice",
]
