"""Small mixtures with known parts, and their likelihood written out plainly."""

from __future__ import annotations

import numpy as np


def draw(n=300, p=2, q=2, n_groups=2, noise=0.3, seed=0, outcome="normal", classes=3):
    """Return y, x, s and the groups of a mixture of regressions."""
    rng = np.random.default_rng(seed)
    x, s = rng.normal(size=(n, p)) * 2 + 1, rng.normal(size=(n, q))
    gamma = 2 * rng.normal(size=(n_groups, q))
    z = (s @ gamma.T + rng.gumbel(size=(n, n_groups))).argmax(1)
    if outcome == "normal":
        coef = 2 * rng.normal(size=(n_groups, p + 1))
        y = coef[z, 0] + (coef[z, 1:] * x).sum(1) + noise * rng.normal(size=n)
        return y, x, s, z
    coef = 2 * rng.normal(size=(n_groups, classes, p + 1))
    logits = coef[z, :, 0] + np.einsum("ncp,np->nc", coef[z, :, 1:], x)
    return (logits + rng.gumbel(size=(n, classes))).argmax(1), x, s, z


def with_ones(rows):
    rows = np.asarray(rows, float)
    return np.concatenate([np.ones((len(rows), 1)), rows], 1)


def log_softmax(logits, axis=-1):
    top = logits.max(axis, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis, keepdims=True))


def brute_log_likelihood(y, x, s, membership, coef, variance, weights=None):
    """``sum_i w_i log sum_j P(j | s_i) p(y_i | x_i, j)``, a row and a group at a time."""
    x, s = with_ones(x), with_ones(s)
    membership, coef = np.asarray(membership, float), np.asarray(coef, float)
    total = 0.0
    for i in range(len(y)):
        share = np.exp(log_softmax(s[i] @ membership.T))
        mixture = 0.0
        for j in range(len(share)):
            if coef.ndim == 3:
                density = np.exp(log_softmax(coef[j] @ x[i]))[int(y[i])]
            else:
                gap = y[i] - coef[j] @ x[i]
                v = float(variance[j])
                density = np.exp(-(gap**2) / (2 * v)) / np.sqrt(2 * np.pi * v)
            mixture += share[j] * density
        total += (1.0 if weights is None else weights[i]) * np.log(mixture)
    return total
