"""Cholesky factors of many small matrices at once, by elimination without LAPACK."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg._matmul import identity_like, transpose


def eliminate(
    a: Float[Array, "n d d"], inverse: bool
) -> tuple[Float[Array, "n d d"], Float[Array, "n d d"] | None]:
    """Lower Cholesky factors of symmetric matrices, and their inverses if wanted.

    ``[A I]`` becomes ``[L' L^-1]``, a row at a time, every operation on the whole batch:
    O(n d^3), but with twice the arithmetic of LAPACK. NaN where a matrix is not positive
    definite.
    """
    d = a.shape[-1]
    index = jnp.arange(d)
    if inverse:
        a = jnp.concatenate([a, identity_like(a)], -1)

    def step(j, rows):
        row = jax.lax.dynamic_index_in_dim(rows, j, 1, keepdims=False)
        column = jax.lax.dynamic_index_in_dim(rows, j, 2, keepdims=False)
        pivot = jax.lax.dynamic_index_in_dim(row, j, 1)
        root = jnp.sqrt(jnp.where(pivot > 0, pivot, jnp.nan))
        row = (row / root)[:, None]
        below = jnp.where((index > j)[None], column / root, 0)[..., None]
        return jnp.where((index == j)[None, :, None], row, rows - below * row)

    rows = jax.lax.fori_loop(0, d, step, a)
    # A pivot that is not positive makes all that comes after it NaN.
    failed = jnp.isnan(rows[:, -1:, d - 1 : d])
    rows = jnp.where(failed, jnp.nan, rows)
    factor = jnp.tril(transpose(rows[..., :d]))
    return factor, rows[..., d:] if inverse else None
