"""Coordinates of each group that an affine map of the group does not change."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.families import MultivariateNormal
from jaxsteer.linalg import cholesky_inverse, eigh, einsum, symmetrize, transpose
from jaxsteer.linalg._diagonalization import generic_mixture


def canonical_cells(cells: MultivariateNormal) -> MultivariateNormal:
    """Move each group to axes that its own configuration of classes determines.

    The mean of the class covariances becomes the identity, and the axes are those of a
    generic combination of class covariances and products of means, their signs chosen
    by the means. Groups that are affine images of each other then coincide up to
    rounding, unless a symmetry of the configuration leaves axes or signs free. KL
    divergences within a group do not change.

    Args:
        cells: Batch ``[K, G]``.

    Returns:
        The cells in the new coordinates. Cost O(G K d^3).
    """
    _, inverse = cholesky_inverse(jnp.mean(cells.cov, 0))
    center = cells.mean - jnp.mean(cells.mean, 0)
    flat = MultivariateNormal(
        einsum("gde,kge->kgd", inverse, center), _turned(inverse, cells.cov)
    )

    by_group = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), flat)
    mix = generic_mixture(by_group.cov, by_group.mean)
    axes = transpose(eigh(mix)[1])
    mean, cov = einsum("gde,kge->kgd", axes, flat.mean), _turned(axes, flat.cov)
    signs = _signs(mean, cov)
    return MultivariateNormal(
        signs * mean, signs[..., None] * symmetrize(cov) * signs[..., None, :]
    )


def _turned(turn: Float[Array, "G d d"], cov: Float[Array, "K G d d"]) -> Array:
    return einsum("gdb,kgbc,gec->kgde", turn, cov, turn)


def _signs(mean: Array, cov: Array) -> Float[Array, "G d"]:
    """Signs of the axes, by the largest of several vectors' entries along each."""
    moved = einsum("kgde,jge->kjgd", cov, mean).reshape(-1, *mean.shape[1:])
    by_mean = _sign_of_largest(jnp.concatenate([mean, moved]))
    # Where the means are silent on an axis, its covariances with the first axis speak.
    first = cov[..., 0] * by_mean[:, :1]
    own = jnp.arange(mean.shape[-1]) == 0
    weak = jnp.max(jnp.abs(mean), 0) < jnp.finfo(mean.dtype).eps ** 0.5
    return jnp.where(weak & ~own, _sign_of_largest(first), by_mean)


def _sign_of_largest(vectors: Float[Array, "m G d"]) -> Float[Array, "G d"]:
    largest = jnp.argmax(jnp.abs(vectors), 0, keepdims=True)
    entries = jnp.take_along_axis(vectors, largest, 0)[0]
    return jnp.where(entries < 0, -1.0, 1.0).astype(vectors.dtype)
