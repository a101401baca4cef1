"""Batches of iterative searches: hard problems do not hold the easy ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._chunks import map_chunks, with_one_batch_axis
from jaxsteer._types import Array
from jaxsteer._varying import vary_together

NUMBERS = 2**12  # numbers of the largest leaf that are worked on side by side
WIDEST = 16
LARGE = 2**20  # numbers of a leaf from which on memory counts more than kernels
FEW_CHUNKS = 4  # of lanes that run to their ends: what rounds would save is little
FIRST_ROUND = 32  # iterations of each lane before the unfinished are gathered again


def lane_width(rows: Any, n: int) -> int:
    """How many of `n` problems run side by side.

    Small problems share the cost of each operation; large ones only wait for the
    slowest of them.
    """
    largest = max(leaf.size for leaf in jax.tree.leaves(rows)) // n
    return max(1, min(n, WIDEST, NUMBERS // max(largest, 1)))


def _held_as(dtype: Any) -> np.dtype[Any]:
    return np.dtype(np.int32 if dtype == np.bool_ else dtype)


class Packing(NamedTuple):
    """A pytree as few arrays: loops carry, select and gather these at once.

    Compilers make a kernel of every array that a loop carries: with some thirty leaves
    these are most of a program.
    """

    tree: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]

    @classmethod
    def of(cls, example: Any) -> Packing:
        leaves, tree = jax.tree.flatten(example)
        return cls(
            tree, tuple(jnp.shape(x) for x in leaves), tuple(x.dtype for x in leaves)
        )

    def pack(self, value: Any) -> dict[str, Array]:
        """One vector for each dtype; truth values count as integers."""
        parts: dict[str, list[Array]] = {}
        for leaf, dtype in zip(jax.tree.leaves(value), self.dtypes, strict=True):
            wide = _held_as(dtype)
            parts.setdefault(wide.name, []).append(leaf.astype(wide).ravel())
        return {name: jnp.concatenate(part) for name, part in parts.items()}

    def unpack(self, packed: dict[str, Array]) -> Any:
        """The pytree again."""
        used = dict.fromkeys(packed, 0)
        leaves = []
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            name = _held_as(dtype).name
            size = int(np.prod(shape))
            part = jax.lax.slice_in_dim(packed[name], used[name], used[name] + size)
            used[name] += size
            leaves.append(part.reshape(shape).astype(dtype))
        return jax.tree.unflatten(self.tree, leaves)


def run_in_lanes(
    begin: Callable[[Any], Any],
    advance: Callable[[Any, Any], Any],
    finish: Callable[[Any], Any],
    problem: Any,
) -> Any:
    """Iterate ``state = advance(state, problem)`` until ``state.done``.

    Under ``vmap``, however deeply nested, small problems run some at a time side by
    side: few problems each chunk to its end, more for a number of iterations that grows
    from round to round, in each of which only the unfinished ones take part. Large
    problems run one after the other. One compiled body serves all of them, and a
    problem's answer does not depend on the others. Not differentiable.

    Args:
        begin: From a problem to its first state, a pytree with an entry ``done`` ``[]``.
        advance: One iteration.
        finish: From the last state to the result.
        problem: Pytree of arrays.
    """
    problem = vary_together(jax.tree.map(jnp.asarray, problem))
    packing = Packing.of(jax.eval_shape(begin, problem))
    inputs = Packing.of(problem)

    def ended(packed: dict[str, Array]) -> Array:
        return jax.vmap(lambda packed: packing.unpack(packed).done)(packed)

    @partial(jax.jit, inline=True)
    def one(packed: dict[str, Array], row: Any):
        return packing.pack(advance(packing.unpack(packed), row))

    # Traced once for rows of one shape: a rule for vmap is asked for after the function
    # that it replaces has been traced.
    @partial(jax.jit, inline=True)
    def iterate(packed: dict[str, Array], rows: Any, limit: Array):
        """Advance rows until each is done, or `limit` times."""

        def unfinished(carry: tuple[dict[str, Array], Array]):
            packed, count = carry
            return jnp.any(~ended(packed)) & (count < limit)

        def body(carry: tuple[dict[str, Array], Array]) -> Any:
            packed, count = carry
            moved = jax.vmap(one)(packed, rows)
            done = ended(packed)
            if done.shape[0] > 1:
                moved = _select(done, packed, moved)
            return moved, count + 1

        carry = vary_together((packed, jnp.zeros_like(limit)), limit)
        return jax.lax.while_loop(unfinished, body, carry)[0]

    def in_rounds(packed: dict[str, Array], rows: dict[str, Array], width: int):
        """Rounds over the unfinished rows, `width` at a time."""
        n = len(jax.tree.leaves(packed)[0])

        def arrange(done: Array):
            order = jnp.argsort(done, stable=True).astype(jnp.int32)
            return order, jnp.sum(~done, dtype=jnp.int32)

        def body(carry: tuple[dict[str, Array], tuple[Array, Array], Array, Array]):
            packed, (order, left), position, limit = carry
            # Lanes beyond the unfinished rows have some that are done, which stay as they
            # are; beyond the last row the first ones, which go on: none is there twice.
            index = order[(position + jnp.arange(width, dtype=jnp.int32)) % n]
            taken, own = jax.tree.map(lambda leaf: leaf[index], (packed, rows))
            moved = iterate(taken, jax.vmap(inputs.unpack)(own), limit)
            packed = jax.tree.map(
                lambda leaf, new: leaf.at[index].set(new, unique_indices=True),
                packed,
                moved,
            )
            position = position + width
            again = position >= left
            arranged = choose(again, arrange(ended(packed)), (order, left))
            position = jnp.where(again, 0, position)
            return packed, arranged, position, jnp.where(again, 2 * limit, limit)

        zero = jnp.sum(ended(packed), dtype=jnp.int32) * 0
        arranged = jnp.arange(n, dtype=jnp.int32) + zero, zero + n
        carry = vary_together((packed, arranged, zero, zero + FIRST_ROUND))
        return jax.lax.while_loop(lambda carry: carry[1][1] > 0, body, carry)[0]

    def alone(row: Any):
        """One large problem: nothing of its state is held twice."""
        start = vary_together(begin(row))
        state = jax.lax.while_loop(
            lambda state: ~state.done, lambda state: advance(state, row), start
        )
        return finish(state)

    def run_rows(rows: Any) -> Any:
        n = jax.tree.leaves(rows)[0].shape[0]
        if max(leaf.size for leaf in jax.tree.leaves(rows)) >= n * LARGE:
            if n > 1:
                return jax.lax.map(alone, rows)
            first = alone(jax.tree.map(lambda leaf: leaf[0], rows))
            return jax.tree.map(lambda leaf: leaf[None], first)
        packed = jax.vmap(lambda row: packing.pack(begin(row)))(rows)
        width = lane_width(rows, n)
        most = jnp.sum(ended(packed), dtype=jnp.int32) * 0 + np.iinfo(np.int32).max
        if n == 1:
            packed = iterate(packed, rows, most)
        elif n <= FEW_CHUNKS * width:

            def to_its_end(chunk: tuple[dict[str, Array], dict[str, Array]]) -> Any:
                return iterate(chunk[0], jax.vmap(inputs.unpack)(chunk[1]), most)

            both = packed, jax.vmap(inputs.pack)(rows)
            packed = map_chunks(to_its_end, both, width)
        else:
            packed = in_rounds(packed, jax.vmap(inputs.pack)(rows), width)
        return jax.vmap(lambda packed: finish(packing.unpack(packed)))(packed)

    many = with_one_batch_axis(run_rows)

    # Derivatives must not go through the rule: it would carry the search itself along
    # every axis of the tangents.
    rows = jax.tree.map(lambda leaf: leaf[None], jax.lax.stop_gradient(problem))
    return jax.tree.map(lambda leaf: leaf[0], many(rows))


def choose(flag: Array, one: Any, other: Any) -> Any:
    """One pytree where the flag holds, the other elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), one, other)


def _select(flags: Array, new: Any, old: Any) -> Any:
    """Rows of `new` where the flag holds, of `old` elsewhere."""

    def pick(a: Array, b: Array):
        return jnp.where(flags.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)
