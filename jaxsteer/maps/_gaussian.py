"""The optimal-transport map between two normal distributions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import (
    after,
    matmul,
    roots_psd,
    sqrtm_psd,
    symmetrize,
    transpose,
    whiten,
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
    factor, inverse = _factor(source)
    middle = sqrtm_psd(matmul(transpose(factor), matmul(target, factor)))
    return symmetrize(matmul(transpose(inverse), matmul(middle, inverse)))


def _factor(source):
    """Some `F` with ``F F' = source`` in the place of its root, and its inverse.

    A triangular one costs an eigendecomposition less; a singular source has no inverse
    one, and takes the root.
    """
    # Only to decide: where it fails its derivative is NaN.
    pivots = jnp.diagonal(jnp.linalg.cholesky(jax.lax.stop_gradient(source)))
    eye = jnp.eye(source.shape[-1], dtype=source.dtype)
    # A zero pivot comes out as some roundings, however few the features.
    rounding = (100 + source.shape[-1]) * jnp.finfo(source.dtype).eps
    floor = rounding * jnp.max(pivots) ** 2
    regular = jnp.min(pivots) ** 2 > floor  # NaN compares as false
    factor = jnp.linalg.cholesky(jnp.where(regular, source, eye))
    # The inverse and two products, not two solves: derivatives of solves are pairs of
    # solves, which in a batch can wait for each other on few cores.
    inverse = whiten(factor, eye)
    # A mapped condition computes both sides: the roots must wait for the factor.
    return jax.lax.cond(
        regular,
        lambda _: (factor, inverse),
        roots_psd,
        after(source, inverse),
    )
