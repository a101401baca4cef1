"""Factorizations whose derivatives are products of the factors.

No derivative of any order adds a factorization, and none goes through the rule for
``vmap``. The kernels are in :mod:`jaxsteer.linalg._lapack`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg._lapack import (
    cholesky_inverse_kernel,
    cholesky_kernel,
    determinant_kernel,
    eigh_kernel,
    inverse_and_determinant_kernel,
    log_size_of_determinant_kernel,
    lu_kernel,
    qr_kernel,
    same_batch,
    solve_lower_kernel,
    solve_lower_transposed_kernel,
    solve_lu_kernel,
    solve_lu_transposed_kernel,
    storage_dtype,
    svd_kernel,
)
from jaxsteer.linalg._matmul import matmul, symmetrize, transpose


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
    return cholesky_inverse_kernel(symmetrize(a))


@cholesky_inverse.defjvp
def _cholesky_inverse_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
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
    return cholesky_kernel(symmetrize(a))


@cholesky.defjvp
def _cholesky_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    (a,), (da,) = primals, tangents
    (factor, _), (dfactor, _) = jax.jvp(cholesky_inverse, (a,), (da,))
    return factor, dfactor


def solve_lower(
    factor: Float[Array, "... d d"],
    b: Float[Array, "... d m"],
    transposed: bool = False,
) -> Float[Array, "... d m"]:
    """Solve ``factor @ y = b`` for lower triangular `factor`, or with its transpose.

    Leading axes broadcast. What stands above the diagonal of `factor` is not read. A
    linear function of `b`, which can be transposed.
    """
    factor, b = same_batch(factor, b)
    fixed = jax.lax.stop_gradient(factor)
    triangle = jnp.tril(factor)
    matrix = transpose(triangle) if transposed else triangle
    solve, turned = solve_lower_kernel, solve_lower_transposed_kernel
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
    return eigh_kernel(symmetrize(a))


@eigh.defjvp
def _eigh_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
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
    a = a.astype(storage_dtype(dtype))
    factors = lu_kernel(jax.lax.stop_gradient(a))

    def solve_for(b: Array) -> Array:
        matrix, rhs = same_batch(a, b.astype(a.dtype))
        batch = matrix.shape[:-2]
        lu, order = (jnp.broadcast_to(f, (*batch, *f.shape[-2:])) for f in factors)
        found = jax.lax.custom_linear_solve(
            lambda x: matmul(matrix, x),
            rhs,
            lambda _, rhs: solve_lu_kernel(lu, order, rhs),
            lambda _, rhs: solve_lu_transposed_kernel(lu, order, rhs),
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
    return inverse_and_determinant_kernel(a)


@inverse_and_logdet.defjvp
def _inverse_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
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
    return determinant_kernel(a)


@slogdet.defjvp
def _slogdet_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    (a,), (da,) = primals, tangents
    inverse, sign, size = inverse_and_logdet(a)
    growth = jnp.einsum("...ij,...ji->...", inverse, da)
    return (sign, size), (jnp.zeros_like(sign), growth)


@jax.custom_jvp
def log_abs_det(a: Float[Array, "... d d"]) -> Float[Array, "..."]:
    """Logarithm of the size of the determinant. Cost O(d^3)."""
    return log_size_of_determinant_kernel(a)


@log_abs_det.defjvp
def _log_abs_det_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    (a,), (da,) = primals, tangents
    inverse, _, size = inverse_and_logdet(a)
    return size, jnp.einsum("...ij,...ji->...", inverse, da)


@jax.custom_jvp
def qr(
    a: Float[Array, "... m n"],
) -> tuple[Float[Array, "... m k"], Float[Array, "... k n"]]:
    """Thin QR factorization, ``k = min(m, n)``.

    Differentiable where the first ``k`` columns are independent: what a column does that
    is a combination of those before it is taken to turn nothing. Cost O(m n^2).
    """
    return qr_kernel(a)


@qr.defjvp
def _qr_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    (a,), (da,) = primals, tangents
    q, r = qr(a)
    # With fewer rows than columns the first square part tells how q turns.
    k = q.shape[-1]
    # da r^-1, from r' y = da'.
    square, first = r[..., :k], da[..., :k]
    pivots = jnp.abs(jnp.diagonal(square, axis1=-2, axis2=-1))
    floor = max(a.shape[-2:]) * float(jnp.finfo(a.dtype).eps)
    free = pivots > floor * jnp.max(pivots, -1, keepdims=True)
    square = jnp.where(free[..., None, :], square, jnp.eye(k, dtype=a.dtype))
    first = jnp.where(free[..., None, :], first, 0.0)
    relative = transpose(solve_lower(transpose(square), transpose(first)))
    inner = matmul(transpose(q), relative)
    below = jnp.tril(inner, -1)
    turn = below - transpose(below)
    dq = matmul(q, turn - inner) + relative
    return (q, r), (dq, matmul(transpose(q), da) - matmul(turn, r))


@jax.custom_jvp
def svd(
    a: Float[Array, "... m n"],
) -> tuple[Float[Array, "... m k"], Float[Array, "... k"], Float[Array, "... k n"]]:
    """Thin singular value decomposition ``u, s, v'``, ``k = min(m, n)``.

    As for :func:`eigh`, turns among equal singular values have the derivative 0. Cost
    O(m n k).
    """
    return svd_kernel(a)


@svd.defjvp
def _svd_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
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
    factor, half = cholesky_inverse_kernel(symmetrize(a))
    diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1)
    return matmul(transpose(half), half), 2 * jnp.sum(jnp.log(diagonal), -1)


@inverse_and_logdet_psd.defjvp
def _inverse_psd_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    (a,), (da,) = primals, tangents
    inverse, size = inverse_and_logdet_psd(a)
    da = symmetrize(da)
    turned = -matmul(inverse, matmul(da, inverse))
    return (inverse, size), (turned, jnp.sum(inverse * da, (-2, -1)))


@jax.custom_jvp
def _solve_definite(a: Array, b: Array):
    _, half = cholesky_inverse_kernel(symmetrize(a))
    return matmul(transpose(half), matmul(half, b)), half


# The factor only serves to solve with: as the solution does not depend on how it is
# found, the factor's own derivative counts as zero, and no derivative factorizes again.
@_solve_definite.defjvp
def _solve_definite_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
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
    return _solve_definite(*same_batch(a, b))[0]
