"""The meet of concave ROC hulls on a fixed grid, in pure JAX.

A curve is held in turned coordinates: ``s``, the share of all rows at or above a
threshold, and ``h``, how far the true positive rate lies above the false positive rate
there. The turn is linear, so concave hulls and the pointwise least of them are the same
as in the usual plot, while vertical stretches become slopes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import einsum


def concave_majorant(
    x: Float[Array, " m"], y: Float[Array, " m"]
) -> Float[Array, " m"]:
    """Heights at `x` of the least concave curve above the points.

    The slope after point ``k`` is ``min_{i <= k} max_{j > k}`` of the chords' slopes: the
    min-max formula of isotonic regression. Cost O(m^2), no branches; differentiable
    wherever the hull's corners stay the same.

    Args:
        x: ``[m]`` non-decreasing; points that coincide are taken as one.
        y: ``[m]``.

    Example:
        >>> import jax.numpy as jnp
        >>> x, y = jnp.array([0.0, 1.0, 2.0]), jnp.array([0.0, 0.0, 4.0])
        >>> concave_majorant(x, y).tolist()
        [0.0, 2.0, 4.0]

    References:
        Robertson, Wright & Dykstra 1988, section 1.4 (min-max formulas).
    """
    run, rise = x[None, :] - x[:, None], y[None, :] - y[:, None]
    ahead = run > 0
    chord = jnp.where(ahead, rise / jnp.where(ahead, run, 1.0), -jnp.inf)
    steepest = jax.lax.cummax(chord, axis=1, reverse=True)[:-1, 1:]
    index = jnp.arange(len(x) - 1)
    behind = (index[:, None] <= index) & (steepest > -jnp.inf)
    slope = jnp.min(jnp.where(behind, steepest, jnp.inf), 0)
    width = jnp.diff(x)
    steps = jnp.where(width > 0, jnp.where(width > 0, slope, 0.0) * width, 0.0)
    return jnp.concatenate([y[:1], y[0] + jnp.cumsum(steps)])


def roc_path(
    law: Float[Array, "2 B"], mix: Float[Array, "2"]
) -> tuple[Float[Array, " B+1"], Float[Array, " B+1"]]:
    """Turned ROC knots ``s`` and ``h`` of a binned score, highest threshold first."""
    steps = law[:, ::-1]
    zero = jnp.zeros(1, law.dtype)
    share = jnp.cumsum(einsum("y,yb->b", mix, steps))
    height = jnp.cumsum(steps[1] - steps[0])
    return jnp.concatenate([zero, share]), jnp.concatenate([zero, height])


def meet_atoms(
    laws: Float[Array, "G 2 B"], mix: Float[Array, "2"], *, atoms: int
) -> Float[Array, "2 T"]:
    """Law given each class of the meet's atoms, which have equal masses ``1 / T``.

    The least of the groups' hulls is taken at ``T + 1`` equidistant shares and joined by
    straight lines, which lie below it: the experiment is at most as informative as the
    meet, and equal to it as ``T`` grows.

    Args:
        laws: ``[G, 2, B]`` law of the bin given each class, lowest scores first.
        mix: ``[2]`` class shares by which shares of rows are taken.
        atoms: ``T``.

    Returns:
        ``[2, T]``, lowest posterior first.
    """
    grid = jnp.linspace(0.0, 1.0, atoms + 1, dtype=laws.dtype)

    def hull(law):
        share, height = roc_path(law, mix)
        return jnp.interp(grid, share / share[-1], concave_majorant(share, height))

    rise = jnp.diff(jnp.min(jax.vmap(hull)(laws), 0))[::-1]
    law = jnp.stack([1 / atoms - mix[1] * rise, 1 / atoms + mix[0] * rise])
    # Rounding below 0 where the curve runs along an axis.
    return jnp.maximum(law, 0.0)


def excess_information(
    source: Float[Array, "2 B"], target: Float[Array, "2 T"], mix: Float[Array, "2"]
) -> Float[Array, ""]:
    """How far the target's ROC hull rises above the source's: feasible iff at most 0.

    The hulls are those of the bins sorted by likelihood ratio, which is what a kernel
    sees (it does not know the order of the scores).
    """

    def hull(law):
        mass = einsum("y,yb->b", mix, law)
        rate = law[1] / jnp.where(mass > 0, mass, 1.0)
        return roc_path(law[:, jnp.argsort(rate)], mix)

    share, height = hull(target)
    return jnp.max(height - jnp.interp(share, *hull(source)))
