"""SPLINCE: erase a concept linearly, and keep what a linear probe knows of the label.

Formula: ``x -> x - W^+ Z (M' M)^{-1} M' W (x - mean)`` with ``W = S_xx^{-1/2}``
(pseudo-inverse), ``Z`` and ``Y`` orthonormal bases of the ranges of ``W S_xz`` and
``W S_xy``, and ``M = (I - Y Y') Z``: in whitened features the oblique projection with
the kernel ``Z`` that leaves ``Y``, and all that is orthogonal to both, as it is.

Idea: LEACE removes with the concept whatever of the label is correlated with it.
SPLINCE sets ``cov(x, z)`` to zero and keeps ``cov(x, y)`` as it was; of the maps that do
both it moves the data least.

Siblings: where concept and label have orthogonal directions it is LEACE. With a linear
head that is refitted without regularization both give the same predictions (theorem 2 of
the paper); they differ for frozen or regularized heads.

Paper: Holstege et al. 2025, arXiv 2506.10703.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_same_length, is_concrete
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.baselines._leace import check_concepts, shrink
from jaxsteer.baselines._leace_moments import moments_of_rows, one_hot, range_basis
from jaxsteer.baselines._moments import as_rows, as_weights
from jaxsteer.linalg import matmul, roots_psd, solve
from jaxsteer.maps import LowRankMap

# Sine of the angle between a direction of the concept and the label's below which no
# map can erase the one and keep the other.
_SMALLEST_SINE = 1e-3


def fit_splince(
    x: Float[ArrayLike, "n d"],
    z: Int[ArrayLike, " n"] | Float[ArrayLike, " n"] | Float[ArrayLike, "n k"],
    label: Int[ArrayLike, " n"] | Float[ArrayLike, " n"] | Float[ArrayLike, "n m"],
    *,
    weights: Float[ArrayLike, " n"] | None = None,
    n_concepts: int | None = None,
    n_classes: int | None = None,
    shrinkage: float | str | None = None,
    rank_tol: float | None = None,
) -> LowRankMap:
    """Fit the eraser of a concept that keeps the covariance with a label.

    Moments, scaling and rank decisions are those of :func:`fit_leace`. Cost
    O(n d (d + k + m) + d^3); differentiable in `x`, `weights` and real `z` and `label`
    while no rank changes.

    Args:
        x: ``[n, d]`` features.
        z: What to erase: ``[n]`` integer codes, or ``[n]`` or ``[n, k]`` real concepts.
        label: What to keep, likewise.
        weights: ``[n]`` sample weights, at least 0.
        n_concepts: Number of codes of `z`; None takes the largest code plus one.
        n_classes: Number of codes of `label`, likewise.
        shrinkage: As in :func:`fit_leace`.
        rank_tol: As in :func:`fit_leace`.

    Returns:
        One map for all rows, a projection about the mean of `x`.

    Raises:
        ValueError: If shapes, codes, weights, values or options are unusable, or a
            direction of the concept is one of the label's, so that none can be erased
            without the other.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[0.0, 0.0], [0.0, 1.0], [2.0, 1.0], [2.0, 2.0]])
        >>> z, label = jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1])
        >>> kept = jnp.array([[1.0, 0.5], [1.0, 1.5], [1.0, 0.5], [1.0, 1.5]])
        >>> bool(jnp.allclose(fit_splince(x, z, label)(x), kept, atol=1e-5))
        True

    References:
        Holstege, Ravfogel and Wouters 2025, "Preserving task-relevant information under
        linear concept removal", arXiv 2506.10703, theorem 1.
    """
    if np.ndim(x) != 2:
        raise ValueError(f"x must have shape [n, d], got {np.shape(x)}.")
    check_same_length(x=x, z=z, label=label, weights=weights)
    rows = as_rows("x", x)
    mass = as_weights(weights, rows)
    erased = _columns(z, n_concepts, mass)
    kept = _columns(label, n_classes, mass)
    moments = moments_of_rows(rows, jnp.concatenate([erased, kept], axis=1), mass)
    size = max(rows.shape[1], moments.cross.shape[1])
    if rank_tol is None:
        rank_tol = 10 * size * float(jnp.finfo(moments.corr.dtype).eps)
    elif not rank_tol >= 0:
        raise ValueError(f"rank_tol={rank_tol!r} must be at least 0.")
    root, whitener = roots_psd(shrink(moments.corr, shrinkage, moments.rows))
    cross = matmul(whitener, moments.cross)
    u, v = _oblique(
        range_basis(cross[:, : erased.shape[1]], float(rank_tol)),
        range_basis(cross[:, erased.shape[1] :], float(rank_tol)),
    )
    u, v = matmul(root, u), matmul(whitener, v)
    varies, scale = moments.varies[:, None], moments.scale[:, None]
    u, v = jnp.where(varies, scale * u, 0), jnp.where(varies, v / scale, 0)
    return LowRankMap(-u, v, matmul(u, matmul(v.T, moments.mean)))


def _oblique(
    erased: Float[Array, "d k"], kept: Float[Array, "d m"]
) -> tuple[Array, Array]:
    """Factors ``u v'`` of the projection on `erased` along `kept`.

    Both are orthonormal columns, those that were dropped zero. It is zero on what is
    orthogonal to both.
    """
    own = erased - matmul(kept, matmul(kept.T, erased))
    inner = matmul(own.T, own)
    dropped = jnp.all(erased == 0, axis=0)
    inner = inner + jnp.diag(dropped.astype(inner.dtype))
    if is_concrete(inner):
        sines = np.linalg.svd(np.asarray(inner, np.float64), compute_uv=False)
        if sines.min() < _SMALLEST_SINE**2:
            raise ValueError(
                "A direction in which z varies linearly is one of the label's: it cannot "
                "be erased and kept. Erase with fit_leace, or leave out what z and the "
                "label share."
            )
    return solve(inner, erased.T).T, own


def _columns(concepts: ArrayLike, count: int | None, mass: Array) -> Array:
    codes, size = check_concepts(concepts, count)
    if codes:
        return one_hot(concepts, size, mass / jnp.sum(mass))
    return jnp.asarray(concepts, mass.dtype).reshape(mass.shape[0], -1)
