"""The upper objective, its exact derivative by implicit functions, and its starts."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Int
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._lower_level import fit_weighted
from jaxsteer.pareto._model import Model, group_losses, outputs


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """A model, a metric and the rows: ``min over lambda of Fair(w(lambda))``."""

    model: Model
    metric: Any
    data: GroupData


class Evaluation(NamedTuple):
    """The upper level at one point.

    Attributes:
        value: ``[]`` the smooth metric of the best model for these group weights.
        slope: ``[G]`` its derivative by the group weights.
        theta: ``[p]`` flat parameters of that model.
        adjoint: ``[p]`` ``H^-1 grad Fair``.
        factor: ``[p, p]`` inverse Cholesky factor of ``H``, or None for many parameters.
        steps: ``[]`` steps of the lower level, int32.
    """

    value: Float[Array, ""]
    slope: Float[Array, " G"]
    theta: Float[Array, " p"]
    adjoint: Float[Array, " p"]
    factor: Float[Array, "p p"] | None
    steps: Int[Array, ""]


def smooth_metric(theta: Float[Array, " p"], problem: Problem) -> Float[Array, ""]:
    """The metric as a function of flat parameters."""
    data = problem.data
    return problem.metric.smooth(outputs(problem.model, theta, data), data)


def hypergradient(
    group_weights: Float[Array, " G"], theta: Float[Array, " p"], problem: Problem
) -> Evaluation:
    """Fit the lower level, and differentiate the metric of its answer.

    ``dFair/dlambda_a = - <grad F_a, H^-1 grad Fair>`` with ``H`` the Hessian of the
    weighted loss: one solve, and one directional derivative of the group losses, for
    any number of groups. Cost beside the fit: O(n p^2 + p^3) where the Hessian is
    formed, O(n p) for each conjugate gradient step above.

    Args:
        group_weights: ``[G]`` at least 0 and not all 0.
        theta: ``[p]`` parameters to start the fit from.
        problem: What is solved.

    References:
        Pedregosa 2016, "Hyperparameter optimization with approximate gradient".
    """
    model, data = problem.model, problem.data
    fit = fit_weighted(model, data, group_weights, theta)
    value, push = jax.value_and_grad(smooth_metric)(fit.theta, problem)
    adjoint = fit.solve(push)
    losses = partial(group_losses, model, data=data)
    slope = -jax.jvp(losses, (fit.theta,), (adjoint,))[1]
    return Evaluation(value, slope, fit.theta, adjoint, fit.factor, fit.steps)


def tangent(slope: Float[Array, " G"]) -> Float[Array, " G"]:
    """The part of a slope along the simplex, on which weights sum to 1."""
    return slope - jnp.mean(slope)


FAR = 0.4  # group weights that differ by more are likely in another basin


def starting_points(count: int, n_groups: int) -> np.ndarray:
    """Points of the simplex: its middle, its corners if they all fit, then any.

    ``[count, G]``; for two groups evenly spaced.
    """
    if n_groups == 2:
        first = np.linspace(0, 1, count) if count > 1 else np.full(1, 0.5)
        return np.stack([first, 1 - first], 1)
    corners = np.eye(n_groups if count > n_groups else 0, n_groups)
    middle = np.full((1, n_groups), 1 / n_groups)
    random = np.random.default_rng(0).dirichlet(np.ones(n_groups), count)
    return np.concatenate([middle, corners, random])[:count]


def sample_of(problem: Problem, rows: int) -> Problem:
    """The same problem on a sample, with the same number of rows of every group."""
    data = problem.data
    size = max(rows // data.n_groups, 1)
    if size * data.n_groups >= data.target.shape[0]:
        return problem
    sample = data.batch(size, jnp.zeros_like(data.count))
    return dataclasses.replace(problem, data=sample)


def best_starts(
    problem: Problem, theta: Float[Array, " p"], *, count: int, rows: int
) -> Float[Array, "2 G"]:
    """Return the best of `count` starting points and the best one far from it.

    They are judged on a sample, so the second may be the better one: judge both on all
    rows.
    """
    points = starting_points(count, problem.data.n_groups)
    points = jnp.asarray(points, theta.dtype)
    sample = sample_of(problem, rows)

    def value(point: Array):
        fit = fit_weighted(sample.model, sample.data, point, theta)
        return smooth_metric(fit.theta, sample)

    values = jax.vmap(value)(points)
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    best = points[jnp.argmin(values)]
    far = jnp.max(jnp.abs(points - best), 1) > FAR
    other = points[jnp.argmin(jnp.where(far, values, jnp.inf))]
    return jnp.stack([best, other])
