"""The probability of class 1 as a non-decreasing function of a score in [0, 1]."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.channels._meet_curve import concave_majorant

#: Knots of the calibration inside ``jit``, where their number cannot follow the data.
_BINS = 64


def isotonic_knots(score: np.ndarray, label: np.ndarray, weights: np.ndarray) -> Any:
    """Fit by pool-adjacent-violators; O(n log n), on the host.

    Least squares over all non-decreasing functions is constant on blocks of scores. What
    is returned is the mean score and the mean label of each block, between which the
    calibration runs straight: it then keeps the order within a block, and the area under
    the curve with it. From the outer blocks it runs to (0, 0) and (1, 1).

    Args:
        score: ``[n]`` in [0, 1].
        label: ``[n]`` codes 0 and 1.
        weights: ``[n]`` positive.

    Returns:
        ``[C, 2]`` knots (score, probability), both increasing.

    References:
        Ayer et al. 1955; Zadrozny & Elkan 2002 (calibration).
    """
    values, place = np.unique(score, return_inverse=True)
    mass = np.bincount(place, weights)
    hits = np.bincount(place, weights * label)
    at = mass * values
    blocks: list[list[float]] = []
    for block in zip(mass.tolist(), hits.tolist(), at.tolist(), strict=True):
        blocks.append(list(block))
        while len(blocks) > 1 and (
            blocks[-1][1] * blocks[-2][0] <= blocks[-2][1] * blocks[-1][0]
        ):
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    total = np.array(blocks)
    return _with_ends(np, total[:, 2] / total[:, 0], total[:, 1] / total[:, 0])


def isotonic_knots_traced(
    score: Float[Array, " n"], label: Float[Array, " n"], weights: Float[Array, " n"]
) -> Float[Array, "C 2"]:
    """The same from the sums of 64 equal bins of the score, in pure JAX.

    The isotonic fit of the bins' means is the slope of the least convex curve below
    their running sums. Bins without rows take the value of the bin below.
    """
    place = jnp.clip(jnp.floor(score * _BINS), 0, _BINS - 1).astype(jnp.int32)
    mass = jnp.zeros(_BINS, weights.dtype).at[place].add(weights)
    hits = jnp.zeros(_BINS, weights.dtype).at[place].add(weights * label)
    zero = jnp.zeros(1, weights.dtype)
    x = jnp.concatenate([zero, jnp.cumsum(mass)])
    y = jnp.concatenate([zero, jnp.cumsum(hits)])
    rise = jnp.diff(-concave_majorant(x, -y))
    rate = jnp.where(mass > 0, rise / jnp.where(mass > 0, mass, 1.0), 0.0)
    rate = jnp.clip(jnp.maximum.accumulate(rate), 0.0, 1.0)
    middle = (jnp.arange(_BINS, dtype=weights.dtype) + 0.5) / _BINS
    return _with_ends(jnp, middle, rate)


def _with_ends(xp: Any, at: Any, rate: Any) -> Any:
    knots = xp.stack([at, rate], 1)
    zero = xp.zeros_like(knots[:1])
    return xp.concatenate([zero, knots, zero + 1])
