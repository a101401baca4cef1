"""Symmetric matrices of the classes, known by their products.

A program needs four things of the classes' covariances and precisions, and none is a
factorization. Full matrices cost O(K d^3) for them, a diagonal plus a factor of ``r``
columns O(K d^2 r); the programs are written once, for either.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float
from jaxsteer.linalg._matmul import einsum, matmul, matvec, transpose

# From so many features on a class's product fills the processor, and stacking all of
# them costs memory traffic: half the speed.
LARGE = 256


@register_dataclass
@dataclasses.dataclass(frozen=True)
class DenseStack:
    """Matrices that are held in full.

    Attributes:
        matrices: ``[K, d, d]`` symmetric.
    """

    matrices: Float[Array, "K d d"]

    def scaled(self, weight: Float[Array, " K"]) -> DenseStack:
        """Every matrix times its weight."""
        return DenseStack(weight[:, None, None] * self.matrices)

    def times(self, x: Float[Array, "K d"]) -> Float[Array, "K d"]:
        """``S_k x_k``."""
        return matvec(self.matrices, x)

    def total(self) -> Float[Array, "d d"]:
        """``sum_k S_k``."""
        return self.mixture(jnp.ones_like(self.matrices[:, 0, 0]))

    def mixture(self, weight: Float[Array, " K"]) -> Float[Array, "d d"]:
        """``sum_k weight_k S_k``."""
        # As a product: under vmap XLA adds strided columns, twenty times as slowly.
        return einsum("k,kij->ij", weight, self.matrices)

    def between(self, x: Float[Array, "d d"]) -> DenseStack:
        """``x S_k x'``."""
        if x.shape[-1] < LARGE:
            half = matmul(x[None], self.matrices)
            return DenseStack(matmul(half, transpose(x)[None]))
        half = einsum("ij,kjl->kil", x, self.matrices)
        return DenseStack(einsum("kil,jl->kij", half, x))

    @property
    def diagonals(self) -> Float[Array, "K d"]:
        """The diagonals."""
        return jnp.diagonal(self.matrices, axis1=-2, axis2=-1)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class LowRankStack:
    """Matrices ``diag(diagonal_k) + gain_k factor_k factor_k'``.

    Attributes:
        diagonal: ``[K, d]``.
        factor: ``[K, d, r]``.
        gain: ``[K]``, negative for precisions (Woodbury's identity).
    """

    diagonal: Float[Array, "K d"]
    factor: Float[Array, "K d r"]
    gain: Float[Array, " K"]

    @property
    def matrices(self) -> Float[Array, "K d d"]:
        """The matrices in full."""
        identity = jnp.eye(self.diagonal.shape[-1], dtype=self.diagonal.dtype)
        across = einsum("kir,kjr->kij", self.gained(), self.factor)
        return across + self.diagonal[..., None] * identity

    def scaled(self, weight: Float[Array, " K"]) -> LowRankStack:
        """Every matrix times its weight."""
        return LowRankStack(
            weight[:, None] * self.diagonal, self.factor, weight * self.gain
        )

    def times(self, x: Float[Array, "K d"]) -> Float[Array, "K d"]:
        """``S_k x_k``."""
        inner = einsum("kir,ki->kr", self.factor, x)
        return self.diagonal * x + einsum("kir,kr->ki", self.gained(), inner)

    def total(self) -> Float[Array, "d d"]:
        """``sum_k S_k``, in O(K d^2 r)."""
        across = einsum("kir,kjr->ij", self.gained(), self.factor)
        return across + jnp.diag(jnp.sum(self.diagonal, 0))

    def mixture(self, weight: Float[Array, " K"]) -> Float[Array, "d d"]:
        """``sum_k weight_k S_k``, in O(K d^2 r)."""
        return self.scaled(weight).total()

    def between(self, x: Float[Array, "d d"]) -> TurnedStack:
        """``x S_k x'``."""
        return TurnedStack(self, x)

    def gained(self) -> Array:
        return self.gain[:, None, None] * self.factor


@register_dataclass
@dataclasses.dataclass(frozen=True)
class TurnedStack:
    """Matrices ``x S_k x'`` of low rank beside what was a diagonal.

    Attributes:
        inner: The ``S_k``.
        turn: ``[d, d]`` the ``x``.
    """

    inner: LowRankStack
    turn: Float[Array, "d d"]

    @property
    def diagonals(self) -> Float[Array, "K d"]:
        """The diagonals, in O(K d^2 r)."""
        inner = einsum("ji,kir->kjr", self.turn, self.inner.factor)
        across = self.inner.gain[:, None] * jnp.sum(inner * inner, -1)
        return einsum("ki,ji->kj", self.inner.diagonal, self.turn * self.turn) + across


Stack: TypeAlias = DenseStack | LowRankStack


def sum_between(left: Any, x: Float[Array, "d d"], right: Any) -> Float[Array, "d d"]:
    """``sum_k L_k X R_k``: two large products, or four narrow ones for low ranks."""
    if isinstance(left, TurnedStack):
        inner = matmul(transpose(left.turn), matmul(x, right.turn))
        inner = sum_between(left.inner, inner, right.inner)
        return matmul(left.turn, matmul(inner, transpose(right.turn)))
    if not (isinstance(left, LowRankStack) and isinstance(right, LowRankStack)):
        pairs = (left.matrices, right.matrices)
        if x.shape[-1] < LARGE:
            return jnp.sum(matmul(pairs[0], matmul(x[None], pairs[1])), 0)
        return jax.lax.scan(
            lambda sum, pair: (sum + matmul(pair[0], matmul(x, pair[1])), None),
            jnp.zeros_like(x),
            pairs,
        )[0]
    # L_k X (R_k's factor), against that factor ...
    moved = einsum("ij,kjr->kir", x, right.factor)
    inner = einsum("kis,kir->ksr", left.factor, moved)
    moved = left.diagonal[..., None] * moved
    moved = moved + einsum("kis,ksr->kir", left.gained(), inner)
    across = einsum("kir,kjr->ij", right.gain[:, None, None] * moved, right.factor)
    # ... and L_k X (R_k's diagonal).
    pulled = einsum("kis,ij->ksj", left.factor, x) * right.diagonal[:, None, :]
    across = across + einsum("kis,ksj->ij", left.gained(), pulled)
    return across + einsum("ki,kj->ij", left.diagonal, right.diagonal) * x
