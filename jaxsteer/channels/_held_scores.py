"""Scores on the host, in the precision in which they came.

JAX cuts float64 to float32 unless it is told not to. Ranks taken after that are wrong
for scores that differ in a late digit (an offset of 1e6, posteriors near 1) and missing
for those beyond float32's range, so every comparison with bin edges or knots that can be
made on the host is made there in float64, which holds every narrower type exactly.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_finite

#: Integers up to here are floats without loss.
_EXACT = 2**53


def held_scores(name: str, score: Any) -> np.ndarray:
    """Return concrete scores as float64, all finite and none rounded.

    Args:
        name: The argument's name, for messages.
        score: Real numbers of any type of at most 64 bits.

    Raises:
        ValueError: On text and objects, wider types, integers beyond 2^53, and values
            that are not finite.

    Example:
        >>> held_scores("score", np.array([2**24, 2**24 + 1])).tolist()
        [16777216.0, 16777217.0]
    """
    array = np.asarray(score)
    is_integer = array.dtype.kind in "biu"
    is_float = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize <= 8
    if not (is_integer or is_float):
        raise ValueError(
            f"{name} must hold real numbers of at most 64 bits, got dtype "
            f"{array.dtype}; convert it first, as with numpy.asarray({name}, float)."
        )
    if is_integer and array.size and array.dtype.itemsize == 8:
        low, high = int(array.min()), int(array.max())
        if max(-low, high) > _EXACT:
            raise ValueError(
                f"{name} has integers from {low} to {high}; beyond 2^53 neighbours "
                f"cannot be told apart: subtract an offset, or pass ranks."
            )
    check_finite(name, array)
    return array.astype(np.float64)


def in_precision_of(score: Any, fitted: Any) -> np.ndarray:
    """Return fitted scores as float64, rounded as `score` is.

    A float32 copy of a score that was fitted in float64 then meets its own edge.
    """
    dtype = np.asarray(score).dtype
    held = np.asarray(fitted, np.float64)
    if dtype.kind in "biu" or dtype.itemsize >= 8:
        return held
    with np.errstate(over="ignore"):
        return held.astype(dtype).astype(np.float64)


def traced_precision(score: Any, default: Any) -> Any:
    """Return the dtype in which traced scores are compared: theirs, if it is a float."""
    dtype = jnp.result_type(score)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.dtype(default)
