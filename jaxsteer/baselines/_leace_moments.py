"""The moments that LEACE solves for: correlations of features, and with concepts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_finite, check_range, is_concrete
from jaxsteer._types import Array, Bool, Float
from jaxsteer.linalg import (
    cholesky,
    matmul,
    roots_psd,
    solve_psd,
    svd,
    whiten,
    whiten_transposed,
)
from jaxsteer.linalg._host_gram import host_gram, origin_of, working_dtype

STEPS = 12


def keeps_all_directions(
    a: Float[Array, "d d"], factor: Float[Array, "d d"]
) -> Bool[Array, ""]:
    """Whether no eigenvalue of `a` is near ``d * eps`` of the largest. O(d^2).

    That is where pseudo-inverses start to drop directions, which a factor cannot do.
    Both ends of the spectrum are found by power iterations, to well within the factor of
    4 that is kept between them and the limit.

    Args:
        a: ``[d, d]`` symmetric matrix.
        factor: ``[d, d]`` its lower Cholesky factor, NaN where there is none.
    """
    d = a.shape[-1]
    start = jax.random.normal(jax.random.key(0), (d, 1), a.dtype)

    def power(operator: Callable[[Array], Array]) -> Array:
        def step(_: Any, pair: tuple[Array, Array]) -> tuple[Array, Array]:
            vector, _ = pair
            vector = vector / jnp.linalg.norm(vector)
            image = operator(vector)
            return image, jnp.sum(vector * image)

        return jax.lax.fori_loop(0, STEPS, step, (start, jnp.zeros((), a.dtype)))[1]

    largest = power(lambda v: matmul(a, v))
    smallest = 1 / power(lambda v: solve_psd(factor, v))
    limit = 4 * d * jnp.finfo(a.dtype).eps * largest
    # NaN compares as False.
    return jnp.isfinite(factor).all() & (smallest > limit)


class ConceptMoments(NamedTuple):
    """Standardized second moments of features and concepts.

    Attributes:
        mean: ``[d]`` means of the features.
        scale: ``[d]`` deviations of the features, 1 for constant ones.
        varies: ``[d]`` which features are not constant.
        corr: ``[d, d]`` correlations, 0 for constant features.
        cross: ``[d, k]`` correlations with the concepts.
        rows: ``[]`` Kish's effective number of rows.
    """

    mean: Float[Array, " d"]
    scale: Float[Array, " d"]
    varies: Bool[Array, " d"]
    corr: Float[Array, "d d"]
    cross: Float[Array, "d k"]
    rows: Float[Array, ""]


def moments_of_rows(
    rows: Float[Array, "n d"], concepts: Float[Array, "n k"], mass: Float[Array, " n"]
) -> ConceptMoments:
    """Take the moments in a form that can be traced and differentiated."""
    share = mass / jnp.sum(mass)
    mean, scale, standard, varies = _standardize(rows, share)
    concept = _standardize(concepts, share)[2]
    weighted = (share[:, None] * standard).T
    return ConceptMoments(
        mean=mean,
        scale=scale,
        varies=varies,
        corr=matmul(weighted, standard),
        cross=matmul(weighted, concept),
        rows=1 / jnp.sum(share**2),
    )


def moments_on_host(
    x: Any, concepts: Any, codes: bool, size: int, weights: Any
) -> ConceptMoments:
    """Take the moments of concrete rows in one pass over them.

    Args:
        x: ``[n, d]`` features.
        concepts: ``[n]`` codes, or ``[n, k]`` real concepts.
        codes: Whether they are codes.
        size: Number of codes, or of concepts.
        weights: ``[n]`` or None.
    """
    dtype = working_dtype(x)
    x = np.asarray(x)
    concepts = np.asarray(concepts, np.int64 if codes else None)
    n, d = x.shape
    root = None if weights is None else np.sqrt(np.asarray(weights, dtype))
    origin = origin_of(x).astype(dtype)
    z_origin = np.zeros(0) if codes else origin_of(concepts).astype(dtype)

    as_given = root is None and x.dtype == dtype and not origin.any()

    def chunk(start: int, stop: int, buffer: np.ndarray) -> np.ndarray:
        if as_given:
            return x[start:stop]
        with np.errstate(over="ignore"):  # what overflows is found in the moments
            np.subtract(x[start:stop], origin, out=buffer, casting="unsafe")
        if root is not None:
            buffer *= root[start:stop, None]
        return buffer

    def right(start: int, stop: int) -> np.ndarray:
        # The last column makes the sums, from which the means follow.
        block = np.zeros((stop - start, size + 1), dtype)
        if codes:
            block[np.arange(stop - start), concepts[start:stop]] = 1
        else:
            block[:, :-1] = concepts[start:stop] - z_origin
        block[:, -1] = 1
        return block if root is None else block * root[start:stop, None]

    gram, cross = host_gram(chunk, n, d, dtype, right)
    if not np.isfinite(gram).all():
        check_finite("x", x)
        check_range("x", x)
        raise ValueError(
            f"x overflows {dtype} in its second moments; standardize the features first."
        )
    sums, powers = np.zeros(size + 1), np.zeros(size + 1)
    for start in range(0, n, 65536):
        block = right(start, min(start + 65536, n)).astype(np.float64)
        sums += np.einsum("ij,i->j", block, block[:, -1])
        powers += np.einsum("ij,ij->j", block, block)
    mass = sums[-1]
    shift, z_mean = cross[:, -1] / mass, sums[:-1] / mass
    squares = n if weights is None else np.sum(np.asarray(weights, np.float64) ** 2)
    return standardized(
        origin + shift,
        gram / mass - np.outer(shift, shift),
        _without_redundant(
            cross[:, :-1] / mass - np.outer(shift, z_mean), z_mean, codes
        ),
        powers[:-1] / mass - z_mean**2,
        # Constants leave rounding of the size of their level.
        level=np.abs(z_mean) if codes else np.abs(z_mean + z_origin),
        rows=mass**2 / squares,
        dtype=dtype,
    )


def _without_redundant(cross: np.ndarray, share: np.ndarray, codes: bool) -> np.ndarray:
    """One-hot columns sum to one: without the most frequent they span the same space."""
    if not codes:
        return cross
    return np.where(np.arange(len(share)) == np.argmax(share), 0, cross)


def standardized(
    mean: np.ndarray,
    cov: np.ndarray,
    cross: np.ndarray,
    variance: np.ndarray,
    *,
    level: np.ndarray,
    rows: float,
    dtype: Any,
) -> ConceptMoments:
    """Bring float64 moments to the scale of correlations and to their precision.

    Args:
        mean: ``[d]`` means of the features.
        cov: ``[d, d]`` covariance of the features.
        cross: ``[d, k]`` covariances of features and concepts.
        variance: ``[k]`` variances of the concepts.
        level: ``[k]`` sizes of the concepts' means.
        rows: Effective number of rows.
        dtype: Precision that the moments were taken in, and of the result.
    """
    eps = float(np.finfo(dtype).eps)

    def deviation(variance: np.ndarray, level: np.ndarray):
        varies = variance > (4 * eps * level) ** 2
        return varies, np.where(varies, np.sqrt(np.where(varies, variance, 1)), 1)

    varies, scale = deviation(np.diag(cov), np.abs(mean))
    z_varies, z_scale = deviation(variance, level)
    corr = np.where(varies[:, None] & varies, cov / scale / scale[:, None], 0)
    cross = np.where(varies[:, None] & z_varies, cross / scale[:, None] / z_scale, 0)
    return ConceptMoments(
        mean=jnp.asarray(mean, dtype),
        scale=jnp.asarray(scale, dtype),
        varies=jnp.asarray(varies),
        corr=jnp.asarray(corr, dtype),
        cross=jnp.asarray(cross, dtype),
        rows=jnp.asarray(rows, dtype),
    )


def one_hot(codes: Any, size: int, share: Float[Array, " n"]) -> Float[Array, "n k"]:
    """Codes as one-hot columns, without the redundant one."""
    hot = jax.nn.one_hot(jnp.asarray(codes, jnp.int32), size, dtype=share.dtype)
    # Without the most frequent class rounding cannot pass for a further direction.
    largest = jnp.argmax(matmul(share, hot))
    return jnp.where(jnp.arange(size) == largest, 0, hot)


def _standardize(rows: Array, share: Array) -> tuple[Array, Array, Array, Array]:
    """Mean, deviation (1 for constant columns), standardized rows, what varies."""
    rough = jnp.mean(rows, 0)
    mean = rough + matmul(share, rows - rough)
    centered = rows - mean
    variance = matmul(share, centered**2)
    # A constant column leaves rounding of the size of its mean, and no more.
    eps = jnp.finfo(rows.dtype).eps
    varies = variance > (4 * eps * mean) ** 2
    scale = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 1)
    return mean, scale, jnp.where(varies, centered / scale, 0), varies


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


def _basis_and_inverse(m: Array, tol: float):
    u, s, vt = svd(m)
    keep = s > tol
    return jnp.where(keep, u, 0), jnp.where(keep, vt.T / jnp.where(keep, s, 1), 0)


@range_basis.defjvp
def _range_basis_jvp(
    tol: float, primals: tuple[Array, ...], tangents: tuple[Array, ...]
):
    # Differentiating the singular vectors would divide by differences of singular values.
    (m,), (dm,) = primals, tangents
    basis, inverse = _basis_and_inverse(m, tol)
    moved = matmul(dm, inverse)
    return basis, moved - matmul(basis, matmul(basis.T, moved))
