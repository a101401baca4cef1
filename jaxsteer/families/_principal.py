"""Factors of the leading directions, with a derivative that survives equal variances.

The factor ``F = V (L - s I)^{1/2}`` of probabilistic principal components holds the
leading eigenvectors, which the derivative of an eigendecomposition turns by one over
differences of eigenvalues. But ``F F'`` does not see a rotation within the leading
directions. The rule here chooses the rotation that makes ``V' dF`` symmetric, whose
denominators are sums; only the gap to the first direction left out remains.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import eigh, matmul, symmetrize, transpose


def _directions_of_cov(cov: Array):
    values, vectors = eigh(cov)
    return jnp.maximum(values[::-1], 0.0), _signed(vectors[:, ::-1])


def _directions_of_root(root: Array):
    m, d = root.shape
    if m >= d:
        return _directions_of_cov(matmul(transpose(root), root))
    # Not the singular value decomposition: its many small calls are up to 60 times
    # slower where other programs use the cores, and slow on GPUs. What squaring costs,
    # the digits of directions far below the first, is lost in a covariance too.
    values, turns = eigh(matmul(root, transpose(root)))
    values, turns = jnp.maximum(values[::-1], 0.0), turns[:, ::-1]
    real = values > m * jnp.finfo(root.dtype).eps * values[0]
    scale = jnp.where(real, 1 / jnp.sqrt(jnp.where(real, values, 1.0)), 0.0)
    return values, _signed(matmul(transpose(root), turns) * scale)


def _signed(vectors: Array):
    """Turn each column so that its largest entry is positive: no sign by chance."""
    largest = jnp.argmax(jnp.abs(vectors), 0)
    entries = jnp.take_along_axis(vectors, largest[None], 0)
    return vectors * jnp.where(entries < 0, -1.0, 1.0).astype(vectors.dtype)


def _lengths(values: Array, d: int, rank: int):
    noise = jnp.sum(values[rank:]) / (d - rank)
    return jnp.sqrt(jnp.maximum(values[:rank] - noise, 0.0))


def _moved(values: Array, vectors: Array, rank: int, applied: Array, dtrace: Array):
    """Derivative of the factor, from ``dS V`` (`applied`) and the trace of ``dS``."""
    d = vectors.shape[0]
    lead, rest = vectors[:, :rank], vectors[:, rank:]
    lengths = _lengths(values, d, rank)
    inner = matmul(transpose(lead), applied)
    dnoise = (dtrace - jnp.trace(inner)) / (d - rank)
    sums = lengths[:, None] + lengths[None, :]
    within = symmetrize(inner) - dnoise * jnp.eye(rank, dtype=values.dtype)
    within = _divided(within, sums)
    cross = matmul(transpose(rest), applied)
    outside = applied - matmul(lead, inner) - matmul(rest, cross)
    cross = _divided(cross * lengths, values[:rank] - values[rank:, None])
    outside = _divided(outside * lengths, values[:rank])
    return matmul(lead, within) + matmul(rest, cross) + outside


def _divided(a: Array, b: Array):
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def principal_factor_of_cov(cov: Float[Array, "d d"], rank: int) -> Float[Array, "d r"]:
    """``V (L - s I)^{1/2}`` of the `rank` leading directions of a covariance.

    ``s`` is the mean of the eigenvalues left out. Cost O(d^3).

    References:
        Tipping and Bishop 1999, equation 7.
    """
    values, vectors = _directions_of_cov(cov)
    return vectors[:, :rank] * _lengths(values, len(cov), rank)


@principal_factor_of_cov.defjvp
def _of_cov_jvp(rank: int, primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    (cov,), (dcov,) = primals, tangents
    dcov = symmetrize(dcov)
    values, vectors = _directions_of_cov(cov)
    lead = vectors[:, :rank]
    tangent = _moved(values, vectors, rank, matmul(dcov, lead), jnp.trace(dcov))
    return lead * _lengths(values, len(cov), rank), tangent


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def principal_factor_of_root(
    root: Float[Array, "m d"], rank: int
) -> Float[Array, "d r"]:
    """:func:`principal_factor_of_cov` of ``root' root``, which is formed only for m >= d.

    Cost O(m d min(m, d)).
    """
    values, vectors = _directions_of_root(root)
    return vectors[:, :rank] * _lengths(values, root.shape[1], rank)


@principal_factor_of_root.defjvp
def _of_root_jvp(rank: int, primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    (root,), (droot,) = primals, tangents
    values, vectors = _directions_of_root(root)
    lead = vectors[:, :rank]
    applied = matmul(transpose(droot), matmul(root, lead))
    applied = applied + matmul(transpose(root), matmul(droot, lead))
    dtrace = 2 * jnp.sum(root * droot)
    tangent = _moved(values, vectors, rank, applied, dtrace)
    return lead * _lengths(values, root.shape[1], rank), tangent
