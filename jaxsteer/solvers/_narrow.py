"""Batches of searches, a few problems at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._chunks import map_in_chunks

# A wide batch of searches waits for its slowest member at every step.
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
        def spread(leaf, is_batched):
            shape = (axis_size, *jnp.shape(leaf))
            return leaf if is_batched else jnp.broadcast_to(leaf, shape)

        rows = jax.tree.map(spread, args, tuple(batched))
        found = map_in_chunks(lambda row: fn(*row), rows, WIDTH)
        return found, jax.tree.map(lambda _: True, found)

    return wrapped
