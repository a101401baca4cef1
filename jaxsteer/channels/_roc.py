"""ROC curves of binned scores: hulls, their lower envelope, and kernels between them.

On the host a curve is an array ``[m, 2]`` of knots (false positive rate, true positive
rate) in float64, from (0, 0) to (1, 1), both non-decreasing: the number of knots depends
on the data, and the linear programs that follow want exact masses.

In pure JAX a curve is held on a fixed grid in turned coordinates: ``s``, the share of all
rows at or above a threshold, and ``h``, how far the true positive rate lies above the
false positive rate there. The turn is linear, so concave hulls and the pointwise least of
them are the same as in the usual plot, while vertical stretches become slopes.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.linalg import einsum

_ROUNDING = 1e-12


def roc_points(negative: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """ROC knots of a binned score.

    Args:
        negative: ``[B]`` share of the negatives in each bin, lowest scores first.
        positive: ``[B]`` share of the positives in each bin.

    Returns:
        ``[B + 1, 2]`` knots, from the highest threshold to the lowest.
    """
    steps = np.stack([negative[::-1], positive[::-1]], 1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])


def concave_hull(points: np.ndarray) -> np.ndarray:
    """Knots of the least concave curve above the points (Andrew's monotone chain)."""
    kept: list[np.ndarray] = []
    for point in points:
        while len(kept) >= 2:
            (x0, y0), (x1, y1) = kept[-2], kept[-1]
            turn = (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)
            if turn < -1e-15:
                break
            kept.pop()
        if kept and np.allclose(kept[-1], point, rtol=0, atol=1e-15):
            continue
        kept.append(point)
    return np.array(kept)


def _height(curve: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Height of a concave curve at `x`; at 0 the top of its vertical start."""
    start = int(np.flatnonzero(curve[:, 0] == 0)[-1])
    return np.interp(x, curve[start:, 0], curve[start:, 1])


def lower_envelope(curves: list[np.ndarray]) -> np.ndarray:
    """Knots of the pointwise minimum of concave curves, which is concave.

    Includes the points where curves cross.
    """
    x = np.unique(np.concatenate([c[:, 0] for c in curves]))
    heights = np.stack([_height(c, x) for c in curves])
    crossings = []
    for first in range(len(curves)):
        for second in range(first):
            gap = heights[first] - heights[second]
            (k,) = np.nonzero(gap[:-1] * gap[1:] < 0)
            crossings.append(x[k] + (x[k + 1] - x[k]) * gap[k] / (gap[k] - gap[k + 1]))
    x = np.unique(np.concatenate([x, *crossings]))
    y = np.min([_height(c, x) for c in curves], 0)
    knots = np.stack([x, y], 1)
    if y[0] > 0:
        knots = np.concatenate([np.zeros((1, 2)), knots])
    knots[-1] = 1.0
    return concave_hull(knots)


def turned_height(curve: np.ndarray, share: np.ndarray) -> np.ndarray:
    """``TPR - FPR`` of a curve where ``(FPR + TPR) / 2`` is each share."""
    return np.interp(share, curve.mean(1), curve[:, 1] - curve[:, 0])


def heights_within(
    hulls: list[np.ndarray],
    code: int,
    share: np.ndarray,
    tolerance: float,
    own: np.ndarray | None = None,
) -> np.ndarray:
    """A group's best curve that is no further than `tolerance` from another's.

        h_a^eps = min(h_a, min_b h_b + 2 eps)

    in turned coordinates ``u = (FPR + TPR) / 2`` and ``h = TPR - FPR``. At a common
    ``u`` rates differ by half of what heights do, so by at most eps. Whatever has gaps of
    at most eps at every threshold lies below these curves, taken of the hulls, in every
    group.

    A hull pools bins, and splitting them up again over common shares is random. Where a
    group's own curve, from one touch of its hull to the next, lies between the least of
    the hulls and the limit, that stretch is taken as it is: no bin of it need be split.

    Args:
        hulls: Knots ``[m, 2]`` of every group's concave hull.
        code: The group.
        share: ``[R]`` values of ``u``.
        tolerance: ``eps``.
        own: Knots of the group's curve itself, turning at `share` only, or None to take
            the hull everywhere.

    Returns:
        ``[R]`` heights of a curve to which the group's score can be degraded.
    """
    least = np.min([turned_height(hull, share) for hull in hulls], 0)
    best, limit = turned_height(hulls[code], share), least + 2 * tolerance
    heights = np.minimum(best, limit)
    if own is None:
        return heights
    raw = turned_height(own, share)
    within = (raw >= least - _ROUNDING) & (raw <= limit + _ROUNDING)
    (touches,) = np.nonzero(raw >= best - _ROUNDING)
    for start, end in itertools.pairwise(touches.tolist()):
        stretch = slice(start, end + 1)
        if within[stretch].all():
            heights[stretch] = raw[stretch]
    return heights


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

    def hull(law: Array):
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

    def hull(law: Array):
        mass = einsum("y,yb->b", mix, law)
        rate = law[1] / jnp.where(mass > 0, mass, 1.0)
        return roc_path(law[:, jnp.argsort(rate)], mix)

    share, height = hull(target)
    return jnp.max(height - jnp.interp(share, *hull(source)))


def degrading_kernel(
    source: np.ndarray, target: np.ndarray, mix: np.ndarray
) -> tuple[np.ndarray, float]:
    """Find the kernel from `source` to `target` that moves ranks the least.

    A linear program over ``M >= 0``: rows sum to 1 and ``M' source_y = target_y`` for
    both classes ``y``; it minimizes the expected squared change of rank. By the
    Blackwell-Sherman-Stein theorem it is feasible whenever the target's ROC curve lies
    below the source's concave hull. Solved by HiGHS through SciPy (which JAX itself
    depends on), ``B T`` variables.

    Args:
        source: ``[2, B]`` law of the bin given class 0 and 1, lowest scores first.
        target: ``[2, T]`` law of the atom given class 0 and 1, likewise.
        mix: ``[2]`` class shares by which ranks are taken.

    Returns:
        The kernel ``[B, T]`` and its slack, the largest violated constraint.

    Raises:
        RuntimeError: If the program has no solution (the target is not less
            informative).
    """
    from scipy import sparse

    def middle_rank(law: np.ndarray):
        mass = mix @ law
        return np.cumsum(mass) - mass / 2

    n_bins, n_atoms = source.shape[1], target.shape[1]
    mass = mix @ source
    away = middle_rank(source)[:, None] - middle_rank(target)[None, :]
    cost = (mass[:, None] * away**2).ravel()
    rows = sparse.kron(sparse.eye(n_bins), np.ones((1, n_atoms)))
    columns = [
        sparse.kron(law[None, :], sparse.eye(n_atoms)) for law in (source[0], source[1])
    ]
    found = least_cost(
        cost,
        sparse.vstack([rows, *columns], format="csr"),
        np.concatenate([np.ones(n_bins), target[0], target[1]]),
        failure="no kernel found for the ROC channel",
    )
    kernel = found.reshape(n_bins, n_atoms)
    kernel /= kernel.sum(1, keepdims=True)
    slack = max(
        np.abs(law @ kernel - goal).max()
        for law, goal in zip(source, target, strict=True)
    )
    return kernel, float(slack)


def least_cost(
    cost: np.ndarray,
    equations: Any,
    sides: np.ndarray,
    *,
    failure: str,
    most: np.ndarray | None = None,
) -> np.ndarray:
    """Minimize ``cost @ x`` over ``x >= 0`` with ``equations @ x = sides``, by HiGHS.

    Args:
        cost: ``[m]``.
        equations: ``[c, m]`` sparse matrix.
        sides: ``[c]``.
        failure: What to say where HiGHS gives up.
        most: ``[m]`` upper bounds of ``x``, or None.

    Returns:
        ``[m]``, at least 0.

    Raises:
        RuntimeError: If HiGHS gives up.
    """
    from scipy.optimize import linprog

    found: Any = linprog(
        cost,
        A_eq=equations,
        b_eq=sides,
        bounds=(0, None) if most is None else np.stack([np.zeros_like(most), most], 1),
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10},
    )
    if found.status != 0:
        raise RuntimeError(f"{failure} ({found.message}); use fewer bins.")
    return np.maximum(found.x, 0)
