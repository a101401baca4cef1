"""What a map holds, as NumPy arrays."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxsteer._errors import is_concrete


def to_numpy(map_: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a map by field name, as NumPy arrays.

    Args:
        map_: A map whose fields are arrays, such as :class:`AffineMap`.

    Raises:
        ValueError: If the map is traced.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer.maps import AffineMap
        >>> sorted(to_numpy(AffineMap(jnp.eye(2), jnp.zeros(2))))
        ['bias', 'weight']
    """
    _require_values(map_)
    fields = dataclasses.fields(map_)
    return {f.name: np.asarray(getattr(map_, f.name)) for f in fields}


def from_numpy(cls: Any, arrays: dict[str, Any], axes: dict[str, str]) -> Any:
    """Build a map from arrays, checking the shapes against letters.

    Args:
        cls: The class of the map.
        arrays: The fields by name.
        axes: The last axes of each field as letters, ``{"weight": "md", "bias": "m"}``;
            what comes before them are leading axes, the same for all fields.

    Raises:
        ValueError: If an array is no floating point array, or the shapes disagree.
    """
    shapes = {name: np.shape(value) for name, value in arrays.items()}
    listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    wanted = ", ".join(
        f"{name} [..., {', '.join(letters)}]" for name, letters in axes.items()
    )
    sizes: dict[str, int] = {}
    leading = set()
    for name, letters in axes.items():
        shape = shapes[name]
        fits = len(shape) >= len(letters)
        last = shape[len(shape) - len(letters) :]
        for letter, size in zip(letters, last, strict=False):
            fits = fits and sizes.setdefault(letter, size) == size
        if not fits:
            raise ValueError(f"The shapes must be {wanted}, got {listed}.")
        leading.add(shape[: len(shape) - len(letters)])
    if len(leading) != 1:
        raise ValueError(
            f"All arrays must have the same leading axes: expected {wanted}, got {listed}."
        )
    fields = {name: jax.numpy.asarray(arrays[name]) for name in axes}
    for name, value in fields.items():
        if not jax.numpy.issubdtype(value.dtype, jax.numpy.floating):
            raise ValueError(
                f"{name} must hold floating point numbers, got {value.dtype}; convert "
                f"it first: {name}.astype('float32')."
            )
    return cls(**fields)


def _require_values(map_: Any) -> None:
    if not is_concrete(*jax.tree.leaves(map_)):
        raise ValueError(
            f"The {type(map_).__name__} is traced, so it has no values yet; call this "
            f"outside of jit, grad and vmap."
        )
