"""Which program solves which family, gauge and intervention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from jaxsteer._types import Array
from jaxsteer.families import DiagonalNormal, LowRankNormal, MultivariateNormal, Normal
from jaxsteer.ideal._affirmative import affirmative_definite, affirmative_general
from jaxsteer.ideal._all_groups import (
    all_groups_definite,
    all_groups_general,
    all_groups_tied,
)
from jaxsteer.ideal._diagonal import per_feature, with_reference_correlations
from jaxsteer.ideal._options import Options
from jaxsteer.ideal._orbit import Orbit
from jaxsteer.ideal._tied import affirmative_tied
from jaxsteer.ideal._univariate import affirmative_univariate, all_groups_univariate
from jaxsteer.solvers import RelativeNewton

# From cells with batch [K, G] and weights [K, G] to an orbit.
Program = Callable[[Any, Array], Orbit]


def choose_program(cells: Any, options: Options) -> Program:
    """From cells and weights to an orbit, for these options and this family."""
    closed = {
        "reference": options.reference,
        "allow_reflection": options.allow_reflection,
    }
    all_groups = options.intervention == "all_groups"
    univariate = partial(affirmative_univariate, **closed)
    if all_groups:
        univariate = partial(
            all_groups_univariate, differentiate=options.differentiate, **closed
        )

    def features(cells, weights):
        return per_feature(lambda one: univariate(one, weights), cells)

    if isinstance(cells, Normal):
        return univariate
    if isinstance(cells, DiagonalNormal):
        return features
    if not isinstance(cells, MultivariateNormal | LowRankNormal):
        raise NotImplementedError(
            f"no program for the family {type(cells).__name__}; see jaxsteer.families."
        )
    if options.gauge == "diagonal" or cells.mean.shape[-1] == 1:
        return lambda cells, weights: with_reference_correlations(
            features(cells, weights), cells, options.reference
        )
    if options.gauge == "tied" and not all_groups:
        return partial(affirmative_tied, **closed)
    if all_groups and isinstance(cells, LowRankNormal):
        # The best template's precision is a sum over groups of turned ones: not of low
        # rank, so that its determinant takes a dense factorization at every step.
        dense = choose_program(cells.to_dense(), options)
        return lambda cells, weights: dense(cells.to_dense(), weights)
    search = {
        "solver": RelativeNewton() if options.solver is None else options.solver,
        "differentiate": options.differentiate,
    }
    if options.gauge == "tied":
        return partial(all_groups_tied, **closed, **search)
    if options.gauge == "full":
        general = all_groups_general if all_groups else affirmative_general
        return partial(general, pivot=options.pivot, **closed, **search)
    definite = all_groups_definite if all_groups else affirmative_definite
    pivot = None if options.gauge == "monge" else options.pivot
    return partial(definite, reference=options.reference, pivot=pivot, **search)
