"""The choices that select a program, and what is checked before it runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxsteer._errors import check_choice
from jaxsteer.ideal._priors import PRIORS
from jaxsteer.population import check_population
from jaxsteer.solvers import DIFFERENTIATE, Differentiate, RelativeLBFGS, RelativeNewton

INTERVENTIONS = ("affirmative", "all_groups")
MAPS = ("general", "pivot", "positive_definite", "shared_covariance", "diagonal")
SOLVERS = (RelativeNewton, RelativeLBFGS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What selects a program; hashable, so that each choice is compiled once."""

    intervention: str
    reference: int
    maps: str
    allow_reflection: bool
    solver: Any
    differentiate: Differentiate
    pivot: int


def check_problem(pop: Any, priors: str, options: Options, *, batch: bool = False):
    """Raise unless the options are known and fit the population's shapes.

    Args:
        pop: A population, with one more leading axis if `batch`.
        priors: The mode of the new priors.
        options: The other choices.
        batch: Whether many populations are stacked.

    Raises:
        ValueError: Naming the argument.
    """
    check_choice("intervention", options.intervention, INTERVENTIONS)
    check_choice("maps", options.maps, MAPS)
    check_choice("priors", priors, PRIORS)
    check_choice("differentiate", options.differentiate, DIFFERENTIATE)
    check_population(pop, batch=batch)
    shape = jnp.shape(pop.priors)[-2:]
    if shape[1] < 2:
        raise ValueError(
            "pop has one group; there is nothing to make equal with fewer than two."
        )
    if not (isinstance(options.reference, int) and 0 <= options.reference < shape[1]):
        raise ValueError(
            f"reference={options.reference!r} is not one of the groups 0..{shape[1] - 1}."
        )
    if not (isinstance(options.pivot, int) and 0 <= options.pivot < shape[0]):
        raise ValueError(
            f"pivot={options.pivot!r} is not one of the classes 0..{shape[0] - 1}."
        )
    if options.solver is not None and not isinstance(options.solver, SOLVERS):
        raise ValueError(
            f"solver must be a jaxsteer.solvers.RelativeNewton or RelativeLBFGS, got "
            f"{type(options.solver).__name__}; None takes the first."
        )
