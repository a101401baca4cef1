"""Rates of every margin and every intersection, with what they can and cannot show.

For a group with effective size n and rate p, and c the critical value below:

- the interval of the rate is Wilson's with c for the normal quantile;
- the difference to the group with the highest rate has Newcombe's interval, made of the
  ends of those two;
- the ratio to it (the impact ratio) has the interval ``r exp(+- c s)`` with ``s**2`` the
  sum of ``1/(k + 1/2) - 1/(n + 1/2)`` over both groups;
- the smallest difference that would be found with a probability of .8 is
  ``(c + .8416) s``, ``s`` the standard error of a difference where there is none.

c is the .95 quantile of the largest studentized error, over all rates and all pairs of
groups of one set, in bootstrap draws (max-t): the intervals hold together with that
probability, whichever group turned out highest.

References: Wilson 1927; Newcombe 1998, Statistics in Medicine 17; Katz et al. 1978;
Chernozhukov, Chetverikov and Kato 2013, Annals of Statistics 41.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from jaxsteer.audit_report._cells import Cells


class Stream:
    """Standard normal numbers from a seed, the same as Python's own generator gives.

    ``random.Random(seed).random()`` and NumPy's generator of the same name, seeded by a
    list, are one sequence; the normal quantile of each number is what is handed out.

    Example:
        >>> import random, statistics
        >>> first = statistics.NormalDist().inv_cdf(random.Random(3).random())
        >>> bool(abs(Stream(3).normal(1)[0] - first) < 1e-12)
        True
    """

    def __init__(self, seed: int):
        self._source = np.random.RandomState([seed])

    def normal(self, *shape: int) -> np.ndarray:
        """Return the next numbers, the last axis running fastest."""
        return ndtri(self._source.random_sample(shape))


def draw_counts(
    weight: np.ndarray, square: np.ndarray, normal: np.ndarray
) -> np.ndarray:
    """Draw what a cell might have weighed, ``[..., C]``.

    A Bayesian bootstrap of the rows, cell by cell: the weights of the rows of a cell are
    exponential, so their sum is a gamma variable, here by Wilson's and Hilferty's cube
    of a normal one. A cell of many rows gets nearly ``weight + sqrt(square) normal``.

    Args:
        weight: ``[C]`` what the cells weigh.
        square: ``[C]`` the squares of their rows' weights.
        normal: ``[..., C]`` standard normal numbers.
    """
    shape = np.where(weight > 0, weight**2 / np.where(square > 0, square, 1), 1.0)
    root = 1 - 1 / (9 * shape) + normal / (3 * np.sqrt(shape))
    return weight * np.maximum(root, 0) ** 3


def quantile(values: np.ndarray, share: float) -> float:
    """Return the smallest value that at least this share of the values reaches."""
    ordered = np.sort(values)
    return float(ordered[max(0, int(np.ceil(share * len(ordered) - 1e-9)) - 1)])


LEVEL = 0.95
_LEAST_CRITICAL = 1.959963984540054
_POWER = 0.8416212335729143
#: A category with a smaller share of the rows may be left out of the ratios.
SMALL_SHARE = 0.02
FOUR_FIFTHS = 0.8


def measure_rates(
    cells: Cells, *, seed: int, draws: int, leave_out_small: bool = False
) -> dict[str, dict[str, Any]]:
    """Return each measure's figures.

    Args:
        cells: The counts.
        seed: Seed of the draws.
        draws: Number of draws.
        leave_out_small: Whether categories with less than 2% of the rows have no ratio
            and are not compared with.

    Returns:
        By name ("selection_rate", "scoring_rate", "tpr", "fpr", "accuracy", those that
        the counts allow): ``critical`` and ``sets``, one for each column and one for the
        intersections, of figures by group.
    """
    coarse, weight, square, n = _coarse(cells)
    stream = Stream(seed)
    normal = stream.normal(draws, len(weight))
    drawn = draw_counts(weight, square, normal)
    sets = _sets(cells, coarse)
    found = {}
    for name, (hit, base) in measures_of(cells, coarse).items():
        found[name] = _measure(
            sets, hit, base, weight, square, n, drawn, stream, leave_out_small
        )
    return found


def measures_of(
    cells: Cells, coarse: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return which cells count as hits, and which are counted at all, by measure."""
    label, said, above = coarse[:, -3], coarse[:, -2], coarse[:, -1]
    everything = np.ones(len(coarse), bool)
    found = {}
    has_label, has_said = (label >= 0).all(), (said >= 0).all()
    accepted = said == cells.favorable  # nowhere, where no label is favorable
    if has_said and cells.favorable is not None:
        found["selection_rate"] = accepted, everything
    if (above >= 0).all():
        found["scoring_rate"] = above == 1, everything
    if has_said and has_label and cells.favorable is not None:
        found["tpr"] = accepted, label == cells.favorable
        found["fpr"] = accepted, label != cells.favorable
    if has_said and has_label:
        found["accuracy"] = said == label, everything
    return found


def _coarse(cells: Cells) -> Any:
    """Put cells together that differ in the score alone; in order."""
    parts = np.column_stack([cells.codes, cells.label, cells.prediction, cells.above])
    coarse, place = np.unique(parts, axis=0, return_inverse=True)
    place = place.reshape(-1)
    sums = (np.bincount(place, a) for a in (cells.weight, cells.square, cells.n))
    return (coarse, *sums)


def _sets(
    cells: Cells, coarse: np.ndarray
) -> list[tuple[tuple[str, ...], list[str], np.ndarray]]:
    """Columns, names of groups and membership ``[S, C]`` of each set of groups."""
    found = []
    m = len(cells.columns)
    wanted = [(j,) for j in range(m)] + ([tuple(range(m))] if m > 1 else [])
    for columns in wanted:
        codes = coarse[:, columns]
        groups = np.unique(codes, axis=0)
        names = [
            " & ".join(cells.levels[j][c] for j, c in zip(columns, row, strict=True))
            for row in groups.tolist()
        ]
        member = (codes[None] == groups[:, None]).all(-1)
        found.append((tuple(cells.columns[j] for j in columns), names, member))
    return found


def _measure(
    sets: Sequence[tuple[tuple[str, ...], list[str], np.ndarray]],
    hit: np.ndarray,
    base: np.ndarray,
    weight: np.ndarray,
    square: np.ndarray,
    n: np.ndarray,
    drawn: np.ndarray,
    stream: Stream,
    leave_out_small: bool,
) -> dict[str, Any]:
    stats: list[Any] = []
    worst = np.zeros(len(drawn))
    for _, _, member in sets:
        counted = member & base
        total = counted @ weight
        some = total > 0
        safe = np.where(some, total, 1)
        rate = (counted & hit) @ weight / safe
        size = np.where(some, total**2 / np.where(some, counted @ square, 1), 0)
        near = (rate * size + 2) / (size + 4)
        error = np.sqrt(near * (1 - near) / (size + 4))
        mass = drawn @ counted.T
        rates = drawn @ (counted & hit).T / np.where(mass > 0, mass, 1)
        off = np.where(mass > 0, rates - rate, 0)
        places = np.flatnonzero(some)
        for s in places:
            worst = np.maximum(worst, abs(off[:, s]) / error[s])
        for s, t in itertools.combinations(places, 2):
            both = math.hypot(error[s], error[t])
            worst = np.maximum(worst, abs(off[:, s] - off[:, t]) / both)
        rows = counted @ n
        stats.append((rate, size, rows, some, (counted & hit) @ n))
    critical = max(_LEAST_CRITICAL, quantile(worst, LEVEL))
    out = []
    for (columns, names, member), stat in zip(sets, stats, strict=True):
        rate, size, rows, some, hits = stat
        share = member @ n / n.sum()
        normal = stream.normal(len(drawn), len(names))
        out.append(
            {
                "columns": list(columns),
                **_compare(
                    *(names, rate, size, rows, some, hits),
                    *(share, critical, normal, leave_out_small),
                ),
            }
        )
    return {"critical": critical, "sets": out}


def _compare(
    names: list[str],
    rate: np.ndarray,
    size: np.ndarray,
    rows: np.ndarray,
    some: np.ndarray,
    hits: np.ndarray,
    share: np.ndarray,
    critical: float,
    normal: np.ndarray,
    leave_out_small: bool,
) -> dict[str, Any]:
    small = share < SMALL_SHARE
    eligible = some & ~(small & leave_out_small)
    if not eligible.any():
        eligible = some
    if not some.any():
        return {"rows": [_empty(name, share[i]) for i, name in enumerate(names)]}
    top = int(np.argmax(np.where(eligible, rate, -1)))
    low = int(np.argmin(np.where(eligible, rate, 2)))
    pooled = float((rate * size)[some].sum() / size[some].sum())
    spread = np.sqrt(pooled * (1 - pooled) / np.where(some, size, 1))
    noise = (normal * spread)[:, eligible]
    gaps = noise.max(axis=1) - noise.min(axis=1)
    ends = [
        wilson(r, s, critical) if s else (0.0, 1.0)
        for r, s in zip(rate, size, strict=True)
    ]
    lines = []
    for i, name in enumerate(names):
        if not some[i]:
            lines.append(_empty(name, share[i]))
            continue
        line = {
            "group": name,
            "n": int(rows[i]),
            "hits": int(hits[i]),
            "effective_n": float(size[i]),
            "share": float(share[i]),
            "under_2_percent": bool(small[i]),
            "rate": float(rate[i]),
            "low": ends[i][0],
            "high": ends[i][1],
        }
        if eligible[i]:
            line |= compare_two(
                float(rate[i]), float(size[i]), ends[i],
                float(rate[top]), float(size[top]), ends[top], critical, i == top,
            )  # fmt: skip
        lines.append(line)
    return {
        "highest": names[top],
        "lowest": names[low],
        "range": float(rate[top] - rate[low]),
        "range_by_chance": float(gaps.mean()),
        "range_by_chance_95": quantile(gaps, LEVEL),
        "rows": lines,
    }


def wilson(rate: float, size: float, c: float) -> tuple[float, float]:
    """Return Wilson's interval of a rate, which always holds the rate."""
    middle = (rate + c * c / (2 * size)) / (1 + c * c / size)
    half = c * math.sqrt(rate * (1 - rate) / size + c * c / (4 * size * size))
    half /= 1 + c * c / size
    return min(rate, max(0.0, middle - half)), max(rate, min(1.0, middle + half))


def compare_two(
    p: float,
    n: float,
    ends: tuple[float, float],
    q: float,
    m: float,
    top_ends: tuple[float, float],
    c: float,
    same: bool,
) -> dict[str, Any]:
    """Compare a group (rate p, size n) with the highest one (q, m)."""
    if same:
        return {"difference": 0.0, "ratio": 1.0 if q else None, "is_highest": True}
    difference = p - q
    below = math.hypot(p - ends[0], top_ends[1] - q)
    beyond = math.hypot(ends[1] - p, q - top_ends[0])
    found: dict[str, Any] = {
        "difference": difference,
        "difference_low": max(-1.0, difference - below),
        "difference_high": min(1.0, difference + beyond),
        "is_highest": False,
    }
    found["beyond_chance"] = found["difference_high"] < 0
    if q > 0:
        k, j = p * n, q * m
        s = math.sqrt(
            1 / (k + 0.5) - 1 / (n + 0.5) + 1 / (j + 0.5) - 1 / (m + 0.5)
        )  # fmt: skip
        ratio = p / q
        found |= {
            "ratio": ratio,
            "ratio_low": ratio * math.exp(-c * s),
            "ratio_high": max(ratio, 0.5 / n / q) * math.exp(c * s),
            "below_four_fifths": ratio < FOUR_FIFTHS,
        }
        # Where few rows make the two intervals disagree, nothing is shown.
        found["beyond_chance"] &= found["ratio_high"] < 1
    both = (p * n + q * m) / (n + m)
    spread = math.sqrt(both * (1 - both) * (1 / n + 1 / m))
    found["smallest_difference"] = (c + _POWER) * spread
    if spread > 0:
        found["standard_deviations"] = difference / spread
        found["p_value"] = math.erfc(abs(difference) / spread / math.sqrt(2))
    return found


def _empty(name: str, share: float) -> dict[str, Any]:
    return {"group": name, "n": 0, "share": float(share), "rate": None}
