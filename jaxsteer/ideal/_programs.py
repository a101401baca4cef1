"""The table of programs: which one solves which family, kind of maps and intervention.

A family declares which maps act on it (see :class:`jaxsteer.families.Traits`); the
table at the end of this file has one entry for each such kind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxsteer._errors import check_choice, check_index
from jaxsteer._types import Array, Float
from jaxsteer.families import (
    LowRankNormal,
    Product,
    SharedBijection,
    require_traits,
    traits_of,
)
from jaxsteer.ideal._affirmative import (
    affirmative_definite,
    affirmative_general,
    affirmative_tied,
)
from jaxsteer.ideal._all_groups import (
    all_groups_definite,
    all_groups_general,
    all_groups_tied,
)
from jaxsteer.ideal._gains_and_shifts import carried_orbit, moved_orbit
from jaxsteer.ideal._matrix_programs import SearchOptions
from jaxsteer.ideal._orbit import Orbit, common_orbit
from jaxsteer.ideal._priors import PRIORS
from jaxsteer.ideal._univariate import (
    affirmative_univariate,
    all_groups_univariate,
    per_feature,
    with_reference_correlations,
)
from jaxsteer.maps import ConjugatedMap, ProductMap
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
        if (options["intervention"], options["maps"]) == ("all_groups", "pivot"):
            # The pinned template couples the groups: thousands of steps do not end it.
            raise ValueError(
                "solver=ProjectedGradient does not converge for maps='pivot' with "
                "intervention='all_groups', whose template is pinned; take solver=None, "
                "or maps='positive_definite'."
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


class _How(NamedTuple):
    """What every program gets beside the cells.

    Attributes:
        weights: ``[K, G]`` new priors.
        pivot: The class that "pivot" maps are relative to, maybe traced.
        tolerance: ``[]`` residual that counts as converged, maybe traced.
        options: The other choices.
        start: ``[G, d, d]`` matrices from the reference group to each, at which a search
            over matrices starts, or None.
    """

    weights: Float[Array, "K G"]
    pivot: Any
    tolerance: Any
    options: Options
    start: Float[Array, "G d d"] | None = None

    @property
    def all_groups(self) -> bool:
        """Whether the template is free, or the reference group's."""
        return self.options.intervention == "all_groups"

    @property
    def search(self) -> dict[str, Any]:
        """What programs that search over gains and shifts take."""
        return {
            "all_groups": self.all_groups,
            "allow_reflection": self.options.allow_reflection,
            "differentiate": self.options.differentiate,
        }


def nearest_orbit(
    cells: Any,
    weights: Float[Array, "K G"],
    pivot: Any,
    tolerance: Any,
    options: Options,
    start: Float[Array, "G d d"] | None = None,
) -> Orbit:
    """Solve the program of a family, kind of maps and intervention.

    Args:
        cells: The source's cells, batch ``[K, G]``, the reference group in front.
        weights: ``[K, G]`` new priors.
        pivot: The class that "pivot" maps are relative to, maybe traced.
        tolerance: ``[]`` residual that counts as converged, maybe traced.
        options: The other choices.
        start: Matrices at which a search over matrices starts, or None.

    Raises:
        NotImplementedError: If no maps act on the family.
    """
    return _solve(cells, _How(weights, pivot, tolerance, options, start))


def _solve(cells: Any, how: _How) -> Orbit:
    traits = traits_of(cells)
    if traits is None or traits.maps is None:
        raise NotImplementedError(
            f"no program for the family {type(cells).__name__}; see "
            "jaxsteer.nearest_ideal, and jaxsteer.families.family for one of your own."
        )
    return _PROGRAMS[traits.maps](cells, how)


def _through_bijection(cells: SharedBijection, how: _How) -> Orbit:
    """The program in base coordinates, carried to the data's."""
    orbit = _solve(cells.base, how)
    return dataclasses.replace(
        orbit,
        template=cells.with_base(orbit.template),
        to_group=ConjugatedMap.alike(
            orbit.to_group, cells.bijection, how.weights.shape[1:], cells.limits
        ),
        reference_stays=False,  # a shared bijection has no groups to leave out
    )


def _block_by_block(cells: Product, how: _How) -> Orbit:
    """Every block's own program: the divergence of a product is the sum of theirs."""
    orbits = [_solve(block, how) for block in cells.blocks]
    maps = tuple(orbit.to_group for orbit in orbits)
    return Orbit(
        template=Product(tuple(orbit.template for orbit in orbits)),
        to_group=ProductMap(maps, cells.widths),
        residual=jnp.max(jnp.stack([orbit.residual for orbit in orbits])),
        status=jnp.max(jnp.stack([orbit.status for orbit in orbits])),
        steps=jnp.max(jnp.stack([orbit.steps for orbit in orbits])),
    )


def _identity(cells: Any, how: _How) -> Orbit:
    """One law for all groups."""
    natural = require_traits(cells).natural
    return common_orbit(
        cells, how.weights, reference=0, natural=natural, all_groups=how.all_groups
    )


def _gains_and_shifts(cells: Any, how: _How) -> Orbit:
    return moved_orbit(cells, how.weights, reference=0, **how.search)


def _carried(cells: Any, how: _How) -> Orbit:
    carried = require_traits(cells).carried
    assert carried is not None  # a "carried" family says by which
    return carried_orbit(cells, how.weights, reference=0, carried=carried, **how.search)


def _univariate(cells: Any, how: _How) -> Orbit:
    """Normal laws of one feature."""
    search = how.search
    if search.pop("all_groups"):
        return all_groups_univariate(cells, how.weights, 0, **search)
    reflect = how.options.allow_reflection
    return affirmative_univariate(cells, how.weights, 0, allow_reflection=reflect)


def _diagonal(cells: Any, how: _How) -> Orbit:
    """Normal laws of independent features: one program for each."""
    return per_feature(lambda one: _univariate(one, how), cells)


def _affine(cells: Any, how: _How) -> Orbit:
    """Normal laws of dependent features: by the kind of maps."""
    options, weights, all_groups = how.options, how.weights, how.all_groups
    if options.maps == "diagonal" or cells.mean.shape[-1] == 1:
        return with_reference_correlations(_diagonal(cells, how), cells, 0)
    reflect = options.allow_reflection
    if options.maps == "shared_covariance" and not all_groups:
        return affirmative_tied(cells, weights, allow_reflection=reflect)
    if all_groups and isinstance(cells, LowRankNormal):
        # The best template's precision is a sum over groups of turned ones: not of low
        # rank, so that its determinant takes a dense factorization at every step.
        cells = cells.to_dense()
    search = SearchOptions(
        solver=options.solver,
        tolerance=how.tolerance,
        differentiate=options.differentiate,
    )
    if options.maps == "shared_covariance":
        # Along directions that this model does not see, the answer is that of the
        # closed form it starts at: no other start.
        return all_groups_tied(cells, weights, allow_reflection=reflect, options=search)
    pivot, start = how.pivot, how.start
    if options.maps == "general":
        general = all_groups_general if all_groups else affirmative_general
        return general(
            cells,
            weights,
            pivot=pivot,
            allow_reflection=reflect,
            options=search,
            start=start,
        )
    definite = all_groups_definite if all_groups else affirmative_definite
    pivot = None if options.maps == "positive_definite" else pivot
    return definite(cells, weights, pivot=pivot, options=search, start=start)


_PROGRAMS: dict[str, Callable[[Any, _How], Orbit]] = {
    "affine": _affine,
    "univariate": _univariate,
    "diagonal": _diagonal,
    "location_scale": _gains_and_shifts,
    "scale": _gains_and_shifts,
    "carried": _carried,
    "identity": _identity,
    "bijection": _through_bijection,
    "blocks": _block_by_block,
}
