"""MiMiC: match the mean and the covariance of every group to the reference group.

Formula: ``x -> mu_ref + W_a (x - mu_a)`` with the optimal-transport matrix
``W_a = S_a^{-1/2} (S_a^{1/2} S_ref S_a^{1/2})^{1/2} S_a^{-1/2}``.

Idea: of all affine maps that give group ``a`` the first two moments of the reference
group, this one moves the rows least.

Siblings: mean matching is the same with ``W_a = I``; the affirmative nearest-ideal maps
(``maps="positive_definite"``) solve for the class-conditionals instead of the marginals.

Paper: Singh et al. 2024, arXiv 2402.09631 ("mean and covariance matching").
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_choice, check_finite, is_concrete
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.baselines._moments import (
    check_groups,
    group_covariances,
    group_covariances_on_host,
    group_means,
)
from jaxsteer.linalg._host_gram import on_host
from jaxsteer.maps import AffineMap, gaussian_transport

ROUNDING = 16  # units of it, of the reference group's variances: below is no spread


def fit_mimic(
    x: Float[ArrayLike, "n d"],
    group: Int[ArrayLike, " n"],
    *,
    reference: int = 1,
    weights: Float[ArrayLike, " n"] | None = None,
    n_groups: int | None = None,
    ridge: float = 1e-5,
) -> AffineMap:
    """Fit the least-moving maps that match mean and covariance to the reference group.

    Covariances have denominators ``sum w`` (``1/n`` without weights), and `ridge` is
    added to every variance before the transport map is computed, so that collinear
    features and groups smaller than the feature count stay invertible. Cost
    O(n d^2 + G d^3) where values are concrete and on a CPU, otherwise
    O(G n d^2 + G d^3); differentiable in `x` and `weights`.

    Args:
        x: ``[n, d]`` features, best on comparable scales: `ridge` is absolute, and a
            direction whose variance is below ``d * eps`` of the largest counts as none.
        group: ``[n]`` integer codes ``0..G-1``.
        reference: Code of the group that stays as it is.
        weights: ``[n]`` sample weights, at least 0.
        n_groups: G; None takes the largest code plus one, which needs concrete codes.
        ridge: Added to the diagonals of the covariances, in squared feature units; a
            group without spread is given that of 16 units of rounding at least.

    Returns:
        A map with leading axis ``[G]``, exactly the identity at `reference`. While
        `group` or `weights` is traced, a group without weight has NaN.

    Raises:
        ValueError: If shapes, codes, weights or values are unusable, a group is empty,
            or `ridge` is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> x, group = jnp.array([[0.0], [2.0], [5.0], [9.0]]), jnp.array([0, 0, 1, 1])
        >>> [round(w, 3) for w in fit_mimic(x, group).weight[:, 0, 0].tolist()]
        [2.0, 1.0]

    References:
        Singh et al. 2024, "Representation Surgery", arXiv 2402.09631, section 4; Knott
        and Smith 1984 for the transport matrix.
    """
    if is_concrete(ridge) and not ridge >= 0:
        raise ValueError(f"ridge={ridge!r} must be at least 0.")
    rows, codes, mass, size = check_groups(
        x, group, weights=weights, reference=reference, n_groups=n_groups
    )
    means = group_means(rows, codes, mass, size)
    host = on_host(rows, codes, mass, means)
    covariances = group_covariances_on_host if host else group_covariances
    return _matched(means, covariances(rows, codes, mass, means), reference, ridge)


def mimic_from_moments(
    mean: Float[ArrayLike, "G d"],
    cov: Float[ArrayLike, "G d d"],
    *,
    reference: int = 1,
    ridge: float = 1e-5,
) -> AffineMap:
    """Fit the maps of :func:`fit_mimic` from the moments of the groups. O(G d^3).

    Args:
        mean: ``[G, d]``.
        cov: ``[G, d, d]``.
        reference: Code of the group that stays as it is.
        ridge: As in :func:`fit_mimic`.

    Returns:
        A map with leading axis ``[G]``, exactly the identity at `reference`.

    Raises:
        ValueError: If shapes, values or options are unusable.

    Example:
        >>> import jax.numpy as jnp
        >>> cov = jnp.stack([jnp.eye(1), 4 * jnp.eye(1)])
        >>> found = mimic_from_moments(jnp.zeros((2, 1)), cov, ridge=0.0)
        >>> found.weight[:, 0, 0].round(3).tolist()
        [2.0, 1.0]
    """
    if np.ndim(mean) != 2 or np.shape(cov) != (*np.shape(mean), np.shape(mean)[1]):
        raise ValueError(
            f"mean [G, d] and cov [G, d, d] do not agree: got {np.shape(mean)} and "
            f"{np.shape(cov)}."
        )
    check_choice("reference", reference, range(np.shape(mean)[0]))
    if is_concrete(ridge) and not ridge >= 0:
        raise ValueError(f"ridge={ridge!r} must be at least 0.")
    check_finite("mean", mean)
    check_finite("cov", cov)
    mean, cov = jnp.asarray(mean), jnp.asarray(cov)
    dtype = jnp.promote_types(jnp.promote_types(mean.dtype, cov.dtype), jnp.float32)
    return _matched(mean.astype(dtype), cov.astype(dtype), reference, ridge)


@partial(jax.jit, static_argnames="reference")
def _matched(means: Array, covs: Array, reference: int, ridge: Any) -> AffineMap:
    size, d = means.shape
    identity = jnp.eye(d, dtype=means.dtype)
    # In large units a ridge is none: the rounding of a group without spread, say one of
    # one row, would be magnified by one over it.
    spread = jnp.diagonal(covs, axis1=-2, axis2=-1)
    rounding = ROUNDING * float(jnp.finfo(covs.dtype).eps) * spread[reference]
    alone = jnp.sum(spread, -1, keepdims=True) <= jnp.sum(rounding)
    covs = covs + identity * jnp.maximum(ridge, alone * rounding)[:, None]
    # Only the groups that move: the others' eigendecompositions would be the cost.
    moving = np.flatnonzero(np.arange(size) != reference)
    found = gaussian_transport(
        means[moving], covs[moving], means[reference], covs[reference]
    )
    weight = jnp.broadcast_to(identity, covs.shape).at[moving].set(found.weight)
    return AffineMap(weight, jnp.zeros_like(means).at[moving].set(found.bias))
