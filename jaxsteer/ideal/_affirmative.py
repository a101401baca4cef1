"""The affirmative intervention on multivariate cells: one group moves at a time.

The template is the reference group, so every other group is a problem of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.families import MultivariateNormal
from jaxsteer.ideal._diagonalization import diagonalizing_matrix
from jaxsteer.ideal._gauges import (
    monge_frame,
    roughly,
    solve_definite,
    solve_general,
)
from jaxsteer.ideal._mismatch import Mismatch, mismatch_of
from jaxsteer.ideal._orbit import Orbit, for_each_group, join_maps
from jaxsteer.ideal._stacks import Cells, at, group_first, pooled_cov
from jaxsteer.ideal._tied import tied_map
from jaxsteer.linalg import after, all_after, inv_sqrtm_psd, matmul, transpose
from jaxsteer.solvers import Differentiate, Solution

# Above this many features the general kind of maps starts from the tied closed form alone:
# every further start would cost as much as the solve.
MANY_FEATURES = 128


def reference_roots(cells: Cells, reference: int, pivot: Any) -> Float[Array, "d d"]:
    """Inverse root of the reference group's covariance in the pivot class."""
    return inv_sqrtm_psd(at(cells, pivot, reference).cov)


def first_frame(objective: Mismatch, right: Array | None) -> Float[Array, "1 d d"]:
    """Frame of the definite maps' solution, were the classes' covariances equal."""
    objective = jax.lax.stop_gradient(objective)
    second = objective.columns(objective.rows)  # the same whatever the matrix
    second = after(second, objective.inverse_factor)
    if right is not None:
        right = jax.lax.stop_gradient(right)
        second = matmul(right, matmul(second, transpose(right)))
    return monge_frame(objective.rows / objective.log_weight[0], second)


def definite(
    objective: Mismatch, right: Array | None, solver: Any, differentiate: Differentiate
) -> Solution:
    """Solve one group's problem over ``s @ right``; convex."""
    frame = first_frame(objective, right)
    side = None if right is None else right[None]
    return solve_definite(objective, frame, side, solver, differentiate)


def starting_matrices(
    group: tuple[Cells, Array],
    template: Cells,
    objective: Mismatch,
    root: Array,
    solver: Any,
    *,
    allow_reflection: bool,
) -> Float[Array, "s d d"]:
    """Matrices to start the search for general maps from; the definite answers too."""
    own, weight = all_after(group, objective.inverse_factor)
    share = weight / jnp.sum(weight)
    pooled, within = pooled_cov(own, share), pooled_cov(template, share)

    def tied(reflect):
        return tied_map(
            own.mean,
            pooled,
            template.mean,
            within,
            weight,
            allow_reflection=reflect,
        ).weight

    starts = [tied(False)]
    if allow_reflection:
        pooled = after(pooled, starts[0])
        starts.append(tied(True))
    if own.mean.shape[-1] <= MANY_FEATURES:
        # Both definite kinds of maps by one compiled search.
        rights = jnp.stack([jnp.eye(len(root), dtype=root.dtype), root])
        rights = after(rights, starts[-1])
        ends = jax.lax.map(
            lambda right: definite(objective, right, roughly(solver), "none").x[0],
            rights,
        )
        starts.extend(ends)
        if isinstance(own, MultivariateNormal):
            own = all_after(own, ends)
            paired = diagonalizing_matrix(
                own.mean,
                own.cov,
                template.mean,
                template.cov,
                weight,
                allow_reflection=allow_reflection,
            )
            starts.append(paired)
    return jnp.stack(starts)


def _by_group(
    cells: Cells,
    weights: Float[Array, "K G"],
    reference: int,
    solve: Callable[[Any, Mismatch], Solution],
) -> Orbit:
    """Solve every moving group's problem and join the maps."""
    n_groups = weights.shape[1]
    others = np.array([a for a in range(n_groups) if a != reference])
    template = at(cells, slice(None), reference)

    def one(group):
        objective = mismatch_of(group[0], template, group[1])
        found = solve(group, objective)
        move = objective.best_map(found.x[0])
        return move, found.residual, found.status, found.steps

    moved, residual, status, steps = for_each_group(
        one, (group_first(cells, others), weights.T[others])
    )
    return Orbit(
        template=template,
        to_group=join_maps(moved, n_groups, reference),
        residual=jnp.max(residual),
        status=jnp.max(status),
        steps=jnp.max(steps),
        stays=reference,
    )


def affirmative_definite(
    cells: Cells,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    pivot: Any,
    solver: Any,
    differentiate: Differentiate,
) -> Orbit:
    """Maps ``x -> S x + b``, or with a pivot class ``r`` ``S Sigma_r^-1/2 x + b``.

    ``S`` positive definite, ``Sigma_r`` the reference group's covariance. Convex: the
    global optimum, certified by the residual.

    References:
        "On Optimal Steering to Achieve Exact Fairness", Theorem 4.1.
    """
    root = None
    if pivot is not None:
        root = reference_roots(cells, reference, pivot)
        cells = all_after(cells, root)

    def solve(group, objective):
        del group
        return definite(objective, root, solver, differentiate)

    return _by_group(cells, weights, reference, solve)


def affirmative_general(
    cells: Cells,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    pivot: Any,
    allow_reflection: bool,
    solver: Any,
    differentiate: Differentiate,
) -> Orbit:
    """Maps ``x -> T x + b`` with any invertible ``T``: not convex, from several starts.

    Never above the definite kinds of maps, whose answers are among the starts up to
    ``MANY_FEATURES`` features.
    """
    root = jax.lax.stop_gradient(reference_roots(cells, reference, pivot))
    cells = all_after(cells, root)
    template = jax.lax.stop_gradient(at(cells, slice(None), reference))

    def solve(group, objective):
        starts = starting_matrices(
            jax.lax.stop_gradient(group),
            template,
            jax.lax.stop_gradient(objective),
            root,
            solver,
            allow_reflection=allow_reflection,
        )
        return solve_general(objective, starts[:, None], solver, differentiate)

    return _by_group(cells, weights, reference, solve)
