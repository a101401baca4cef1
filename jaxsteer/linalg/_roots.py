"""Matrix square roots whose derivatives survive equal eigenvalues.

Differentiating ``eigh`` divides by differences of eigenvalues, so the gradient of a
root built on it is NaN at the identity. The derivative of ``Y = A^{1/2}`` solves the
Lyapunov equation ``Y dY + dY Y = dA`` instead, whose denominators are sums.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer._varying import vary_together
from jaxsteer.linalg._factor import eigh, slogdet, svd
from jaxsteer.linalg._matmul import matmul, symmetrize, transpose


def solve_lyapunov(
    y: Float[Array, "d d"], c: Float[Array, "d d"]
) -> Float[Array, "d d"]:
    """Solve ``y x + x y = c`` for symmetric positive semi-definite `y`.

    Where two eigenvalues of `y` are both zero (below ``d * eps`` of the largest) the
    equation says nothing and the answer there is 0. Linear in `c`; derivatives of any
    order in both. Cost O(d^3).
    """
    return _solve_in_frame(y, c, eigh(jax.lax.stop_gradient(y)))


def _solve_in_frame(y: Array, c: Array, frame: tuple[Array, Array]):
    """:func:`solve_lyapunov`, given the eigenvalues and eigenvectors of `y`."""

    def operator(x: Array):
        return matmul(y, x) + matmul(x, y)

    def solve(_, rhs: Array):
        values, vectors = frame
        sums = values[:, None] + values[None, :]
        floor = y.shape[-1] * float(jnp.finfo(y.dtype).eps) * jnp.max(jnp.abs(values))
        inverse = jnp.where(sums > floor, 1 / jnp.where(sums > floor, sums, 1.0), 0.0)
        inner = matmul(transpose(vectors), matmul(rhs, vectors))
        return matmul(vectors, matmul(inverse * inner, transpose(vectors)))

    c = vary_together(c, (y, frame))
    return jax.lax.custom_linear_solve(operator, c, solve, symmetric=True)


def sqrtm_psd(a: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Symmetric square root of a positive semi-definite matrix.

    Negative eigenvalues (rounding) count as zero. First and second derivatives are
    finite and right at equal eigenvalues. Cost O(d^3).

    Args:
        a: ``[d, d]`` symmetric.

    Returns:
        ``[d, d]``; NaN where `a` is.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> jax.grad(lambda a: jnp.trace(sqrtm_psd(a)))(jnp.eye(2)).tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    return _root_and_frame(a)[0]


# The frame, eigenvalues and eigenvectors of the root, only serves to solve with: as the
# solution does not depend on how it is found, its own derivative counts as zero. With
# it the derivative of a root needs no second eigendecomposition.
@jax.custom_jvp
def _root_and_frame(a: Array):
    values, vectors = eigh(a)
    values = jnp.sqrt(jnp.maximum(values, 0))
    return matmul(vectors * values[None], transpose(vectors)), (values, vectors)


@_root_and_frame.defjvp
def _root_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    (a,), (da,) = primals, tangents
    root, frame = _root_and_frame(a)
    droot = _solve_in_frame(root, symmetrize(da), frame)
    return (root, frame), (droot, jax.tree.map(jnp.zeros_like, frame))


def inv_sqrtm_psd(a: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Symmetric inverse square root; pseudo-inverse on the null space.

    Eigenvalues below ``d * eps`` times the largest count as zero. Derivatives as those
    of :func:`sqrtm_psd`, valid while the rank does not change. Cost O(d^3).

    Args:
        a: ``[d, d]`` symmetric.

    Returns:
        ``[d, d]``; NaN where `a` is.

    Example:
        >>> import jax.numpy as jnp
        >>> inv_sqrtm_psd(jnp.diag(jnp.array([4.0, 0.0]))).tolist()
        [[0.5, 0.0], [0.0, 0.0]]
    """
    return roots_psd(a)[1]


def roots_psd(
    a: Float[Array, "d d"],
) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    """Square root and inverse square root from one eigendecomposition.

    Both are restricted to the range: eigenvalues below ``d * eps`` times the largest
    count as zero in the root too, so that ``root @ inverse`` is the projector on the
    range. Cost O(d^3).

    Returns:
        The root and its pseudo-inverse.
    """
    return _roots_and_frame(a)[0]


@jax.custom_jvp
def _roots_and_frame(a: Array):
    values, vectors = eigh(a)
    keep = values > a.shape[-1] * float(jnp.finfo(a.dtype).eps) * jnp.max(
        jnp.abs(values)
    )
    roots = jnp.where(keep, jnp.sqrt(jnp.where(keep, values, 1.0)), 0.0)
    inverses = jnp.where(keep, 1 / jnp.where(keep, roots, 1.0), 0.0)
    root = matmul(vectors * roots[None], transpose(vectors))
    inverse = matmul(vectors * inverses[None], transpose(vectors))
    return (root, inverse), (roots, vectors)


@_roots_and_frame.defjvp
def _roots_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    (a,), (da,) = primals, tangents
    da = symmetrize(da)
    (root, inverse), frame = _roots_and_frame(a)
    droot = _solve_in_frame(root, da, frame)
    dinverse = -matmul(inverse, matmul(droot, inverse))
    # A perturbation that mixes range and null space turns the range. The trace of the
    # projector is the dimension of the null space; below 1 there is only rounding.
    null = jnp.eye(a.shape[-1], dtype=a.dtype) - matmul(root, inverse)
    null = jnp.where(jnp.trace(null) > 0.5, null, 0.0)
    cubed = matmul(inverse, matmul(inverse, inverse))
    across = matmul(null, matmul(da, cubed))
    dinverse = dinverse + across + transpose(across)
    still = jax.tree.map(jnp.zeros_like, frame)
    return ((root, inverse), frame), ((droot, dinverse), still)


@jax.custom_jvp
def project_psd(a: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Nearest positive semi-definite matrix in the Frobenius norm.

    Solves ``min |x - a|_F`` over PSD ``x`` by dropping negative eigenvalues. The first
    derivative (Daleckii-Krein) is finite everywhere; at eigenvalue 0, where the
    projection has a kink, it is the average of both sides. Cost O(d^3).

    Args:
        a: ``[d, d]`` symmetric.

    Returns:
        ``[d, d]``; NaN where `a` is.

    Example:
        >>> import jax.numpy as jnp
        >>> project_psd(jnp.diag(jnp.array([2.0, -3.0]))).tolist()
        [[2.0, 0.0], [0.0, 0.0]]

    References:
        Higham 1988, "Computing a nearest symmetric positive semidefinite matrix".
    """
    values, vectors = eigh(a)
    return matmul(vectors * jnp.maximum(values, 0)[None], transpose(vectors))


@project_psd.defjvp
def _project_psd_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    (a,), (da,) = primals, tangents
    values, vectors = eigh(a)
    kept = jnp.maximum(values, 0)
    gap = values[:, None] - values[None, :]
    high = jnp.maximum(values[:, None], values[None, :])
    low = jnp.minimum(values[:, None], values[None, :])
    side = jnp.where(high > 0, 1.0, jnp.where(low < 0, 0.0, 0.5)).astype(a.dtype)
    mixed = (high > 0) & (low < 0)
    slope = jnp.where(
        mixed, (kept[:, None] - kept[None, :]) / jnp.where(mixed, gap, 1.0), side
    )
    inner = matmul(transpose(vectors), matmul(symmetrize(da), vectors))
    value = matmul(vectors * kept[None], transpose(vectors))
    return value, matmul(vectors, matmul(slope * inner, transpose(vectors)))


def _svd(a: Array, proper: bool):
    u, s, vt = svd(a)
    if proper:
        # Turning the direction with the smallest singular value costs least.
        sign = slogdet(matmul(u, vt))[0]
        flip = jnp.ones_like(s).at[-1].set(jnp.where(sign < 0, -1.0, 1.0))
        u, s = u * flip[None], s * flip
    return u, s, vt


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def polar_orthogonal(
    a: Float[Array, "d d"], proper: bool = False
) -> Float[Array, "d d"]:
    """Orthogonal ``o`` that maximizes ``tr(o' a)``; a rotation if `proper`.

    With ``a = u s v'`` it is ``u v'`` (orthogonal Procrustes). The derivative has sums
    of singular values as denominators; where such a sum is 0 (the answer is not unique)
    it is damped to 0. Cost O(d^3).

    Args:
        a: ``[d, d]`` matrix.
        proper: Require determinant +1 (Kabsch): the direction of the smallest singular
            value is turned if need be.

    Returns:
        ``[d, d]`` orthogonal matrix.

    Example:
        >>> import jax.numpy as jnp
        >>> polar_orthogonal(jnp.array([[0.0, 2.0], [-3.0, 0.0]])).round(4).tolist()
        [[0.0, 1.0], [-1.0, 0.0]]

    References:
        Schoenemann 1966; Kabsch 1976 for rotations.
    """
    u, _, vt = _svd(a, proper)
    return matmul(u, vt)


@polar_orthogonal.defjvp
def _polar_jvp(proper: bool, primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    (a,), (da,) = primals, tangents
    u, s, vt = _svd(a, proper)
    sums = s[:, None] + s[None, :]
    floor = a.shape[-1] * float(jnp.finfo(a.dtype).eps) * s[0]
    regular = jnp.abs(sums) > floor
    inner = matmul(transpose(u), matmul(da, transpose(vt)))
    skew = (inner - transpose(inner)) * jnp.where(
        regular, 1 / jnp.where(regular, sums, 1.0), 0.0
    )
    return matmul(u, vt), matmul(u, matmul(skew, vt))
