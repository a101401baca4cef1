"""LAPACK: the only file of the package that calls it.

Each kernel takes stacks of matrices. ``vmap`` adds its axis to one leading axis,
however deeply it is nested, and the stack is lowered by platform: on a CPU as a loop
that factorizes one matrix a call, elsewhere as one stacked call. jaxlib's batched LAPACK
kernels of a CPU split their batch over the pool of threads that they run on and wait
there; as many at once as there are threads, and all wait for ever (jax 0.10, two cores).
One matrix a call never enters that path, and the loop costs less than a microsecond for
each matrix. Many small Cholesky factorizations do without LAPACK.

Kernels have no derivatives; :mod:`jaxsteer.linalg._factor` gives them theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._chunks import with_one_batch_axis
from jaxsteer._types import Array, Float
from jaxsteer._varying import vary_together
from jaxsteer.linalg._matmul import identity_like, transpose

# Where elimination over the whole batch beats a LAPACK call for each matrix.
SMALL = 8
MANY = 64


def _floor(
    kernel: Callable[..., Any], small: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Make a factorization of stacks ``[n, ...]`` from one of ``[..., m, m]`` arrays.

    Args:
        kernel: LAPACK calls on arrays whose leading axes are a batch.
        small: The same without LAPACK, for ``[n, m, m]`` with small ``m``.

    Returns:
        A function of arrays without a batch, whose ``vmap`` never batches `kernel` on a
        CPU.
    """

    def one_by_one(*stacks: Any) -> Any:
        n, m = stacks[0].shape[:2]
        if small is not None and m <= SMALL and n >= MANY:
            return small(*stacks)
        if stacks[0].shape[0] == 1:
            alone = kernel(*(stack[0] for stack in stacks))
            return jax.tree.map(lambda leaf: leaf[None], alone)
        return jax.lax.map(lambda row: kernel(*row), stacks)

    @with_one_batch_axis
    @jax.jit
    def of_stack(*stacks: Any) -> Any:
        return jax.lax.platform_dependent(*stacks, cpu=one_by_one, default=kernel)

    def of_one(*arrays: Any):
        """Any leading axes count as a batch, as ``vmap``'s do."""
        batch, dtype = arrays[0].shape[:-2], arrays[0].dtype
        wide = storage_dtype(dtype)
        flat = vary_together(
            [a.reshape(math.prod(batch), *a.shape[-2:]) for a in arrays]
        )
        found = of_stack(*(_widened(a, wide) for a in flat))

        def unfold(leaf: Array):
            leaf = leaf.reshape(*batch, *leaf.shape[1:])
            return leaf.astype(dtype) if leaf.dtype == wide else leaf

        return jax.tree.map(unfold, found)

    return of_one


def _widened(a: Array, dtype: Any) -> Array:
    return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a


def storage_dtype(dtype: Any) -> Any:
    """LAPACK knows no half precision: such matrices are factorized in float32."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def same_batch(*arrays: Array) -> list[Array]:
    """Broadcast leading axes, which LAPACK does not, and agree on one dtype."""
    batch = jnp.broadcast_shapes(*(array.shape[:-2] for array in arrays))
    dtype = jnp.result_type(*arrays)
    return vary_together(
        [jnp.broadcast_to(a, (*batch, *a.shape[-2:])).astype(dtype) for a in arrays]
    )


@partial(_floor, small=lambda a: eliminate(a, False)[0])
def cholesky_kernel(a: Array):
    return jax.lax.linalg.cholesky(a, symmetrize_input=False)


@partial(_floor, small=lambda a: eliminate(a, True))
def cholesky_inverse_kernel(a: Array):
    factor = jax.lax.linalg.cholesky(a, symmetrize_input=False)
    identity = identity_like(a)
    inverse = jax.lax.linalg.triangular_solve(
        factor, identity, left_side=True, lower=True
    )
    return factor, inverse


def _solve_triangular(factor: Array, b: Array, transposed: bool):
    return jax.lax.linalg.triangular_solve(
        factor, b, left_side=True, lower=True, transpose_a=transposed
    )


solve_lower_kernel = _floor(partial(_solve_triangular, transposed=False))
solve_lower_transposed_kernel = _floor(partial(_solve_triangular, transposed=True))


@_floor
def eigh_kernel(a: Array):
    vectors, values = jax.lax.linalg.eigh(a, symmetrize_input=False)
    return values, vectors


def _permuted(order: Array, b: Array) -> Array:
    return jnp.take_along_axis(b, jnp.broadcast_to(order, b.shape), -2)


@_floor
def lu_kernel(a: Array):
    """Both triangles in one matrix, and the order of the rows as a column."""
    lu, _, order = jax.lax.linalg.lu(a)
    return lu, order[..., None]


@_floor
def solve_lu_kernel(lu: Array, order: Array, b: Array):
    lower = jax.lax.linalg.triangular_solve(
        lu, _permuted(order, b), left_side=True, lower=True, unit_diagonal=True
    )
    return jax.lax.linalg.triangular_solve(lu, lower, left_side=True, lower=False)


@_floor
def solve_lu_transposed_kernel(lu: Array, order: Array, b: Array):
    upper = jax.lax.linalg.triangular_solve(
        lu, b, left_side=True, lower=False, transpose_a=True
    )
    rows = jax.lax.linalg.triangular_solve(
        lu, upper, left_side=True, lower=True, transpose_a=True, unit_diagonal=True
    )
    return _permuted(jnp.argsort(order, -2), rows)


def _parity(swaps: Array) -> Array:
    """Sign of the row exchanges ``i <-> swaps[i]``."""
    order = jax.lax.broadcasted_iota(swaps.dtype, swaps.shape, swaps.ndim - 1)
    return 1 - 2 * (jnp.sum(swaps != order, -1) % 2)


@_floor
def inverse_and_determinant_kernel(a: Array):
    lu, swaps, order = jax.lax.linalg.lu(a)
    identity = identity_like(a)
    lower = jax.lax.linalg.triangular_solve(
        lu,
        _permuted(order[..., None], identity),
        left_side=True,
        lower=True,
        unit_diagonal=True,
    )
    inverse = jax.lax.linalg.triangular_solve(lu, lower, left_side=True, lower=False)
    diagonal = jnp.diagonal(lu, axis1=-2, axis2=-1)
    sign = jnp.prod(jnp.sign(diagonal), -1) * _parity(swaps).astype(a.dtype)
    return inverse, sign, jnp.sum(jnp.log(jnp.abs(diagonal)), -1)


@_floor
def determinant_kernel(a: Array):
    lu, swaps, _ = jax.lax.linalg.lu(a)
    diagonal = jnp.diagonal(lu, axis1=-2, axis2=-1)
    sign = jnp.prod(jnp.sign(diagonal), -1) * _parity(swaps).astype(a.dtype)
    return sign, jnp.sum(jnp.log(jnp.abs(diagonal)), -1)


@_floor
def log_size_of_determinant_kernel(a: Array):
    lu, _, _ = jax.lax.linalg.lu(a)
    return jnp.sum(jnp.log(jnp.abs(jnp.diagonal(lu, axis1=-2, axis2=-1))), -1)


@_floor
def qr_kernel(a: Array):
    return jax.lax.linalg.qr(a, full_matrices=False)


@_floor
def svd_kernel(a: Array):
    return jax.lax.linalg.svd(a, full_matrices=False, compute_uv=True)


def eliminate(
    a: Float[Array, "n d d"], inverse: bool
) -> tuple[Float[Array, "n d d"], Float[Array, "n d d"] | None]:
    """Lower Cholesky factors of symmetric matrices, and their inverses if wanted.

    ``[A I]`` becomes ``[L' L^-1]``, a row at a time, every operation on the whole batch:
    O(n d^3), but with twice the arithmetic of LAPACK. NaN where a matrix is not positive
    definite.
    """
    d = a.shape[-1]
    index = jnp.arange(d)
    if inverse:
        a = jnp.concatenate([a, identity_like(a)], -1)

    def step(j: Array, rows: Array):
        row = jax.lax.dynamic_index_in_dim(rows, j, 1, keepdims=False)
        column = jax.lax.dynamic_index_in_dim(rows, j, 2, keepdims=False)
        pivot = jax.lax.dynamic_index_in_dim(row, j, 1)
        root = jnp.sqrt(jnp.where(pivot > 0, pivot, jnp.nan))
        row = (row / root)[:, None]
        below = jnp.where((index > j)[None], column / root, 0)[..., None]
        return jnp.where((index == j)[None, :, None], row, rows - below * row)

    rows = jax.lax.fori_loop(0, d, step, a)
    # A pivot that is not positive makes all that comes after it NaN.
    failed = jnp.isnan(rows[:, -1:, d - 1 : d])
    rows = jnp.where(failed, jnp.nan, rows)
    factor = jnp.tril(transpose(rows[..., :d]))
    return factor, rows[..., d:] if inverse else None
