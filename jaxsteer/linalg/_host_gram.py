"""Products ``X'X`` of long matrices on a CPU, outside of ``jit``.

Half of the entries of a symmetric product are enough, and BLAS has a routine that
computes only those; XLA has none for CPUs. Where values are concrete and live on the
host, moments are therefore taken here, in one pass over chunks of rows, which are
centered in a buffer where that saves digits; everywhere else the baselines use their
traceable forms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxsteer._errors import is_concrete

CHUNK = 4096  # rows; the buffer stays small against the data


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
    """A point to take sums about, from about a thousand rows, so that they keep digits.

    Near the mean; zero where no mean is larger than twice its feature's deviation: sums
    about zero then lose two bits, and the rows need not be centered.
    """
    step = max(1, rows.shape[0] // 1024)
    some = rows[::step].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.mean(some, 0)
        near = np.abs(mean) <= 2 * np.std(some, 0)
    return np.zeros_like(mean) if near.all() else mean


def host_gram(
    chunk: Callable[[int, int, np.ndarray], np.ndarray],
    n: int,
    width: int,
    dtype: Any,
    right: Callable[[int, int], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum ``B'B`` and ``B'R`` over the chunks of tall matrices that are never held.

    Args:
        chunk: ``chunk(start, stop, buffer)`` returns the rows ``start..stop`` of ``B``,
            written into `buffer`, ``[stop - start, width]``, or in a place of their own.
        n: Number of rows.
        width: Number of columns of ``B``.
        dtype: float32 or float64, of the chunks and their products; the sums over
            chunks are float64.
        right: ``right(start, stop)`` returns those rows of ``R``; None has no columns.

    Returns:
        ``[width, width]`` and ``[width, m]``, both float64.
    """
    # SciPy's, not NumPy's own: jaxlib calls the same library, and its threads, which
    # wait actively for a while, would slow the factorizations of another one that follow.
    from scipy.linalg.blas import get_blas_funcs

    half_product, product = get_blas_funcs(("syrk", "gemm"), dtype=dtype)
    size = min(n, CHUNK)
    buffer, part = np.empty((size, width), dtype), np.zeros((width, width), dtype, "F")
    gram, cross = np.zeros((width, width)), None
    for start in range(0, n, size):
        stop = min(start + size, n)
        rows = chunk(start, stop, buffer[: stop - start])
        # The caller sees infinities in the sums, and says what they come from.
        with np.errstate(over="ignore", invalid="ignore"):
            part = half_product(1.0, rows.T, c=part, overwrite_c=True)
            gram += part.T
            if right is not None:
                # The narrow side first: a fifth of the whole time less.
                mixed = product(1.0, right(start, stop).T, rows.T, trans_b=True).T
                cross = mixed.astype(np.float64) + (0.0 if cross is None else cross)
    with np.errstate(invalid="ignore"):
        gram += np.tril(gram, -1).T
    return gram, np.zeros((width, 0)) if cross is None else cross


def working_dtype(x: Any) -> np.dtype:
    """The precision that sums are taken in: JAX's for these values, at least float32."""
    dtype = jax.dtypes.canonicalize_dtype(np.asarray(x).dtype)
    if not jax.numpy.issubdtype(dtype, jax.numpy.floating):
        return np.dtype(jax.numpy.result_type(float))
    return np.dtype(jax.numpy.promote_types(dtype, np.float32))
