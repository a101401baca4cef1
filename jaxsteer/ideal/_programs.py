"""Which program solves which family, kind of maps and intervention."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp

from jaxsteer._types import Array
from jaxsteer.families import (
    DiagonalNormal,
    LowRankNormal,
    MultivariateNormal,
    Normal,
    Product,
    SharedBijection,
    Weibull,
)
from jaxsteer.ideal._affirmative import affirmative_definite, affirmative_general
from jaxsteer.ideal._all_groups import (
    all_groups_definite,
    all_groups_general,
    all_groups_tied,
)
from jaxsteer.ideal._barycentre import NATURAL, common_orbit
from jaxsteer.ideal._diagonal import per_feature, with_reference_correlations
from jaxsteer.ideal._gains_and_shifts import (
    LOCATION_SCALE,
    SCALE,
    moved_orbit,
    weibull_orbit,
)
from jaxsteer.ideal._options import Options
from jaxsteer.ideal._orbit import Orbit
from jaxsteer.ideal._stacks import Cells
from jaxsteer.ideal._tied import affirmative_tied
from jaxsteer.ideal._univariate import affirmative_univariate, all_groups_univariate
from jaxsteer.maps import ConjugatedMap, ProductMap
from jaxsteer.solvers import RelativeNewton

# From cells with batch [K, G] and weights [K, G] to an orbit.
Program = Callable[[Any, Array], Orbit]


def choose_program(cells: Any, options: Options) -> Program:
    """From cells and weights to an orbit, for these options and this family."""
    if isinstance(cells, SharedBijection):
        return _through(choose_program(cells.base, options))
    if isinstance(cells, Product):
        return _side_by_side([choose_program(one, options) for one in cells.blocks])
    if isinstance(cells, MultivariateNormal | LowRankNormal):
        return _multivariate(cells, options)
    all_groups = options.intervention == "all_groups"
    if isinstance(cells, tuple(NATURAL)):
        return partial(common_orbit, reference=options.reference, all_groups=all_groups)
    if isinstance(cells, (*LOCATION_SCALE, *SCALE, Weibull)):
        return partial(
            weibull_orbit if isinstance(cells, Weibull) else moved_orbit,
            reference=options.reference,
            all_groups=all_groups,
            allow_reflection=options.allow_reflection,
            differentiate=options.differentiate,
        )
    if isinstance(cells, Normal):
        return _univariate(options)
    if isinstance(cells, DiagonalNormal):
        return _features(options)
    raise NotImplementedError(
        f"no program for the family {type(cells).__name__}; see jaxsteer.nearest_ideal."
    )


def _through(program: Program) -> Program:
    """A program in base coordinates, carried to the data's."""

    def solve(cells: SharedBijection, weights: Array) -> Orbit:
        orbit = program(cells.base, weights)
        return dataclasses.replace(
            orbit,
            template=cells.with_base(orbit.template),
            to_group=ConjugatedMap.alike(
                orbit.to_group, cells.bijection, weights.shape[1:]
            ),
            stays=None,  # a shared bijection has no groups to leave out
        )

    return solve


def _side_by_side(programs: list[Program]) -> Program:
    """Every block's own program: the divergence of a product is the sum of theirs."""

    def solve(cells: Product, weights: Array) -> Orbit:
        pairs = zip(programs, cells.blocks, strict=True)
        orbits = [program(block, weights) for program, block in pairs]
        return Orbit(
            template=Product(tuple(orbit.template for orbit in orbits)),
            to_group=ProductMap(
                tuple(orbit.to_group for orbit in orbits), cells.widths
            ),
            residual=jnp.max(jnp.stack([orbit.residual for orbit in orbits])),
            status=jnp.max(jnp.stack([orbit.status for orbit in orbits])),
            steps=jnp.max(jnp.stack([orbit.steps for orbit in orbits])),
        )

    return solve


def _univariate(options: Options) -> Program:
    closed = {
        "reference": options.reference,
        "allow_reflection": options.allow_reflection,
    }
    if options.intervention == "affirmative":
        return partial(affirmative_univariate, **closed)
    return partial(all_groups_univariate, differentiate=options.differentiate, **closed)


def _features(options: Options) -> Program:
    univariate = _univariate(options)
    return lambda cells, weights: per_feature(
        lambda one: univariate(one, weights), cells
    )


def _multivariate(cells: Cells, options: Options) -> Program:
    all_groups = options.intervention == "all_groups"
    closed = {
        "reference": options.reference,
        "allow_reflection": options.allow_reflection,
    }
    if options.maps == "diagonal" or cells.mean.shape[-1] == 1:
        return lambda cells, weights: with_reference_correlations(
            _features(options)(cells, weights), cells, options.reference
        )
    if options.maps == "shared_covariance" and not all_groups:
        return partial(affirmative_tied, **closed)
    if all_groups and isinstance(cells, LowRankNormal):
        # The best template's precision is a sum over groups of turned ones: not of low
        # rank, so that its determinant takes a dense factorization at every step.
        dense = _multivariate(cells.to_dense(), options)
        return lambda cells, weights: dense(cells.to_dense(), weights)
    search = {
        "solver": RelativeNewton() if options.solver is None else options.solver,
        "differentiate": options.differentiate,
    }
    if options.maps == "shared_covariance":
        return partial(all_groups_tied, **closed, **search)
    if options.maps == "general":
        general = all_groups_general if all_groups else affirmative_general
        return partial(general, pivot=options.pivot, **closed, **search)
    definite = all_groups_definite if all_groups else affirmative_definite
    pivot = None if options.maps == "positive_definite" else options.pivot
    return partial(definite, reference=options.reference, pivot=pivot, **search)
