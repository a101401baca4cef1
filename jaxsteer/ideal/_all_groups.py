"""The all-groups intervention on multivariate cells: the template is chosen too."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.families import MultivariateNormal
from jaxsteer.ideal._affirmative import (
    MANY_FEATURES,
    affirmative_general,
    first_frame,
    reference_roots,
)
from jaxsteer.ideal._gauges import roughly, solve_definite, solve_general
from jaxsteer.ideal._mismatch import mismatch_of
from jaxsteer.ideal._orbit import Orbit
from jaxsteer.ideal._profile import Profile, profile
from jaxsteer.ideal._stacks import at, group_first
from jaxsteer.ideal._tied import affirmative_tied
from jaxsteer.linalg import after, all_after, einsum, matmul, transpose
from jaxsteer.maps import AffineMap
from jaxsteer.solvers import Differentiate, Solution


def _orbit(objective: Profile, found: Solution) -> Orbit:
    """The template in the reference group's coordinates, and the maps from it."""
    template = objective.template(found.x)
    matrix, home = after(objective.matrices(found.x), template.cov), objective.reference
    mean, cov = template.mean, template.cov
    if objective.pivot is not None:
        to_home = matrix[home]
        mean = matmul(mean, transpose(to_home))
        cov = matmul(to_home, matmul(cov, transpose(to_home)))
        # T_a T_home^-1
        matrix = transpose(
            jnp.linalg.solve(
                jnp.broadcast_to(transpose(to_home), matrix.shape), transpose(matrix)
            )
        )
        identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
        matrix = matrix.at[home].set(identity)
    return Orbit(
        template=MultivariateNormal(mean, cov),
        to_group=AffineMap(matrix, template.shift),
        residual=found.residual,
        status=found.status,
        steps=found.steps,
    )


def _definite(
    cells: MultivariateNormal,
    weights: Float[Array, "K G"],
    reference: int,
    pivot: Any,
    solver: Any,
    differentiate: Differentiate,
) -> tuple[Profile, Solution]:
    root = None
    if pivot is not None:
        root = reference_roots(cells, reference, pivot)
        cells = all_after(cells, root)
    objective = profile(cells, weights, reference, pivot)
    cells = all_after(cells, objective.precision)
    # First frames: every group brought to the reference group as template.
    home = at(cells, slice(None), reference)

    def frame(group):
        return first_frame(mismatch_of(group[0], home, group[1]), root)[0]

    moving = np.array(objective.moving)
    groups = (group_first(cells, moving), weights.T[moving])
    frames = jax.lax.map(frame, jax.lax.stop_gradient(groups))
    return objective, solve_definite(objective, frames, None, solver, differentiate)


def all_groups_definite(
    cells: MultivariateNormal,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    pivot: Any,
    solver: Any,
    differentiate: Differentiate,
) -> Orbit:
    """Positive definite maps from the template to each group.

    "positive_definite" (no pivot): the template has the reference group's coordinates.
    "pivot":
    it has the identity as covariance of the pivot class, so that group ``a`` ends with
    ``T_a^2`` there (the paper's form); the result is given in the reference group's
    coordinates all the same.
    """
    found = _definite(cells, weights, reference, pivot, solver, differentiate)
    return _orbit(*found)


def all_groups_general(
    cells: MultivariateNormal,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    pivot: Any,
    allow_reflection: bool,
    solver: Any,
    differentiate: Differentiate,
) -> Orbit:
    """Any invertible maps: not convex, from several starts.

    Started from the affirmative answer, hence never above it, and, up to
    ``MANY_FEATURES`` features, from the definite kinds of maps' answers.
    """
    fixed_cells, fixed_weights = jax.lax.stop_gradient((cells, weights))
    others = np.array([a for a in range(weights.shape[1]) if a != reference])
    affirmative = affirmative_general(
        fixed_cells,
        fixed_weights,
        reference,
        pivot=pivot,
        allow_reflection=allow_reflection,
        solver=solver,
        differentiate="none",
    )
    starts = [affirmative.to_group.weight[others]]
    if cells.mean.shape[-1] <= MANY_FEATURES:
        for kind in (None, pivot):
            fixed_cells = all_after(fixed_cells, starts[-1])
            found = _definite(
                fixed_cells, fixed_weights, reference, kind, roughly(solver), "none"
            )
            starts.append(_orbit(*found).to_group.weight[others])
    objective = profile(all_after(cells, starts[-1]), weights, reference)
    found = solve_general(objective, jnp.stack(starts), solver, differentiate)
    return _orbit(objective, found)


def all_groups_tied(
    cells: MultivariateNormal,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    allow_reflection: bool,
    solver: Any,
    differentiate: Differentiate,
) -> Orbit:
    """The maps of the population whose groups have one pooled covariance each.

    Nearest where each group's classes share one covariance; elsewhere ideal all the
    same, with the template that is best for these maps.
    """
    share = weights / jnp.sum(weights, 0)
    pooled = einsum("ka,kaij->aij", share, cells.cov)
    tied = MultivariateNormal(
        cells.mean, jnp.broadcast_to(pooled, (len(weights), *pooled.shape))
    )
    fixed_cells, fixed_weights = jax.lax.stop_gradient((tied, weights))
    start = affirmative_tied(
        fixed_cells, fixed_weights, reference, allow_reflection=allow_reflection
    )
    others = np.array([a for a in range(weights.shape[1]) if a != reference])
    first = start.to_group.weight[others][None]
    model = profile(all_after(tied, first), weights, reference)
    found = solve_general(model, first, solver, differentiate)
    return _orbit(profile(all_after(cells, found.x), weights, reference), found)
