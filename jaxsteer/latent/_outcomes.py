"""What an outcome's law is given its group, and how one M-step fits it."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, DTypeLike, Float, Int
from jaxsteer.latent._design import Design, weighted_gram
from jaxsteer.latent._logistic import softmax_step
from jaxsteer.linalg import (
    HALF_LOG_2PI,
    matmul,
    solve_positive_definite,
    transpose,
)


class Params(NamedTuple):
    """Parameters of the mixture, in standardized units.

    Attributes:
        membership: ``[G, c_s]`` coefficients of the group's log-odds.
        coef: ``[G, c_x]``, or ``[G, C, c_x]`` for classes, of the outcome.
        variance: ``[G]`` of a normal outcome's noise (1 for classes).
    """

    membership: Float[Array, "G cs"]
    coef: Float[Array, "G ..."]
    variance: Float[Array, " G"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalOutcome:
    """``Y | x, group j ~ N(w_j' x, v_j)``.

    Attributes:
        variance: "common", "group", or "fixed" (as it was at the start).
        floor: Least variance, relative to that of all outcomes.
    """

    variance: str = "common"
    floor: float = 1e-6

    def zeros(self, n_groups: int, width: int, dtype: DTypeLike) -> Array:
        """Coefficients to start from."""
        return jnp.zeros((n_groups, width), dtype)

    def log_prob(
        self, params: Params, design: Design, y: Float[Array, " n"]
    ) -> Float[Array, "G n"]:
        """Log-density of every outcome in every group."""
        gap = y - matmul(params.coef, transpose(design.rows))
        variance = params.variance[:, None]
        return -0.5 * gap**2 / variance - 0.5 * jnp.log(variance) - HALF_LOG_2PI

    def penalty(self, params: Params, ridge: Float[Array, ""]) -> Float[Array, ""]:
        """What the ridge takes off the log-likelihood."""
        return 0.5 * ridge * jnp.sum(params.coef**2 / params.variance[:, None])

    def fit(
        self,
        params: Params,
        design: Design,
        y: Float[Array, " n"],
        theta: Float[Array, "G n"],
        ridge: Float[Array, ""],
        *,
        damping: Float[Array, ""],
        steps: Int[Array, ""],
    ) -> Params:
        """Weighted least squares, then the variance: an exact M-step."""
        del steps
        eye = jnp.eye(design.rows.shape[1], dtype=y.dtype)
        gram = weighted_gram(design, theta) + ridge * eye
        best = solve_positive_definite(gram, matmul(theta * y, design.rows))
        usable = jnp.all(jnp.isfinite(best), 1, keepdims=True)
        best = jnp.where(usable, best, params.coef)
        coef = params.coef + damping * (best - params.coef)
        variance = params.variance
        if self.variance != "fixed":
            gap = y - matmul(coef, transpose(design.rows))
            loss = jnp.sum(theta * gap**2, 1) + ridge * jnp.sum(coef**2, 1)
            mass = jnp.sum(theta, 1)
            if self.variance == "common":
                loss, mass = jnp.sum(loss)[None], jnp.sum(mass)[None]
            tiny = jnp.finfo(y.dtype).tiny
            variance = jnp.maximum(loss / jnp.maximum(mass, tiny), self.floor)
            variance = jnp.broadcast_to(variance, params.variance.shape)
        return params._replace(coef=coef, variance=variance)

    def mean(self, coef: Float[Array, "G c"], rows: Array) -> Float[Array, "G n"]:
        """Expected outcome in every group."""
        return matmul(coef, transpose(rows))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassOutcome:
    """``P(Y = c | x, group j) = softmax_c(W_j x)``; rows of ``W_j`` sum to zero.

    Attributes:
        n_classes: Number of classes ``C``.
    """

    n_classes: int

    def zeros(self, n_groups: int, width: int, dtype: DTypeLike) -> Array:
        """Coefficients to start from."""
        return jnp.zeros((n_groups, self.n_classes, width), dtype)

    def log_prob(
        self, params: Params, design: Design, y: Float[Array, "C n"]
    ) -> Float[Array, "G n"]:
        """Log-probability of every outcome (one-hot, ``[C, n]``) in every group."""
        logits = matmul(params.coef, transpose(design.rows))
        return jnp.sum(y * jax.nn.log_softmax(logits, 1), 1)

    def penalty(self, params: Params, ridge: Float[Array, ""]) -> Float[Array, ""]:
        """What the ridge takes off the log-likelihood."""
        return 0.5 * ridge * jnp.sum(params.coef**2)

    def fit(
        self,
        params: Params,
        design: Design,
        y: Float[Array, "C n"],
        theta: Float[Array, "G n"],
        ridge: Float[Array, ""],
        *,
        damping: Float[Array, ""],
        steps: Int[Array, ""],
    ) -> Params:
        """Newton steps of a multinomial logistic regression in every group."""

        def improve(_, coef: Array):
            def one(own: Array, share: Array):
                return softmax_step(own, design, share * y, ridge)

            return jax.vmap(one)(coef, theta)

        best = jax.lax.fori_loop(0, steps, improve, params.coef)
        coef = params.coef + damping * (best - params.coef)
        return params._replace(coef=coef)

    def mean(self, coef: Float[Array, "G C c"], rows: Array) -> Float[Array, "G C n"]:
        """Probability of every class in every group."""
        return jax.nn.softmax(matmul(coef, transpose(rows)), 1)


Outcome = NormalOutcome | ClassOutcome
