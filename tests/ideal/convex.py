"""The convex kinds of maps as conic programs, written for cvxpy."""

from __future__ import annotations

import numpy as np

import jaxsteer as js


def conic_feature_kl(pop: js.Population, maps: str, solver: str, **limits) -> float:
    """Least weighted feature divergence of group 0 with group 1 as the template.

    With "reweigh" priors; "pivot" with pivot class 0.
    """
    import cvxpy as cp

    q = np.asarray(pop.priors, float)
    mean = np.asarray(pop.conditionals.mean, float)
    cov = np.asarray(pop.conditionals.cov, float)
    weights = q.sum(1) * q[:, 0].sum()
    n_classes, _, d = mean.shape
    side = np.eye(d)
    if maps == "pivot":
        values, vectors = np.linalg.eigh(cov[0, 1])
        side = (vectors * values**-0.5) @ vectors.T
    s, b = cp.Variable((d, d), symmetric=True), cp.Variable(d)
    terms, constant = [], 0.0
    for i in range(n_classes):
        precision = np.linalg.cholesky(np.linalg.inv(cov[i, 0])).T
        spread = side @ np.linalg.cholesky(cov[i, 1])
        gap = s @ (side @ mean[i, 1]) + b - mean[i, 0]
        terms.append(
            0.5
            * weights[i]
            * (cp.sum_squares(precision @ s @ spread) + cp.sum_squares(precision @ gap))
        )
        logdets = np.linalg.slogdet(cov[i, 0])[1] - np.linalg.slogdet(cov[i, 1])[1]
        constant += 0.5 * weights[i] * (logdets - d)
    constant -= weights.sum() * np.linalg.slogdet(side)[1]
    objective = cp.sum(cp.hstack(terms)) - weights.sum() * cp.log_det(s)
    problem = cp.Problem(cp.Minimize(objective))
    return float(problem.solve(solver=solver, **limits) + constant)
