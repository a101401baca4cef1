"""Random numbers that belong to a row: equal rows get equal ones, whoever asks, whenever.

A row is turned into 32-bit words (those of its values as float64), the words into a
64-bit hash, and the hash into a uniform number by the key's own generator. The hash has
no secret; the key has, so that who does not hold it can neither foretell nor choose a
draw. Nothing depends on the other rows of a call or on their order.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_choice,
    check_key,
    check_same_length,
    is_concrete,
)
from jaxsteer._labels import is_missing
from jaxsteer._single_row import single_uniform, single_value
from jaxsteer._types import Array, ArrayLike, Float, Int, Key

_LANES = (0x9E3779B9, 0x85EBCA6B)


def row_uniform(key: Key[Array, ""], *parts: ArrayLike) -> Float[Array, " n"]:
    """Draw a uniform number for each row from the key and the row alone.

    Args:
        key: The secret; keep one for as long as answers should stay.
        parts: ``[n]`` or ``[n, d]`` arrays that tell rows apart: numbers, or text on the
            host. An integer and the same number as a float are the same.

    Returns:
        ``[n]`` in [0, 1).

    Example:
        >>> rows = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
        >>> draws = row_uniform(jax.random.key(0), rows)
        >>> bool(draws[0] == draws[2]), bool(draws[0] == draws[1])
        (True, False)
    """
    check_same_length(**{f"part {i}": part for i, part in enumerate(parts)})
    numbers = Draw(key, _words(parts))
    alone = numbers.alone()
    return _uniform(numbers) if alone is None else jnp.asarray(alone)


class Draw(NamedTuple):
    """What a number for each row is drawn from, to be read inside a jitted function.

    One dispatch then does for a whole `transport`, which counts where rows come one by
    one.

    Attributes:
        key: The randomness.
        words: ``[n, W]`` what tells rows apart, or None to draw by place.
    """

    key: Key[Array, ""]
    words: Int[ArrayLike, "n W"] | None

    def uniform(self, n: int) -> Float[Array, " n"]:
        """Return ``[n]`` numbers in [0, 1)."""
        if self.words is None:
            return jax.random.uniform(self.key, (n,))

        def one(pair: Array):
            mine = jax.random.fold_in(jax.random.fold_in(self.key, pair[0]), pair[1])
            return jax.random.uniform(mine)

        return jax.vmap(one)(_hash(jnp.asarray(self.words)))

    def alone(self) -> np.ndarray | None:
        """Return the same number ``[1]`` on the host for one row, else None."""
        words = self.words
        if not isinstance(words, np.ndarray) or len(words) != 1:
            return None
        mixed = _scramble(words ^ _salts(words.shape[1]))
        sums = np.add.reduce(mixed, -1, dtype=np.uint32).tolist()
        pair = [_scramble_int(s + lane) for s, lane in zip(sums, _LANES, strict=True)]
        return single_uniform(self.key, *pair)


#: Rows drawn at a time: each needs its kernel row, so memory is CHUNK * atoms.
CHUNK = 65_536


def draw_atoms(
    kernels: Array, values: ArrayLike, rows: ArrayLike, numbers: Draw
) -> Array:
    """Draw an atom for each row by inverting its kernel row's distribution.

    A kernel row is summed from the first atom to the last, here and there in the same
    order, so that one row on the host is answered as among many.

    Args:
        kernels: ``[..., T]`` rows on the simplex.
        values: ``[T]`` what to return for an atom.
        rows: ``[n]`` which kernel row, of the flattened ones, each sample uses.
        numbers: The randomness.

    Returns:
        ``[n]`` of the values; where a row is negative NaN, or -1 of integers.
    """
    size = kernels.shape[-1]
    if not is_concrete(kernels):
        return _drawn(_summed(kernels.reshape(-1, size)), values, rows, numbers)
    table = np.asarray(kernels).reshape(-1, size)
    uniform = numbers.alone() if is_concrete(rows, values) else None
    if uniform is None:
        return _drawn(np.cumsum(table, -1), values, rows, numbers)
    steps = table[rows[0]].cumsum()
    found = np.count_nonzero(steps <= uniform.astype(steps.dtype) * steps[-1])
    return single_value(np.asarray(values)[min(found, size - 1)])


@jax.jit
def _drawn(steps: Array, values: Array, rows: Array, numbers: Draw) -> Array:
    def pick(item: tuple[Array, Array]):
        row, u = item
        atom = jnp.sum(steps[row] <= u * steps[row, -1])
        return values[jnp.minimum(atom, steps.shape[1] - 1)]

    items = rows, numbers.uniform(len(rows)).astype(steps.dtype)
    if len(rows) <= CHUNK:
        drawn = jax.vmap(pick)(items)
    else:
        drawn = jax.lax.map(pick, items, batch_size=CHUNK)
    missing = jnp.nan if jnp.issubdtype(values.dtype, jnp.floating) else -1
    return jnp.where(rows >= 0, drawn, missing)


def _summed(table: Array) -> Array:
    """Cumulative sums of each row, in the order of NumPy's."""

    def add(total: Array, column: Array):
        total = total + column
        return total, total

    start = jnp.zeros(table.shape[0], table.dtype)
    return jax.lax.scan(add, start, table.T)[1].T


def draw_for(key: Key[Array, ""], draw: str, rows: Any, *parts: ArrayLike) -> Draw:
    """Prepare the numbers that a channel's `transport` needs, by place or by row.

    Args:
        key: The randomness.
        draw: "key" or "row".
        rows: What tells rows apart with draw="row", or None to take `parts`.
        parts: ``[n]`` or ``[n, d]`` arrays that the channel itself reads.

    Raises:
        ValueError: On another `draw`, what is no key, or `rows` without draw="row".
    """
    check_choice("draw", draw, ("key", "row"))
    check_key(key)
    if draw == "row":
        if rows is None:
            return Draw(key, _words(parts))
        check_same_length(score=parts[0], rows=rows)
        check_ids("rows", rows)
        return Draw(key, _words((rows,)))
    if rows is not None:
        raise ValueError(
            "rows are given, but draw='key' does not read them; pass draw='row'."
        )
    return Draw(key, None)


def check_ids(name: str, ids: Any) -> None:
    """Raise if some of what tells rows apart is missing: they would share one draw.

    Args:
        name: The argument's name.
        ids: ``[n]`` or ``[n, m]`` numbers or text; nothing is asked inside ``jit``.

    Raises:
        ValueError: If entries are None, NaN or another library's NA.
    """
    if not is_concrete(ids):
        return
    array = np.asarray(ids)
    if array.dtype.kind == "O":
        missing = np.array([is_missing(one) for one in array.ravel().tolist()], bool)
    elif array.dtype.kind in "fmM":
        missing = (array != array).ravel()
    else:
        return
    if missing.any():
        first = int(np.flatnonzero(missing)[0]) // (array.size // len(array))
        raise ValueError(
            f"{name} has {int(missing.sum())} missing entries, the first in row {first}; "
            "rows without an id would share one draw: fill them in, or leave them out."
        )


@jax.jit
def _uniform(draw: Draw) -> Float[Array, " n"]:
    return draw.uniform(0)


def _words(parts: Any) -> Any:
    if is_concrete(*parts):
        return np.concatenate([_host_words(part) for part in parts], 1)
    return jnp.concatenate([_traced_words(jnp.asarray(part)) for part in parts], 1)


def _host_words(part: Any) -> np.ndarray:
    """Words ``[n, 2 d]`` of numbers, or of the hashes of anything else as text."""
    array = np.asarray(part)
    array = array.reshape(len(array), -1)
    if array.dtype.kind in "biuf" or jnp.issubdtype(array.dtype, jnp.floating):
        bits = _float_bits(array)
        if array.dtype.kind in "iu":
            # Integers that no float64 holds keep their own bits.
            wide = array.astype(np.int64)
            exact = (wide >= -(2**53)) & (wide <= 2**53)
            bits = np.where(exact, bits, wide.view(np.uint64))
    else:
        bits = _text_hash(array.astype(str))
    return np.concatenate([bits >> np.uint64(32), bits], 1).astype(np.uint32)


def _text_hash(text: np.ndarray) -> np.ndarray:
    """A 64-bit hash ``[n, d]`` of texts, letter by letter, whatever the array's width."""
    letters = np.ascontiguousarray(text).view(np.uint32).reshape(*text.shape, -1)
    bits = np.full(text.shape, 0x9E3779B97F4A7C15, np.uint64)
    for place in range(letters.shape[-1]):
        letter = letters[..., place]
        # A bijection of what is there so far, for each letter another.
        mixed = (bits ^ letter) * np.uint64(0xBF58476D1CE4E5B9)
        bits = np.where(letter == 0, bits, mixed ^ (mixed >> np.uint64(29)))
    return bits


def _float_bits(array: np.ndarray) -> np.ndarray:
    # Adding 0 turns -0 into 0, which is the same number.
    return np.ascontiguousarray(array.astype(np.float64) + 0.0).view(np.uint64)


def _traced_words(part: Array) -> Int[Array, "n w"]:
    """The same words, in 32-bit arithmetic."""
    part = part.reshape(part.shape[0], -1)
    if part.dtype == jnp.float64:
        bits = jax.lax.bitcast_convert_type(part + 0.0, jnp.uint32)
        return jnp.concatenate([bits[..., 1], bits[..., 0]], 1)
    if jnp.issubdtype(part.dtype, jnp.floating):
        bits = jax.lax.bitcast_convert_type(part.astype(jnp.float32), jnp.uint32)
        sign, magnitude = bits >> 31, bits & 0x7FFFFFFF
        # The exponent's bias is 127 in float32 and 1023 in float64.
        high = (sign << 31) | ((magnitude >> 3) + (896 << 20))
        low, empty = magnitude << 29, magnitude < (1 << 23)
    else:
        value = part.astype(jnp.int32)
        sign = (value < 0).astype(jnp.uint32)
        size = jnp.where(value < 0, -value, value).astype(jnp.uint32)
        zeros = jax.lax.clz(size)
        # The leading 1 moves out of the word: what follows it is the fraction.
        fraction = (size << jnp.minimum(zeros, 31)) << 1
        high = (sign << 31) | ((1054 - zeros) << 20) | (fraction >> 12)
        low, empty = fraction << 20, size == 0
    zero = jnp.uint32(0)
    return jnp.concatenate(
        [jnp.where(empty, zero, high), jnp.where(empty, zero, low)], 1
    )


def _hash(words: Array) -> Array:
    """Two 32-bit sums ``[n, 2]`` of words scrambled by their places."""
    mixed = _scramble(words[:, None, :] ^ _salts(words.shape[1]))
    total = jnp.sum(mixed, -1, dtype=np.uint32)
    return _scramble(total + np.array(_LANES, np.uint32))


@lru_cache(maxsize=64)
def _salts(n_words: int) -> np.ndarray:
    """A word ``[2, W]`` for every lane and place."""
    place = np.arange(n_words, dtype=np.uint32)
    lanes = np.array(_LANES, np.uint32)[:, None]
    return _scramble(place * lanes + np.uint32(1))


def _scramble(word: Any) -> Any:
    """The finalizer of MurmurHash3: a bijection in which every bit moves every other."""
    word = (word ^ (word >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    word = (word ^ (word >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return word ^ (word >> np.uint32(16))


def _scramble_int(word: int) -> int:
    """The same of one number, in Python."""
    word &= 0xFFFFFFFF
    word = (word ^ word >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    word = (word ^ word >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return word ^ word >> 16
