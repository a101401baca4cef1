"""LEACE: the least movement after which no linear probe can find the concept.

Formula: ``x -> x - W^+ U U' W (x - mean)`` with ``W = S_xx^{-1/2}`` (pseudo-inverse)
and ``U`` an orthonormal basis of the range of ``W S_xz``.

Idea: a linear probe learns nothing exactly when the cross-covariance of features and
concept is zero, that is when all classes have one mean. LEACE is the affine map that
achieves this and moves the data least, in every norm of the form ``v' M v`` at once.

Siblings: unlike mean matching and MiMiC it is one map for all rows and needs no group
label at inference; like them it equalizes marginals, so where group and class go
together it takes the class along.

Paper: Belrose et al. 2023, arXiv 2306.03819.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_codes,
    check_finite,
    check_same_length,
    check_weights,
    is_concrete,
)
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.baselines._leace_moments import (
    ConceptMoments,
    erased_factors,
    moments_of_rows,
    moments_on_host,
    one_hot,
    standardized,
)
from jaxsteer.baselines._moments import as_rows, as_weights
from jaxsteer.linalg import matmul
from jaxsteer.linalg._host_gram import on_host, working_dtype
from jaxsteer.maps import AffineMap, LowRankMap


def fit_leace(
    x: Float[ArrayLike, "n d"],
    z: Int[ArrayLike, " n"] | Float[ArrayLike, " n"] | Float[ArrayLike, "n k"],
    *,
    weights: Float[ArrayLike, " n"] | None = None,
    n_concepts: int | None = None,
    shrinkage: float | str | None = None,
    rank_tol: float | None = None,
) -> AffineMap:
    """Fit the least-squares eraser of a concept.

    Moments have denominators ``sum w`` (``1/n`` without weights). Features and concepts
    are standardized inside, which does not change the eraser (it commutes with scaling)
    but makes both rank decisions free of scale: a feature in cents is treated as one in
    dollars, and a class of 0.5 % prevalence is erased like any other. Constant and
    collinear columns are inverted on their range only. Cost O(n d (d + k) + d^3), in one
    pass over the rows where they are concrete and on a CPU; differentiable in `x`,
    `weights` and real `z` while no rank changes.

    Args:
        x: ``[n, d]`` features.
        z: ``[n]`` integer codes ``0..k-1`` (erased as one-hot vectors), or ``[n]`` or
            ``[n, k]`` real-valued concepts.
        weights: ``[n]`` sample weights, at least 0.
        n_concepts: k for integer codes; None takes the largest code plus one, which
            needs concrete codes.
        shrinkage: How far the correlation matrix that whitens is drawn towards the
            identity: None not at all, a number in [0, 1], or ``"oas"`` for the oracle
            approximating amount. The erasure stays complete, its metric is steadier.
        rank_tol: Correlations (between whitened features and standardized concepts) up
            to this count as zero; None takes ``10 * max(d, k) * eps``.

    Returns:
        One map for all rows, of rank at least ``d - k`` (``d - k + 1`` for codes). It
        keeps the mean of `x`; applying it twice is applying it once.

    Raises:
        ValueError: If shapes, codes, weights, values or options are unusable.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[0.0, 1.0], [0.0, -1.0], [2.0, 1.0], [2.0, -1.0]])
        >>> fit_leace(x, jnp.array([0, 0, 1, 1]))(x).round(3).tolist()
        [[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, -1.0]]

    References:
        Belrose et al. 2023, "LEACE: Perfect linear concept erasure in closed form",
        arXiv 2306.03819, theorem 4.3; Chen et al. 2010 for ``"oas"``.
    """
    if np.ndim(x) != 2:
        raise ValueError(f"x must have shape [n, d], got {np.shape(x)}.")
    if not isinstance(x, jax.Array) and np.asarray(x).dtype.kind in "USO":
        raise ValueError(f"x must hold numbers, got dtype {np.asarray(x).dtype}.")
    check_same_length(x=x, z=z, weights=weights)
    codes, size = check_concepts(z, n_concepts)
    if on_host(x, z, weights):
        if weights is not None:
            check_weights(weights)
        concepts = z if codes else np.asarray(z).reshape(len(z), -1)
        moments = moments_on_host(x, concepts, codes, size, weights)
    else:
        rows = as_rows("x", x)
        mass = as_weights(weights, rows)
        if codes:
            concepts = one_hot(z, size, mass / jnp.sum(mass))
        else:
            concepts = jnp.asarray(z, rows.dtype).reshape(rows.shape[0], -1)
        moments = moments_of_rows(rows, concepts, mass)
    return _eraser(moments, shrinkage, rank_tol).to_dense()


def leace_from_moments(
    mass: Float[ArrayLike, " k"],
    mean: Float[ArrayLike, "k d"],
    cov: Float[ArrayLike, "d d"],
    *,
    shrinkage: float | None = None,
    rank_tol: float | None = None,
) -> LowRankMap:
    """Fit the eraser of codes from their class means, for data of any length.

    The same map as :func:`fit_leace`, in factors of rank ``k - 1``. Cost O(d^3), without
    an eigendecomposition where `cov` is well conditioned. Values must be concrete.

    Args:
        mass: ``[k]`` rows, or sums of weights, of each class.
        mean: ``[k, d]`` class means.
        cov: ``[d, d]`` covariance of all rows together, between classes included, with
            denominator ``sum mass``; see :func:`jaxsteer.moments.marginal_covariances`.
        shrinkage: As in :func:`fit_leace`, an amount or None.
        rank_tol: As in :func:`fit_leace`.

    Returns:
        The eraser.

    Raises:
        ValueError: If shapes or values are unusable.

    Example:
        >>> import jax.numpy as jnp
        >>> mean = jnp.array([[0.0, 0.0], [2.0, 0.0]])
        >>> found = leace_from_moments(jnp.array([2.0, 2.0]), mean, jnp.eye(2))
        >>> found(mean).tolist()
        [[1.0, 0.0], [1.0, 0.0]]

    References:
        Belrose et al. 2023, arXiv 2306.03819, theorem 4.3.
    """
    k, d = np.shape(mean) if np.ndim(mean) == 2 else (None, None)
    if np.shape(mass) != (k,) or np.shape(cov) != (d, d):
        raise ValueError(
            f"mass [k], mean [k, d] and cov [d, d] do not agree: got {np.shape(mass)}, "
            f"{np.shape(mean)} and {np.shape(cov)}."
        )
    if not is_concrete(mass, mean, cov):
        raise ValueError("mass, mean or cov is traced; call this outside of jit.")
    if isinstance(shrinkage, str):
        raise ValueError(
            f"shrinkage={shrinkage!r} needs the number of rows; give a number in [0, 1]."
        )
    for name, values in {"mass": mass, "mean": mean, "cov": cov}.items():
        check_finite(name, values)
    if (np.asarray(mass) < 0).any() or np.sum(np.asarray(mass)) <= 0:
        raise ValueError("mass must be at least 0 with a positive sum.")
    share = np.asarray(mass, np.float64) / np.sum(np.asarray(mass, np.float64))
    means = np.where(share[:, None] > 0, np.asarray(mean, np.float64), 0)
    center = share @ means
    cross = (share[:, None] * (means - center)).T
    moments = standardized(
        center,
        np.asarray(cov, np.float64),
        np.where(np.arange(len(share)) == np.argmax(share), 0, cross),
        share * (1 - share),
        level=share,
        rows=np.inf,
        dtype=working_dtype(mean),
    )
    return _eraser(moments, shrinkage, rank_tol)


def _eraser(moments: ConceptMoments, shrinkage: Any, rank_tol: Any) -> LowRankMap:
    d, k = moments.cross.shape
    if rank_tol is None:
        rank_tol = 10 * max(d, k) * float(jnp.finfo(moments.corr.dtype).eps)
    elif not rank_tol >= 0:
        raise ValueError(f"rank_tol={rank_tol!r} must be at least 0.")
    corr = shrink(moments.corr, shrinkage, moments.rows)
    u, v = erased_factors(corr, moments.cross, float(rank_tol))
    # A constant feature is left alone exactly, not up to rounding.
    varies, scale = moments.varies[:, None], moments.scale[:, None]
    u, v = jnp.where(varies, scale * u, 0), jnp.where(varies, v / scale, 0)
    return LowRankMap(-u, v, matmul(u, matmul(v.T, moments.mean)))


def check_concepts(z: Any, n_concepts: int | None) -> tuple[bool, int]:
    """Whether `z` holds codes, and how many concepts there are."""
    dtype = getattr(z, "dtype", None)
    dtype = np.asarray(z).dtype if dtype is None else dtype
    if jnp.issubdtype(dtype, jnp.floating):
        if np.ndim(z) > 2:
            raise ValueError(f"z must have shape [n] or [n, k], got {np.shape(z)}.")
        if n_concepts is not None:
            raise ValueError(
                f"n_concepts={n_concepts} counts integer codes, but z is real-valued "
                f"(dtype {dtype}); leave n_concepts out or pass integer codes."
            )
        check_finite("z", z)
        return False, 1 if np.ndim(z) == 1 else np.shape(z)[1]
    if np.ndim(z) != 1:
        raise ValueError(
            f"z holds integers, so it must be codes of shape [n], got {np.shape(z)}; "
            f"pass floating concepts for [n, k]."
        )
    if n_concepts is None and not is_concrete(z):
        raise ValueError(
            "z is traced, so its number of codes is unknown: n_concepts=..."
        )
    return True, check_codes("z", z, n_concepts)


def shrink(corr: Array, shrinkage: float | str | None, rows: Array) -> Array:
    """The correlations, shrunk towards the identity."""
    d = corr.shape[-1]
    if shrinkage is None:
        return corr
    level = jnp.trace(corr) / d
    if isinstance(shrinkage, str):
        if shrinkage != "oas":
            raise ValueError(
                f"shrinkage={shrinkage!r} is not known; choose None, 'oas' or a number "
                f"in [0, 1]."
            )
        power = jnp.mean(corr**2)
        spread = (rows + 1) * (power - level**2 / d)
        amount = (power + level**2) / jnp.where(spread > 0, spread, 1)
        amount = jnp.where(spread > 0, jnp.minimum(amount, 1), 1)
    else:
        if is_concrete(shrinkage) and not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage={shrinkage!r} must be between 0 and 1.")
        amount = shrinkage
    return (1 - amount) * corr + amount * level * jnp.eye(d, dtype=corr.dtype)
