"""Linear probes: multinomial logistic regression by L-BFGS, compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import matmul
from jaxsteer.solvers import Reparametrized

SOLVER = Reparametrized(max_steps=200)


class Rows(NamedTuple):
    """What a probe is fitted to.

    Attributes:
        x: ``[n, d]`` features, of about unit scale.
        hot: ``[n, k]`` one-hot classes.
        share: ``[n]`` weights that sum to 1.
        l2: ``[]`` half of it times the squared coefficients is added to the mean loss.
    """

    x: Float[Array, "n d"]
    hot: Float[Array, "n k"]
    share: Float[Array, " n"]
    l2: Float[Array, ""]


def scores(coef: Float[Array, "k m"], x: Float[Array, "n d"]) -> Float[Array, "n k"]:
    """Class scores; a column of `coef` beyond the features is an intercept."""
    d = x.shape[1]
    found = matmul(x, coef[:, :d].T)
    return found + coef[:, d] if coef.shape[1] > d else found


def loss(coef: Float[Array, "k m"], rows: Rows) -> Float[Array, ""]:
    """Mean logistic loss in nats, with the penalty; the intercept is free."""
    logs = jax.nn.log_softmax(scores(coef, rows.x), -1)
    size = jnp.sum(coef[:, : rows.x.shape[1]] ** 2)
    return -jnp.sum(rows.share[:, None] * rows.hot * logs) + 0.5 * rows.l2 * size


def fit_probe(rows: Rows, *, intercept: bool, solver: Any = SOLVER) -> Array:
    """Return the coefficients ``[k, d]``, or ``[k, d + 1]`` with intercepts."""
    k, d = rows.hot.shape[1], rows.x.shape[1]
    start = jnp.zeros((k, d + intercept), rows.x.dtype)
    return solver.run(loss, start, rows, differentiate="none").x
