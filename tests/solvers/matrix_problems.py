"""A log-determinant objective that searches over matrices are tested on."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._pytrees import register_dataclass
from jaxsteer.solvers import Expansion


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Sum:
    """``sum_k tr(P_k x C_k x') / 2 - <aim, x>`` of one matrix, with a weight."""

    precision: jax.Array
    covariance: jax.Array
    aim: jax.Array
    weight: jax.Array

    @property
    def log_weight(self):
        return self.weight[None]

    def pinned_if(self, flag):
        del flag
        return self

    def _spread(self, x):
        return jnp.einsum("kij,jl,klm->im", self.precision, x[0], self.covariance)

    def value(self, x):
        return 0.5 * jnp.sum(self._spread(x) * x[0]) - jnp.sum(self.aim * x[0])

    def gradient(self, x):
        return (self._spread(x) - self.aim)[None]

    def expand(self, left, right):
        def second(e):
            return (
                left.swapaxes(1, 2)
                @ self._spread(left @ e @ right)[None]
                @ (right.swapaxes(1, 2))
            )

        columns = jnp.einsum("kij,im,jm->km", self.precision, left[0], left[0])
        rows = jnp.einsum("kij,mi,mj->km", self.covariance, right[0], right[0])
        gradient = self.gradient(left @ right)
        return Expansion(
            gradient=left.swapaxes(1, 2) @ gradient @ right.swapaxes(1, 2),
            second=second,
            curvature=jnp.einsum("km,kn->mn", columns, rows)[None],
        )


def random_sum(k, d, seed, weight=1.0):
    rng = np.random.default_rng(seed)

    def definite():
        half = rng.normal(size=(k, d, 3 * d))
        return jnp.asarray(half @ np.swapaxes(half, 1, 2) / (3 * d))

    aim = jnp.asarray(rng.normal(size=(d, d)))
    return Sum(definite(), definite(), aim, jnp.asarray(weight, aim.dtype))


def whole(objective, x):
    """The objective with its log-determinant, by JAX's own."""
    return objective.value(x) - objective.weight * jnp.linalg.slogdet(x[0])[1]
