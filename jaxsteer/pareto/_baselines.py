"""What BADR is compared with: other ways to choose the group weights, or none."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._fitted import (
    FittedModel,
    describe,
    fit_group_weights,
    fit_path,
    without_model,
)
from jaxsteer.pareto._hypergradient import Problem, smooth_metric
from jaxsteer.pareto._lower_level import fit_weighted
from jaxsteer.pareto._metric import Metric
from jaxsteer.pareto._model import Model, group_losses, start_of, weighted_loss
from jaxsteer.pareto._solve import check_problem
from jaxsteer.pareto._spectral import Point, spectral_descent
from jaxsteer.solvers import Reparametrized, final_status

STEPS = 200


class LeastWorst(NamedTuple):
    """The dual's answer.

    Attributes:
        group_weights: ``[G]``.
        theta: ``[p]`` the model.
        margin: ``[]`` the dual value, at most ``min_w max_a (F_a - f_a)`` and equal to
            it for convex models.
        group_losses: ``[G]``.
        status: ``[]`` int32.
    """

    group_weights: Float[Array, " G"]
    theta: Float[Array, " p"]
    margin: Float[Array, ""]
    group_losses: Float[Array, " G"]
    status: Int[Array, ""]


def _dual(
    group_weights: Array, theta: Array, model: Model, data: GroupData, target: Array
):
    fit = fit_weighted(model, data, group_weights, theta)
    excess = group_losses(model, fit.theta, data) - target
    return Point(-jnp.sum(group_weights * excess), -excess, fit.theta)


@jax.jit
def least_worst(
    model: Model, data: GroupData, target: Float[Array, " G"]
) -> LeastWorst:
    """Maximize ``min_w sum_a lambda_a (F_a(w) - f_a)`` over the simplex."""
    theta = start_of(model, data)
    equal = jnp.full(data.n_groups, 1 / data.n_groups, theta.dtype)
    target = target.astype(theta.dtype)
    args = (model, data, target)
    limit = float(jnp.finfo(theta.dtype).eps) ** 0.5
    found = spectral_descent(
        lambda x, carry: _dual(x, carry, *args),
        equal,
        theta,
        max_steps=STEPS,
        tolerance=limit,
    )
    status = final_status(found.residual, limit, found.steps, STEPS)
    point = found.point
    losses = target - point.slope
    return LeastWorst(found.x, point.carry, -point.value, losses, status)


_PATH = Reparametrized(max_steps=300)


def fit_erm(data: GroupData, model: Model, metric: Metric) -> FittedModel:
    """Fit to all rows alike: each group weighs as much as it has rows.

    (The method's release gives this name to equal group weights, here
    :func:`fit_balanced`.)

    Args:
        data: From :func:`group_data`.
        model: The model.
        metric: What is measured.

    Returns:
        The fitted model.

    Raises:
        ValueError: If an argument is unusable.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.pareto import GroupLossVariance, Logistic, group_data
        >>> rng = np.random.default_rng(0)
        >>> group, y = rng.integers(0, 2, (2, 400))
        >>> x = rng.normal(size=(400, 2)) + y[:, None] * np.where(group, 2, 1)[:, None]
        >>> data = group_data(x, y, group)
        >>> fit = fit_erm(data, Logistic(), GroupLossVariance())
        >>> bool(abs(fit.group_weights.sum() - 1) < 1e-5)
        True
    """
    check_problem(data, model, metric)
    return fit_group_weights(data, model, metric, data.mass)


def fit_balanced(data: GroupData, model: Model, metric: Metric) -> FittedModel:
    """Fit to the groups alike: equal weights of their mean losses.

    Args:
        data: From :func:`group_data`.
        model: The model.
        metric: What is measured.

    Returns:
        The fitted model.

    Raises:
        ValueError: If an argument is unusable.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.pareto import GroupLossVariance, Logistic, group_data
        >>> rng = np.random.default_rng(0)
        >>> group, y = rng.integers(0, 2, (2, 400))
        >>> x = rng.normal(size=(400, 2)) + y[:, None] * np.where(group, 2, 1)[:, None]
        >>> data = group_data(x, y, group)
        >>> fit_balanced(data, Logistic(), GroupLossVariance()).group_weights.tolist()
        [0.5, 0.5]
    """
    check_problem(data, model, metric)
    equal = jnp.full_like(data.mass, 1 / data.n_groups)
    return fit_group_weights(data, model, metric, equal)


def fit_best_group(data: GroupData, model: Model, metric: Metric) -> FittedModel:
    """Fit to each group alone, and keep the fairest of these models.

    Args:
        data: From :func:`group_data`.
        model: The model.
        metric: What is measured.

    Returns:
        The fitted model.

    Raises:
        ValueError: If an argument is unusable.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.pareto import GroupLossVariance, Logistic, group_data
        >>> rng = np.random.default_rng(0)
        >>> group, y = rng.integers(0, 2, (2, 400))
        >>> x = rng.normal(size=(400, 2)) + y[:, None] * np.where(group, 2, 1)[:, None]
        >>> data = group_data(x, y, group)
        >>> fit = fit_best_group(data, Logistic(), GroupLossVariance())
        >>> sorted(fit.group_weights.tolist())
        [0.0, 1.0]
    """
    check_problem(data, model, metric)
    corners = jnp.eye(data.n_groups, dtype=data.share.dtype)
    problem = Problem(model=model, metric=metric, data=data)
    return fit_path(problem, corners).fairest()


def fit_minimax(
    data: GroupData,
    model: Model,
    metric: Metric,
) -> FittedModel:
    """Fit the model whose worst group loss is the least (group DRO).

    ``max_lambda min_w sum_a lambda_a F_a(w)``, concave in the group weights; for convex
    models it is ``min_w max_a F_a(w)``.

    Args:
        data: From :func:`group_data`.
        model: The model.
        metric: What is measured.

    Returns:
        The fitted model.

    Raises:
        ValueError: If an argument is unusable.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.pareto import GroupLossVariance, Logistic, group_data
        >>> rng = np.random.default_rng(0)
        >>> group, y = rng.integers(0, 2, (2, 400))
        >>> x = rng.normal(size=(400, 2)) + y[:, None] * np.where(group, 2, 1)[:, None]
        >>> data = group_data(x, y, group)
        >>> fit = fit_minimax(data, Logistic(), GroupLossVariance())
        >>> int(fit.group_losses.argmax())  # the group whose classes are nearer
        0

    References:
        Sagawa, Koh, Hashimoto and Liang 2020, "Distributionally robust neural networks
        for group shifts"; Martinez, Bertran and Sapiro 2020, "Minimax Pareto fairness".
    """
    check_problem(data, model, metric)
    problem = Problem(model=model, metric=metric, data=data)
    zero = jnp.zeros_like(problem.data.mass)
    found = least_worst(problem.model, problem.data, zero)
    return _describe(found.theta, found.group_weights, problem)


_describe = jax.jit(describe)


def fit_regularization_path(
    data: GroupData,
    model: Model,
    metric: Metric,
    strengths: Float[ArrayLike, " m"],
) -> FittedModel:
    """Fit all rows alike with the smooth metric as a penalty, for rising strengths.

    ``min_w sum_a mass_a F_a(w) + strength * Fair(w)``, by L-BFGS, each from the one
    before. These models need not be Pareto-efficient: fairness may be bought by harming
    every group; :func:`dominance` tells.

    Args:
        data: From :func:`group_data`.
        model: The model.
        metric: The penalty.
        strengths: ``[m]`` at least 0.

    Returns:
        The models along the path; their group weights are the groups' shares of rows.

    Raises:
        ValueError: If an argument is unusable.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.pareto import GroupLossVariance, Logistic, group_data
        >>> rng = np.random.default_rng(0)
        >>> group, y = rng.integers(0, 2, (2, 400))
        >>> x = rng.normal(size=(400, 2)) + y[:, None] * np.where(group, 2, 1)[:, None]
        >>> data = group_data(x, y, group)
        >>> path = fit_regularization_path(
        ...     data, Logistic(), GroupLossVariance(), np.array([0.0, 1.0])
        ... )
        >>> bool(path.value[1] <= path.value[0])
        True
    """
    check_problem(data, model, metric)
    strengths = jnp.asarray(strengths, data.share.dtype)
    if strengths.ndim != 1:
        raise ValueError(f"strengths must have shape [m], got {strengths.shape}.")
    return _path(Problem(model=model, metric=metric, data=data), strengths)


def _penalized(theta: Array, args: Any) -> Array:
    problem, strength = args
    data = problem.data
    loss = weighted_loss(problem.model, theta, data, data.mass)
    return loss + strength * smooth_metric(theta, problem)


@jax.jit
def _path(problem: Problem, strengths: Array) -> FittedModel:
    def step(theta: Array, strength: Array):
        found = _PATH.run(_penalized, theta, (problem, strength), differentiate="none")
        measured = describe(found.x, problem.data.mass, problem)
        return found.x, without_model(measured)

    start = start_of(problem.model, problem.data)
    _, measured = jax.lax.scan(step, start, strengths)
    return dataclasses.replace(measured, model=problem.model)
