"""Columns brought to unit scale, and weighted Gram matrices of them for many weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float
from jaxsteer.linalg import matmul, transpose

# Products of columns are kept up to this many numbers (160 MB in float32).
MOST_PRODUCTS = 40_000_000


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling:
    """How columns were brought to unit scale, and coefficients are brought back.

    Attributes:
        mean: ``[m]`` what was taken off (0 without an intercept).
        scale: ``[m]`` what was divided by (1 for constant columns).
        intercept: Whether the rows begin with a column of ones.
    """

    mean: Float[Array, " m"]
    scale: Float[Array, " m"]
    intercept: bool = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(
        cls, rows: Float[Array, "n m"], weights: Float[Array, " n"], *, intercept: bool
    ) -> Scaling:
        """Read the scaling off weighted rows."""
        return cls.of_each([rows], weights, intercepts=[intercept])[0]

    @classmethod
    def of_each(
        cls,
        tables: Sequence[Float[Array, "n m"]],
        weights: Float[Array, " n"],
        *,
        intercepts: Sequence[bool],
    ) -> list[Scaling]:
        """Read the scalings of several tables off the same rows, in one pass."""
        widths = [table.shape[1] for table in tables]
        rows = jnp.concatenate(tables, 1)
        share = weights / jnp.sum(weights)
        rough = jnp.mean(rows, 0)
        mean = rough + matmul(share, rows - rough)
        mean = jnp.where(np.repeat(intercepts, widths), mean, 0.0)
        power = matmul(share, (rows - mean) ** 2)
        varies = power > (4 * jnp.finfo(rows.dtype).eps * mean) ** 2
        scale = jnp.where(varies, jnp.sqrt(jnp.where(varies, power, 1.0)), 1.0)
        cuts = np.cumsum(widths)[:-1].tolist()
        parts = zip(jnp.split(mean, cuts), jnp.split(scale, cuts), strict=True)
        return [
            cls(mean=mean, scale=scale, intercept=intercept)
            for (mean, scale), intercept in zip(parts, intercepts, strict=True)
        ]

    def __call__(self, rows: Float[Array, "n m"]) -> Float[Array, "n c"]:
        """Standardize rows, and put the ones before them."""
        scaled = (rows - self.mean) / self.scale
        if not self.intercept:
            return scaled
        ones = jnp.ones((rows.shape[0], 1), scaled.dtype)
        return jnp.concatenate([ones, scaled], 1)

    def to_original(self, coef: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """Coefficients of the rows as they came, from those of standardized rows."""
        if not self.intercept:
            return coef / self.scale
        slopes = coef[..., 1:] / self.scale
        start = coef[..., :1] - jnp.sum(slopes * self.mean, -1, keepdims=True)
        return jnp.concatenate([start, slopes], -1)


class Design(NamedTuple):
    """Rows of one regression, with the products of their columns where they fit.

    Attributes:
        rows: ``[n, m]``.
        products: ``[n, m (m + 1) / 2]`` products of column pairs, or None.
    """

    rows: Float[Array, "n m"]
    products: Float[Array, "n t"] | None


def make_design(rows: Float[Array, "n m"]) -> Design:
    """Prepare rows for :func:`weighted_gram`."""
    n, m = rows.shape
    if n * m * (m + 1) // 2 > MOST_PRODUCTS:
        return Design(rows, None)
    first, second = np.triu_indices(m)
    return Design(rows, rows[:, first] * rows[:, second])


def weighted_gram(
    design: Design, weights: Float[Array, "... n"]
) -> Float[Array, "... m m"]:
    """``sum_i w_i x_i x_i'`` for every vector of weights.

    With the products at hand this is one matrix product for all weights together,
    restarts under ``vmap`` included, which is what makes many starts cheap.
    """
    m = design.rows.shape[1]
    if design.products is not None:
        index = np.zeros((m, m), int)
        first, second = np.triu_indices(m)
        index[first, second] = index[second, first] = np.arange(len(first))
        return matmul(weights, design.products)[..., index]
    flat = weights.reshape(-1, weights.shape[-1])
    rows = design.rows
    found = jax.lax.map(lambda w: matmul(transpose(rows) * w, rows), flat)
    return found.reshape(*weights.shape[:-1], m, m)
