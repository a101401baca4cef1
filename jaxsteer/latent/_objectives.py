"""What training minimizes, given the loss of every row.

Each objective holds its settings only. What it learns beside the model (an adversary)
and what it remembers (weights of groups) is handed in and out.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float, Int


class RowLosses(NamedTuple):
    """A batch, as objectives see it.

    Attributes:
        losses: ``[n]`` of the rows.
        gates: ``[n, K]`` the gate's shares.
        weights: ``[n]`` sample weights, 0 for padding.
        group: ``[n]`` known groups, 0 where there are none.
        inputs: ``[n, c]`` columns and outcome, for an adversary.
    """

    losses: Float[Array, " n"]
    gates: Float[Array, "n K"]
    weights: Float[Array, " n"]
    group: Int[Array, " n"]
    inputs: Float[Array, "n c"]


def mean_loss(rows: RowLosses) -> Float[Array, ""]:
    """Weighted mean."""
    total = jnp.sum(rows.weights)
    return jnp.sum(rows.weights * rows.losses) / jnp.where(total > 0, total, 1.0)


def part_losses(
    rows: RowLosses, shares: Float[Array, "n K"]
) -> tuple[Float[Array, " K"], Array]:
    """Mean loss of every part, and which parts have rows."""
    weights = rows.weights[:, None] * shares
    mass = jnp.sum(weights, 0)
    filled = mass > 0
    total = jnp.sum(weights * rows.losses[:, None], 0)
    return total / jnp.where(filled, mass, 1.0), filled


@dataclasses.dataclass(frozen=True, kw_only=True)
class Average:
    """The mean loss: empirical risk minimization."""

    def start(self, key: Any, n_inputs: int, n_groups: int) -> tuple[Any, Any]:
        """What is learned beside the model, and what is remembered."""
        del key, n_inputs, n_groups
        return (), ()

    def loss(self, rows: RowLosses, learned: Any, memory: Any) -> tuple[Array, Any]:
        """The loss of a batch, and the memory after it."""
        del learned
        return mean_loss(rows), memory

    def score(self, rows: RowLosses) -> Array:
        """What early stopping watches on the validation rows; less is better."""
        return mean_loss(rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorstExpert(Average):
    """``(1 - alpha) mean loss + alpha max_k (loss of expert k's rows)``.

    Attributes:
        alpha: Weight of the worst expert.
        assignment: Whose a row is: "hard" its largest gate's, "soft" every expert's by
            its share where that is above `least`. Neither is differentiated.
        least: Shares up to this count as none ("soft").
    """

    alpha: float = 0.05
    assignment: str = "hard"
    least: float = 0.1

    def loss(self, rows: RowLosses, learned: Any, memory: Any) -> tuple[Array, Any]:
        """The loss of a batch; experts without rows are left out."""
        del learned
        return self.score(rows), memory

    def score(self, rows: RowLosses) -> Array:
        """The same on validation rows."""
        gates = jax.lax.stop_gradient(rows.gates)
        if self.assignment == "hard":
            shares = jax.nn.one_hot(jnp.argmax(gates, 1), gates.shape[1])
        else:
            shares = jnp.where(gates > self.least, gates, 0.0)
        parts, filled = part_losses(rows, shares.astype(rows.losses.dtype))
        worst = jnp.max(jnp.where(filled, parts, -jnp.inf))
        worst = jnp.where(jnp.any(filled), worst, 0.0)
        return (1 - self.alpha) * mean_loss(rows) + self.alpha * worst


Objective = Average
