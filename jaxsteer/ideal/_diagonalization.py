"""Two classes: both groups' covariances made diagonal at once."""

from __future__ import annotations

import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import einsum, matmul, symmetrize, transpose, whiten
from jaxsteer.linalg import whiten_transposed as back


def diagonalizing_matrix(
    target_mean: Float[Array, "2 d"],
    target_cov: Float[Array, "2 d d"],
    mean: Float[Array, "2 d"],
    cov: Float[Array, "2 d d"],
    weight: Float[Array, " 2"],
    *,
    allow_reflection: bool,
) -> Float[Array, "d d"]:
    """Matrix from cells to their targets that pairs generalized eigenvectors.

    In each group some coordinates make both classes' covariances diagonal. Paired in
    the order of the ratio of variances, each pair is a problem of one feature with a
    closed form. Nearest when the groups differ by such a pairing; elsewhere a start for
    the search, which is flat along rotations with two classes.

    Args:
        target_mean: ``[2, d]`` means of the targets.
        target_cov: ``[2, d, d]`` their covariances.
        mean: ``[2, d]`` means of the cells.
        cov: ``[2, d, d]`` their covariances.
        weight: ``[2]`` weights.
        allow_reflection: Allow a negative determinant; otherwise, if need be, the
            coordinate whose classes differ least is turned.

    Returns:
        ``[d, d]`` the matrix. Cost O(d^3).
    """
    covs = jnp.stack([target_cov, cov])
    factor = jnp.linalg.cholesky(covs[:, 1])
    inner = whiten(factor, transpose(whiten(factor, covs[:, 0])))
    ratio, vectors = jnp.linalg.eigh(symmetrize(inner))
    basis = back(factor, vectors)  # columns v: v' cov_1 v = 1, v' cov_0 v = ratio
    means = einsum("gkj,gji->gki", jnp.stack([target_mean, mean]), basis)
    variance = jnp.stack([ratio, jnp.ones_like(ratio)], 1)

    precision = weight[:, None] / variance[0]
    away = means - jnp.sum(precision * means, 1, keepdims=True) / jnp.sum(precision, 0)
    pull = jnp.sum(precision * away[0] * away[1], 0)
    size = jnp.sum(precision * (variance[1] + away[1] ** 2), 0)
    sign = jnp.where(pull < 0, -1.0, 1.0).astype(pull.dtype)
    left = matmul(factor[0], vectors[0])  # the inverse transpose of its basis
    if not allow_reflection:
        turned = jnp.linalg.slogdet(jnp.stack([left, basis[1]]))[0]
        negative = jnp.prod(turned) * jnp.prod(sign) < 0
        least = jnp.argmin(jnp.abs(pull) / size)
        sign = sign.at[least].multiply(jnp.where(negative, -1.0, 1.0))
    pull = sign * pull
    gain = (pull + jnp.sqrt(pull**2 + 4 * size * jnp.sum(weight))) / (2 * size)
    return matmul(left * (sign * gain), transpose(basis[1]))
