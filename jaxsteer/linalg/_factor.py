"""Factorizations: the only file of the package that calls LAPACK.

Each is a function of one matrix. ``vmap`` adds its axis to one leading axis of a stack,
however deeply it is nested, and the stack is lowered by platform: on a CPU as a loop
that factorizes one matrix a call, elsewhere as one stacked call. jaxlib's batched LAPACK
kernels of a CPU split their batch over the pool of threads that they run on and wait
there; as many at once as there are threads, and all wait for ever (jax 0.10, two cores).
One matrix a call never enters that path, and the loop costs less than a microsecond for
each matrix. Many small Cholesky factorizations do without LAPACK.

Derivatives are products of the factors, so that no derivative of any order adds a
factorization, and none goes through the rule for ``vmap``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg._matmul import matmul, symmetrize, transpose
from jaxsteer.linalg._small import eliminate

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

    def one_by_one(*stacks):
        n, m = stacks[0].shape[:2]
        if small is not None and m <= SMALL and n >= MANY:
            return small(*stacks)
        if stacks[0].shape[0] == 1:
            alone = kernel(*(stack[0] for stack in stacks))
            return jax.tree.map(lambda leaf: leaf[None], alone)
        return jax.lax.map(lambda row: kernel(*row), stacks)

    @jax.custom_batching.custom_vmap
    @jax.jit
    def of_stack(*stacks):
        return jax.lax.platform_dependent(*stacks, cpu=one_by_one, default=kernel)

    @of_stack.def_vmap
    def _rule(size, batched, *stacks):
        count = stacks[0].shape[int(batched[0])]

        def join(stack, is_batched):
            if not is_batched:
                stack = jnp.broadcast_to(stack, (size, *stack.shape))
            return stack.reshape(size * count, *stack.shape[2:])

        joined = of_stack(*map(join, stacks, batched))
        found = jax.tree.map(
            lambda leaf: leaf.reshape(size, count, *leaf.shape[1:]), joined
        )
        return found, jax.tree.map(lambda _: True, found)

    def of_one(*arrays):
        """Any leading axes count as a batch, as ``vmap``'s do."""
        batch, dtype = arrays[0].shape[:-2], arrays[0].dtype
        wide = _storage_dtype(dtype)
        flat = (a.reshape(math.prod(batch), *a.shape[-2:]) for a in arrays)
        found = of_stack(*(_widened(a, wide) for a in flat))

        def unfold(leaf):
            leaf = leaf.reshape(*batch, *leaf.shape[1:])
            return leaf.astype(dtype) if leaf.dtype == wide else leaf

        return jax.tree.map(unfold, found)

    return of_one


def _widened(a: Array, dtype: Any) -> Array:
    return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a


def _storage_dtype(dtype: Any) -> Any:
    """LAPACK knows no half precision: such matrices are factorized in float32."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def _same_batch(*arrays: Array) -> list[Array]:
    """Broadcast leading axes, which LAPACK does not, and agree on one dtype."""
    batch = jnp.broadcast_shapes(*(array.shape[:-2] for array in arrays))
    dtype = jnp.result_type(*arrays)
    return [jnp.broadcast_to(a, (*batch, *a.shape[-2:])).astype(dtype) for a in arrays]


@partial(_floor, small=lambda a: eliminate(a, False)[0])
def _cholesky(a):
    return jax.lax.linalg.cholesky(a, symmetrize_input=False)


@partial(_floor, small=lambda a: eliminate(a, True))
def _cholesky_inverse(a):
    factor = jax.lax.linalg.cholesky(a, symmetrize_input=False)
    identity = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    inverse = jax.lax.linalg.triangular_solve(
        factor, identity, left_side=True, lower=True
    )
    return factor, inverse


def _solve_triangular(factor, b, transposed):
    return jax.lax.linalg.triangular_solve(
        factor, b, left_side=True, lower=True, transpose_a=transposed
    )


_solve_lower = _floor(partial(_solve_triangular, transposed=False))
_solve_lower_transposed = _floor(partial(_solve_triangular, transposed=True))


@_floor
def _eigh(a):
    vectors, values = jax.lax.linalg.eigh(a, symmetrize_input=False)
    return values, vectors


def _permuted(order: Array, b: Array) -> Array:
    return jnp.take_along_axis(b, jnp.broadcast_to(order, b.shape), -2)


@_floor
def _lu(a):
    """Both triangles in one matrix, and the order of the rows as a column."""
    lu, _, order = jax.lax.linalg.lu(a)
    return lu, order[..., None]


@_floor
def _solve_lu(lu, order, b):
    lower = jax.lax.linalg.triangular_solve(
        lu, _permuted(order, b), left_side=True, lower=True, unit_diagonal=True
    )
    return jax.lax.linalg.triangular_solve(lu, lower, left_side=True, lower=False)


@_floor
def _solve_lu_transposed(lu, order, b):
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
def _inverse_and_determinant(a):
    lu, swaps, order = jax.lax.linalg.lu(a)
    identity = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
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
def _determinant(a):
    lu, swaps, _ = jax.lax.linalg.lu(a)
    diagonal = jnp.diagonal(lu, axis1=-2, axis2=-1)
    sign = jnp.prod(jnp.sign(diagonal), -1) * _parity(swaps).astype(a.dtype)
    return sign, jnp.sum(jnp.log(jnp.abs(diagonal)), -1)


@_floor
def _log_size_of_determinant(a):
    lu, _, _ = jax.lax.linalg.lu(a)
    return jnp.sum(jnp.log(jnp.abs(jnp.diagonal(lu, axis1=-2, axis2=-1))), -1)


@_floor
def _qr(a):
    return jax.lax.linalg.qr(a, full_matrices=False)


@_floor
def _svd(a):
    return jax.lax.linalg.svd(a, full_matrices=False, compute_uv=True)


def _lower_half(a: Array) -> Array:
    """The strictly lower triangle and half of the diagonal."""
    size = a.shape[-1]
    weight = jnp.tri(size, dtype=a.dtype) - 0.5 * jnp.eye(size, dtype=a.dtype)
    return jnp.einsum("...ij,ij->...ij", a, weight)


@jax.custom_jvp
def cholesky_inverse(
    a: Float[Array, "... d d"],
) -> tuple[Float[Array, "... d d"], Float[Array, "... d d"]]:
    """Lower Cholesky factor of the symmetric part of a matrix, and the factor's inverse.

    Derivatives are products of the two. NaN where `a` is not positive definite. Cost
    O(d^3).
    """
    return _cholesky_inverse(symmetrize(a))


@cholesky_inverse.defjvp
def _cholesky_inverse_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    factor, inverse = cholesky_inverse(a)
    inner = matmul(inverse, matmul(symmetrize(da), transpose(inverse)))
    step = _lower_half(inner)
    return (factor, inverse), (matmul(factor, step), -matmul(step, inverse))


@jax.custom_jvp
def cholesky(a: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """Lower Cholesky factor of the symmetric part of a matrix; NaN where there is none.

    Cost O(d^3).
    """
    return _cholesky(symmetrize(a))


@cholesky.defjvp
def _cholesky_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    factor, inverse = cholesky_inverse(a)
    inner = matmul(inverse, matmul(symmetrize(da), transpose(inverse)))
    return factor, matmul(factor, _lower_half(inner))


def solve_lower(
    factor: Float[Array, "... d d"],
    b: Float[Array, "... d m"],
    transposed: bool = False,
) -> Float[Array, "... d m"]:
    """Solve ``factor @ y = b`` for lower triangular `factor`, or with its transpose.

    Leading axes broadcast. What stands above the diagonal of `factor` is not read. A
    linear function of `b`, which can be transposed.
    """
    factor, b = _same_batch(factor, b)
    fixed = jax.lax.stop_gradient(factor)
    triangle = jnp.tril(factor)
    matrix = transpose(triangle) if transposed else triangle
    solve, turned = _solve_lower, _solve_lower_transposed
    if transposed:
        solve, turned = turned, solve
    return jax.lax.custom_linear_solve(
        lambda x: matmul(matrix, x),
        b,
        lambda _, rhs: solve(fixed, rhs),
        lambda _, rhs: turned(fixed, rhs),
    )


@jax.custom_jvp
def eigh(
    a: Float[Array, "... d d"],
) -> tuple[Float[Array, "... d"], Float[Array, "... d d"]]:
    """Eigenvalues, ascending, and eigenvectors of the symmetric part of a matrix.

    Where two eigenvalues are equal, the turn of their vectors into each other, which is
    arbitrary, has the derivative 0. Cost O(d^3).
    """
    return _eigh(symmetrize(a))


@eigh.defjvp
def _eigh_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    values, vectors = eigh(a)
    inner = matmul(transpose(vectors), matmul(symmetrize(da), vectors))
    gaps = values[..., None, :] - values[..., :, None]
    apart = gaps != 0
    turn = inner * jnp.where(apart, 1 / jnp.where(apart, gaps, 1), 0)
    dvalues = jnp.diagonal(inner, axis1=-2, axis2=-1)
    return (values, vectors), (dvalues, matmul(vectors, turn))


def solver(a: Float[Array, "... d d"]) -> Callable[[Array], Array]:
    """Factorize once, by LU, to solve ``a @ x = b`` for several right-hand sides.

    What it returns is a linear function of ``b [..., d, m]``, which can be transposed;
    leading axes broadcast. Derivatives of any order solve with the same factors. O(d^3),
    then O(d^2 m).
    """
    dtype = a.dtype
    a = a.astype(_storage_dtype(dtype))
    factors = _lu(jax.lax.stop_gradient(a))

    def solve_for(b: Array) -> Array:
        matrix, rhs = _same_batch(a, b.astype(a.dtype))
        batch = matrix.shape[:-2]
        lu, order = (jnp.broadcast_to(f, (*batch, *f.shape[-2:])) for f in factors)
        found = jax.lax.custom_linear_solve(
            lambda x: matmul(matrix, x),
            rhs,
            lambda _, rhs: _solve_lu(lu, order, rhs),
            lambda _, rhs: _solve_lu_transposed(lu, order, rhs),
        )
        return found.astype(dtype)

    return solve_for


def solve(
    a: Float[Array, "... d d"], b: Float[Array, "... d m"]
) -> Float[Array, "... d m"]:
    """Solve ``a @ x = b`` by an LU factorization; leading axes broadcast. O(d^3)."""
    return solver(a.astype(jnp.result_type(a, b)))(b)


@jax.custom_jvp
def inverse_and_logdet(
    a: Float[Array, "... d d"],
) -> tuple[Float[Array, "... d d"], Float[Array, "..."], Float[Array, "..."]]:
    """Inverse, sign of the determinant and logarithm of its size, by one factorization.

    Derivatives are products with the inverse. Cost O(d^3).
    """
    return _inverse_and_determinant(a)


@inverse_and_logdet.defjvp
def _inverse_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    inverse, sign, size = inverse_and_logdet(a)
    relative = matmul(inverse, da)
    growth = jnp.trace(relative, axis1=-2, axis2=-1)
    turned = -matmul(relative, inverse)
    return (inverse, sign, size), (turned, jnp.zeros_like(sign), growth)


@jax.custom_jvp
def slogdet(
    a: Float[Array, "... d d"],
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Sign of the determinant and logarithm of its size. Cost O(d^3)."""
    return _determinant(a)


@slogdet.defjvp
def _slogdet_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    inverse, sign, size = inverse_and_logdet(a)
    growth = jnp.einsum("...ij,...ji->...", inverse, da)
    return (sign, size), (jnp.zeros_like(sign), growth)


@jax.custom_jvp
def log_abs_det(a: Float[Array, "... d d"]) -> Float[Array, "..."]:
    """Logarithm of the size of the determinant. Cost O(d^3)."""
    return _log_size_of_determinant(a)


@log_abs_det.defjvp
def _log_abs_det_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    inverse, _, size = inverse_and_logdet(a)
    return size, jnp.einsum("...ij,...ji->...", inverse, da)


@jax.custom_jvp
def qr(
    a: Float[Array, "... m n"],
) -> tuple[Float[Array, "... m k"], Float[Array, "... k n"]]:
    """Thin QR factorization, ``k = min(m, n)``; differentiable where ``m >= n = rank``.

    Cost O(m n^2).
    """
    return _qr(a)


@qr.defjvp
def _qr_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    q, r = qr(a)
    if a.shape[-2] < a.shape[-1]:
        raise NotImplementedError("the derivative of qr needs at least as many rows.")
    # da r^-1, from r' y = da'.
    relative = transpose(solve_lower(transpose(r), transpose(da)))
    inner = matmul(transpose(q), relative)
    below = jnp.tril(inner, -1)
    turn = below - transpose(below)
    dq = matmul(q, turn - inner) + relative
    return (q, r), (dq, matmul(inner - turn, r))


@jax.custom_jvp
def svd(
    a: Float[Array, "... m n"],
) -> tuple[Float[Array, "... m k"], Float[Array, "... k"], Float[Array, "... k n"]]:
    """Thin singular value decomposition ``u, s, v'``, ``k = min(m, n)``.

    As for :func:`eigh`, turns among equal singular values have the derivative 0. Cost
    O(m n k).
    """
    return _svd(a)


@svd.defjvp
def _svd_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    u, s, vt = svd(a)
    v = transpose(vt)
    inner = matmul(transpose(u), matmul(da, v))
    ds = jnp.diagonal(inner, axis1=-2, axis2=-1)
    row, column = s[..., None, :], s[..., :, None]
    squares = (row - column) * (row + column)
    apart = squares != 0
    gap = jnp.where(apart, 1 / jnp.where(apart, squares, 1), 0)
    scaled = inner * row
    du_inner = gap * (scaled + transpose(scaled))
    scaled = column * inner
    dv_inner = gap * (scaled + transpose(scaled))
    inverse = jnp.where(s > 0, 1 / jnp.where(s > 0, s, 1), 0)[..., None, :]
    du, dv = matmul(u, du_inner), matmul(v, dv_inner)
    # What leaves the spaces of the vectors, where they are not everything.
    if a.shape[-2] > a.shape[-1]:
        moved = matmul(da, v) * inverse
        du = du + moved - matmul(u, matmul(transpose(u), moved))
    if a.shape[-2] < a.shape[-1]:
        moved = matmul(transpose(da), u) * inverse
        dv = dv + moved - matmul(v, matmul(transpose(v), moved))
    return (u, s, vt), (du, ds, transpose(dv))


@jax.custom_jvp
def inverse_and_logdet_psd(
    a: Float[Array, "... d d"],
) -> tuple[Float[Array, "... d d"], Float[Array, "..."]]:
    """Inverse and log-determinant of a positive definite matrix, by one Cholesky factor.

    Derivatives are products with the inverse. NaN where `a` is not positive definite.
    Cost O(d^3).
    """
    factor, half = _cholesky_inverse(symmetrize(a))
    diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1)
    return matmul(transpose(half), half), 2 * jnp.sum(jnp.log(diagonal), -1)


@inverse_and_logdet_psd.defjvp
def _inverse_psd_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    inverse, size = inverse_and_logdet_psd(a)
    da = symmetrize(da)
    turned = -matmul(inverse, matmul(da, inverse))
    return (inverse, size), (turned, jnp.sum(inverse * da, (-2, -1)))


@jax.custom_jvp
def _solve_definite(a, b):
    _, half = _cholesky_inverse(symmetrize(a))
    return matmul(transpose(half), matmul(half, b)), half


# The factor only serves to solve with: as the solution does not depend on how it is
# found, the factor's own derivative counts as zero, and no derivative factorizes again.
@_solve_definite.defjvp
def _solve_definite_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    found, half = _solve_definite(a, b)
    rhs = db - matmul(symmetrize(da), found)
    moved = jax.lax.custom_linear_solve(
        lambda x: matmul(symmetrize(a), x),
        rhs,
        lambda _, rhs: matmul(transpose(half), matmul(half, rhs)),
        symmetric=True,
    )
    return (found, half), (moved, jnp.zeros_like(half))


def solve_definite(
    a: Float[Array, "... d d"], b: Float[Array, "... d m"]
) -> Float[Array, "... d m"]:
    """Solve ``a @ x = b`` for positive definite `a`; leading axes broadcast.

    One Cholesky factorization, which derivatives of any order use again. NaN where `a`
    is not positive definite.
    """
    return _solve_definite(*_same_batch(a, b))[0]
