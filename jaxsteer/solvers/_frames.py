"""Where searches over matrices start: frames of definite ones, random ones.

A search has a metric of the space that is mapped into and second moments of what is
mapped. In the frame of both, the axes that they share, starts mean the same whatever the
units and correlations of the features.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.linalg import cholesky_inverse, eigh, matmul, matvec, transpose

SEED = 0


def definite_frame(
    metric: Float[Array, "g d d"], moment: Float[Array, "g d d"]
) -> Float[Array, "g d d"]:
    """Return ``f`` such that ``s = f f'`` solves ``s moment s = metric^-1``.

    The definite maps' solution, were the classes' covariances equal. In its coordinates
    both matrices are diagonal and inverse to each other.
    """
    _, inverse = cholesky_inverse(moment)
    values, vectors = eigh(matmul(inverse, matmul(metric, transpose(inverse))))
    root = _not_singular(values) ** -0.25
    return matmul(transpose(inverse), vectors * root[..., None, :])


def coordinates(
    metric: Float[Array, "g d d"],
    first: Float[Array, "g d d"],
    moment: Float[Array, "g d d"],
) -> tuple[Float[Array, "g d d"], Float[Array, "g d d"]]:
    """Matrices ``A_a`` with ``A_a' metric_a A_a = I``, at the principal axes of images.

    The axes are those of the second moments as the matrices `first` map them. Without,
    classes that are far apart couple the entries of the Hessian, and conjugate gradients
    take three times as many products. The second output is their inverses.
    """
    factor, inverse = cholesky_inverse(metric)
    seen = matmul(transpose(factor), first)
    _, axes = eigh(matmul(seen, matmul(moment, transpose(seen))))
    return matmul(transpose(inverse), axes), matmul(transpose(axes), transpose(factor))


def random_matrices(
    metric: Float[Array, "d d"],
    moment: Float[Array, "d d"],
    direction: Float[Array, " d"],
    count: int,
    *,
    mirrored: bool = False,
) -> Float[Array, "count d d"]:
    """Matrices that bring the moments to the inverse of the metric, turned at random.

    Always the same turns of the axes that moments and metric share, whose signs are those
    of a direction: other coordinates of the features change nothing.

    Args:
        metric: Of the space mapped into.
        moment: Second moments of what is mapped.
        direction: A vector of the space mapped into that moves with it.
        count: How many.
        mirrored: Whether the determinants are negative.
    """
    turns = _random_turns(count, len(metric))
    if mirrored:
        turns[:, :, 0] *= -1
    factor, inverse = cholesky_inverse(moment)
    values, axes = eigh(matmul(transpose(factor), matmul(metric, factor)))
    left = matmul(factor, axes)
    along = matvec(transpose(left), matvec(metric, direction))
    sign = jnp.where(along < 0, -jnp.ones_like(values), jnp.ones_like(values))
    scale = sign / jnp.sqrt(_not_singular(values))
    right = matmul(transpose(axes * sign[None, :]), inverse)
    turned = matmul((left * scale[None, :])[None], jnp.asarray(turns, metric.dtype))
    return matmul(turned, right[None])


def _not_singular(values: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Eigenvalues, rising, that rounding has not made zero or negative."""
    floor = values.shape[-1] * jnp.finfo(values.dtype).eps * values[..., -1:]
    return jnp.maximum(values, floor)


def _random_turns(count: int, d: int) -> np.ndarray:
    """Rotations, of the uniform distribution."""
    drawn = np.random.default_rng(SEED).normal(size=(count, d, d))
    turns, triangle = np.linalg.qr(drawn)
    turns = turns * np.sign(np.diagonal(triangle, axis1=1, axis2=2))[:, None, :]
    turns[:, :, 0] *= np.linalg.det(turns)[:, None]
    return turns
