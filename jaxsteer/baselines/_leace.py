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

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_codes, check_finite, check_same_length, is_concrete
from jaxsteer._types import ArrayLike, Float, Int
from jaxsteer.baselines._moments import as_rows, as_weights
from jaxsteer.linalg import matmul, roots_psd
from jaxsteer.maps import AffineMap


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
    collinear columns are inverted on their range only. Cost O(n d (d + k) + d^3);
    differentiable in `x`, `weights` and real `z` while no rank changes.

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
    rows = as_rows("x", x)
    given = {} if weights is None else {"weights": weights}
    check_same_length(x=x, z=z, **given)
    mass = as_weights(weights, rows)
    share = mass / jnp.sum(mass)
    concepts = _as_concepts(z, n_concepts, share)
    d, k = rows.shape[-1], concepts.shape[-1]
    eps = float(jnp.finfo(rows.dtype).eps)
    if rank_tol is None:
        rank_tol = 10 * max(d, k) * eps
    elif not rank_tol >= 0:
        raise ValueError(f"rank_tol={rank_tol!r} must be at least 0.")

    mean, scale, standard, varies = _standardize(rows, share)
    concept = _standardize(concepts, share)[2]
    weighted = (share[:, None] * standard).T
    corr = _shrink(matmul(weighted, standard), shrinkage, share)
    root, whitener = roots_psd(corr)
    found = _range_projector(matmul(whitener, matmul(weighted, concept)), rank_tol)
    erased = matmul(root, matmul(found, whitener))
    # A constant feature is left alone exactly, not up to rounding of eigenvectors.
    both = varies[:, None] & varies
    erased = jnp.where(both, scale[:, None] * erased / scale, 0)
    return AffineMap(jnp.eye(d, dtype=rows.dtype) - erased, matmul(erased, mean))


def _as_concepts(z, n_concepts, share):
    """Real concepts as columns, or codes as one-hot columns without a redundant one."""
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
        return jnp.asarray(z, share.dtype).reshape(np.shape(z)[0], -1)
    if np.ndim(z) != 1:
        raise ValueError(
            f"z holds integers, so it must be codes of shape [n], got {np.shape(z)}; "
            f"pass floating concepts for [n, k]."
        )
    if n_concepts is None and not is_concrete(z):
        raise ValueError(
            "z is traced, so its number of codes is unknown: n_concepts=..."
        )
    size = check_codes("z", z, n_concepts)
    hot = jax.nn.one_hot(jnp.asarray(z), size, dtype=share.dtype)
    # One-hot columns sum to one. Without the most frequent class they span the same
    # space and rounding cannot pass for a further direction.
    largest = jnp.argmax(matmul(share, hot))
    return jnp.where(jnp.arange(size) == largest, 0, hot)


def _standardize(rows, share):
    """Mean, deviation (1 for constant columns), standardized rows, what varies."""
    rough = jnp.mean(rows, 0)
    mean = rough + matmul(share, rows - rough)
    centered = rows - mean
    variance = matmul(share, centered**2)
    # A constant column leaves rounding of the size of its mean, and no more.
    eps = jnp.finfo(rows.dtype).eps
    varies = variance > (4 * eps * mean) ** 2
    scale = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 1)
    return mean, scale, jnp.where(varies, centered / scale, 0), varies


def _shrink(corr, shrinkage, share):
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
        rows = 1 / jnp.sum(share**2)
        power = jnp.mean(corr**2)
        spread = (rows + 1) * (power - level**2 / d)
        amount = (power + level**2) / jnp.where(spread > 0, spread, 1)
        amount = jnp.where(spread > 0, jnp.minimum(amount, 1), 1)
    else:
        if is_concrete(shrinkage) and not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage={shrinkage!r} must be between 0 and 1.")
        amount = shrinkage
    return (1 - amount) * corr + amount * level * jnp.eye(d, dtype=corr.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _range_projector(m, tol):
    """Orthogonal projector on the range of `m`, without singular values up to `tol`."""
    return _range_and_inverse(m, tol)[0]


def _range_and_inverse(m, tol):
    u, s, vt = jnp.linalg.svd(m, full_matrices=False)
    keep = s > tol
    u = jnp.where(keep, u, 0)
    inverse = matmul(vt.T / jnp.where(keep, s, 1), u.T)
    return matmul(u, u.T), inverse


@_range_projector.defjvp
def _range_projector_jvp(tol, primals, tangents):
    # At constant rank; differentiating the singular vectors would divide by differences
    # of singular values.
    (m,), (dm,) = primals, tangents
    projector, inverse = _range_and_inverse(m, tol)
    moved = matmul(dm - matmul(projector, dm), inverse)
    return projector, moved + moved.T
