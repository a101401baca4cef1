"""Probabilities of decision regions on the line, for any univariate family.

The line is cut where the decision changes: on a fine grid, at the points between where
the decision is least certain (so that two changes between neighbors are not missed),
and then by bisection. Each piece has its probability from the family's distribution
function, or from Gauss-Legendre nodes where none is known. A count is summed over its
values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float, Int
from jaxsteer.audit._bayes_rule import with_point_axis
from jaxsteer.families import Bernoulli, Categorical

# From points [B, n] to the cost of each decision there, [J, B, n]; the least is taken.
Scores = Callable[[Array], Array]

GOLDEN = (5**0.5 - 1) / 2


def region_masses(
    scores: Scores, cells: Any, windows: list[Any], *, nodes: int, shift: Any = 0.0
) -> Float[Array, "J C B"]:
    """Probability under each cell of each decision.

    Args:
        scores: The costs of the decisions for each of ``B`` problems; see ``Scores``.
        cells: The laws to measure with, batch ``[C, B]``.
        windows: Laws with batch ``[c, B]`` around whose means the grid is laid.
        nodes: Grid points for each law in `windows`.
        shift: Of the grid, in steps, 0 to 0.5: two grids tell the error.
    """
    points = jnp.concatenate([_grid(law, shift, nodes) for law in windows], 0)
    points = jnp.moveaxis(points, 0, 1).reshape(points.shape[1], -1)
    points = jnp.sort(points, -1)
    points = _with_doubtful_points(scores, points)
    return _masses(scores, cells, points)


def _grid(law: Any, shift: Any, nodes: int) -> Float[Array, "c B m"]:
    """Points around the mean, dense there, out to 40 standard deviations."""
    steps = (jnp.arange(nodes) + shift) / (nodes - 0.5)
    reach = float(np.arcsinh(80.0))
    offsets = 0.5 * jnp.sinh(reach * (2 * steps - 1))
    scale = jnp.sqrt(law.cov)
    # The mean itself is a node too: there, if anywhere, a density has a kink.
    offsets = jnp.concatenate([offsets, jnp.zeros(1)]).astype(scale.dtype)
    return jax.lax.stop_gradient(law.mean[..., None] + scale[..., None] * offsets)


def _decide(scores: Scores, x: Array) -> Int[Array, "B n"]:
    return jnp.argmin(scores(x), 0)


def _with_doubtful_points(scores: Scores, points: Array) -> Array:
    """Add, around each point, the one where its decision leads by least."""
    own = _decide(scores, points)[None, :, 1:-1]

    def lead(x: Array):
        cost = scores(x)
        mine = jnp.arange(len(cost))[:, None, None] == own
        others = jnp.min(jnp.where(mine, jnp.inf, cost), 0)
        return others - jnp.sum(jnp.where(mine, cost, 0.0), 0)

    # The golden section, both inner points anew at each step: simple, and cheap here.
    def shrink(_, ends: tuple[Array, Array]):
        low, high = ends
        width = GOLDEN * (high - low)
        left, right = high - width, low + width
        smaller = lead(left) < lead(right)
        return jnp.where(smaller, low, left), jnp.where(smaller, right, high)

    steps = 40 if points.dtype == jnp.float64 else 20
    low, high = jax.lax.fori_loop(0, steps, shrink, (points[:, :-2], points[:, 2:]))
    return jnp.sort(jnp.concatenate([points, (low + high) / 2], -1), -1)


def _masses(scores: Scores, cells: Any, points: Array) -> Float[Array, "J C B"]:
    """Cut every panel where the decision changes and add up the pieces."""
    cdf = getattr(type(cells), "cdf", None)

    def code(x: Array):
        if cdf is not None:
            return _decide(scores, x)
        # Where a density ends there is a cut too: the nodes need smooth pieces.
        inside = jnp.isfinite(with_point_axis(cells).log_prob(x[None]))
        return _decide(scores, x) * (len(inside) + 1) + jnp.sum(inside, 0)

    left, right = points[:, :-1], points[:, 1:]
    own = code(points)
    own = jnp.concatenate([own[:, :-1], own[:, 1:]], -1)
    from_left = jnp.arange(own.shape[-1]) < left.shape[-1]

    # From the left for the end of the first decision, from the right for the start of
    # the last; both in one call.
    def halve(_, ends: tuple[Array, Array]):
        low, high = ends
        middle = (low + high) / 2
        up = (code(middle) == own) == from_left
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    ends = (jnp.concatenate([left, left], -1), jnp.concatenate([right, right], -1))
    steps = 56 if points.dtype == jnp.float64 else 28
    low, high = jax.lax.fori_loop(0, steps, halve, ends)
    first, last = jnp.split((low + high) / 2, 2, -1)
    last = jnp.maximum(first, last)
    starts = jnp.concatenate([left, first, last], -1)
    stops = jnp.concatenate([first, last, right], -1)
    chosen = _decide(scores, (starts + stops) / 2)
    n_decisions = jax.eval_shape(scores, points).shape[0]
    chosen = jnp.arange(n_decisions)[:, None, None] == chosen
    if cdf is None:
        return _add(chosen, _by_nodes(cells, starts, stops))
    # The first piece reaches down, and the last one up, to infinity.
    starts = starts.at[:, 0].set(-jnp.inf)
    stops = stops.at[:, -1].set(jnp.inf)
    law = with_point_axis(cells)
    return _add(chosen, cdf(law, stops[None]) - cdf(law, starts[None]))


def _add(chosen: Array, mass: Array) -> Float[Array, "J C B"]:
    return jnp.sum(jnp.where(chosen[:, None], mass, 0.0), -1)


def _by_nodes(cells: Any, start: Array, stop: Array) -> Float[Array, "C B n"]:
    where, weights = np.polynomial.legendre.leggauss(8)
    half = (stop - start) / 2
    total = jnp.zeros((), start.dtype)
    for node, weight in zip(where, weights, strict=True):
        density = jnp.exp(
            with_point_axis(cells).log_prob((start + half * (1 + node))[None])
        )
        total = total + weight * half * density
    return total


def summed_rates(
    scores: Scores, cells: Any, n_values: int
) -> tuple[Float[Array, "J K G"], Float[Array, "J K G"]]:
    """Rates of a rule on each cell, and the mass that the sums left out.

    Args:
        scores: The costs of the decisions; see ``Scores``.
        cells: Laws of one discrete feature, batch ``[K, G]``.
        n_values: Counts ``0..n_values-1`` that are summed over; families of finitely
            many values take those.

    Returns:
        The rates, counts beyond the last being decided as the last one is, and how much
        of each rate is due to them.
    """
    n_groups = jnp.shape(next(iter(vars(cells).values())))[1]
    values = jnp.arange(_n_values(cells, n_values), dtype=jnp.float32)
    mass = jnp.exp(with_point_axis(cells).log_prob(values))
    x = jnp.broadcast_to(values, (n_groups, len(values))).astype(mass.dtype)
    cost = scores(x)
    chosen = jnp.argmin(cost, 0) == jnp.arange(len(cost))[:, None, None]
    inside = jnp.sum(jnp.where(chosen[:, None], mass, 0.0), -1)
    beyond = jnp.where(chosen[:, None, :, -1], 1 - jnp.sum(mass, -1), 0.0)
    if isinstance(cells, Bernoulli | Categorical):
        return inside, jnp.zeros_like(inside)
    beyond = jnp.maximum(beyond, 0.0)
    return inside + beyond, beyond


def _n_values(cells: Any, n_values: int) -> int:
    if isinstance(cells, Bernoulli):
        return 2
    if isinstance(cells, Categorical):
        return cells.logits.shape[-1]
    return n_values
