"""Which program solves which family, kind of maps and intervention."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxsteer._types import Array, Float
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
from jaxsteer.ideal._matrix_programs import SearchOptions
from jaxsteer.ideal._options import Options
from jaxsteer.ideal._orbit import Orbit
from jaxsteer.ideal._tied import affirmative_tied
from jaxsteer.ideal._univariate import affirmative_univariate, all_groups_univariate
from jaxsteer.maps import ConjugatedMap, ProductMap


def nearest_orbit(
    cells: Any,
    weights: Float[Array, "K G"],
    pivot: Any,
    tolerance: Any,
    options: Options,
) -> Orbit:
    """Solve the program of a family, kind of maps and intervention.

    Args:
        cells: The source's cells, batch ``[K, G]``, the reference group in front.
        weights: ``[K, G]`` new priors.
        pivot: The class that "pivot" maps are relative to, maybe traced.
        tolerance: ``[]`` residual that counts as converged, maybe traced.
        options: The other choices.

    Raises:
        NotImplementedError: If the family has no program.
    """
    if isinstance(cells, SharedBijection):
        return _through_bijection(cells, weights, pivot, tolerance, options)
    if isinstance(cells, Product):
        return _block_by_block(cells, weights, pivot, tolerance, options)
    if isinstance(cells, MultivariateNormal | LowRankNormal):
        return _multivariate(cells, weights, pivot, tolerance, options)
    all_groups = options.intervention == "all_groups"
    if isinstance(cells, tuple(NATURAL)):
        return common_orbit(cells, weights, reference=0, all_groups=all_groups)
    if isinstance(cells, (*LOCATION_SCALE, *SCALE, Weibull)):
        program: Any = weibull_orbit if isinstance(cells, Weibull) else moved_orbit
        return program(
            cells,
            weights,
            reference=0,
            all_groups=all_groups,
            allow_reflection=options.allow_reflection,
            differentiate=options.differentiate,
        )
    if isinstance(cells, Normal):
        return _univariate(cells, weights, options)
    if isinstance(cells, DiagonalNormal):
        return per_feature(lambda one: _univariate(one, weights, options), cells)
    raise NotImplementedError(
        f"no program for the family {type(cells).__name__}; see jaxsteer.nearest_ideal."
    )


def _through_bijection(
    cells: SharedBijection,
    weights: Array,
    pivot: Any,
    tolerance: Any,
    options: Options,
) -> Orbit:
    """The program in base coordinates, carried to the data's."""
    orbit = nearest_orbit(cells.base, weights, pivot, tolerance, options)
    return dataclasses.replace(
        orbit,
        template=cells.with_base(orbit.template),
        to_group=ConjugatedMap.alike(
            orbit.to_group, cells.bijection, weights.shape[1:], cells.limits
        ),
        reference_stays=False,  # a shared bijection has no groups to leave out
    )


def _block_by_block(
    cells: Product, weights: Array, pivot: Any, tolerance: Any, options: Options
) -> Orbit:
    """Every block's own program: the divergence of a product is the sum of theirs."""
    orbits = [
        nearest_orbit(block, weights, pivot, tolerance, options)
        for block in cells.blocks
    ]
    maps = tuple(orbit.to_group for orbit in orbits)
    return Orbit(
        template=Product(tuple(orbit.template for orbit in orbits)),
        to_group=ProductMap(maps, cells.widths),
        residual=jnp.max(jnp.stack([orbit.residual for orbit in orbits])),
        status=jnp.max(jnp.stack([orbit.status for orbit in orbits])),
        steps=jnp.max(jnp.stack([orbit.steps for orbit in orbits])),
    )


def _univariate(cells: Normal, weights: Array, options: Options) -> Orbit:
    reflect = options.allow_reflection
    if options.intervention == "affirmative":
        return affirmative_univariate(cells, weights, 0, allow_reflection=reflect)
    return all_groups_univariate(
        cells,
        weights,
        0,
        allow_reflection=reflect,
        differentiate=options.differentiate,
    )


def _multivariate(
    cells: Any, weights: Array, pivot: Any, tolerance: Any, options: Options
) -> Orbit:
    if options.maps == "diagonal" or cells.mean.shape[-1] == 1:
        marginal = per_feature(lambda one: _univariate(one, weights, options), cells)
        return with_reference_correlations(marginal, cells, 0)
    all_groups = options.intervention == "all_groups"
    reflect = options.allow_reflection
    if options.maps == "shared_covariance" and not all_groups:
        return affirmative_tied(cells, weights, allow_reflection=reflect)
    if all_groups and isinstance(cells, LowRankNormal):
        # The best template's precision is a sum over groups of turned ones: not of low
        # rank, so that its determinant takes a dense factorization at every step.
        cells = cells.to_dense()
    how = SearchOptions(
        solver=options.solver,
        tolerance=tolerance,
        differentiate=options.differentiate,
    )
    if options.maps == "shared_covariance":
        return all_groups_tied(cells, weights, allow_reflection=reflect, options=how)
    if options.maps == "general":
        general = all_groups_general if all_groups else affirmative_general
        return general(
            cells, weights, pivot=pivot, allow_reflection=reflect, options=how
        )
    definite = all_groups_definite if all_groups else affirmative_definite
    pivot = None if options.maps == "positive_definite" else pivot
    return definite(cells, weights, pivot=pivot, options=how)
