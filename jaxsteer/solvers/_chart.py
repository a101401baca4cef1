"""Matrices seen from a current point: one chart for invertible and for definite ones.

Objectives ``fn(x) - sum_g weight_g log|det x_g|`` are natural around a point ``x = left
right`` in the chart ``e -> left r(e) right`` with ``r(e) = (I + e/2 + e^2/8)^2``, the
exponential to second order. At ``e = 0`` the log-determinant has gradient ``I`` and no
curvature whatever the matrix, so that no inverse is ever formed; ``det r(e) > 0`` for
every real ``e``, so that no step leaves the matrices of one orientation; and for
symmetric ``e`` the middle stays positive definite: with ``right = left' R`` that is the
family ``S R`` of positive definite ``S``.

Definite matrices to a fixed target are seen in the straight chart ``e -> left (I + e)
right`` instead. There the objective is a convex quadratic and a barrier; where
covariances are ill-conditioned it is a narrow valley, straight in this chart and bent in
the other, in which Newton steps then are as short as the valley is narrow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Bool, Float
from jaxsteer.linalg import cholesky, gram, identity_like, matmul, symmetrize, transpose

# Size of the pulled gradient, in weights, from which on the barrier is made heavier.
CENTERED = 2.0


class Expansion(NamedTuple):
    """An objective around ``left @ right``, as a function of ``left (I + e) right``.

    Attributes:
        gradient: ``[g, d, d]`` by ``e`` at 0.
        second: Its derivative, a linear map of ``[g, d, d]``.
        curvature: ``[g, d, d]`` about the second derivative along each entry of ``e``.
        fixed_target: Whether nothing else moves along, so that `curvature` is exact.
    """

    gradient: Float[Array, "g d d"]
    second: Callable[[Array], Array]
    curvature: Float[Array, "g d d"]
    fixed_target: bool = False


class MatrixObjective(Protocol):
    """What a search over matrices ``x [g, d, d]`` needs: a pytree with these methods."""

    @property
    def log_weight(self) -> Float[Array, " g"]:
        """Positive weights of the log-determinants that are subtracted."""
        ...

    def pinned_if(self, flag: Bool[Array, ""]) -> Any:
        """The objective of searches that pin their template; most have none."""
        ...

    def value(self, x: Float[Array, "g d d"]) -> Float[Array, ""]:
        """The objective without its log-determinants."""
        ...

    def expand(
        self, left: Float[Array, "g d d"], right: Float[Array, "g d d"]
    ) -> Expansion:
        """How it changes around ``left @ right``."""
        ...

    def gradient(self, x: Float[Array, "g d d"]) -> Float[Array, "g d d"]:
        """Its gradient."""
        ...


class Sides(NamedTuple):
    """The factors ``[g, d, d]`` of matrices ``left right``: a chart's center."""

    left: Float[Array, "g d d"]
    right: Float[Array, "g d d"]

    @property
    def point(self) -> Float[Array, "g d d"]:
        """The matrices."""
        return matmul(self.left, self.right)


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """The chart ``e -> left r(e) right`` around ``left right``.

    Attributes:
        left: ``[g, d, d]``.
        right: ``[g, d, d]``.
        symmetric: ``[]`` whether only symmetric ``e`` are allowed.
        free: ``[g]`` which matrices move at all.
    """

    left: Float[Array, "g d d"]
    right: Float[Array, "g d d"]
    symmetric: Bool[Array, ""]
    free: Bool[Array, " g"]

    @property
    def sides(self) -> Sides:
        """The factors of the matrices at the center."""
        return Sides(self.left, self.right)

    @property
    def point(self) -> Float[Array, "g d d"]:
        """The matrices at the center."""
        return self.sides.point

    def restrict(self, e: Float[Array, "g d d"]) -> Float[Array, "g d d"]:
        """The part of a direction, or of a gradient, that the chart allows."""
        allowed = jnp.where(self.symmetric, symmetrize(e), e)
        return jnp.where(self.free[:, None, None], allowed, jnp.zeros_like(e))

    def push(self, e: Float[Array, "g d d"]) -> Float[Array, "g d d"]:
        """The change of the matrices, to first order."""
        return matmul(self.left, matmul(e, self.right))

    def pull(self, gradient: Float[Array, "g d d"]) -> Float[Array, "g d d"]:
        """Gradient by ``e`` at the center from the gradient by the matrices."""
        inner = matmul(gradient, transpose(self.right))
        return matmul(transpose(self.left), inner)

    def half_step(self, e: Float[Array, "g d d"]) -> Float[Array, "g d d"]:
        """``I + e/2 + e^2/8``, the root of ``r(e)``."""
        return identity_like(e) + 0.5 * e + 0.125 * matmul(e, e)

    def move(
        self, e: Float[Array, "g d d"], straight: Bool[Array, ""] | None = None
    ) -> tuple[Chart, Float[Array, " g"]]:
        """The chart around the point at an allowed `e`, and how much larger that is.

        Args:
            e: The direction.
            straight: ``[]`` whether `e` is one of the straight chart, for definite
                matrices; None: it is not.

        Returns:
            The chart, and by what the point's log-determinants grow.
        """
        half = self.half_step(e)
        whole = matmul(half, half)
        definite = whole
        if straight is not None:
            definite = jnp.where(straight, identity_like(e) + e, whole)
        # Triangular factors keep the frame's axes near those that the preconditioner
        # knows; symmetric roots turn them, at three times the steps. The determinant of
        # general matrices is that of ``half half'``, of the same factorization.
        factor = cholesky(jnp.where(self.symmetric, definite, gram(half)))
        growth = 2 * jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), -1)
        moved = matmul(transpose(factor), self.right)
        there = dataclasses.replace(
            self,
            left=jnp.where(self.symmetric, matmul(self.left, factor), self.left),
            right=jnp.where(self.symmetric, moved, matmul(whole, self.right)),
        )
        return there, growth

    def expand(
        self,
        objective: MatrixObjective,
        floor: float = 0.1,
        heaviest: Float[Array, ""] | None = None,
    ) -> Model:
        """The quadratic model of an objective with its log-determinants.

        The preconditioner is read off the curvature along single entries. For general
        directions the blocks ``[h_jk, w; w, h_kj]`` of each pair ``j, k`` are inverted;
        those whose least eigenvalue is below ``floor * w`` are lifted to it. For
        symmetric ones the diagonal is positive.

        Args:
            objective: The objective.
            floor: See above.
            heaviest: ``[]`` by how much the weights of the log-determinants may be
                larger in the model, for definite matrices to a fixed target; these then
                are seen in the straight chart. None: not at all, in the chart of the
                others.
        """
        near = objective.expand(self.left, self.right)
        base = weight = objective.log_weight[:, None, None]
        pulled = near.gradient
        identity = identity_like(pulled)
        straight, heavier = None, jnp.ones_like(objective.log_weight[0])
        if heaviest is not None and near.fixed_target:
            straight = self.symmetric
            # At a point of the central path the pulled gradient is its weight times the
            # identity.
            size = (
                relative_residual(pulled, objective.log_weight)
                / pulled.shape[-1] ** 0.5
            )
            size = jnp.where(size > CENTERED, size, 1.0)
            heavier = jnp.where(straight, jnp.minimum(heaviest, size), 1.0)
            weight = heavier * weight

        def hessian(e: Array) -> Array:
            turned = transpose(e)
            # The second order of r(e), which the gradient sees.
            bend = 0.5 * (matmul(pulled, turned) + matmul(turned, pulled))
            if straight is not None:
                bend = jnp.where(straight, weight * e, bend)
            return self.restrict(near.second(e) + bend)

        across = transpose(near.curvature)
        middle = 0.5 * (near.curvature + across)
        half = 0.5 * (near.curvature - across)
        least = middle - jnp.sqrt(half**2 + weight**2)
        lift = jnp.maximum(floor * weight - least, 0.0)
        own, other = near.curvature + lift, across + lift
        alone = self.symmetric | (identity > 0)
        determinant = jnp.where(alone, middle + weight, own * other - weight**2)
        along = jnp.where(alone, 1.0, other) / determinant
        crossed = jnp.where(alone, 0.0, weight) / determinant

        def precondition(g: Array) -> Array:
            return along * g - crossed * transpose(g)

        slope = self.restrict(pulled - base * identity)
        unit = jnp.ones_like(middle)
        if near.fixed_target:
            steep = jnp.sqrt(2 * base / jnp.maximum(middle + base, 2 * base))
            unit = jnp.where(self.symmetric, steep, unit)
        gentle = relative_residual(slope * unit, objective.log_weight)
        aim = slope
        if straight is not None:
            aim = self.restrict(pulled - weight * identity)
        return Model(slope, hessian, precondition, gentle, aim, heavier, straight)


class Model(NamedTuple):
    """A quadratic model at the center of a chart.

    Attributes:
        slope: ``[g, d, d]`` gradient by ``e``.
        hessian: Symmetric linear map.
        precondition: Positive definite linear map near the inverse of `hessian`.
        gentle: ``[]`` :func:`relative_residual`; for definite maps to a fixed target
            with each entry of the slope measured against its own curvature.
        aim: ``[g, d, d]`` gradient of what `hessian` is of: `slope` but for the weights.
        heavier: ``[]`` by how much the weights of the log-determinants are larger there.
        straight: ``[]`` whether it is one of the straight chart; None: it is not.
    """

    slope: Float[Array, "g d d"]
    hessian: Callable[[Array], Array]
    precondition: Callable[[Array], Array]
    gentle: Float[Array, ""]
    aim: Float[Array, "g d d"]
    heavier: Float[Array, ""]
    straight: Bool[Array, ""] | None


def relative_residual(
    slope: Float[Array, "g d d"], weight: Float[Array, " g"]
) -> Float[Array, ""]:
    """Largest Frobenius norm of a matrix's relative gradient, per unit of its weight."""
    return jnp.max(jnp.sqrt(jnp.sum(slope**2, (-2, -1))) / weight)


def cast_floating(tree: Any, dtype: Any) -> Any:
    """Floating-point leaves in another precision."""

    def cast(leaf: Array):
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(leaf, dtype) if floating else leaf

    return jax.tree.map(cast, tree)
