"""Functions over many rows: a chunk at a time, or along the one axis that they have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array


def map_in_chunks(fn: Callable[[Any], Any], rows: Any, width: int) -> Any:
    """Apply a function to every row, `width` rows at a time side by side.

    See :func:`map_chunks`.

    Args:
        fn: A function of one row.
        rows: Pytree of arrays with one leading axis.
        width: Rows that are worked on at one time.

    Returns:
        The values of `fn`, with that leading axis.
    """
    return map_chunks(jax.vmap(fn), rows, width)


def map_chunks(fn: Callable[[Any], Any], rows: Any, width: int) -> Any:
    """Apply a function of `width` rows to all rows.

    Every chunk has the same width, so that `fn` is compiled once and a row's value does
    not depend, to the bit, on how many others there are; what is missing in the last
    chunk is the first row again, whose values are then cut off.

    Args:
        fn: A function of pytrees with `width` rows, to one of as many.
        rows: Pytree of arrays with one leading axis.
        width: Rows that are worked on at one time.

    Returns:
        The values of `fn`, with that leading axis.
    """
    n = jax.tree.leaves(rows)[0].shape[0]
    n_chunks = -(-n // width)

    def fold(leaf: Array):
        rest = jnp.broadcast_to(leaf[:1], (n_chunks * width - n, *leaf.shape[1:]))
        whole = jnp.concatenate([leaf, rest])
        return whole.reshape(n_chunks, width, *leaf.shape[1:])

    def unfold(leaf: Array):
        return leaf.reshape(n_chunks * width, *leaf.shape[2:])[:n]

    found = jax.lax.map(fn, jax.tree.map(fold, rows))
    return jax.tree.map(unfold, found)


def with_one_batch_axis(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Let ``vmap`` lengthen the leading axis that a function has already.

    However deeply ``vmap`` is nested, `fn` sees arrays with one leading axis, the same
    for all, and decides by itself how many rows run side by side.

    Args:
        fn: A function of pytrees of arrays ``[n, ...]`` to a pytree of such.
    """
    wrapped = jax.custom_batching.custom_vmap(fn)

    @wrapped.def_vmap
    def _rule(size: int, batched: list[Any], *args: Any):
        flags, leaves = jax.tree.leaves(list(batched)), jax.tree.leaves(args)
        count = leaves[0].shape[int(flags[0])]

        def join(leaf: Array, is_batched: bool):
            if not is_batched:
                leaf = jnp.broadcast_to(leaf, (size, *leaf.shape))
            return leaf.reshape(size * count, *leaf.shape[2:])

        found = wrapped(*jax.tree.map(join, args, tuple(batched)))
        found = jax.tree.map(
            lambda leaf: leaf.reshape(size, count, *leaf.shape[1:]), found
        )
        return found, jax.tree.map(lambda _: True, found)

    return wrapped
