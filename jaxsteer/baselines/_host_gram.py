"""Products ``X'X`` of long matrices on a CPU, outside of ``jit``.

Half of the entries of a symmetric product are enough, and BLAS has a routine that
computes only those; XLA has none for CPUs. Where values are concrete and live on the
host, moments are therefore taken here, in one pass over chunks of rows that are centered
in a buffer; everywhere else the baselines use their traceable forms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxsteer._errors import is_concrete

CHUNK = 8192  # rows; the buffer stays small against the data


def on_host(*arrays: Any) -> bool:
    """Tell whether the values are concrete and in the memory of the host."""

    def here(array: Any) -> bool:
        if not isinstance(array, jax.Array):
            return True
        return array.is_fully_addressable and all(
            device.platform == "cpu" for device in array.devices()
        )

    return is_concrete(*arrays) and all(here(array) for array in arrays)


def origin_of(rows: np.ndarray) -> np.ndarray:
    """A point near the mean, from about a thousand rows: sums about it keep digits."""
    step = max(1, rows.shape[0] // 1024)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.mean(rows[::step].astype(np.float64), 0)


def host_gram(
    fill: Callable[[int, int, np.ndarray], None],
    n: int,
    width: int,
    dtype: Any,
    right: Callable[[int, int], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum ``B'B`` and ``B'R`` over the chunks of tall matrices that are never held.

    Args:
        fill: ``fill(start, stop, out)`` writes the rows ``start..stop`` of ``B`` into
            `out`, ``[stop - start, width]``.
        n: Number of rows.
        width: Number of columns of ``B``.
        dtype: float32 or float64, of the chunks and their products; the sums over
            chunks are float64.
        right: ``right(start, stop)`` returns those rows of ``R``; None has no columns.

    Returns:
        ``[width, width]`` and ``[width, m]``, both float64.
    """
    size = min(n, CHUNK)
    buffer, part = np.empty((size, width), dtype), np.empty((width, width), dtype)
    gram, cross = np.zeros((width, width)), None
    for start in range(0, n, size):
        stop = min(start + size, n)
        rows = buffer[: stop - start]
        fill(start, stop, rows)
        # The caller sees infinities in the sums, and says what they come from.
        with np.errstate(over="ignore", invalid="ignore"):
            # NumPy recognizes a matrix and its own transpose: half of the products.
            gram += np.matmul(rows.T, rows, out=part)
            if right is not None:
                product = (rows.T @ right(start, stop)).astype(np.float64)
                cross = product if cross is None else cross + product
    return gram, np.zeros((width, 0)) if cross is None else cross


def working_dtype(x: Any) -> np.dtype:
    """The precision that sums are taken in: JAX's for these values, at least float32."""
    dtype = jax.dtypes.canonicalize_dtype(np.asarray(x).dtype)
    if not jax.numpy.issubdtype(dtype, jax.numpy.floating):
        return np.dtype(jax.numpy.result_type(float))
    return np.dtype(jax.numpy.promote_types(dtype, np.float32))
