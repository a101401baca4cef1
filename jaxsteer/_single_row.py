"""The draw of a single row on the host: what a service asks, one person a call.

A jitted call hands its arguments to a device and wakes a thread, which for one row takes
longer than the draw itself. So its number is computed here, in integers, bit for bit as
``jax.random`` computes it by its default generator, Threefry-2x32 with 20 rounds (Salmon
et al. 2011). Whether that is so is asked of JAX once; where it is not, and for other
generators, the jitted way stands.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import is_concrete

_WORD = 0xFFFFFFFF
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24)) * 2 + ((13, 15, 26, 6),)

# The key of the last call and its words, which take as long to read as the draw: None
# for keys of another generator.
_last: tuple[Any, tuple[int, int] | None] = (lambda: None, None)


def single_uniform(key: Any, first: int, second: int) -> np.ndarray | None:
    """Return ``uniform(fold_in(fold_in(key, first), second))``, in this precision.

    Args:
        key: The key.
        first: A word of 32 bits.
        second: Another.

    Returns:
        ``[1]``, or None where JAX has to draw it.
    """
    words = _key_words(key)
    wide = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
    if words is None or not _agrees(wide):
        return None
    return _uniform(words, first, second, wide)


def single_value(value: np.generic) -> jax.Array:
    """Return one number as a JAX array ``[1]``.

    A channel has few answers, so those of the last calls are kept: to make one takes
    longer than to find it.
    """
    config: Any = jax.config
    place = config.jax_default_device, config.jax_enable_x64
    found = _made(value.item(), value.dtype, place)
    if found.is_deleted():
        # Given away, as to a function that donates its arguments.
        _made.cache_clear()
        found = _made(value.item(), value.dtype, place)
    return found


@functools.lru_cache(maxsize=4096)
def _made(value: float, dtype: Any, place: Any) -> jax.Array:
    with jax.ensure_compile_time_eval():
        return jnp.asarray(np.array([value], dtype))


def _uniform(words: tuple[int, int], first: int, second: int, wide: bool) -> np.ndarray:
    mine = _threefry(*_threefry(*words, 0, first), 0, second)
    high, low = _threefry(*mine, 0, 0)
    # The fraction of a number from 1 to 2.
    if wide:
        bits = (high << 32 | low) >> 12 | 0x3FF0000000000000
        return np.array([bits], np.uint64).view(np.float64) - 1
    bits = (high ^ low) >> 9 | 0x3F800000
    return np.array([bits], np.uint32).view(np.float32) - np.float32(1)


def _threefry(key0: int, key1: int, x0: int, x1: int) -> tuple[int, int]:
    """Scramble two words by the two of a key."""
    keys = key0, key1, key0 ^ key1 ^ 0x1BD11BDA
    x0, x1 = x0 + key0 & _WORD, x1 + key1 & _WORD
    for turn, rotations in enumerate(_ROTATIONS, 1):
        for by in rotations:
            x0 = x0 + x1 & _WORD
            x1 = (x1 << by | x1 >> 32 - by) & _WORD ^ x0
        x0 = x0 + keys[turn % 3] & _WORD
        x1 = x1 + keys[(turn + 1) % 3] + turn & _WORD
    return x0, x1


def _key_words(key: Any) -> tuple[int, int] | None:
    global _last
    held, words = _last
    if held() is key:
        return words
    if not is_concrete(key) or not isinstance(key, jax.Array):
        return None
    words = None
    is_key = jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()
    if is_key and str(jax.random.key_impl(key)) == "threefry2x32":
        with jax.ensure_compile_time_eval():
            first, second = np.asarray(jax.random.key_data(key)).tolist()
        words = first, second
    _last = weakref.ref(key), words
    return words


@functools.lru_cache(maxsize=2)
def _agrees(wide: bool) -> bool:
    """Ask JAX whether these are its numbers."""
    pair = (0x9E3779B9, 7)
    with jax.ensure_compile_time_eval():
        key = jax.random.key(3, impl="threefry2x32")
        first, second = np.asarray(jax.random.key_data(key)).tolist()
        drawn = np.asarray(jax.random.uniform(functools.reduce(_fold, pair, key)))
    return bool(_uniform((first, second), *pair, wide) == drawn)


def _fold(key: Any, word: int) -> Any:
    return jax.random.fold_in(key, np.uint32(word))
