"""Checks shared by the front doors: each message names the argument and the remedy.

Shapes and dtypes are known while JAX traces, so they are always checked. Values are
checked only when they are concrete; inside ``jit`` nothing raises on a value, and a
:class:`jaxsteer.Status` tells instead.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

#: More codes than this are identifiers, years or cents.
MOST_CODES = 2**24


def is_concrete(*arrays: Any) -> bool:
    """Tell whether every array has values now (none is a tracer)."""
    return not any(isinstance(a, Tracer) for a in arrays)


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raise unless `value` is one of `choices`."""
    if value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        raise ValueError(f"{name}={value!r} is not known; choose one of {listed}.")


def check_same_length(**arrays: Any) -> int:
    """Return the common length of the leading axes, or raise naming the lengths.

    Arguments that are None were not given, and are left out.
    """
    arrays = {name: a for name, a in arrays.items() if a is not None}
    lengths = {name: np.shape(a)[0] for name, a in arrays.items() if np.ndim(a) > 0}
    if len(lengths) < len(arrays):
        scalars = sorted(set(arrays) - set(lengths))
        raise ValueError(
            f"{', '.join(scalars)}: expected one entry a row, got a scalar."
        )
    for name in sorted({"group", "weights"} & set(arrays)):
        if np.ndim(arrays[name]) > 1:
            raise ValueError(
                f"{name} has shape {np.shape(arrays[name])}, expected [n]: one entry a "
                f"row; ravel a column."
            )
    if len(set(lengths.values())) != 1:
        listed = ", ".join(f"{name} has {size}" for name, size in lengths.items())
        raise ValueError(f"Arguments must have one entry a row: {listed} rows.")
    size = next(iter(lengths.values()))
    if size == 0:
        raise ValueError(f"{', '.join(lengths)}: no rows; at least one is needed.")
    return size


def check_codes(name: str, codes: Any, size: int | None = None) -> int:
    """Check integer codes ``0..size-1`` and return `size`.

    Args:
        name: The argument's name, for the message.
        codes: Integer array of codes.
        size: Number of codes, or None to take one more than the largest, which needs
            concrete values.

    Raises:
        ValueError: If the codes are no integers, out of range, or `size` is missing
            while the values are traced.
    """
    dtype = getattr(codes, "dtype", None)
    if not isinstance(dtype, np.dtype):
        # Lists have none, and columns of tables (pandas' nullable and categorical
        # ones, polars) one of their own.
        dtype = np.asarray(codes).dtype
    if not np.issubdtype(dtype, np.integer) and dtype != np.bool_:
        raise ValueError(
            f"{name} must hold integer codes 0, 1, ..., got dtype {dtype}; encode names "
            f"or other values first: codes, names = jaxsteer.encode_labels({name})."
        )
    if name in ("label", "z") and np.ndim(codes) > 1:
        raise ValueError(
            f"{name} has shape {np.shape(codes)}, expected [n]: one code a row; ravel a "
            f"column."
        )
    if not is_concrete(codes):
        if size is None:
            raise ValueError(
                f"{name} is traced, so the number of its values is unknown: pass "
                f"n_classes=... and n_groups=..., whichever the function takes."
            )
        return size
    values = np.asarray(codes)
    lowest, highest = int(values.min()), int(values.max())
    if size is None and highest >= MOST_CODES:
        raise ValueError(
            f"{name} has a code of {highest}: codes run 0, 1, ... without holes, and "
            f"tables of them would not fit; codes, names = jaxsteer.encode_labels({name})."
        )
    limit = highest + 1 if size is None else size
    if lowest < 0 or highest >= limit:
        raise ValueError(
            f"{name} has codes from {lowest} to {highest}, expected 0..{limit - 1}; an "
            f"unknown value cannot be steered: encode with the names seen at fit time "
            f"(jaxsteer.encode_labels({name}, names=...)) or leave those rows out."
        )
    return limit


def check_cells(
    x: Any,
    label: Any,
    group: Any,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> tuple[int, int]:
    """Check rows of features and the codes of their cells; return how many codes."""
    check_same_length(x=x, label=label, group=group)
    check_finite("x", x)
    return check_codes("label", label, n_classes), check_codes("group", group, n_groups)


def check_finite(name: str, values: Any) -> None:
    """Raise if concrete `values` hold NaN or infinity, naming the first place."""
    if not is_concrete(values):
        return
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" and not jnp.issubdtype(array.dtype, jnp.floating):
        dense = (
            " (call .toarray() on a sparse one)" if hasattr(values, "toarray") else ""
        )
        raise ValueError(
            f"{name} must hold numbers, got dtype {array.dtype}{dense}; convert it "
            f"first, as with numpy.asarray({name}, float)."
        )
    if array.dtype.kind in "biu":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum is finite only if all is, and takes a fraction of the time.
        if np.isfinite(array.sum()):
            return
    bad = ~np.isfinite(array)
    if bad.any():
        where = np.argwhere(bad)[0].tolist()
        raise ValueError(
            f"{name} has {int(bad.sum())} values that are not finite, the first at "
            f"index {', '.join(map(str, where))} ({array[tuple(where)]}); impute or drop "
            f"them first."
        )


def check_range(name: str, values: Any) -> None:
    """Raise if numbers on the host are beyond what sums of squares hold in JAX.

    Rows on a device are in its precision already, and are not waited for.
    """
    if isinstance(values, jax.Array) or not is_concrete(values):
        return
    array = np.asarray(values)
    limit = float(jnp.finfo(jnp.result_type(float)).max) ** 0.5 / 1e3
    # As a Python float: NumPy would cast the limit to the array's own narrow type.
    if array.dtype.kind in "iuf" and array.size and float(abs(array).max()) > limit:
        raise ValueError(
            f"{name} has values above {limit:.0e}, the squares of which "
            f"{jnp.result_type(float)} does not hold; standardize them first."
        )


def check_weights(weights: Any) -> None:
    """Raise if concrete sample weights are negative, not finite, all zero or extreme.

    Sums of their squares must be numbers in the precision of this session.
    """
    check_finite("weights", weights)
    if np.ndim(weights) > 1:
        raise ValueError(
            f"weights have shape {np.shape(weights)}, expected [n]: one a row; ravel a "
            f"column."
        )
    if is_concrete(weights):
        array = np.asarray(weights)
        if (array < 0).any() or array.sum() <= 0:
            raise ValueError(
                "weights must be at least 0 with a positive sum, got a minimum of "
                f"{array.min()} and a sum of {array.sum()}."
            )
        narrow = jnp.finfo(jnp.result_type(float)).bits < 64
        limit, largest = (1e12 if narrow else 1e100), float(array.max())
        if not 1 / limit <= largest <= limit:
            raise ValueError(
                f"weights have a largest entry of {largest:.1e}, of which sums of squares "
                "are not precise; divide them by their mean."
            )


def check_key(key: Any) -> None:
    """Raise unless `key` is a key of JAX, of either kind.

    Raises:
        ValueError: If it is a number, say the seed.
    """
    dtype = getattr(key, "dtype", None)
    is_key = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not is_key and not (dtype == np.uint32 and np.ndim(key) >= 1):
        raise ValueError(
            f"key={key!r} is no key of JAX; pass key=jax.random.key(seed)."
        )


def check_index(name: str, value: Any, size: int, what: str) -> None:
    """Raise unless a scalar integer, where its value is known, is below `size`."""
    kinds = (int, np.integer, np.ndarray, jax.Array)
    integer = (
        isinstance(value, kinds)
        and np.ndim(value) == 0
        and jnp.issubdtype(jnp.result_type(value), jnp.integer)
    )
    if not integer or (is_concrete(value) and not 0 <= int(value) < size):
        raise ValueError(f"{name}={value!r} is not one of the {what} 0..{size - 1}.")
