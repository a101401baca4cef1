"""Multivariate programs by brute force: SciPy on the raw parameters, in float64."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

import jaxsteer as js


def divergence(mean, cov, target_mean, target_cov):
    """``KL(N(mean, cov) || N(target_mean, target_cov))`` of single laws."""
    precision = np.linalg.inv(target_cov)
    gap = mean - target_mean
    logdets = np.linalg.slogdet(target_cov)[1] - np.linalg.slogdet(cov)[1]
    trace = np.trace(precision @ cov)
    return 0.5 * (trace - len(mean) + gap @ precision @ gap + logdets)


def least_feature_kl(
    pop: js.Population, intervention: str, *, starts: int, seed: int
) -> float:
    """Least divergence over template, matrices and shifts for "reweigh" priors."""
    q = np.asarray(pop.priors, float)
    mean = np.asarray(pop.conditionals.mean, float)
    cov = np.asarray(pop.conditionals.cov, float)
    k, g, d = mean.shape
    weights = np.outer(q.sum(1), q.sum(0))
    others = [a for a in range(g) if a != 1]
    own = k * d * (d + 1) if intervention == "all_groups" else 0

    def objective(free):
        template_mean, template_cov = mean[:, 1], cov[:, 1]
        if own:
            parts = free[:own].reshape(k, d + 1, d)
            template_mean = parts[:, 0]
            roots = np.tril(parts[:, 1:])
            template_cov = roots @ np.swapaxes(roots, 1, 2) + 1e-12 * np.eye(d)
        moves = free[own:].reshape(g - 1, d, d + 1)
        total = 0.0
        for a in range(g):
            matrix, shift = np.eye(d), np.zeros(d)
            if a != 1:
                move = moves[others.index(a)]
                matrix, shift = move[:, :d], move[:, d]
            if np.linalg.det(matrix) <= 1e-12:
                return 1e6
            for i in range(k):
                total += weights[i, a] * divergence(
                    matrix @ template_mean[i] + shift,
                    matrix @ template_cov[i] @ matrix.T,
                    mean[i, a],
                    cov[i, a],
                )
        return total

    rng = np.random.default_rng(seed)
    best = np.inf
    for _ in range(starts):
        matrices = np.eye(d) + 0.5 * rng.normal(size=(g - 1, d, d))
        matrices[np.linalg.det(matrices) < 0, 0] *= -1
        shifts = rng.normal(size=(g - 1, d, 1))
        start = np.concatenate([matrices, shifts], -1).ravel()
        if own:
            first = np.concatenate(
                [mean[:, 1:2], np.linalg.cholesky(cov[:, 1])], axis=1
            )
            start = np.concatenate([first.ravel(), start])
        found = minimize(objective, start, method="BFGS", options={"gtol": 1e-7})
        best = min(best, found.fun)
    return best
