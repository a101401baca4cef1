"""Objects to plain JSON and named tensors, and back."""

from __future__ import annotations

import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import is_concrete
from jaxsteer.storage._migrate import current_class, current_field
from jaxsteer.storage._registry import (
    default_fields,
    field_names,
    registered_class,
    registered_names,
)

# Types of numbers that safetensors knows under NumPy's names.
_KEPT = frozenset(
    {"bool", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)


def encode(name: str, value: Any, tensors: dict[str, np.ndarray]) -> Any:
    """Return `value` as a JSON node, and put its arrays into `tensors`.

    Args:
        name: Dotted name of the value, which its tensors are named after.
        value: A storable object.
        tensors: Filled here.

    Raises:
        ValueError: If a part of `value` cannot be stored, by its name.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        # JSON has no infinity; hexadecimal digits are exact.
        return {"float": value.hex()}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return _encode_array(name, value, tensors)
    cls = registered_names().get(type(value))
    if cls is not None and isinstance(value, enum.Enum):
        return {"enum": cls, "value": encode(name, value.value, tensors)}
    if cls is not None:
        fields = {
            field: encode(f"{name}.{field}", getattr(value, field), tensors)
            for field in field_names(type(value))
        }
        return {"object": cls, "fields": fields}
    if type(value) in (tuple, list):
        items = [encode(f"{name}.{i}", item, tensors) for i, item in enumerate(value)]
        return {type(value).__name__: items}
    if type(value) is dict and all(type(key) is str for key in value):
        items = {key: encode(f"{name}.{key}", v, tensors) for key, v in value.items()}
        return {"dict": items}
    raise ValueError(
        f"{name} is a {type(value).__module__}.{type(value).__qualname__}, which "
        "cannot be stored. Storable are the results, populations, families and maps of "
        "jaxsteer, arrays, numbers, text, None, and tuples, lists and dictionaries "
        "(with text keys) of them."
    )


def decode(node: Any, tensors: dict[str, np.ndarray]) -> Any:
    """Return the object that :func:`encode` turned into `node`.

    Raises:
        ValueError: If the node is malformed, or names a class that is not registered.
    """
    if node is None or type(node) in (bool, int, str):
        return node
    if type(node) is not dict or not node:
        raise ValueError(f"unknown node {node!r}")
    if "object" in node:
        return _decode_object(node, tensors)
    if "enum" in node:
        return _registered(node["enum"])(decode(node["value"], tensors))
    if "array" in node:
        return _decode_array(node, tensors)
    (kind, content), *rest = node.items()
    if not rest and kind == "float":
        return float.fromhex(content)
    if not rest and kind in ("tuple", "list"):
        items = [decode(item, tensors) for item in content]
        return tuple(items) if kind == "tuple" else items
    if not rest and kind == "dict":
        return {key: decode(item, tensors) for key, item in content.items()}
    raise ValueError(f"unknown node {kind!r}")


def _encode_array(name: str, value: Any, tensors: dict[str, np.ndarray]) -> Any:
    if not is_concrete(value):
        raise ValueError(f"{name} is traced; store results outside of jit.")
    if isinstance(value, jax.Array) and jnp.issubdtype(
        value.dtype, jax.dtypes.prng_key
    ):
        raise ValueError(f"{name} is a random key, which is not stored.")
    kind = "jax" if isinstance(value, jax.Array) else "numpy"
    kind = "scalar" if isinstance(value, np.generic) else kind
    array = np.asarray(value, order="C")
    if array.dtype.kind in "OSUMm" or array.dtype.names:
        raise ValueError(
            f"{name} is an array of dtype {array.dtype}; only numbers are stored, text "
            "belongs into tuples or into the metadata."
        )
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    key, count = name, 1
    while key in tensors:
        count += 1
        key = f"{name}#{count}"
    node = {
        "array": key,
        "kind": kind,
        "dtype": array.dtype.name,
        "shape": list(array.shape),
    }
    if array.dtype.name not in _KEPT:
        # Other widths (bfloat16, complex) travel as their bytes.
        array = np.frombuffer(array.tobytes(), np.uint8)
    tensors[key] = array
    return node


def _decode_array(node: dict[str, Any], tensors: dict[str, np.ndarray]) -> Any:
    if node["array"] not in tensors:
        raise ValueError(f"the tensor {node['array']!r} is not there")
    array = tensors[node["array"]]
    dtype = jnp.dtype(node["dtype"])
    if array.dtype != dtype:
        array = np.frombuffer(array.tobytes(), dtype)
    array = array.reshape(node["shape"])
    if node["kind"] == "scalar":
        return array[()]
    # Without x64 JAX would round float64: such an array stays NumPy's.
    restored = jnp.asarray(array) if node["kind"] == "jax" else array
    return restored if restored.dtype == dtype else array


def _decode_object(node: dict[str, Any], tensors: dict[str, np.ndarray]) -> Any:
    cls = _registered(node["object"])
    name = current_class(node["object"])
    fields = {
        current_field(name, field): decode(value, tensors)
        for field, value in node["fields"].items()
    }
    # A field that an earlier version did not have takes its default.
    absent = set(field_names(cls)) - set(fields) - default_fields(cls)
    unknown = set(fields) - set(field_names(cls))
    if absent or unknown:
        listed = ", ".join(sorted(absent | unknown))
        raise ValueError(
            f"{name} has other fields in this version of jaxsteer ({listed})"
        )
    return cls(**fields)


def _registered(name: str) -> Any:
    found = registered_class(current_class(name))
    if found is None:
        raise ValueError(f"{name!r} is no class that jaxsteer stores")
    return found
