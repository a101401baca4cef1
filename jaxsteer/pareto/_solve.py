"""``solve_badr``: the fairest model among the Pareto-efficient ones."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_choice, check_finite, is_concrete
from jaxsteer._types import Array, ArrayLike, Float, PRNGKeyArray
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._exact import ExactOptions, solve_exact
from jaxsteer.pareto._hypergradient import Problem
from jaxsteer.pareto._metric import Metric
from jaxsteer.pareto._model import Model, group_losses, outputs, start_of, unraveler
from jaxsteer.pareto._single_loop import LoopOptions, solve_single_loop
from jaxsteer.pareto._solution import ParetoSolution
from jaxsteer.solvers import final_status

METHODS = ("exact", "gd", "sgd")


def solve_badr(
    data: GroupData,
    model: Model,
    metric: Metric,
    method: Literal["exact", "gd", "sgd"] = "exact",
    *,
    options: ExactOptions | LoopOptions | None = None,
    start: Float[ArrayLike, " G"] | None = None,
    key: PRNGKeyArray | None = None,
) -> ParetoSolution:
    """Find group weights whose best model is the fairest: bilevel optimization.

    ``min over lambda in the simplex of Fair(w(lambda))`` with ``w(lambda) = argmin_w
    sum_a lambda_a F_a(w)``, where ``F_a`` is the mean loss of group `a` (and the
    model's penalty). Every ``w(lambda)`` is Pareto-efficient: no model has a smaller
    loss in one group without a larger one in another (for convex models and weights
    that are all positive). So what is gained in fairness is not paid by harming every
    group, as with a penalty on unfairness it may be.

    The upper level is not convex: "exact" searches from several starts, the single
    loops begin at the best of several and go on from there.

    Args:
        data: The rows, from :func:`group_data`.
        model: A :class:`Logistic`, :class:`Softmax`, :class:`Ridge`,
            :class:`SmoothSVM`, :class:`CustomModel`, or your own :class:`Model`.
        metric: What is unfair: a :class:`Metric`.
        method: "exact": the lower level is solved at every step and differentiated by
            the implicit function theorem; right for up to some hundreds of parameters.
            "gd": one loop over model, adjoint and weights, with all rows. "sgd": the
            same with balanced minibatches.
        options: An :class:`ExactOptions` for "exact", a :class:`LoopOptions` for the
            others.
        start: ``[G]`` first group weights, on the simplex; None takes equal ones.
        key: Random key of the minibatches; needed for "sgd".

    Returns:
        The solution, never less fair (by the smooth metric) than the start.

    Raises:
        ValueError: If an argument is unusable, or model, metric and target do not go
            together.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.pareto import GroupLossVariance, Logistic, group_data
        >>> rng = np.random.default_rng(0)
        >>> group, y = rng.integers(0, 2, (2, 400))
        >>> x = rng.normal(size=(400, 2)) + y[:, None] * np.where(group, 2, 1)[:, None]
        >>> data = group_data(x, y, group)
        >>> found = solve_badr(data, Logistic(), GroupLossVariance(), "gd")
        >>> bool(found.value < found.start_value)
        True

    References:
        Tanji, Vaiter and Laguel 2026, "Fairness-informed Pareto optimization" (arXiv
        2601.13448).
    """
    check_choice("method", method, METHODS)
    expected = ExactOptions if method == "exact" else LoopOptions
    options = expected() if options is None else options
    if not isinstance(options, expected):
        raise ValueError(
            f"options must be {expected.__name__} for method={method!r}, got "
            f"{type(options).__name__}."
        )
    check_problem(data, model, metric)
    if method == "sgd" and key is None:
        raise ValueError("method='sgd' draws rows: pass key=jax.random.key(0).")
    probe = start is None
    start = check_group_weights("start", start, data)
    key = key if method == "sgd" else None
    problem = Problem(model=model, metric=metric, data=data)
    return _solve(problem, start, options, key, probe=probe)


def check_problem(data: Any, model: Any, metric: Any = None) -> None:
    """Raise ValueError unless data, model and metric go together."""
    if not isinstance(data, GroupData):
        raise ValueError(
            f"data must be a GroupData, got {type(data).__name__}: data = "
            "jaxsteer.pareto.group_data(x, target, group)."
        )
    if not isinstance(model, Model):
        raise ValueError(
            f"model must be a Model such as Logistic(), got {type(model).__name__}; a "
            "class must be called, and functions go into CustomModel."
        )
    model.check(data)
    if metric is not None:
        if not isinstance(metric, Metric):
            raise ValueError(
                f"metric must be a Metric such as DemographicParity(), got "
                f"{type(metric).__name__}; a function goes into CustomMetric(fn=...)."
            )
        metric.check(data)


def check_group_weights(name: str, values: Any, data: GroupData) -> Float[Array, " G"]:
    """Return weights of the groups as an array on the simplex."""
    real = data.share.dtype
    if values is None:
        return jnp.full(data.n_groups, 1 / data.n_groups, real)
    weights = jnp.asarray(values, real)
    if weights.shape != (data.n_groups,):
        raise ValueError(
            f"{name} must have one entry for each of {data.n_groups} groups, got shape "
            f"{weights.shape}."
        )
    check_finite(name, weights)
    if is_concrete(weights):
        host = np.asarray(weights)
        if (host < 0).any() or abs(host.sum() - 1) > 1e-4:
            raise ValueError(
                f"{name} must be at least 0 and sum to 1, got a minimum of {host.min()} "
                f"and a sum of {host.sum()}; divide by the sum."
            )
    return weights


@partial(jax.jit, static_argnames="probe")
def _solve(
    problem: Problem,
    start: Array,
    options: ExactOptions | LoopOptions,
    key: Array | None,
    *,
    probe: bool,
) -> ParetoSolution:
    model, data = problem.model, problem.data
    theta = start_of(model, data)
    start = start.astype(theta.dtype)
    if isinstance(options, ExactOptions):
        limit = float(jnp.finfo(theta.dtype).eps) ** (1 / 3)
        limit = limit if options.tolerance is None else options.tolerance
        end, start_value = solve_exact(problem, start, theta, options, limit)
    else:
        limit = options.tolerance
        end, start_value = solve_single_loop(
            problem, start, theta, options, key, probe=probe
        )
    out = outputs(model, end.theta, data)
    finite = jnp.isfinite(start_value) & jnp.isfinite(end.value)
    residual = jnp.where(finite, end.residual, jnp.nan)
    return ParetoSolution(
        group_weights=end.group_weights,
        params=unraveler(model, data)(end.theta),
        value=end.value,
        hard=problem.metric.hard(out, data),
        group_losses=group_losses(model, end.theta, data),
        start_value=start_value,
        residual=residual,
        status=final_status(residual, limit, end.steps, options.max_steps),
        steps=end.steps,
        history=end.history,
        model=model,
    )
