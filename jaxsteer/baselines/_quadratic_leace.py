"""Quadratic LEACE: give every class the same mean and the same covariance.

Formula: ``x -> m + A_z (x - m_z)`` for class ``z``, with ``A_z`` the optimal-transport
matrix from the class's covariance to the Bures-Wasserstein barycenter of all of them,
and ``m`` the mean of all rows.

Idea: no quadratic probe learns a concept whose classes have one mean and one
covariance; the barycenter is the common law to which they move least in all.

Siblings: MiMiC moves all classes onto one of them; LEACE equalizes the means only, and
needs no class of a new row. Nearest-ideal maps keep what classes say about labels.

Paper: Belrose et al. 2023, arXiv 2306.03819 (quadratic erasure with known concepts).
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxsteer._errors import is_concrete
from jaxsteer._types import ArrayLike, Float, Int
from jaxsteer.baselines._bures import bures_barycenter
from jaxsteer.baselines._moments import (
    check_groups,
    group_covariances,
    group_covariances_on_host,
    group_means,
)
from jaxsteer.linalg import matmul
from jaxsteer.linalg._host_gram import on_host
from jaxsteer.maps import AffineMap, gaussian_transport
from jaxsteer.solvers import SolveError, Status


def fit_quadratic_leace(
    x: Float[ArrayLike, "n d"],
    z: Int[ArrayLike, " n"],
    *,
    weights: Float[ArrayLike, " n"] | None = None,
    n_concepts: int | None = None,
    ridge: float = 1e-5,
    max_steps: int = 100,
    tolerance: float | None = None,
) -> AffineMap:
    """Fit the maps that move every class onto the barycenter of the classes.

    Classes count by their weights, in the barycenter and in the mean ``m`` alike (the
    authors' package takes an unweighted mean of the class means). Covariances have
    denominators ``sum w``, with `ridge` added to every variance. Cost O(n d^2 + steps k
    d^3); not differentiable.

    Args:
        x: ``[n, d]`` features, best on comparable scales.
        z: ``[n]`` integer codes ``0..k-1``.
        weights: ``[n]`` sample weights, at least 0.
        n_concepts: k; None takes the largest code plus one, which needs concrete codes.
        ridge: Added to the diagonals of the covariances, in squared feature units.
        max_steps: Limit on steps toward the barycenter; two classes take one.
        tolerance: Distance of the mean transport map from the identity that counts as
            none; None takes the root of the rounding unit.

    Returns:
        A map with leading axis ``[k]``. While values are traced, maps of a barycenter
        that did not converge are NaN.

    Raises:
        SolveError: If the barycenter did not converge.
        ValueError: If shapes, codes, weights or values are unusable, a class is empty,
            or `ridge` is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> x, z = jnp.array([[-1.0], [1.0], [2.0], [8.0]]), jnp.array([0, 0, 1, 1])
        >>> maps = fit_quadratic_leace(x, z)
        >>> [round(w, 3) for w in maps.weight[:, 0, 0].tolist()]
        [2.0, 0.667]

    References:
        Belrose et al. 2023, arXiv 2306.03819; Alvarez-Esteban et al. 2016 for the
        barycenter.
    """
    if is_concrete(ridge) and not ridge >= 0:
        raise ValueError(f"ridge={ridge!r} must be at least 0.")
    rows, codes, mass, size = check_groups(
        x, z, weights=weights, reference=0, n_groups=n_concepts, name="z"
    )
    means = group_means(rows, codes, mass, size)
    host = on_host(rows, codes, mass, means)
    covariances = group_covariances_on_host if host else group_covariances
    covs = covariances(rows, codes, mass, means)
    covs = covs + ridge * jnp.eye(rows.shape[1], dtype=rows.dtype)
    share = jnp.zeros(size, rows.dtype).at[codes].add(mass / jnp.sum(mass))
    rounding = float(jnp.finfo(rows.dtype).eps)
    limit = rounding**0.5 if tolerance is None else float(tolerance)
    found = bures_barycenter(covs, share, max_steps, limit)
    if is_concrete(found.status) and int(found.status) != Status.CONVERGED:
        status = Status(int(found.status))
        raise SolveError(
            f"The barycenter of the covariances ended with {status.name} after "
            f"{int(found.steps)} steps (residual {float(found.residual):.1e}). "
            f"{status.message} A larger ridge helps too."
        )
    target = jnp.where(found.status == Status.CONVERGED, found.cov, jnp.nan)
    return gaussian_transport(means, covs, matmul(share, means), target)
