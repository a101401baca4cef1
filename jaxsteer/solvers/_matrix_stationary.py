"""Derivatives of a point where an objective of matrices is stationary."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import identity_like, inverse_and_logdet, matmul, transpose
from jaxsteer.solvers._chart import Chart, MatrixObjective
from jaxsteer.solvers._conjugate_gradient import solve_positive

UNROLLED_STEPS = 3  # Newton steps from the solution: enough for second derivatives


def attach_derivative(
    chart: Chart,
    objective: MatrixObjective,
    differentiate: str,
    factor: Float[Array, "g d d"] | None = None,
) -> Float[Array, "g d d"]:
    """The matrices at a solution's chart, with derivatives by the objective.

    Args:
        chart: Its center is the solution; it counts as constant.
        objective: The objective, of which the center is a stationary point.
        differentiate: "implicit" differentiates the stationarity condition, to any
            order and in both modes. The Hessian is damped by the root of the rounding
            unit, so that flat directions (rotations that the objective does not see)
            have derivative 0 instead of NaN. "held" has first derivative 0 (the
            envelope theorem: what only depends on the minimum does not see it), and
            second ones as "implicit". "unroll" differentiates through Newton steps from
            the solution, damped alike. "none" has no derivative.
        factor: ``[g, d, d]`` the fixed ``R`` behind definite matrices ``S R``, which may
            carry derivatives; None where it is constant.

    Returns:
        ``[g, d, d]``.
    """
    chart = jax.lax.stop_gradient(chart)
    if differentiate == "none":
        return chart.point
    if factor is not None:
        right = matmul(transpose(chart.left), factor)
        chart = dataclasses.replace(chart, right=right)
    if differentiate == "unroll":
        return _unrolled(chart, objective)
    step = (
        _held(chart, objective) if differentiate == "held" else _root(chart, objective)
    )
    return _near(chart, step)


def _near(chart: Chart, e: Array) -> Array:
    """``left (I + e) right``: nearby, this chart is as good as any."""
    return chart.point + chart.push(chart.restrict(e))


def _slope(chart: Chart, objective: MatrixObjective, e: Array) -> Array:
    """Gradient of the objective with its log-determinants by `e`."""
    inverse, _, _ = inverse_and_logdet(identity_like(e) + chart.restrict(e))
    pulled = chart.pull(objective.gradient(_near(chart, e)))
    weight = objective.log_weight[:, None, None]
    return chart.restrict(pulled - weight * transpose(inverse))


def _tangent_solve(chart: Chart, objective: MatrixObjective, linear: Any, b: Array):
    """Solve ``linear(x) = b`` for the Hessian, damped."""
    chart, fixed = jax.lax.stop_gradient((chart, objective))
    weight = fixed.log_weight[:, None, None]
    damping = weight * float(jnp.finfo(b.dtype).eps) ** 0.5
    approximate = chart.expand(fixed).precondition
    return solve_positive(lambda e: linear(e) + damping * e, b, approximate)


def _zeros_of(chart: Chart) -> Array:
    """Zeros that a transformation takes for a function of the chart.

    ``vmap`` outside a derivative rule wants a primal output with the tangent's axes.
    """
    return jnp.where(chart.left > jnp.inf, 1, 0).astype(chart.left.dtype)


# What is differentiated by, and its tangents.
Point = tuple[Chart, MatrixObjective]


# The step from the center is 0, whatever the objective; only its derivatives are not.
# Traced only where something is differentiated: the rule is no part of other programs.
@jax.custom_jvp
def _root(chart: Chart, objective: MatrixObjective) -> Array:
    del objective
    return _zeros_of(chart)


@_root.defjvp
def _root_jvp(
    primals: tuple[Chart, MatrixObjective], tangents: tuple[Chart, MatrixObjective]
):
    chart, objective = primals
    e = _root(chart, objective)
    _, moved = jax.jvp(
        lambda chart, objective: _slope(chart, objective, e), primals, tangents
    )
    _, linear = jax.linearize(lambda e: _slope(chart, objective, e), e)
    return e, -_tangent_solve(chart, objective, linear, moved)


@jax.custom_jvp
def _held(chart: Chart, objective: MatrixObjective) -> Array:
    del objective
    return _zeros_of(chart)


@_held.defjvp
def _held_jvp(
    primals: tuple[Chart, MatrixObjective], tangents: tuple[Chart, MatrixObjective]
):
    del tangents
    e = _root(*primals)
    return e, jnp.zeros_like(e)


def _unrolled(chart: Chart, objective: MatrixObjective) -> Array:
    e = _zeros_of(chart)
    # No scan: forward over reverse through one would go wrong (jax 0.10.2).
    for _ in range(UNROLLED_STEPS):
        value, linear = jax.linearize(lambda e: _slope(chart, objective, e), e)
        e = e - _tangent_solve(chart, objective, linear, value)
    return _near(chart, e)
