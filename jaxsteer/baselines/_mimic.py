"""MiMiC: match the mean and the covariance of every group to the reference group.

Formula: ``x -> mu_ref + W_a (x - mu_a)`` with the optimal-transport matrix
``W_a = S_a^{-1/2} (S_a^{1/2} S_ref S_a^{1/2})^{1/2} S_a^{-1/2}``.

Idea: of all affine maps that give group ``a`` the first two moments of the reference
group, this one moves the rows least.

Siblings: mean matching is the same with ``W_a = I``; the affirmative nearest-ideal maps
(``gauge="monge"``) solve for the class-conditionals instead of the marginals.

Paper: Singh et al. 2024, arXiv 2402.09631 ("mean and covariance matching").
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxsteer._errors import is_concrete
from jaxsteer._types import ArrayLike, Float, Int
from jaxsteer.baselines._moments import check_groups, group_covariances, group_means
from jaxsteer.maps import AffineMap, gaussian_transport


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
    O(G n d^2 + G d^3); differentiable in `x` and `weights`.

    Args:
        x: ``[n, d]`` features, best on comparable scales: `ridge` is absolute, and a
            direction whose variance is below ``d * eps`` of the largest counts as none.
        group: ``[n]`` integer codes ``0..G-1``.
        reference: Code of the group that stays as it is.
        weights: ``[n]`` sample weights, at least 0.
        n_groups: G; None takes the largest code plus one, which needs concrete codes.
        ridge: Added to the diagonals of the covariances, in squared feature units.

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
    d = rows.shape[-1]
    identity = jnp.eye(d, dtype=rows.dtype)
    means = group_means(rows, codes, mass, size)
    covs = group_covariances(rows, codes, mass, means) + ridge * identity
    found = gaussian_transport(means, covs, means[reference], covs[reference])
    stays = jnp.arange(size) == reference
    return AffineMap(
        jnp.where(stays[:, None, None], identity, found.weight),
        jnp.where(stays[:, None], 0, found.bias),
    )
