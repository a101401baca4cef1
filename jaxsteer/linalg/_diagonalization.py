"""Coordinates that a group's own classes determine, paired between two groups."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.linalg._factor import cholesky_inverse, eigh, slogdet
from jaxsteer.linalg._matmul import einsum, matmul, transpose


def diagonalizing_matrix(
    target_mean: Float[Array, "K d"],
    target_cov: Float[Array, "K d d"],
    mean: Float[Array, "K d"],
    cov: Float[Array, "K d d"],
    weight: Float[Array, " K"],
    *,
    allow_reflection: bool,
) -> Float[Array, "d d"]:
    """Matrix from cells to their targets that pairs the axes of both.

    Two classes: some coordinates make both covariances of a group diagonal; paired in
    the order of the ratio of variances, each pair is a problem of one feature with a
    closed form. Nearest when the groups differ by such a pairing. More classes: the
    axes are those of a generic combination of the covariances and of the means'
    products, which coincide where one group is an affine image of the other. Elsewhere
    a start for the search, which has local minima among rotations.

    Args:
        target_mean: ``[K, d]`` means of the targets.
        target_cov: ``[K, d, d]`` their covariances.
        mean: ``[K, d]`` means of the cells.
        cov: ``[K, d, d]`` their covariances.
        weight: ``[K]`` weights.
        allow_reflection: Allow a negative determinant; otherwise, if need be, the
            coordinate whose classes differ least is turned.

    Returns:
        ``[d, d]`` the matrix. Cost O(K d^3).
    """
    covs = jnp.stack([target_cov, cov])
    means = jnp.stack([target_mean, mean])
    share = weight / jnp.sum(weight)
    factor, inverse = cholesky_inverse(einsum("k,gkij->gij", share, covs))
    center = means - einsum("k,gkj->gj", share, means)[:, None]
    # With two classes any combination has the axes that make both diagonal.
    mixed = covs[:, 0] if len(weight) == 2 else generic_mixture(covs, center)
    _, vectors = eigh(matmul(inverse, matmul(mixed, transpose(inverse))))
    # In its coordinates the mean covariance is 1.
    basis = matmul(transpose(inverse), vectors)
    means = einsum("gkj,gji->gki", means, basis)
    variance = jnp.sum(einsum("gkij,gjl->gkil", covs, basis) * basis[:, None], -2)

    precision = weight[:, None] / variance[0]
    away = means - jnp.sum(precision * means, 1, keepdims=True) / jnp.sum(precision, 0)
    pull = jnp.sum(precision * away[0] * away[1], 0)
    size = jnp.sum(precision * (variance[1] + away[1] ** 2), 0)
    sign = jnp.where(pull < 0, -1.0, 1.0).astype(pull.dtype)
    left = matmul(factor[0], vectors[0])  # the inverse transpose of its basis
    if not allow_reflection:
        turned, _ = slogdet(matmul(vectors[0], vectors[1]))  # as the two bases do
        negative = turned * jnp.prod(sign) < 0
        least = jnp.argmin(jnp.abs(pull) / size)
        sign = sign.at[least].multiply(jnp.where(negative, -1.0, 1.0))
    pull = sign * pull
    gain = (pull + jnp.sqrt(pull**2 + 4 * size * jnp.sum(weight))) / (2 * size)
    return matmul(left * (sign * gain), transpose(basis[1]))


def generic_mixture(
    cov: Float[Array, "G K d d"], center: Float[Array, "G K d"]
) -> Float[Array, "G d d"]:
    """A combination of covariances and of means' products, the same in every group.

    Its axes turn with the group; no symmetry of the classes is likely to hide them.
    """
    # Any numbers will do that satisfy no simple equation.
    generic = np.random.default_rng(0).uniform(0.5, 1.5, (3, cov.shape[1]))
    first, *others = jnp.asarray(generic, cov.dtype)
    mixed = einsum("k,gkij->gij", first, cov)
    for weights in others:
        direction = einsum("k,gki->gi", weights, center)
        mixed = mixed + direction[:, :, None] * direction[:, None, :]
    return mixed
