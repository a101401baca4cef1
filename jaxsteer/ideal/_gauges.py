"""Solving for matrices of one kind: any invertible, or positive definite ones.

An objective here has ``value(x)``, ``gradient(x)`` and ``curvature(left, right, x)`` for
matrices ``x`` of shape ``[g, d, d]``, weights ``log_weight`` ``[g]`` of their
log-determinants, weighted precisions ``rows`` ``[g, d, d]`` of the spaces they map
into and mean second moments ``columns(x)`` of what they map. Everything is solved in
coordinates in which the first are multiples of the identity, so that units and
correlations of the features cost no iterations, and in which the second, once mapped,
are diagonal, so that the diagonal of the Hessian tells most of it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import after, matmul, symmetrize, transpose, whiten_transposed
from jaxsteer.solvers import (
    Differentiate,
    GeneralLinear,
    PositiveDefinite,
    Solution,
)

# Steps from every start: few where a step is dear, and the starts are told apart early.
TRIAL_STEPS, TRIAL_FEATURES = 8, 256
ROUGH = 1e-3  # residual of an answer that only serves as a start


class Objective(Protocol):
    """A smooth function of matrices that the divergence's log-determinants are left of."""

    @property
    def log_weight(self) -> Array: ...

    @property
    def rows(self) -> Array: ...

    def value(self, x: Array) -> Array: ...

    def gradient(self, x: Array) -> Array: ...

    def columns(self, x: Array) -> Array: ...

    def curvature(self, left: Array, right: Array, x: Array) -> Array: ...


def _identity(x: Array) -> Array:
    return jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)


def _times(a: Array | None, b: Array | None) -> Any:
    """Product in which None is the identity."""
    if a is None or b is None:
        return b if a is None else a
    return matmul(a, b)


def _turned(a: Array | None) -> Array | None:
    return None if a is None else transpose(a)


# Module-level functions of (x, args): the solver never retraces for new values.
def _value(x: Array, args: Any) -> Array:
    objective, left, right = args
    return objective.value(_times(left, _times(x, right)))


def _gradient(x: Array, args: Any) -> Array:
    objective, left, right = args
    gradient = objective.gradient(_times(left, _times(x, right)))
    return _times(_turned(left), _times(gradient, _turned(right)))


def _general_curvature(frame: Array, args: Any) -> Array:
    objective, left, _ = args
    return objective.curvature(left, frame, matmul(left, frame))


def _definite_curvature(frame: Array, args: Any) -> Array:
    objective, _, right = args
    inner = _times(transpose(frame), right)
    return objective.curvature(frame, inner, matmul(frame, inner))


def roughly(solver: Any) -> Any:
    """The solver with a tolerance that is enough for a start of another search.

    The error of the objective is about the square of the residual; the search that
    starts there ends lower.
    """
    tolerance = ROUGH if solver.tolerance is None else max(ROUGH, solver.tolerance)
    return dataclasses.replace(solver, tolerance=tolerance)


def _coordinates(objective: Objective, starts: Array) -> Array:
    """Matrices ``A_a`` with ``A_a' rows_a A_a = log_weight_a I``, after the starts.

    Turned to the principal axes of the classes' means and covariances as the first start
    maps them. Without, classes that are far apart couple the entries of the Hessian, and
    conjugate gradients take three times as many products.
    """
    objective, starts = jax.lax.stop_gradient((objective, starts))
    rows = objective.rows / objective.log_weight[:, None, None]
    factor = jnp.linalg.cholesky(after(rows, starts))
    seen = matmul(transpose(factor), starts[0])
    moved = matmul(seen, matmul(objective.columns(starts[0]), transpose(seen)))
    _, axes = jnp.linalg.eigh(after(symmetrize(moved), factor))
    return whiten_transposed(factor, axes)


def solve_general(
    objective: Objective,
    starts: Float[Array, "s g d d"],
    solver: Any,
    differentiate: Differentiate,
) -> Solution:
    """Minimize over invertible matrices from several starts.

    A few steps from every start; the best goes on alone. Each keeps the sign of its
    determinants, and none ends above its start.

    Args:
        objective: The objective.
        starts: Invertible matrices; the derivative by them is zero.
        solver: A :class:`~jaxsteer.solvers.RelativeNewton` or one that runs like it.
        differentiate: How derivatives pass through.

    Returns:
        The solution, ``x`` the matrices.
    """
    left = _coordinates(objective, starts)
    found = solver.run(
        _value,
        jnp.linalg.solve(jnp.broadcast_to(left, starts.shape), starts),
        (objective, left, None),
        weight=objective.log_weight,
        gradient=_gradient,
        curvature=_general_curvature,
        group=GeneralLinear(),
        differentiate=differentiate,
        trial_steps=max(1, min(TRIAL_STEPS, TRIAL_FEATURES // starts.shape[-1])),
    )
    return dataclasses.replace(found, x=matmul(left, found.x))


def monge_frame(
    rows: Float[Array, "g d d"], columns: Float[Array, "g d d"]
) -> Float[Array, "g d d"]:
    """Return ``f`` such that ``f f' = s`` solves ``s columns s = rows^-1``.

    In its coordinates both matrices are diagonal and inverse to each other:
    ``f' rows f = (f' columns f)^-1``.
    """
    factor = jnp.linalg.cholesky(after(columns, rows))
    inner = matmul(transpose(factor), matmul(rows, factor))
    values, vectors = jnp.linalg.eigh(0.5 * (inner + transpose(inner)))
    # Rounding must not make the frame singular.
    floor = rows.shape[-1] * jnp.finfo(rows.dtype).eps * values[..., -1:]
    root = jnp.maximum(values, floor) ** -0.25
    return whiten_transposed(factor, vectors * root[..., None, :])


def solve_definite(
    objective: Objective,
    frame: Float[Array, "g d d"],
    right: Float[Array, "g d d"] | None,
    solver: Any,
    differentiate: Differentiate,
) -> Solution:
    """Minimize over ``s @ right`` with positive definite ``s``; convex where `value` is.

    Args:
        objective: The objective.
        frame: ``f`` such that ``f f'`` is the first ``s``.
        right: Fixed factors, which may carry derivatives; None for the identity.
        solver: As for :func:`solve_general`.
        differentiate: How derivatives pass through.

    Returns:
        The solution, ``x`` the matrices ``s @ right``; its residual is the relative
        gradient of ``s``, which is the projected gradient, as no constraint can bind
        where the log-determinant is finite.
    """
    found = solver.run(
        _value,
        jax.lax.stop_gradient(frame),
        (objective, None, right),
        weight=objective.log_weight,
        gradient=_gradient,
        curvature=_definite_curvature,
        group=PositiveDefinite(),
        differentiate=differentiate,
    )
    return dataclasses.replace(found, x=_times(found.x, right))
