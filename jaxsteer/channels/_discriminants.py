"""Coordinates that tell classes apart, and how much of each all groups can deliver."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import (
    cholesky,
    eigh,
    matmul,
    polar_orthogonal,
    qr,
    sqrtm_psd,
    symmetrize,
    transpose,
    whiten,
    whiten_transposed,
)
from jaxsteer.solvers._max_det import barrier_floor, largest_below


class Discriminants(NamedTuple):
    """Coordinates in which a map and noise make the groups' classes coincide.

    Attributes:
        units: ``[G, K-1, d]`` rows that read the coordinates off whitened features,
            orthonormal; 0 where the group's classes do not differ.
        shrink: ``[G, K-1, K-1]`` symmetric, at most the identity: after it every class
            mean is the same in all groups. 0 for coordinates that a group lacks.
        noise: ``[G, K-1, K-1]`` symmetric root of ``I - shrink^2``.
        shared: ``[K-1]`` which coordinates every group has.
        means: ``[K-1, K]`` class means in these coordinates.
        gap: ``[]`` bound on the missing ``log det`` of the means' Gram matrix.
        steps: ``[]`` iterations, int32; 0 for closed forms.
    """

    units: Array
    shrink: Array
    noise: Array
    shared: Array
    means: Array
    gap: Array
    steps: Array


class _Separation(NamedTuple):
    """Grams of whitened class contrasts, in coordinates where they sum to the identity.

    Attributes:
        reduced: ``[G, d, m]`` whitened class means along the contrasts.
        contrast: ``[K, m]`` the contrasts.
        factor: ``[m, m]`` root of the sum of the Grams (positive on empty directions).
        inner: ``[G, m, m]`` the Grams, whitened by `factor`.
        empty: ``[m, m]`` positive where no group's classes differ, in these coordinates.
        rounding: ``[]`` below it an eigenvalue of `inner` is rounding.
    """

    reduced: Array
    contrast: Array
    factor: Array
    inner: Array
    empty: Array
    rounding: Array


def root_or_zero(values: Array) -> Array:
    """Square root with slope 0 at 0, where the noise of the binding group is."""
    positive = values > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, values, 1.0)), 0.0)


def diagonal(values: Array) -> Array:
    """Diagonal matrices ``[..., m, m]``."""
    return values[..., None] * jnp.eye(values.shape[-1], dtype=values.dtype)


def discriminants(
    white: Float[Array, "G d K"], share: Float[Array, " K"]
) -> Discriminants:
    """Find the most informative coordinates that every group can be degraded to.

    Their Gram matrix of class means has the largest determinant among those below
    every group's own (on the directions that every group has). Two groups, or two
    classes, have a closed form, O(K^3); else see :func:`largest_below`.

    Args:
        white: ``[G, d, K]`` centered class means in each group's whitened features.
        share: ``[K]`` class shares, which sum to 1.

    Returns:
        The coordinates.
    """
    found = _separation(white, share)
    n_groups, m = found.inner.shape[:2]
    return _by_eigenvalues(found) if n_groups == 2 or m == 1 else _by_volume(found)


def _separation(white: Array, share: Array) -> _Separation:
    contrast = _contrasts(share)
    reduced = matmul(white, contrast)
    gram = matmul(transpose(reduced), reduced)
    m = gram.shape[-1]
    total = jnp.sum(gram, 0)
    rounding = 10 * m * float(jnp.finfo(total.dtype).eps)
    empty, condition = _empty(total, 10 * rounding)
    factor = cholesky(total + empty)
    both = jnp.concatenate([gram, empty[None]])
    inner = symmetrize(whiten(factor, transpose(whiten(factor, both))))
    return _Separation(
        reduced, contrast, factor, inner[:-1], inner[-1], rounding * condition
    )


def _contrasts(share: Float[Array, " K"]) -> Float[Array, "K m"]:
    """Orthonormal basis of the vectors orthogonal to the class shares."""
    k = share.shape[0]
    start = jnp.concatenate([share[:, None], jnp.eye(k, dtype=share.dtype)[:, 1:]], 1)
    basis, _ = qr(start)
    return basis[:, 1:]


def _empty(total: Array, tolerance: float) -> tuple[Array, Array]:
    """Positive multiple of the projector onto the null space of a PSD matrix.

    There no class differs in any group (collinear class means, or ``K - 1 > d``), and
    whitening would blow rounding errors up to coordinates. Also returns the condition
    number of the rest, by which whitening multiplies rounding errors.
    """
    values, vectors = eigh(jax.lax.stop_gradient(total))
    size = jnp.max(values)
    alive = values > tolerance * size
    fill = jnp.where(size > 0, size, 1.0)
    condition = fill / jnp.min(jnp.where(alive, values, fill))
    return matmul(vectors * jnp.where(alive, 0.0, fill), transpose(vectors)), condition


@jax.custom_jvp
def _eigh(a: Array) -> tuple[Array, Array]:
    """``eigh``, with the frame's derivative 0 between equal eigenvalues."""
    values, vectors = eigh(a)
    return values, vectors


@_eigh.defjvp
def _eigh_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    values, vectors = eigh(primals[0])
    inner = matmul(matmul(transpose(vectors), symmetrize(tangents[0])), vectors)
    gap = values[None, :] - values[:, None]
    apart = jnp.abs(gap) > 10 * values.shape[0] * jnp.finfo(gap.dtype).eps
    turn = jnp.where(apart, inner / jnp.where(apart, gap, 1.0), 0.0)
    return (values, vectors), (jnp.diagonal(inner), matmul(vectors, turn))


def _by_eigenvalues(found: _Separation) -> Discriminants:
    """Two groups: both Grams are diagonal in one frame, and the lesser entry is left.

    That is the largest determinant too, by Hadamard's inequality.
    """
    # Eigenvalues in [0, 1] are shares of group 0; empty directions are told by a 2.
    first, vectors = _eigh(found.inner[0] + 2 * found.empty)
    alive = first < 1.5
    if found.inner.shape[0] == 2:
        first = jnp.clip(first, 0.0, 1.0)
        lengths = jnp.stack([first, 1.0 - first])
    else:
        lengths = found.inner[..., 0]
    present = alive & (lengths > found.rounding)
    shared = jnp.all(present, 0)
    least = jnp.where(shared, jnp.min(lengths, 0), 0.0)
    # Gram_a = C diag(lengths_a) C' with C = contrast factor vectors.
    change = matmul(found.factor, vectors)
    means = root_or_zero(least)[:, None] * matmul(
        transpose(change), transpose(found.contrast)
    )
    sign = _last_positive(means)
    safe = jnp.where(present, lengths, 1.0)
    inverse = jnp.where(present, 1 / safe, 0.0)
    back = transpose(whiten_transposed(found.factor, vectors))
    read = matmul(back, transpose(found.reduced))
    # The binding group's quotient is exactly 1: no noise.
    kept = jnp.where(present, least / safe, 0.0)
    return Discriminants(
        units=(sign * root_or_zero(inverse))[..., None] * read,
        shrink=diagonal(root_or_zero(kept)),
        noise=diagonal(root_or_zero(1 - kept)),
        shared=shared,
        means=sign[:, None] * means,
        gap=jnp.zeros((), means.dtype),
        steps=jnp.zeros((), jnp.int32),
    )


def _last_positive(means: Array) -> Array:
    """Signs of the coordinates that make the last class's mean positive."""
    return jnp.where(means[:, -1] < 0, -1.0, 1.0).astype(means.dtype)


def _by_volume(found: _Separation) -> Discriminants:
    """More groups: the Gram of the largest determinant below all."""
    identity = jnp.eye(found.inner.shape[-1], dtype=found.inner.dtype)
    lack, frame, shared = _common_range(found)
    # Gram_a + (projector on its null space) = F_a F_a', whitened.
    lower = cholesky(found.inner + lack)
    frame = jnp.where(shared, frame, 0.0)
    seen = whiten(lower, jnp.broadcast_to(frame, lower.shape))
    # seen' seen is the inverse Gram on the common range; the identity stands elsewhere.
    rest = jnp.broadcast_to(jnp.where(shared, 0.0, identity), lower.shape)
    _, roots = qr(jnp.concatenate([seen, rest], -2))
    total = cholesky(jnp.sum(matmul(transpose(roots), roots), 0))
    roots = transpose(whiten(total, transpose(roots)))
    best = largest_below(roots)
    back = whiten_transposed(total, sqrtm_psd(best.gram))
    back = jnp.where(shared[:, None] & shared, back, 0.0)
    means = matmul(
        transpose(matmul(found.factor, matmul(frame, back))), transpose(found.contrast)
    )
    sign = _last_positive(means)
    back = back * sign
    # The read-out of group a is pull_a' white_a: its rows, made orthonormal, times
    # their lengths.
    pull = matmul(seen, back)
    turn = jax.vmap(polar_orthogonal)(pull)
    white = whiten(lower, whiten(found.factor, transpose(found.reduced)))
    shrink = symmetrize(matmul(transpose(turn), pull))
    shrink = jnp.where(shared[:, None] & shared, shrink, 0.0)
    return Discriminants(
        units=matmul(transpose(turn), white),
        shrink=shrink,
        noise=jax.vmap(_remainder)(matmul(shrink, shrink)),
        shared=shared,
        means=sign[:, None] * means,
        gap=best.gap,
        steps=best.steps,
    )


def _common_range(found: _Separation) -> tuple[Array, Array, Array]:
    """Projectors on each Gram's null space, and a frame of the ranges' intersection.

    Returns ``[G, m, m]`` projectors, ``[m, m]`` orthonormal columns, and which of them
    ``[m]`` lie in every range.
    """
    values, vectors = eigh(jax.lax.stop_gradient(found.inner))
    null = (values <= found.rounding).astype(values.dtype)
    lack = matmul(vectors * null[..., None, :], transpose(vectors))
    sums, frame = eigh(jnp.sum(lack, 0))
    # Eigenvalues are squares of sines, those of rounding errors too.
    limit = found.rounding**2 + 100 * values.shape[-1] * jnp.finfo(values.dtype).eps
    return lack, frame, sums < jax.lax.stop_gradient(limit)


@jax.custom_jvp
def _remainder(kept: Array) -> Array:
    """Symmetric root of ``I - kept``, exactly 0 where only rounding is left."""
    root, _ = _spectral_remainder(kept)
    return root


def _spectral_remainder(kept: Array) -> tuple[Array, tuple[Array, Array]]:
    values, vectors = eigh(symmetrize(kept))
    rest = 1 - values
    tolerance = 20 * barrier_floor(rest.dtype)
    roots = root_or_zero(jnp.where(rest > tolerance, rest, 0.0))
    return matmul(vectors * roots, transpose(vectors)), (roots, vectors)


@_remainder.defjvp
def _remainder_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    root, (roots, vectors) = _spectral_remainder(primals[0])
    sums = roots[:, None] + roots
    inner = matmul(matmul(transpose(vectors), symmetrize(tangents[0])), vectors)
    inner = jnp.where(sums > 0, inner / jnp.where(sums > 0, sums, 1.0), 0.0)
    return root, -matmul(matmul(vectors, inner), transpose(vectors))
