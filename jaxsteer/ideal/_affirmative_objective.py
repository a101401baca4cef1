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
from jaxsteer.ideal._orbit import Cells, covariances
from jaxsteer.linalg import cholesky_inverse, matmul, matvec, transpose
from jaxsteer.linalg._psd_operators import DenseStack, LowRankStack, Stack, sum_between
from jaxsteer.maps import AffineMap
from jaxsteer.solvers import Expansion


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AffirmativeObjective:
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
    def output_metric(self) -> Float[Array, "1 d d"]:
        """Sum of the weighted precisions: the metric of the space mapped into."""
        return self.total[None]

    @property
    def input_moment(self) -> Float[Array, "1 d d"]:
        """Weighted mean of the cells' covariances and of their means' products."""
        share = self.weight / jnp.sum(self.weight)
        centered = self.mean - share @ self.mean
        between = matmul(transpose(centered) * share[None, :], centered)
        return (self.cov.mixture(share) + between)[None]

    def pinned_if(self, flag: Array) -> AffirmativeObjective:
        """The objective itself: the template is given."""
        del flag
        return self

    def shift(self, weight: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The best ``b`` for a matrix: least squares with weights `precision`."""
        gap = self.target - matmul(self.mean, transpose(weight))
        return self._solve_total(jnp.sum(self.precision.times(gap), 0))

    def _solve_total(self, pull: Float[Array, " d"]) -> Float[Array, " d"]:
        inner = matvec(self.inverse_factor, pull)
        return matvec(transpose(self.inverse_factor), inner)

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

    def expand(
        self, left: Float[Array, "1 d d"], right: Float[Array, "1 d d"]
    ) -> Expansion:
        """The objective around ``left @ right``; its second derivative is constant.

        The curvature along single entries is exact but for the shift, which is taken as
        the weighted mean's.
        """
        left, right = left[0], right[0]
        seen = transpose(left)
        precision = self.precision.between(seen)
        cov = self.cov.between(right)
        mean = matmul(self.mean, transpose(right))

        def pulled(gap: Float[Array, "K d"], spread: Array) -> Array:
            pull = matvec(seen, self.precision.times(gap))
            return (spread + matmul(transpose(pull), mean))[None]

        def second(e: Float[Array, "1 d d"]) -> Float[Array, "1 d d"]:
            moved = matvec(left, matvec(e[0], mean))
            away = self._solve_total(jnp.sum(self.precision.times(moved), 0))
            return pulled(moved - away[None], sum_between(precision, e[0], cov))

        gap, _ = self._pulls(matmul(left, right))
        identity = jnp.eye(left.shape[-1], dtype=left.dtype)
        share = self.weight / jnp.sum(self.weight)
        spread = cov.diagonals + (mean - (share @ mean)[None]) ** 2
        return Expansion(
            gradient=pulled(gap, sum_between(precision, identity, cov)),
            second=second,
            curvature=matmul(transpose(precision.diagonals), spread)[None],
            fixed_target=True,
        )


def precision_matrices(cov: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """Inverses of covariances, symmetric; NaN where one is not positive definite."""
    _, inverse = cholesky_inverse(cov)
    return matmul(transpose(inverse), inverse)


def precisions(law: Cells) -> Stack:
    """Inverse covariances of a law with batch ``[K]``."""
    if isinstance(law, LowRankNormal):
        gain = -jnp.ones_like(law.mean[..., 0])
        return LowRankStack(1 / law.diagonal, law.precision_factor, gain)
    return DenseStack(precision_matrices(law.cov))


def affirmative_objective(
    target: Cells, cells: Cells, weight: Float[Array, " K"]
) -> AffirmativeObjective:
    """Prepare the objective: O(K d^3), or O(K d^2 r + d^3) for low ranks.

    Args:
        target: The cells' targets, batch ``[K]``.
        cells: The cells that are moved, batch ``[K]``.
        weight: ``[K]`` weights.
    """
    precision = precisions(target).scaled(weight)
    total = precision.total()
    return AffirmativeObjective(
        precision=precision,
        target=target.mean,
        cov=covariances(cells),
        mean=cells.mean,
        total=total,
        inverse_factor=cholesky_inverse(total)[1],
        weight=weight,
    )
