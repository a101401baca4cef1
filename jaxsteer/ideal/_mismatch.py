"""How far moved cells are from their targets: the quadratic part of a divergence.

For cells ``N(m_i, C_i)`` moved by ``x -> T x + b`` toward ``N(n_i, P_i^-1)`` with weights
``w_i``, the divergence is, up to what does not depend on the map,
``sum_i w_i/2 [tr(P_i T C_i T') + |T m_i + b - n_i|^2_{P_i}] - sum_i w_i log|det T|``.
This file is the first sum, with the best ``b`` for the ``T``.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import einsum, gram, matmul, solve_psd, transpose
from jaxsteer.maps import AffineMap


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Mismatch:
    """Cells, their targets and the weights, ready for evaluation.

    Attributes:
        precision: ``[K, d, d]`` weighted precisions ``w_i P_i`` of the targets.
        target: ``[K, d]`` means of the targets.
        cov: ``[K, d, d]`` covariances of the cells that are moved.
        mean: ``[K, d]`` their means.
        factor: ``[d, d]`` Cholesky factor of the sum of `precision`.
        weight: ``[K]`` weights.
    """

    precision: Float[Array, "K d d"]
    target: Float[Array, "K d"]
    cov: Float[Array, "K d d"]
    mean: Float[Array, "K d"]
    factor: Float[Array, "d d"]
    weight: Float[Array, " K"]

    @property
    def log_weight(self) -> Float[Array, "1"]:
        """Weight of the log-determinant."""
        return jnp.sum(self.weight)[None]

    @property
    def rows(self) -> Float[Array, "1 d d"]:
        """Sum of the weighted precisions."""
        return gram(self.factor)[None]

    def shift(self, weight: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The best ``b`` for a matrix: least squares with weights `precision`."""
        gap = self.target - matmul(self.mean, transpose(weight))
        pull = einsum("kij,kj->i", self.precision, gap)
        return solve_psd(self.factor, pull[:, None])[:, 0]

    def best_map(self, weight: Float[Array, "m d"]) -> AffineMap:
        """The matrix with its best shift."""
        return AffineMap(weight, self.shift(weight))

    def _pulls(self, weight: Array) -> tuple[Array, Array]:
        gap = matmul(self.mean, transpose(weight)) + self.shift(weight) - self.target
        return gap, einsum("kij,kj->ki", self.precision, gap)

    def _spread(self, weight: Array) -> Array:
        """``sum_i w_i P_i T C_i``, as two large products rather than many small."""
        moved = einsum("ij,kjl->kil", weight, self.cov)
        return einsum("kij,kjl->il", self.precision, moved)

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
        rows = jnp.sum(einsum("ij,kjl->kil", right, self.cov) * right, -1) + moved**2
        turned = einsum("kij,jl->kil", self.precision, left)
        columns = jnp.sum(turned * left, -2)
        return einsum("ki,kj->ij", columns, rows)[None]


def precision_matrices(cov: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """Inverses of covariances, symmetric; NaN where one is not positive definite."""
    factor = jnp.linalg.cholesky(cov)
    identity = jnp.broadcast_to(jnp.eye(cov.shape[-1], dtype=cov.dtype), cov.shape)
    return solve_psd(factor, identity)


def mismatch(
    target_mean: Float[Array, "K d"],
    target_cov: Float[Array, "K d d"],
    mean: Float[Array, "K d"],
    cov: Float[Array, "K d d"],
    weight: Float[Array, " K"],
) -> Mismatch:
    """Prepare the objective: O(K d^3)."""
    precision = weight[:, None, None] * precision_matrices(target_cov)
    return Mismatch(
        precision=precision,
        target=target_mean,
        cov=cov,
        mean=mean,
        factor=jnp.linalg.cholesky(jnp.sum(precision, 0)),
        weight=weight,
    )
