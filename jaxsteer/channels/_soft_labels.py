"""Labels of a group's rows replaced by what a smooth model expects them to be.

Counts of labels in small cells are noisy, and a linear program that may choose among
many kernels chooses those that the noise flatters: equal in sample, unequal on new rows.
Expected labels have the same sums but not the noise.
"""

from __future__ import annotations

import numpy as np


def soft_labels(
    columns: np.ndarray, label: np.ndarray, weights: np.ndarray, n_classes: int
) -> np.ndarray:
    """Fit a ridge multinomial regression, and return its probabilities of the rows.

    On the host in float64, by L-BFGS through SciPy. The ridge is one row's worth on
    standardized columns; the intercepts are free, so that each class has its own weighted
    share among the probabilities.

    Args:
        columns: ``[n, m]`` finite columns.
        label: ``[n]`` codes 0..K-1.
        weights: ``[n]`` positive.
        n_classes: ``K``.

    Returns:
        ``[n, K]`` probabilities.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    spread = columns.std(0)
    scaled = (columns - columns.mean(0)) / np.where(spread > 0, spread, 1.0)
    design = np.concatenate([np.ones((len(columns), 1)), scaled], 1)
    wanted = np.eye(n_classes)[label]
    total = weights.sum()

    def loss(flat):
        table = flat.reshape(design.shape[1], n_classes)
        log = log_softmax(design @ table, -1)
        slope = design.T @ (weights[:, None] * (np.exp(log) - wanted))
        slope[1:] += table[1:]
        value = -np.sum(weights[:, None] * wanted * log) + np.sum(table[1:] ** 2) / 2
        return value / total, slope.ravel() / total

    start = np.zeros((design.shape[1], n_classes))
    start[0] = np.log(weights @ wanted / total)
    found = minimize(
        loss, start.ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": 500, "gtol": 1e-9, "ftol": 1e-13},
    )  # fmt: skip
    return np.exp(log_softmax(design @ found.x.reshape(start.shape), -1))


def normal_scores(value: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Standard normal quantiles of the weighted mid-ranks: a column without outliers."""
    from scipy.special import ndtri

    _, place = np.unique(value, return_inverse=True)
    share = np.bincount(place, weights) / weights.sum()
    return ndtri((np.cumsum(share) - share / 2)[place])
