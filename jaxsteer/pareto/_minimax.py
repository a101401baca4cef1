"""The least worst group: ``min_w max_a (F_a(w) - f_a)`` by its dual."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float, Int
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._lower_level import fit_weighted
from jaxsteer.pareto._model import Model, group_losses, start_of
from jaxsteer.pareto._spectral import Point, spectral_descent
from jaxsteer.solvers import final_status

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


def _dual(group_weights, theta, model, data, target):
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
