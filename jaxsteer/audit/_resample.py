"""Resampling n rows with replacement, as counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float, Int, Key

__all__ = ["multinomial_counts", "row_multiplicities"]


def row_multiplicities(key: Key[Array, ""], n: int) -> Float[Array, " n"]:
    """Draw n of n rows with replacement; return how often each row came. O(n)."""
    drawn = jax.random.randint(key, (n,), 0, n, dtype=jnp.int32)
    return jnp.zeros(n, float).at[drawn].add(1)


def multinomial_counts(
    key: Key[Array, ""], counts: Int[Array, " C"]
) -> Float[Array, " C"]:
    """Draw the cell counts of as many rows drawn with replacement.

    A chain of conditional binomials: cell c takes its share, `counts[c]` out of all
    that remains, of the draws that remain. The remaining totals are integers, so the
    last cell with rows takes exactly what is left, and an empty cell nothing.

    Args:
        key: randomness.
        counts: rows in each cell; they add up to n.

    Returns:
        Counts that add up to n. Cost O(C) binomials, whatever n is.
    """
    remaining = jnp.cumsum(counts[::-1])[::-1]
    share = counts / jnp.maximum(remaining, 1)

    def draw(left: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        key, share = step
        taken = jnp.clip(jax.random.binomial(key, left, share), 0, left)
        return left - taken, taken

    keys = jax.random.split(key, counts.shape[0])
    _, drawn = jax.lax.scan(draw, remaining[0].astype(float), (keys, share))
    return drawn
