"""ROC curves of binned scores: concave hulls and their lower envelope.

Host-side NumPy in float64: the number of knots depends on the data, and the linear
program that follows wants exact masses. A curve is an array ``[m, 2]`` of knots (false
positive rate, true positive rate), from (0, 0) to (1, 1), both non-decreasing.
"""

from __future__ import annotations

import itertools

import numpy as np

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
