"""What a map holds, as NumPy arrays and as a hash that is the same everywhere."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import sys
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


def content_hash(map_: Any) -> str:
    """Hash what a map is: its class, and its fields with their types, shapes and bits.

    SHA-256, the same in every process and on every platform; a different precision, or
    one different bit, gives a different hash. Where the map is stored plays no role, nor
    whether its arrays are JAX's or NumPy's.

    Args:
        map_: A map, or any frozen dataclass of arrays, plain values and such dataclasses.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: If a part is traced, or is none of these.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer.maps import AffineMap
        >>> one = AffineMap(jnp.eye(2), jnp.zeros(2))
        >>> one.content_hash() == AffineMap(jnp.eye(2), jnp.zeros(2)).content_hash()
        True
    """
    _require_values(map_)
    digest = hashlib.sha256()
    _add(digest, map_)
    return digest.hexdigest()


def _require_values(map_: Any) -> None:
    if not is_concrete(*jax.tree.leaves(map_)):
        raise ValueError(
            f"The {type(map_).__name__} is traced, so it has no values yet; call this "
            f"outside of jit, grad and vmap."
        )


def _add(digest: Any, value: Any) -> None:
    # Everything is prefixed by what it is and how long it is, so that no two contents
    # give the same bytes.
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        array = np.asarray(value, order="C")
        if sys.byteorder == "big":  # pragma: no cover
            array = array.byteswap()
        array_type = array.dtype.newbyteorder("=").name
        _label(digest, ["array", array_type, list(array.shape)])
        digest.update(array.tobytes())
    elif isinstance(value, enum.Enum):
        _label(digest, ["enum", type(value).__name__, value.name])
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        _label(digest, ["object", type(value).__name__, [f.name for f in fields]])
        for field in fields:
            _add(digest, getattr(value, field.name))
    elif isinstance(value, tuple | list):
        _label(digest, ["sequence", len(value)])
        for item in value:
            _add(digest, item)
    elif isinstance(value, float):
        _label(digest, ["float", value.hex()])
    elif value is None or isinstance(value, bool | int | str):
        _label(digest, ["plain", value])
    else:
        raise ValueError(
            f"A {type(value).__qualname__} has no content hash; hashed are dataclasses of "
            f"arrays, numbers, text, None, and tuples or lists of them."
        )


def _label(digest: Any, label: list[Any]) -> None:
    text = json.dumps(label, separators=(",", ":")).encode()
    digest.update(len(text).to_bytes(8, "little") + text)
