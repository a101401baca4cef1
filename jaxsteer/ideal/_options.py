"""The choices that select a program, and what is checked before it runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxsteer._errors import check_choice, check_index
from jaxsteer._types import Array, Float
from jaxsteer.ideal._priors import PRIORS
from jaxsteer.population import check_population
from jaxsteer.solvers import (
    DIFFERENTIATE,
    ConeProjectedGradient,
    Differentiate,
    MatrixNewton,
    Optax,
    ProjectedGradient,
)

INTERVENTIONS = ("affirmative", "all_groups")
MAPS = ("general", "pivot", "positive_definite", "shared_covariance", "diagonal")
DEFINITE = ("positive_definite", "pivot")
SOLVERS = (MatrixNewton, Optax, ProjectedGradient)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What selects a program; hashable, so that each choice is compiled once."""

    intervention: str
    maps: str
    allow_reflection: bool
    solver: Any
    differentiate: Differentiate


def choose(solver: Any, dtype: Any, **options: Any) -> tuple[Options, Float[Array, ""]]:
    """The static options, and the tolerance, which is a value like any other.

    Args:
        solver: None takes :class:`jaxsteer.solvers.MatrixNewton`.
        dtype: Of the population.
        **options: The fields of :class:`Options`.
    """
    solver = MatrixNewton() if solver is None else solver
    if not isinstance(solver, SOLVERS):
        raise ValueError(
            f"solver must be a jaxsteer.solvers.MatrixNewton, Optax or "
            f"ProjectedGradient, got {type(solver).__name__}; None takes the first with "
            "its defaults."
        )
    if isinstance(solver, ProjectedGradient):
        if options["maps"] not in DEFINITE:
            raise ValueError(
                f"solver=ProjectedGradient searches the cone of positive definite "
                f"matrices and maps={options['maps']!r} are not in it; take maps of "
                f"{' or '.join(map(repr, DEFINITE))}, or another solver."
            )
        solver = ConeProjectedGradient.of(solver)
    tolerance = jnp.asarray(solver.accuracy(dtype), dtype)
    solver = dataclasses.replace(solver, tolerance=None)
    return Options(solver=solver, **options), tolerance


def check_problem(
    pop: Any,
    priors: str,
    options: Options,
    reference: Any,
    pivot: Any,
    *,
    batch: bool = False,
) -> None:
    """Raise unless the options are known and fit the population's shapes.

    Args:
        pop: A population, with one more leading axis if `batch`.
        priors: The mode of the new priors.
        options: The other choices.
        reference: The group that stays, or None.
        pivot: The class that "pivot" maps are relative to.
        batch: Whether many populations are stacked.

    Raises:
        ValueError: Naming the argument.
    """
    check_choice("intervention", options.intervention, INTERVENTIONS)
    check_choice("maps", options.maps, MAPS)
    check_choice("priors", priors, PRIORS)
    check_choice("differentiate", options.differentiate, (*DIFFERENTIATE, "held"))
    check_population(pop, batch=batch)
    shape = jnp.shape(pop.priors)[-2:]
    if shape[1] < 2:
        raise ValueError(
            "pop has one group; there is nothing to make equal with fewer than two."
        )
    if reference is not None:
        check_index("reference", reference, shape[1], "groups")
    check_index("pivot", pivot, shape[0], "classes")
