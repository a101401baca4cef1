"""Models fitted to given group weights: one, or many along a leading axis."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, PyTree
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._hypergradient import Problem, smooth_metric
from jaxsteer.pareto._lower_level import fit_weighted
from jaxsteer.pareto._metric import Metric
from jaxsteer.pareto._model import Model, group_losses, outputs, start_of, unraveler
from jaxsteer.pareto._solve import check_group_weights, check_problem


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class FittedModel:
    """A model, how fair it is and what it costs each group.

    Several of them (a front, a path) have a leading axis on every array.

    Attributes:
        group_weights: ``[..., G]`` weights of the groups' losses.
        params: The model's parameters.
        value: ``[...]`` the smooth metric.
        hard: ``[...]`` the hard metric.
        group_losses: ``[..., G]`` mean loss of each group, with the penalty.
        model: The model.
    """

    group_weights: Float[Array, "... G"]
    params: PyTree
    value: Float[Array, "..."]
    hard: Float[Array, "..."]
    group_losses: Float[Array, "... G"]
    model: Model

    def at(self, index: Any) -> FittedModel:
        """Return one of several."""
        picked = jax.tree.map(lambda leaf: leaf[index], without_model(self))
        return dataclasses.replace(picked, model=self.model)

    def fairest(self) -> FittedModel:
        """Return the one of several with the least smooth metric."""
        return self.at(jnp.argmin(self.value))

    def score(self, x: Any) -> Array:
        """Return one model's scores of rows, ``[n]`` or ``[n, K]``."""
        return self.model.score(self.params, x)

    def predict(self, x: Any) -> Array:
        """Return one model's predictions for rows, ``[n]``."""
        return self.model.predict(self.params, x)


def without_model(fitted: FittedModel) -> Any:
    """The same without its model, whose numbers have no leading axis."""
    return dataclasses.replace(fitted, model=None)  # pyright: ignore[reportArgumentType]


def describe(theta: Array, group_weights: Array, problem: Problem) -> FittedModel:
    """Measure a model that is given by flat parameters."""
    model, data = problem.model, problem.data
    return FittedModel(
        group_weights=group_weights,
        params=unraveler(model, data)(theta),
        value=smooth_metric(theta, problem),
        hard=problem.metric.hard(outputs(model, theta, data), data),
        group_losses=group_losses(model, theta, data),
        model=model,
    )


def fit_group_weights(
    data: GroupData,
    model: Model,
    metric: Metric,
    group_weights: Float[ArrayLike, " G"],
) -> FittedModel:
    """Fit the model that is best for given weights of the groups' mean losses.

    Args:
        data: From :func:`group_data`.
        model: The model.
        metric: What is measured.
        group_weights: ``[G]``, on the simplex.

    Raises:
        ValueError: If an argument is unusable.
    """
    check_problem(data, model, metric)
    weights = check_group_weights("group_weights", group_weights, data)
    problem = Problem(model=model, metric=metric, data=data)
    return fit_path(problem, weights[None]).at(0)


@jax.jit
def fit_path(problem: Problem, points: Float[Array, "m G"]) -> FittedModel:
    """Fit one model for each point, each from the one before."""

    def step(theta: Array, point: Array):
        found = fit_weighted(problem.model, problem.data, point, theta)
        return found.theta, found.theta

    start = start_of(problem.model, problem.data)
    _, thetas = jax.lax.scan(step, start, points.astype(start.dtype))
    measured = jax.lax.map(
        lambda pair: without_model(describe(pair[0], pair[1], problem)),
        (thetas, points),
    )
    return dataclasses.replace(measured, model=problem.model)
