"""The optimal-transport map between two normal distributions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import (
    matmul,
    roots_psd,
    sqrtm_psd,
    symmetrize,
    transpose,
    whiten_transposed,
)
from jaxsteer.maps._affine import AffineMap


def gaussian_transport(
    source_mean: Float[Array, "... d"],
    source_cov: Float[Array, "... d d"],
    target_mean: Float[Array, "... d"],
    target_cov: Float[Array, "... d d"],
) -> AffineMap:
    """Affine map that moves ``N(source)`` onto ``N(target)`` at least squared distance.

    ``W = S^{-1/2} (S^{1/2} R S^{1/2})^{1/2} S^{-1/2}`` with source covariance ``S`` and
    target covariance ``R``; ``b = target_mean - W source_mean``. `W` is symmetric
    positive definite. A singular source covariance is inverted on its range only.
    Cost O(d^3) each; leading axes are a batch. Differentiable.

    Returns:
        The map, with the leading axes of the moments.

    References:
        Knott and Smith 1984; Peyre and Cuturi 2019, remark 2.31.

    Example:
        >>> import jax.numpy as jnp
        >>> zero, one = jnp.zeros(2), jnp.eye(2)
        >>> gaussian_transport(zero, one, zero + 1, 4 * one).weight.tolist()
        [[2.0, 0.0], [0.0, 2.0]]
    """
    d = source_cov.shape[-1]
    shape = jnp.broadcast_shapes(source_cov.shape, target_cov.shape)
    flat = [
        jnp.broadcast_to(c, shape).reshape((-1, d, d)) for c in (source_cov, target_cov)
    ]
    weight = _weights(flat[0], flat[1]).reshape(shape)
    bias = target_mean - matmul(weight, source_mean[..., None])[..., 0]
    return AffineMap(weight, bias)


@jax.jit
def _weights(source, target):
    # One problem at a time: the eigendecompositions stay in sequence, which costs
    # nothing on a few cells and keeps independent batched LAPACK calls apart. Compiled
    # here because a mapped closure would be compiled anew at every eager call.
    return jax.lax.map(_weight_of, (source, target))


def _weight_of(pair):
    source, target = pair
    # Only to decide: where it fails its derivative is NaN.
    pivots = jnp.diagonal(jnp.linalg.cholesky(jax.lax.stop_gradient(source)))
    floor = source.shape[-1] * jnp.finfo(source.dtype).eps * jnp.max(pivots) ** 2
    regular = jnp.min(pivots) ** 2 > floor  # NaN compares as false
    return jax.lax.cond(regular, _by_factor, _on_range, source, target)


def _by_factor(source, target):
    # Any L with L L' = S serves in the place of its root: one eigendecomposition less.
    factor = jnp.linalg.cholesky(source)
    middle = sqrtm_psd(matmul(transpose(factor), matmul(target, factor)))
    half = whiten_transposed(factor, middle)
    return symmetrize(whiten_transposed(factor, transpose(half)))


def _on_range(source, target):
    root, inverse = roots_psd(source)
    middle = sqrtm_psd(matmul(root, matmul(target, root)))
    return matmul(inverse, matmul(middle, inverse))
