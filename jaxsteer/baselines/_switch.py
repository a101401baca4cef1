"""Switching: move the means of classes where they are asked to be, and little else.

Formula: ``x -> x + R (B' S^+ B)^+ B' S^+ (x - mu_0) + m_0`` with the class means
``mu_k``, the covariance ``S`` of all rows, the moves ``m_k = target_k - mu_k``,
``B = [mu_k - mu_0]`` and ``R = [m_k - m_0]``.

Idea: of all affine maps that send each class mean to its target, this one has the least
``E |f(x) - x|^2``. Targets that are each other's means switch the concept; targets that
are all the overall mean erase it.

Siblings: with the overall mean as every target it is LEACE; with one move for all classes
it is a steering vector. Unlike mean matching it is one map for all rows, and does not ask
for the class of a new one.

Paper: after the problem of MidSteer (arXiv 2605.05220: minimal-disturbance affine
switching of concepts, with LEACE and steering vectors as special cases); the formula is
derived here from that problem.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_codes
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.baselines._leace_moments import moments_of_rows, range_basis
from jaxsteer.baselines._moments import as_rows, check_groups, group_means
from jaxsteer.linalg import matmul, roots_psd, solve
from jaxsteer.maps import AffineMap


def fit_switch(
    x: Float[ArrayLike, "n d"],
    z: Int[ArrayLike, " n"],
    *,
    to: ArrayLike | None = None,
    weights: Float[ArrayLike, " n"] | None = None,
    n_concepts: int | None = None,
) -> AffineMap:
    """Fit the least movement that sends the mean of each class to its target.

    Cost O(n d^2 + d^3). Class means must be affinely independent in the features:
    targets of means that are not are met in the sense of least squares. Features are
    standardized inside, which does not change the map: the least movement is the same
    one for every scaling.

    Args:
        x: ``[n, d]`` features.
        z: ``[n]`` integer codes ``0..k-1``.
        to: Targets: ``[k]`` codes, the class whose mean each class takes (``[1, 0]``
            switches two), or ``[k, d]`` points. None takes the next class, the last one
            the first: of two classes a switch.
        weights: ``[n]`` sample weights, at least 0.
        n_concepts: k; None takes the largest code plus one, which needs concrete codes.

    Returns:
        One map for all rows.

    Raises:
        ValueError: If shapes, codes, weights or values are unusable, or a class is empty.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[0.0, 1.0], [0.0, -1.0], [2.0, 1.0], [2.0, -1.0]])
        >>> fit_switch(x, jnp.array([0, 0, 1, 1]))(x).round(3).tolist()
        [[2.0, 1.0], [2.0, -1.0], [0.0, 1.0], [0.0, -1.0]]

    References:
        The problem of arXiv 2605.05220; Belrose et al. 2023, arXiv 2306.03819, for the
        case of erasure.
    """
    rows, codes, mass, size = check_groups(
        x, z, weights=weights, reference=0, n_groups=n_concepts, name="z"
    )
    moments = moments_of_rows(rows, rows[:, :0], mass)
    means = group_means(rows, codes, mass, size)
    moves = _targets(to, means) - means
    # In standardized features, so that what counts as no difference has no unit.
    between = (means - means[:1]).T / moments.scale[:, None]
    whitener = roots_psd(moments.corr)[1]
    white = matmul(whitener, between)
    tol = 10 * max(white.shape) * float(jnp.finfo(rows.dtype).eps)
    basis = range_basis(white, tol)
    # The least change that is right on the differences of means reads nothing else.
    inner = matmul(basis.T, white)
    dropped = jnp.all(basis == 0, axis=0).astype(inner.dtype)
    gram = matmul(inner, inner.T) + jnp.diag(dropped)
    reads = matmul(solve(gram, inner).T, matmul(basis.T, whitener)) / moments.scale
    change = matmul((moves - moves[:1]).T, reads)
    identity = jnp.eye(rows.shape[1], dtype=rows.dtype)
    return AffineMap(identity + change, moves[0] - matmul(change, means[0]))


def _targets(to: ArrayLike | None, means: Float[Array, "k d"]) -> Float[Array, "k d"]:
    size, d = means.shape
    if to is None:
        return jnp.roll(means, -1, axis=0)
    if np.ndim(to) == 1 and np.shape(to) == (size,):
        to = jnp.asarray(to)
        check_codes("to", to, size)
        return means[to]
    if np.shape(to) != (size, d):
        raise ValueError(
            f"to has shape {np.shape(to)}, expected a code for each of the {size} "
            f"classes, or their targets [{size}, {d}]."
        )
    return as_rows("to", to).astype(means.dtype)
