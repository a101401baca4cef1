"""The upper objective and its exact derivative by the implicit function theorem."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

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
