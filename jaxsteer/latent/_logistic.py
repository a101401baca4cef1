"""Weighted logistic regressions with soft targets, one safe Newton step at a time.

Each step tries Newton's move; where that does not raise the objective it takes the
step of Böhning's quadratic lower bound instead, which always does. There is no line
search, so that a batch of problems does the same work for every member.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.latent._design import Design, weighted_gram
from jaxsteer.linalg import einsum, matmul, solve_positive_definite, transpose


def contrasts(n_classes: int) -> np.ndarray:
    """Orthonormal columns ``[C, C - 1]`` that each sum to zero."""
    basis = np.zeros((n_classes, n_classes - 1))
    for k in range(1, n_classes):
        basis[:k, k - 1] = 1.0 / math.sqrt(k * (k + 1))
        basis[k, k - 1] = -k / math.sqrt(k * (k + 1))
    return basis


def softmax_value(
    coef: Float[Array, "C m"],
    design: Design,
    targets: Float[Array, "C n"],
    ridge: Float[Array, ""],
) -> Float[Array, ""]:
    """``sum_ic t_ci log softmax_c(B x_i) - ridge / 2 |B|^2``."""
    log_p = jax.nn.log_softmax(matmul(coef, transpose(design.rows)), 0)
    return jnp.sum(targets * log_p) - 0.5 * ridge * jnp.sum(coef**2)


def softmax_step(
    coef: Float[Array, "C m"],
    design: Design,
    targets: Float[Array, "C n"],
    ridge: Float[Array, ""],
) -> Float[Array, "C m"]:
    """Return coefficients with a higher objective (see :func:`softmax_value`).

    The rows of `coef` sum to zero and stay so. Cost O(n m^2 C^2 + (C m)^3).
    """
    n_classes, m = coef.shape
    basis = jnp.asarray(contrasts(n_classes), coef.dtype)
    free = n_classes - 1
    log_p = jax.nn.log_softmax(matmul(coef, transpose(design.rows)), 0)
    p, mass = jnp.exp(log_p), jnp.sum(targets, 0)
    value = jnp.sum(targets * log_p) - 0.5 * ridge * jnp.sum(coef**2)
    slope = matmul(targets - mass * p, design.rows) - ridge * coef
    slope = matmul(transpose(basis), slope).reshape(free * m)
    # Curvature in the contrasts, one pair of them at a time.
    tilt = matmul(transpose(basis), p)
    spread = einsum("ca,cb,cn->abn", basis, basis, p) - tilt[:, None] * tilt[None]
    first, second = np.triu_indices(free)
    index = np.zeros((free, free), int)
    index[first, second] = index[second, first] = np.arange(len(first))
    weights = jnp.concatenate([spread[first, second] * mass, mass[None]])
    grams = weighted_gram(design, weights)
    curvature = jnp.moveaxis(grams[index], 2, 1).reshape(free * m, free * m)
    bound = 0.5 * jnp.kron(jnp.eye(free, dtype=coef.dtype), grams[-1])
    lifted = jnp.stack([curvature, bound]) + ridge * jnp.eye(free * m, dtype=coef.dtype)
    moves = solve_positive_definite(lifted, jnp.stack([slope, slope]))
    moves = matmul(basis, moves.reshape(2, free, m))
    newton, cautious = coef + moves[0], coef + moves[1]
    slack = 10 * jnp.finfo(coef.dtype).eps * jnp.abs(value)
    # NaN compares as false.
    better = softmax_value(newton, design, targets, ridge) >= value - slack
    cautious = jnp.where(jnp.all(jnp.isfinite(cautious)), cautious, coef)
    return jnp.where(better, newton, cautious)


def one_vs_rest_step(
    coef: Float[Array, "G m"],
    design: Design,
    targets: Float[Array, "G n"],
    mass: Float[Array, " n"],
    ridge: Float[Array, ""],
) -> Float[Array, "G m"]:
    """One step of `G` separate logistic regressions, of each group against the rest.

    Not the maximum of a softmax model's likelihood; kept to reproduce what the released
    code of ROME does.
    """

    def value_of(coef: Array):
        logits = matmul(coef, transpose(design.rows))
        fit = targets * logits - mass * jax.nn.softplus(logits)
        return jnp.sum(fit, 1) - 0.5 * ridge * jnp.sum(coef**2, 1), logits

    value, logits = value_of(coef)
    p = jax.nn.sigmoid(logits)
    slope = matmul(targets - mass * p, design.rows) - ridge * coef
    weights = jnp.stack([mass * p * (1 - p), jnp.broadcast_to(0.25 * mass, p.shape)])
    lifted = weighted_gram(design, weights)
    lifted = lifted + ridge * jnp.eye(coef.shape[1], dtype=coef.dtype)
    moves = solve_positive_definite(lifted, jnp.stack([slope, slope]))
    newton, cautious = coef + moves[0], coef + moves[1]
    slack = 10 * jnp.finfo(coef.dtype).eps * jnp.abs(value)
    better = (value_of(newton)[0] >= value - slack)[:, None]
    cautious = jnp.where(jnp.isfinite(cautious), cautious, coef)
    return jnp.where(better, newton, cautious)
