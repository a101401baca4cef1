"""The affirmative intervention on multivariate cells: the reference group stays.

The template is the reference group, so every other group is a problem of its own, and
all of them are solved side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.families import MultivariateNormal
from jaxsteer.ideal._affirmative_objective import (
    AffirmativeObjective,
    affirmative_objective,
)
from jaxsteer.ideal._matrix_programs import (
    MANY_FEATURES,
    TOLD_APART,
    MatrixSolution,
    SearchOptions,
    random_count,
    solve_matrices,
    trial_steps,
)
from jaxsteer.ideal._orbit import (
    Cells,
    Orbit,
    at,
    closed_form_orbit,
    groups_in_front,
    join_maps,
    pooled_cov,
)
from jaxsteer.linalg import (
    cholesky,
    cholesky_inverse,
    eigh,
    inv_sqrtm_psd,
    matmul,
    polar_orthogonal,
    solve,
    symmetrize,
    transpose,
)
from jaxsteer.linalg._diagonalization import diagonalizing_matrix
from jaxsteer.maps import AffineMap
from jaxsteer.maps._shared_covariance import tied_map
from jaxsteer.solvers import Job, definite_frame, random_matrices


class Group(NamedTuple):
    """One group that moves.

    Attributes:
        cells: Its cells, batch ``[K]``.
        weight: ``[K]`` their weights.
        start: ``[d, d]`` where the search for its matrix starts, or None.
    """

    cells: Cells
    weight: Array
    start: Array | None = None


def reference_root(cells: Cells, pivot: Any) -> Float[Array, "d d"]:
    """Inverse root of the reference group's covariance in the pivot class."""
    cov = at(cells, pivot, 0).cov
    if cov.shape[-1] > MANY_FEATURES:
        return inv_sqrtm_psd(cov)
    # The inverse of the triangular factor, without its turn: of twice as many digits as
    # the root of the eigenvalues, where features come in unlike units.
    _, inverse = cholesky_inverse(cov)
    return symmetrize(matmul(transpose(polar_orthogonal(inverse)), inverse))


def first_frame(
    objective: AffirmativeObjective, right: Float[Array, "d d"]
) -> Float[Array, "1 d d"]:
    """Frame of the solution ``s @ right``, were the classes' covariances equal."""
    moment = matmul(right, matmul(objective.input_moment, transpose(right)))
    return definite_frame(objective.output_metric / objective.log_weight[0], moment)


def frame_at(
    start: Float[Array, "d d"],
    right: Float[Array, "d d"],
    metric: Float[Array, "d d"],
    otherwise: Float[Array, "d d"],
) -> Float[Array, "d d"]:
    """Return ``f`` such that ``f f' right`` is a given start, at the metric's axes.

    Args:
        start: A definite matrix times `right`.
        right: The fixed factor.
        metric: Of the space mapped into.
        otherwise: The frame where the start is none of a definite matrix.
    """
    definite = symmetrize(transpose(solve(transpose(right), transpose(start))))
    factor = cholesky(definite)
    usable = jnp.all(jnp.isfinite(factor))
    factor = jnp.where(usable, factor, jnp.eye(len(start), dtype=start.dtype))
    _, axes = eigh(matmul(transpose(factor), matmul(metric, factor)))
    return jnp.where(usable, matmul(factor, axes), otherwise)


def _by_group(
    cells: Cells,
    weights: Float[Array, "K G"],
    start: Float[Array, "G d d"] | None,
    solve: Callable[[Group, AffirmativeObjective], MatrixSolution],
) -> Orbit:
    """Solve every moving group's problem and join the maps."""
    template = at(cells, slice(None), 0)

    def one(group: Group):
        objective = affirmative_objective(group.cells, template, group.weight)
        found = solve(group, objective)
        move = objective.best_map(found.x[0])
        return move, found.residual, found.status, found.steps

    others = Group(
        groups_in_front(cells, slice(1, None)),
        weights.T[1:],
        None if start is None else start[1:],
    )
    moved, residual, status, steps = jax.vmap(one)(others)
    return Orbit(
        template=template,
        to_group=join_maps(moved),
        residual=jnp.max(residual),
        status=jnp.max(status),
        steps=jnp.max(steps),
        reference_stays=True,
    )


def affirmative_definite(
    cells: Cells,
    weights: Float[Array, "K G"],
    *,
    pivot: Any,
    options: SearchOptions,
    start: Float[Array, "G d d"] | None = None,
) -> Orbit:
    """Maps ``x -> S x + b``, or with a pivot class ``r`` ``S Sigma_r^-1/2 x + b``.

    ``S`` positive definite, ``Sigma_r`` the reference group's covariance. Convex: the
    global optimum, certified by the residual.

    Args:
        cells: Batch ``[K, G]``, the reference group in front.
        weights: ``[K, G]`` new priors.
        pivot: The pivot class, or None.
        options: How to search.
        start: Matrices to start from, in place of those for equal covariances.

    References:
        "On Optimal Steering to Achieve Exact Fairness", Theorem 4.1.
    """
    d = cells.mean.shape[-1]
    root = jnp.eye(d, dtype=cells.mean.dtype)
    if pivot is not None:
        root = reference_root(cells, pivot)

    def solve(group: Group, objective: AffirmativeObjective) -> MatrixSolution:
        fixed, right = jax.lax.stop_gradient((objective, root))
        frame = first_frame(fixed, right)
        if group.start is not None:
            frame = frame_at(group.start, right, fixed.total, frame[0])[None]
        return solve_matrices(
            objective,
            None,
            [Job(source=None)],
            options,
            frames=frame[None],
            rights=root[None, None],
            factor=None if pivot is None else root[None],
        )

    return _by_group(cells, weights, start, solve)


def _closed_forms(
    group: Group, template: Cells, *, reflect: bool
) -> list[Float[Array, "d d"]]:
    """Starts that take no search: pooled covariances, and paired axes."""
    own, weight = group.cells, group.weight
    share = weight / jnp.sum(weight)
    pooled, within = pooled_cov(own, share), pooled_cov(template, share)
    starts = [
        tied_map(
            own.mean, pooled, template.mean, within, weight, allow_reflection=reflect
        ).weight
    ]
    if isinstance(own, MultivariateNormal):
        # Of the order of one step's cost; with few rows a feature it saves most steps.
        paired = diagonalizing_matrix(
            own.mean,
            own.cov,
            template.mean,
            template.cov,
            weight,
            allow_reflection=reflect,
        )
        starts.append(paired)
    return starts


def affirmative_general(
    cells: Cells,
    weights: Float[Array, "K G"],
    *,
    pivot: Any,
    allow_reflection: bool,
    options: SearchOptions,
    start: Float[Array, "G d d"] | None = None,
) -> Orbit:
    """Maps ``x -> T x + b`` with any invertible ``T``: not convex, from several starts.

    Never above the definite maps, whose answers are among the starts up to
    ``MANY_FEATURES`` features, nor, with reflections, above what is found without: the
    best start of either kind is followed to its end. With a `start` it is the only one.
    """
    fixed_cells = jax.lax.stop_gradient(cells)
    few = cells.mean.shape[-1] <= MANY_FEATURES
    root = reference_root(fixed_cells, pivot) if few else None
    template = at(fixed_cells, slice(None), 0)

    def solve(group: Group, objective: AffirmativeObjective) -> MatrixSolution:
        group, fixed = jax.lax.stop_gradient((group, objective))
        if group.start is not None:
            return _search_general(objective, fixed, [group.start], 1, None, options)
        starts = _closed_forms(group, template, reflect=False)
        n_plain = len(starts)
        if allow_reflection:
            starts += _closed_forms(group, template, reflect=True)
        return _search_general(objective, fixed, starts, n_plain, root, options)

    return _by_group(cells, weights, start, solve)


def _search_general(
    objective: AffirmativeObjective,
    fixed: AffirmativeObjective,
    starts: list[Array],
    n_plain: int,
    root: Array | None,
    options: SearchOptions,
) -> MatrixSolution:
    """Try every start and the definite maps' answers; follow the best to the end.

    The best of the random ones beside it: what was found without is never lost. Without a
    root there are neither definite maps among the starts nor random ones.
    """
    jobs, plain = [], list(range(n_plain))
    mirrored = list(range(n_plain, len(starts)))
    d, n_random = starts[0].shape[-1], 0
    frames = rights = None
    if root is not None:
        identity = jnp.eye(len(root), dtype=root.dtype)
        rights = jnp.stack([identity, root])[:, None]
        frames = jax.vmap(lambda right: first_frame(fixed, right[0]))(rights)
        ends = [len(starts), len(starts) + 1]
        starts = [*starts, starts[0], starts[0]]
        jobs += [
            Job(source=None, frame=f, target=end, loose=True)
            for f, end in enumerate(ends)
        ]
        plain += ends
        n_random = random_count(options.solver, d, len(fixed.weight))
    points = jnp.stack(starts)
    for group, flip in ((plain, False), (mirrored, True)):
        if len(group) > 1:
            jobs += [Job(source=s, target=s, steps=trial_steps(d)) for s in group]
        if group:
            jobs.append(Job(source=tuple(group)))
        if group and n_random:
            # Which lead to minima of their own, and are told apart near these only.
            turned = range(len(points), len(points) + n_random)
            further = _random_starts(fixed, n_random, mirrored=flip)
            points = jnp.concatenate([points, further])
            jobs += [
                Job(source=s, target=s, steps=TOLD_APART, loose=True) for s in turned
            ]
            jobs.append(Job(source=tuple(turned)))
    return solve_matrices(
        objective,
        points[:, None],
        jobs,
        options,
        frames=frames,
        rights=rights,
        moment=fixed.input_moment,
    )


def _random_starts(
    objective: AffirmativeObjective, count: int, *, mirrored: bool
) -> Float[Array, "count d d"]:
    """Random turns of the axes of moments and metric, signed by how means are skewed."""
    metric = objective.output_metric[0] / objective.log_weight[0]
    share = objective.weight / jnp.sum(objective.weight)
    away = objective.target - (share @ objective.target)[None]
    size = jnp.sum(away * matmul(away, metric), -1)
    skew = (share * size) @ away
    moment = objective.input_moment[0]
    return random_matrices(metric, moment, skew, count, mirrored=mirrored)


def affirmative_tied(
    cells: Cells,
    weights: Float[Array, "K G"],
    *,
    allow_reflection: bool = False,
) -> Orbit:
    """Every other group is brought to the shape of the reference group, which stays.

    In closed form. Exact when the groups that move have one within-class covariance
    each; otherwise the map is that of the pooled covariance and the result is ideal all
    the same, though not the nearest.

    Args:
        cells: Cells with batch ``[K, G]``, the reference group in front; the covariances
            of a group that moves are pooled over classes with the given weights.
        weights: ``[K, G]`` new priors.
        allow_reflection: Allow maps with a negative determinant.

    Returns:
        The orbit, with affine maps.
    """
    template = at(cells, slice(None), 0)

    def solve(own: Cells, weight: Array) -> AffineMap:
        share = weight / jnp.sum(weight)
        return tied_map(
            own.mean,
            pooled_cov(own, share),
            template.mean,
            pooled_cov(template, share),
            weight,
            allow_reflection=allow_reflection,
        )

    moved = jax.vmap(solve)(groups_in_front(cells, slice(1, None)), weights.T[1:])
    dtype = cells.mean.dtype
    return closed_form_orbit(template, join_maps(moved), dtype, reference_stays=True)
