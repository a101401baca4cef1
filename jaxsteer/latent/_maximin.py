"""Weights of groups that serve the worst mixture of them."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_finite, is_concrete
from jaxsteer._types import Array, ArrayLike, Float
from jaxsteer.linalg import matmul
from jaxsteer.solvers import (
    ProjectedGradient,
    Solution,
    project_simplex,
    project_simplex_ball,
)


def _spread(v: Array, gram: Array) -> Array:
    return 0.5 * v @ matmul(gram, v)


def maximin_weights(
    gram: Float[ArrayLike, "G G"],
    *,
    prior: Float[ArrayLike, " G"] | None = None,
    radius: float | None = None,
    max_steps: int = 5000,
    tolerance: float | None = None,
) -> Solution:
    """Weights of the maximin aggregate, ``argmin_v v' Gram v`` over probabilities.

    With ``Gram_kl = E[f_k(X) f_l(X)]`` the prediction ``sum_k v_k f_k`` has the largest
    guaranteed explained variance over all mixtures of the groups; with a ball around
    the groups' shares, over the mixtures within it. Solved by accelerated projected
    gradient; batch with ``vmap``.

    Args:
        gram: ``[G, G]`` symmetric positive semi-definite.
        prior: ``[G]`` probabilities in the middle of the ball; needed with `radius`.
        radius: Euclidean radius of the ball; None is the whole simplex, 0 is `prior`.
        max_steps: Limit on steps.
        tolerance: Residual that counts as converged; None takes the rounding unit to
            the power .7 (1e-11 in float64).

    Returns:
        The solution: `x` holds the weights, `value` half of ``v' Gram v`` relative to
        the mean diagonal entry.

    Raises:
        ValueError: If shapes, the prior or the radius are unusable.

    Example:
        >>> import jax.numpy as jnp
        >>> found = maximin_weights(jnp.array([[1.0, 0.0], [0.0, 3.0]]))
        >>> [round(v, 3) for v in found.x.tolist()]
        [0.75, 0.25]

    References:
        Meinshausen and Bühlmann 2015, "Maximin effects in inhomogeneous large-scale
        data", Annals of Statistics 43; Wang, Bühlmann and Guo 2023, arXiv 2309.02211;
        arXiv 2509.17411, section 4.
    """
    check_finite("gram", gram)
    gram = jnp.asarray(gram)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram must have shape [G, G], got {list(gram.shape)}.")
    n_groups = gram.shape[0]
    if radius is not None and prior is None:
        raise ValueError("radius needs prior, the point in the middle of the ball.")
    if is_concrete(radius) and radius is not None and radius < 0:
        raise ValueError(f"radius={radius!r} must be at least 0.")
    if prior is None:
        center = jnp.full(n_groups, 1 / n_groups, gram.dtype)
    else:
        center = jnp.asarray(prior, gram.dtype)
        if center.shape != (n_groups,):
            raise ValueError(
                f"prior must have shape [{n_groups}], got {list(center.shape)}."
            )
        if is_concrete(center):
            total = float(np.asarray(center).sum())
            if abs(total - 1) > 1e-3 or (np.asarray(center) < 0).any():
                raise ValueError(
                    f"prior must hold probabilities, got a sum of {total}."
                )
        center = project_simplex(center)
    if tolerance is None:
        tolerance = float(jnp.finfo(gram.dtype).eps) ** 0.7
    solver = ProjectedGradient(max_steps=max_steps, tolerance=tolerance)
    size = None if radius is None else jnp.asarray(radius, gram.dtype)
    return _solve(gram, center, size, solver=solver)


@partial(jax.jit, static_argnames="solver")
def _solve(gram, center, radius, *, solver) -> Solution:
    level = jnp.trace(gram) / gram.shape[0]
    gram = gram / jnp.where(level > 0, level, 1.0)

    def project(x):
        if radius is None:
            return project_simplex(x)
        return project_simplex_ball(x, center, radius)

    return solver.run(_spread, center, gram, projection=project)
