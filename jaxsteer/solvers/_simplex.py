"""The probability simplex: projection and minimization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, Float
from jaxsteer.solvers._fixed_point import DIFFERENTIATE, Differentiate
from jaxsteer.solvers._projected_gradient import ProjectedGradient, check_start
from jaxsteer.solvers._solution import Solution

HALVINGS = 60  # of the ball's multiplier: to the last bit of any dtype


def project_simplex(x: Float[Array, "... n"]) -> Float[Array, "... n"]:
    """Nearest point of the probability simplex, ``argmin_p |x - p|``.

    ``p = max(x - t, 0)`` with `t` such that the entries sum to 1. Differentiable: the
    derivative is the projection onto the face's directions, ``diag(m) - m m' / sum(m)``
    for the mask `m` of the positive entries. Cost: a sort.

    Args:
        x: ``[..., n]`` any real numbers; leading axes are a batch.

    Returns:
        ``[..., n]`` probabilities.

    Example:
        >>> import jax.numpy as jnp
        >>> project_simplex(jnp.array([0.75, 0.25, -3.0])).tolist()
        [0.75, 0.25, 0.0]

    References:
        Held, Wolfe and Crowder 1974, "Validation of subgradient optimization".
    """
    # The simplex does not see a common shift, and rounding is least near 0.
    shifted = x - jax.lax.stop_gradient(jnp.max(x, -1, keepdims=True))
    falling = -jnp.sort(-jax.lax.stop_gradient(shifted), -1)
    n = x.shape[-1]
    rank = jnp.arange(1, n + 1, dtype=x.dtype)
    positive = falling * rank > jnp.cumsum(falling, -1) - 1.0
    # By a threshold between entries: a comparison with the least of them would ask that
    # compilers round both copies of it alike.
    kept = jnp.sum(jnp.where(positive, falling, 0.0), -1, keepdims=True)
    mask = shifted > (kept - 1.0) / jnp.sum(positive, -1, keepdims=True, dtype=x.dtype)
    count = jnp.sum(mask, -1, keepdims=True, dtype=x.dtype)
    total = jnp.sum(jnp.where(mask, shifted, 0.0), -1, keepdims=True)
    p = shifted - (total - 1.0) / count
    # Comparisons with NaN are false: let it through.
    return jnp.where((mask & (p > 0)) | jnp.isnan(p), p, 0.0)


def project_simplex_ball(
    x: Float[Array, " n"], center: Float[Array, " n"], radius: Float[Array, ""]
) -> Float[Array, " n"]:
    """Nearest point of the simplex within `radius` of one of its points.

    The multiplier of the ball draws `x` toward the center before it is projected onto
    the simplex: ``P(c + t (x - c))``, whose distance from the center grows with `t`, so
    that `t` is found by bisection. Cost: 60 sorts.

    Args:
        x: ``[n]`` any real numbers.
        center: ``[n]`` probabilities.
        radius: ``[]`` at least 0.

    Returns:
        ``[n]`` probabilities.

    Example:
        >>> import jax.numpy as jnp
        >>> center = jnp.array([0.5, 0.5])
        >>> found = project_simplex_ball(jnp.array([9.0, 0.0]), center, jnp.array(0.1))
        >>> [round(v, 3) for v in found.tolist()]
        [0.571, 0.429]
    """

    def drawn(t: Array):
        return project_simplex(center + t * (x - center))

    def far(p: Array):
        return jnp.sqrt(jnp.sum((p - center) ** 2)) > radius

    def halve(_, ends: tuple[Array, Array]):
        low, high = ends
        middle = 0.5 * (low + high)
        outside = far(drawn(middle))
        return jnp.where(outside, low, middle), jnp.where(outside, middle, high)

    one = jnp.ones((), x.dtype)
    low, _ = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(one), one))
    whole = drawn(one)
    return jnp.where(far(whole), drawn(low), whole)


def minimize_on_simplex(
    fn: Callable[[Array, Any], Array],
    start: Float[Array, " n"],
    args: Any,
    *,
    max_steps: int = 2000,
    tolerance: float | None = None,
    differentiate: Differentiate = "implicit",
    trace: bool = False,
) -> Solution:
    """Minimize ``fn(p, args)`` over probability vectors `p`.

    By :class:`ProjectedGradient`, accelerated, with a searched step size, certified by
    the residual of the projected gradient.

    Args:
        fn: ``fn(p, args) -> []``, differentiable; everything differentiable comes in
            through `args`.
        start: ``[n]`` first point, projected onto the simplex; the gradient by it is
            zero.
        args: Any pytree.
        max_steps: Limit on steps; with "unroll" their exact number.
        tolerance: Residual that counts as converged; None takes the root of the
            rounding unit.
        differentiate: How derivatives by `args` pass through; see
            :meth:`jaxsteer.solvers.ProjectedGradient.run`.
        trace: Record the residual before every step.

    Returns:
        The solution; its residual is that of
        :class:`~jaxsteer.solvers.ProjectedGradient`.

    Raises:
        ValueError: If an option is unknown or `start` is no vector of real numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> def variance(p, covariance):
        ...     return p @ covariance @ p
        >>> found = minimize_on_simplex(
        ...     variance, jnp.full(2, 0.5), jnp.diag(jnp.array([1.0, 3.0]))
        ... )
        >>> [round(share, 3) for share in found.x.tolist()]
        [0.75, 0.25]
    """
    check_choice("differentiate", differentiate, DIFFERENTIATE)
    start = check_start(start)
    if start.ndim != 1 or start.size == 0:
        raise ValueError(
            f"start must be a vector of probabilities, got shape {start.shape}; batch "
            "with vmap."
        )
    solver = ProjectedGradient(max_steps=max_steps, tolerance=tolerance, trace=trace)
    return solver.run(
        fn, start, args, projection=project_simplex, differentiate=differentiate
    )
