"""Batches of searches, a few problems at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Wide batches of factorizations can wait for each other for ever on a CPU of few cores,
# and a wide batch of searches waits for its slowest member at every step.
WIDTH = 16


def narrow_vmap(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Make ``vmap`` run a function over chunks of at most ``WIDTH`` problems.

    Every chunk is filled up to the same width, so that a problem's answer does not
    depend, to the bit, on how many others there are. Not differentiable.

    Args:
        fn: A function of pytrees of arrays.
    """
    wrapped = jax.custom_batching.custom_vmap(fn)

    @wrapped.def_vmap
    def _rule(axis_size, batched, *args):
        width = WIDTH
        n_chunks = -(-axis_size // width)
        filler = n_chunks * width - axis_size

        def fold(leaf, is_batched):
            if not is_batched:
                return jnp.broadcast_to(leaf, (n_chunks, width, *jnp.shape(leaf)))
            rest = jnp.broadcast_to(leaf[:1], (filler, *leaf.shape[1:]))
            whole = jnp.concatenate([leaf, rest])
            return whole.reshape(n_chunks, width, *leaf.shape[1:])

        def unfold(leaf):
            return leaf.reshape(n_chunks * width, *leaf.shape[2:])[:axis_size]

        folded = jax.tree.map(fold, args, tuple(batched))
        found = jax.lax.map(lambda chunk: jax.vmap(fn)(*chunk), folded)
        found = jax.tree.map(unfold, found)
        return found, jax.tree.map(lambda _: True, found)

    return wrapped
