"""The eraser of given moments, in factors of the rank that it removes."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxsteer._errors import is_concrete
from jaxsteer._types import Array, Bool, Float
from jaxsteer.baselines._conditioning import keeps_all_directions
from jaxsteer.linalg import cholesky, matmul, roots_psd, svd, whiten, whiten_transposed


def erased_factors(
    corr: Float[Array, "d d"], cross: Float[Array, "d k"], tol: float
) -> tuple[Float[Array, "d r"], Float[Array, "d r"]]:
    """Factors ``u v'`` of the oblique projector that LEACE takes away from the identity.

    ``u = W^+ U`` and ``v = W' U``, with a whitener ``W`` of `corr` and an orthonormal
    basis ``U`` of the range of ``W cross``. Any whitener gives the same projector. While
    values are traced it is the inverse root, on the range of `corr`; otherwise the
    Cholesky factor, several times faster, unless `corr` is near singular.
    """
    if is_concrete(corr, cross):
        u, v, usable = _by_factor(corr, cross, tol)
        # Constants of an outer trace are concrete, but what is computed from them is not.
        if is_concrete(usable) and bool(usable):
            return u, v
    return _by_roots(corr, cross, tol)


@partial(jax.jit, static_argnums=2)
def _by_factor(
    corr: Array, cross: Array, tol: float
) -> tuple[Array, Array, Bool[Array, ""]]:
    factor = cholesky(corr)
    basis = range_basis(whiten(factor, cross), tol)
    usable = keeps_all_directions(corr, factor)
    return matmul(factor, basis), whiten_transposed(factor, basis), usable


@partial(jax.jit, static_argnums=2)
def _by_roots(corr: Array, cross: Array, tol: float) -> tuple[Array, Array]:
    root, whitener = roots_psd(corr)
    basis = range_basis(matmul(whitener, cross), tol)
    return matmul(root, basis), matmul(whitener, basis)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def range_basis(m: Float[Array, "d k"], tol: float) -> Float[Array, "d r"]:
    """Orthonormal columns of the range of `m`, without singular values up to `tol`.

    Dropped columns are zero. The derivative is that of the range at constant rank, in
    the one basis among all that does not turn within it: right for every function that
    does not depend on the choice of the basis, first order only.
    """
    return _basis_and_inverse(m, tol)[0]


def _basis_and_inverse(m, tol):
    u, s, vt = svd(m)
    keep = s > tol
    return jnp.where(keep, u, 0), jnp.where(keep, vt.T / jnp.where(keep, s, 1), 0)


@range_basis.defjvp
def _range_basis_jvp(tol, primals, tangents):
    # Differentiating the singular vectors would divide by differences of singular values.
    (m,), (dm,) = primals, tangents
    basis, inverse = _basis_and_inverse(m, tol)
    moved = matmul(dm, inverse)
    return basis, moved - matmul(basis, matmul(basis.T, moved))
