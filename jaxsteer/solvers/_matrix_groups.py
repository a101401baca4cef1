"""How matrices move: relative steps on invertible and on positive definite matrices.

Objectives ``fn(x) - sum_g weight_g log|det x_g|`` are natural in a chart ``e`` around
the current matrix that multiplies the determinant by that of ``r(e) = I + e + e^2/2``,
the exponential to second order: at 0 the log-determinant has gradient ``I`` and no
curvature whatever the matrix, so no inverse is ever formed; rotations (skew ``e``) stay
nearly rotations; and ``det r(e) > 0`` for every real ``e``, so no step leaves the group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import (
    after,
    logdet_from_cholesky,
    matmul,
    symmetrize,
    transpose,
)

Gradient = Callable[[Array, Any], Array]


def identity_like(x: Float[Array, "g d d"]) -> Float[Array, "d d"]:
    """The identity of the matrices' size."""
    return jnp.eye(x.shape[-1], dtype=x.dtype)


def retraction(e: Float[Array, "g d d"]) -> Float[Array, "g d d"]:
    """``r(e) = I + e + e^2/2``."""
    return identity_like(e) + e + 0.5 * matmul(e, e)


def bend(gradient: Array, e: Array) -> Array:
    """What the second order of ``r(e)`` adds to a gradient; linear in `e`."""
    turned = transpose(e)
    return 0.5 * (matmul(gradient, turned) + matmul(turned, gradient))


def chain(gradient: Array, e: Array) -> Array:
    """Gradient by `e` from the gradient by ``r(e)``."""
    return gradient + bend(gradient, e)


def log_determinant(e: Float[Array, "g d d"]) -> Float[Array, " g"]:
    """``log det r(e)``."""
    return jnp.linalg.slogdet(retraction(e))[1]


def log_determinant_gradient(e: Float[Array, "g d d"]) -> Float[Array, "g d d"]:
    """Gradient of :func:`log_determinant`."""
    return chain(transpose(jnp.linalg.inv(retraction(e))), e)


@dataclasses.dataclass(frozen=True)
class GeneralLinear:
    """Invertible matrices, moved by ``x -> r(e) x``; the determinant keeps its sign."""

    def point(self, frame: Array) -> Array:
        """The matrices that a frame stands for: itself."""
        return frame

    def move(self, frame: Array, e: Array) -> Array:
        """The frame after a step."""
        return matmul(retraction(e), frame)

    def advance(self, frame: Array, e: Array) -> tuple[Array, Array]:
        """The frame after a step, and ``log det r(e)``."""
        step = retraction(e)
        size = jnp.linalg.slogdet(step)[1]
        return matmul(after(step, size), frame), size

    def moved_point(self, frame: Array, e: Array) -> Array:
        """The matrices after a step."""
        return self.move(frame, e)

    def leaned_point(self, frame: Array, e: Array) -> Array:
        """The matrices after a step, to first order."""
        return frame + matmul(e, frame)

    def pull_back(self, frame: Array, gradient: Array) -> Array:
        """Gradient by ``r(e)`` from the gradient by the matrices."""
        return matmul(gradient, transpose(frame))

    def restrict(self, e: Array) -> Array:
        """The part of `e` that the chart allows: all of it."""
        return e

    def precondition(self, curvature: Array, weight: Array, floor: float) -> Callable:
        """Inverse of the Hessian's blocks ``[h_jk, w; w, h_kj]`` for each pair ``j, k``.

        Blocks whose least eigenvalue is below ``floor * w`` are lifted to it.
        """
        across = transpose(curvature)
        middle, half = 0.5 * (curvature + across), 0.5 * (curvature - across)
        least = middle - jnp.sqrt(half**2 + weight**2)
        lift = jnp.maximum(floor * weight - least, 0.0)
        own, other = curvature + lift, across + lift
        determinant = own * other - weight**2
        diagonal = jnp.diagonal(curvature, axis1=-2, axis2=-1)[..., None] + weight
        on_diagonal = identity_like(curvature) > 0

        def apply(g: Array) -> Array:
            pair = (other * g - weight * transpose(g)) / determinant
            return jnp.where(on_diagonal, g / diagonal, pair)

        return apply


@dataclasses.dataclass(frozen=True)
class PositiveDefinite:
    """Positive definite ``x = frame frame'``, moved by ``frame r(e) frame'``.

    The chart is restricted to symmetric ``e``.
    """

    def point(self, frame: Array) -> Array:
        """The matrices that a frame stands for."""
        return matmul(frame, transpose(frame))

    def move(self, frame: Array, e: Array) -> Array:
        """The frame after a step."""
        return self.advance(frame, e)[0]

    def advance(self, frame: Array, e: Array) -> tuple[Array, Array]:
        """The frame after a step, and ``log det r(e)``."""
        factor = jnp.linalg.cholesky(retraction(symmetrize(e)))
        return matmul(frame, factor), logdet_from_cholesky(factor)

    def moved_point(self, frame: Array, e: Array) -> Array:
        """The matrices after a step."""
        return matmul(frame, matmul(retraction(symmetrize(e)), transpose(frame)))

    def leaned_point(self, frame: Array, e: Array) -> Array:
        """The matrices after a step, to first order."""
        turned = transpose(frame)
        return matmul(frame, turned + matmul(symmetrize(e), turned))

    def pull_back(self, frame: Array, gradient: Array) -> Array:
        """Gradient by ``r(e)`` from the gradient by the matrices."""
        return matmul(transpose(frame), matmul(gradient, frame))

    def restrict(self, e: Array) -> Array:
        """The part of `e` that the chart allows: the symmetric one."""
        return symmetrize(e)

    def precondition(self, curvature: Array, weight: Array, floor: float) -> Callable:
        """Inverse of the diagonal of the Hessian on symmetric matrices."""
        del floor  # convex: the diagonal is positive
        diagonal = symmetrize(curvature) + weight

        def apply(g: Array) -> Array:
            return g / diagonal

        return apply


MatrixGroup = GeneralLinear | PositiveDefinite
