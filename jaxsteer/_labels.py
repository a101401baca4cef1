"""Names to codes and back: any integers or strings outside, ``0..size-1`` inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import ColumnLike


def encode_labels(
    values: ColumnLike, *, names: Sequence[object] | None = None, what: str = "values"
) -> tuple[np.ndarray, tuple[object, ...]]:
    """Turn labels of any kind into codes ``0..size-1``.

    Args:
        values: ``[n]`` integers, strings or booleans, contiguous or not.
        names: The names in the order of their codes, as a previous call returned them;
            None takes the sorted distinct values.
        what: What the values are, for messages.

    Returns:
        The codes, ``[n]`` int32, and the names in the order of the codes.

    Raises:
        ValueError: If a value is missing, or is not one of `names`, or a name is
            there twice.

    Example:
        >>> codes, names = encode_labels(["b", "a", "b"])
        >>> codes.tolist(), names
        ([1, 0, 1], ('a', 'b'))
    """
    array = np.asarray(values)
    if array.dtype.kind in "US" and not hasattr(values, "dtype"):
        # NumPy would write numbers and missing values among strings as strings.
        array = np.asarray(values, object)
    if array.ndim != 1:
        raise ValueError(f"{what} must have shape [n], got {array.shape}.")
    if array.dtype.kind == "f" and np.all(
        (array == np.round(array)) & (np.abs(array) < 2**53)
    ):
        array = array.astype(np.int64)
    missing = np.array([is_missing(v) for v in array.tolist()], bool)
    if missing.any():
        raise ValueError(
            f"{what} has {int(missing.sum())} missing entries, the first in row "
            f"{int(np.flatnonzero(missing)[0])}; fill them in or drop those rows."
        )
    items = array.tolist()
    if names is None:
        try:
            names = sorted(set(items))
        except TypeError:
            names = sorted(set(items), key=str)
    index = {name: code for code, name in enumerate(names)}
    if len(index) < len(names):
        raise ValueError(
            f"names={tuple(names)!r} has a name twice, so its code cannot be told."
        )
    unknown = sorted({repr(v) for v in items if v not in index})
    if unknown:
        listed = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise ValueError(
            f"{what} has values that were not there at fit time: {listed}; known are "
            f"{', '.join(map(repr, names))}. Map them to a known value or leave those "
            "rows out."
        )
    codes = np.fromiter((index[v] for v in items), np.int32, len(items))
    return codes, tuple(names)


def cell_codes(label: Any, group: Any, n_groups: int) -> Any:
    """Return the cell ``label * n_groups + group`` of each row, ``[n]`` int32.

    The one place of this arithmetic: in the codes' own type it overflows where they are
    stored in few bits, and sends rows to other cells without a word.

    Args:
        label: ``[n]`` class codes of any integer or boolean type.
        group: ``[n]`` group codes, likewise.
        n_groups: Number of groups.

    Returns:
        JAX's array if one of the two is, else NumPy's.
    """
    either = jnp if isinstance(label, jax.Array) or isinstance(group, jax.Array) else np
    label = either.asarray(label).astype(either.int32)
    return label * n_groups + either.asarray(group).astype(either.int32)


def is_missing(value: Any) -> bool:
    """Tell whether a value is None, NaN, NaT or a table library's own NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA refuses to be compared
        return True
