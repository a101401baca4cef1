"""How far moved cells are from their targets: the quadratic part of a divergence.

For cells ``N(m_i, C_i)`` moved by ``x -> T x + b`` toward ``N(n_i, P_i^-1)`` with weights
``w_i``, the divergence is, up to what does not depend on the map,
``sum_i w_i/2 [tr(P_i T C_i T') + |T m_i + b - n_i|^2_{P_i}] - sum_i w_i log|det T|``.
This file is the first sum, with the best ``b`` for the ``T``. Once it is prepared, all
it needs are products with the ``P_i`` and ``C_i``, whichever way they are held.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float
from jaxsteer.families import LowRankNormal
from jaxsteer.ideal._stacks import (
    Cells,
    DenseStack,
    LowRankStack,
    Stack,
    covariances,
    sum_between,
)
from jaxsteer.linalg import matmul, solve_psd, transpose, whiten
from jaxsteer.maps import AffineMap


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Mismatch:
    """Cells, their targets and the weights, ready for evaluation.

    Attributes:
        precision: Weighted precisions ``w_i P_i`` of the targets.
        target: ``[K, d]`` means of the targets.
        cov: Covariances of the cells that are moved.
        mean: ``[K, d]`` their means.
        total: ``[d, d]`` sum of `precision`.
        inverse_factor: ``[d, d]`` inverse of its Cholesky factor.
        weight: ``[K]`` weights.
    """

    precision: Stack
    target: Float[Array, "K d"]
    cov: Stack
    mean: Float[Array, "K d"]
    total: Float[Array, "d d"]
    inverse_factor: Float[Array, "d d"]
    weight: Float[Array, " K"]

    @property
    def log_weight(self) -> Float[Array, "1"]:
        """Weight of the log-determinant."""
        return jnp.sum(self.weight)[None]

    @property
    def rows(self) -> Float[Array, "1 d d"]:
        """Sum of the weighted precisions."""
        return self.total[None]

    def columns(self, x: Float[Array, "1 d d"]) -> Float[Array, "1 d d"]:
        """Weighted mean of the cells' covariances and of their means' products."""
        del x
        share = self.weight / jnp.sum(self.weight)
        centered = self.mean - share @ self.mean
        between = matmul(transpose(centered) * share, centered)
        return (self.cov.mixture(share) + between)[None]

    def shift(self, weight: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The best ``b`` for a matrix: least squares with weights `precision`."""
        gap = self.target - matmul(self.mean, transpose(weight))
        pull = jnp.sum(self.precision.times(gap), 0)
        inner = matmul(self.inverse_factor, pull)
        return matmul(transpose(self.inverse_factor), inner)

    def best_map(self, weight: Float[Array, "m d"]) -> AffineMap:
        """The matrix with its best shift."""
        return AffineMap(weight, self.shift(weight))

    def _pulls(self, weight: Array) -> tuple[Array, Array]:
        gap = matmul(self.mean, transpose(weight)) + self.shift(weight) - self.target
        return gap, self.precision.times(gap)

    def _spread(self, weight: Array) -> Array:
        """``sum_i w_i P_i T C_i``."""
        return sum_between(self.precision, weight, self.cov)

    def value(self, x: Float[Array, "1 d d"]) -> Float[Array, ""]:
        """The sum for a matrix ``T``."""
        gap, pull = self._pulls(x[0])
        return 0.5 * (jnp.sum(self._spread(x[0]) * x[0]) + jnp.sum(gap * pull))

    def gradient(self, x: Float[Array, "1 d d"]) -> Float[Array, "1 d d"]:
        """Its gradient by the matrix."""
        _, pull = self._pulls(x[0])
        return (self._spread(x[0]) + matmul(transpose(pull), self.mean))[None]

    def curvature(
        self, left: Float[Array, "1 d d"], right: Float[Array, "1 d d"], x: Array
    ) -> Float[Array, "1 d d"]:
        """About the second derivative along ``T + left e right`` by each entry of `e`.

        Exact on the diagonal of the Hessian but for the shift, which is taken as the
        weighted mean's.
        """
        del x
        left, right = left[0], right[0]
        share = self.weight / jnp.sum(self.weight)
        centered = self.mean - share @ self.mean
        moved = matmul(centered, transpose(right))
        rows = self.cov.quadratic(right) + moved**2
        columns = self.precision.quadratic(transpose(left))
        return matmul(transpose(columns), rows)[None]


def precision_matrices(cov: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """Inverses of covariances, symmetric; NaN where one is not positive definite."""
    factor = jnp.linalg.cholesky(cov)
    identity = jnp.broadcast_to(jnp.eye(cov.shape[-1], dtype=cov.dtype), cov.shape)
    return solve_psd(factor, identity)


def precisions(law: Cells) -> Stack:
    """Inverse covariances of a law with batch ``[K]``."""
    if isinstance(law, LowRankNormal):
        gain = -jnp.ones_like(law.mean[..., 0])
        return LowRankStack(1 / law.diagonal, law.precision_factor, gain)
    return DenseStack(precision_matrices(law.cov))


def mismatch_of(target: Cells, cells: Cells, weight: Float[Array, " K"]) -> Mismatch:
    """Prepare the objective: O(K d^3), or O(K d^2 r + d^3) for low ranks.

    Args:
        target: The cells' targets, batch ``[K]``.
        cells: The cells that are moved, batch ``[K]``.
        weight: ``[K]`` weights.
    """
    precision = precisions(target).scaled(weight)
    total = precision.total()
    identity = jnp.eye(total.shape[-1], dtype=total.dtype)
    return Mismatch(
        precision=precision,
        target=target.mean,
        cov=covariances(cells),
        mean=cells.mean,
        total=total,
        inverse_factor=whiten(jnp.linalg.cholesky(total), identity),
        weight=weight,
    )
