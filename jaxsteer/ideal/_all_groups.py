"""The all-groups intervention on multivariate cells: the template is chosen too."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.families import MultivariateNormal
from jaxsteer.ideal._affirmative import (
    Group,
    affirmative_general,
    affirmative_tied,
    first_frame,
    frame_at,
    reference_root,
)
from jaxsteer.ideal._affirmative_objective import affirmative_objective
from jaxsteer.ideal._all_groups_objective import (
    AllGroupsObjective,
    all_groups_objective,
)
from jaxsteer.ideal._matrix_programs import (
    LOOSE,
    MANY_FEATURES,
    MatrixSolution,
    SearchOptions,
    solve_matrices,
    trial_steps,
)
from jaxsteer.ideal._orbit import Orbit, at, groups_in_front
from jaxsteer.linalg import einsum, identity_like
from jaxsteer.maps import AffineMap
from jaxsteer.solvers import Job


def _orbit(objective: AllGroupsObjective, found: MatrixSolution) -> Orbit:
    """The template in the reference group's coordinates, and the maps from it."""
    template, matrix, shift = objective.in_reference_coordinates(found.x)
    return Orbit(
        template=template,
        to_group=AffineMap(matrix, shift),
        residual=found.residual,
        status=found.status,
        steps=found.steps,
    )


def _frames(
    cells: MultivariateNormal, weights: Float[Array, "K G"], pivots: Sequence[Any]
) -> Float[Array, "f G d d"]:
    """First frames: every group brought to the reference group as template.

    Args:
        cells: Batch ``[K, G]``.
        weights: ``[K, G]``.
        pivots: For each frame the class that its template is pinned in, or None.
    """
    home = at(cells, slice(None), 0)
    identity = jnp.eye(cells.mean.shape[-1], dtype=cells.mean.dtype)
    rights = jnp.stack(
        [identity if one is None else reference_root(cells, one) for one in pivots]
    )

    def frames(group: Group):
        objective = affirmative_objective(group.cells, home, group.weight)
        return jax.vmap(lambda right: first_frame(objective, right)[0])(rights)

    groups = Group(groups_in_front(cells, slice(None)), weights.T)
    found = jnp.moveaxis(jax.vmap(frames)(groups), 0, 1)
    # Unless the template is pinned, it has the reference group's coordinates.
    free = np.array([one is None for one in pivots])
    return found.at[free, 0].set(identity)


def _all_but_first(n_groups: int) -> Array:
    return jnp.arange(n_groups) > 0


def all_groups_definite(
    cells: MultivariateNormal,
    weights: Float[Array, "K G"],
    *,
    pivot: Any,
    options: SearchOptions,
    start: Float[Array, "G d d"] | None = None,
) -> Orbit:
    """Positive definite maps from the template to each group.

    Without a pivot the template has the reference group's coordinates. With one it has
    the identity as covariance of the pivot class, so that group ``a`` ends with ``T_a^2``
    there (the paper's form); the result is given in the reference group's coordinates
    all the same. A `start` has these coordinates and serves where there is no pivot.
    """
    pinned = pivot is not None
    objective = all_groups_objective(cells, weights, pivot if pinned else 0)
    frames = jax.lax.stop_gradient(_frames(cells, weights, [pivot]))
    if start is not None and not pinned:
        metric = jax.lax.stop_gradient(objective.output_metric)
        right = identity_like(start)
        frames = jax.vmap(frame_at)(start, right, metric, frames[0])[None]
    objective = dataclasses.replace(objective, pinned=jnp.asarray(pinned))
    found = solve_matrices(
        objective,
        None,
        [Job(source=None, pinned=pinned)],
        options,
        frames=frames,
        free=_all_but_first(weights.shape[1]),
    )
    return _orbit(objective, found)


def all_groups_general(
    cells: MultivariateNormal,
    weights: Float[Array, "K G"],
    *,
    pivot: Any,
    allow_reflection: bool,
    options: SearchOptions,
    start: Float[Array, "G d d"] | None = None,
) -> Orbit:
    """Any invertible maps: not convex, from several starts.

    Started from the affirmative answer, and, up to ``MANY_FEATURES`` features, from the
    definite maps' answers, hence not above any of them; with a `start` from it alone.
    """
    objective = all_groups_objective(cells, weights, pivot)
    free = _all_but_first(weights.shape[1])
    if start is not None:
        return _orbit(objective, _from_one(objective, start, free, options))
    fixed_cells, fixed_weights = jax.lax.stop_gradient((cells, weights))
    rough = dataclasses.replace(
        options,
        tolerance=jnp.maximum(options.tolerance, LOOSE),
        differentiate="none",
    )
    affirmative = affirmative_general(
        fixed_cells,
        fixed_weights,
        pivot=pivot,
        allow_reflection=allow_reflection,
        options=rough,
    )
    starts = [affirmative.to_group.weight]
    jobs, frames = [], None
    d = cells.mean.shape[-1]
    if d <= MANY_FEATURES:
        frames = _frames(fixed_cells, fixed_weights, [None, pivot])
        jobs = [
            Job(source=None, frame=0, target=1, loose=True),
            Job(source=None, frame=1, pinned=True, target=2, loose=True),
            *(Job(source=s, target=s, steps=trial_steps(d)) for s in range(3)),
        ]
        starts = [*starts, *starts, *starts]
    jobs.append(Job(source=tuple(range(len(starts)))))
    points = jnp.stack(starts)
    found = solve_matrices(
        objective,
        points,
        jobs,
        options,
        frames=frames,
        free=free,
        moment=jax.lax.stop_gradient(objective).input_moment(points[0]),
    )
    return _orbit(objective, found)


def _from_one(
    objective: AllGroupsObjective,
    start: Float[Array, "G d d"],
    free: Array,
    options: SearchOptions,
) -> MatrixSolution:
    """Search from one start to the end."""
    return solve_matrices(
        objective,
        start[None],
        [Job(source=0)],
        options,
        free=free,
        moment=jax.lax.stop_gradient(objective).input_moment(start),
    )


def all_groups_tied(
    cells: MultivariateNormal,
    weights: Float[Array, "K G"],
    *,
    allow_reflection: bool,
    options: SearchOptions,
) -> Orbit:
    """The maps of the population whose groups have one pooled covariance each.

    Nearest where each group's classes share one covariance; elsewhere ideal all the
    same, with the template that is best for these maps.
    """
    share = weights / jnp.sum(weights, 0)[None]
    pooled = einsum("ka,kaij->aij", share, cells.cov)
    tied = MultivariateNormal(
        cells.mean, jnp.broadcast_to(pooled, (len(weights), *pooled.shape))
    )
    fixed_cells, fixed_weights = jax.lax.stop_gradient((tied, weights))
    start = affirmative_tied(
        fixed_cells, fixed_weights, allow_reflection=allow_reflection
    )
    found = _from_one(
        all_groups_objective(tied, weights, 0),
        start.to_group.weight,
        _all_but_first(weights.shape[1]),
        options,
    )
    return _orbit(all_groups_objective(cells, weights, 0), found)
