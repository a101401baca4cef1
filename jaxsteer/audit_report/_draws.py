"""Random counts that the standard library can draw again."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri


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
