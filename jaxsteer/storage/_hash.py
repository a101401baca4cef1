"""The one hash: what an object holds, the same in every process and on every machine."""

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
from jaxsteer._types import PathLike


def content_hash(value: Any) -> str:
    """Hash what an object is: its class, and its fields with their types and bits.

    SHA-256, the same in every process and on every platform; a different precision, or
    one different bit, gives a different hash. Where the object is stored plays no role,
    nor whether its arrays are JAX's or NumPy's.

    Args:
        value: A map, or any frozen dataclass of arrays, plain values and such
            dataclasses.

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
    if not is_concrete(*jax.tree.leaves(value)):
        raise ValueError(
            f"The {type(value).__name__} is traced, so it has no values yet; call this "
            f"outside of jit, grad and vmap."
        )
    digest = hashlib.sha256()
    _add(digest, value)
    return digest.hexdigest()


def bytes_hash(data: bytes) -> str:
    """Hash the bytes of a file, as ``sha256sum`` prints it."""
    return hashlib.sha256(data).hexdigest()


def file_hash(path: PathLike) -> str:
    """Hash the bytes of a file, as ``sha256sum`` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def format_1_hash(content: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    """Return the hash that files of format 1 (jaxsteer 0.1) hold of their content."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def check_hash(found: str, expected: str | None, path: Any) -> None:
    """Raise unless a file has the hash that its reader was told to expect."""
    if expected is not None and found != expected.strip().lower():
        raise ValueError(
            f"The file {path} has the hash {found}, and expect_hash={expected!r}: it is "
            "another file, or was changed since that hash was written down."
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
