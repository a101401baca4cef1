"""The order of factorizations in one program."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float

Tree = TypeVar("Tree")


def after(x: Float[Array, "..."], done: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `x` unchanged, but not before all of `done` has been computed.

    Independent batched factorizations run side by side on a CPU, and on few cores they
    can wait for each other for ever. Compilers drop barriers and sums with constant
    zeros; this keeps a dependence that they cannot see through, and that NaN in `done`
    does not cross.
    """
    # A sum, for it takes every entry: one entry of a stack waits for one part of it.
    signal = jnp.sum(jax.lax.stop_gradient(done))
    return x + jnp.where(signal > jnp.inf, 1, 0).astype(x.dtype)


def all_after(tree: Tree, done: Float[Array, "..."]) -> Tree:
    """:func:`after` on every array of a pytree."""
    return jax.tree.map(lambda leaf: after(leaf, done), tree)
