"""Mean matching: shift every group onto the mean of the reference group.

Formula: ``x -> x + mu_ref - mu_a`` for group ``a``.

Idea: the simplest steering vector. It removes the linear trace of the group from the
features, and nothing else: covariances, and the classes inside the groups, are not
looked at.

Siblings: MiMiC matches the covariances as well; LEACE equalizes the means with one map
that does not need the group of a new row; nearest-ideal maps equalize the
class-conditionals, which marginal matching destroys where groups and classes go
together.

Paper: Singh et al. 2024, arXiv 2402.09631 (there as the map between means).
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxsteer._types import ArrayLike, Float, Int
from jaxsteer.baselines._moments import check_groups, group_means
from jaxsteer.maps import AffineMap


def fit_mean_match(
    x: Float[ArrayLike, "n d"],
    group: Int[ArrayLike, " n"],
    *,
    reference: int = 1,
    weights: Float[ArrayLike, " n"] | None = None,
    n_groups: int | None = None,
) -> AffineMap:
    """Fit the shifts that give every group the mean of the reference group.

    ``T_a(x) = x + mu_ref - mu_a``, with means weighted by ``w / sum w`` (``1/n``
    without weights). Cost O(n d); differentiable in `x` and `weights`.

    Args:
        x: ``[n, d]`` features.
        group: ``[n]`` integer codes ``0..G-1``.
        reference: Code of the group that stays as it is.
        weights: ``[n]`` sample weights, at least 0.
        n_groups: G; None takes the largest code plus one, which needs concrete codes.

    Returns:
        A map with leading axis ``[G]``, the identity at `reference`. While `group` or
        `weights` is traced, a group without weight has NaN.

    Raises:
        ValueError: If shapes, codes, weights or values are unusable, or a group is
            empty.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x, group = jnp.array([[0.0], [2.0], [5.0]]), jnp.array([0, 0, 1])
        >>> fit_mean_match(x, group).bias.tolist()
        [[4.0], [0.0]]

    References:
        Singh et al. 2024, "Representation Surgery", arXiv 2402.09631, section 3.
    """
    rows, codes, mass, size = check_groups(
        x, group, weights=weights, reference=reference, n_groups=n_groups
    )
    means = group_means(rows, codes, mass, size)
    d = rows.shape[-1]
    weight = jnp.broadcast_to(jnp.eye(d, dtype=rows.dtype), (size, d, d))
    return AffineMap(weight, means[reference] - means)
