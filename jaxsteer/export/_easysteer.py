"""Payloads of EasySteer, which steers models that vLLM serves."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsteer.export._numpy import one_map
from jaxsteer.maps import Map

_VERSION = 1


def to_easysteer(
    maps: Mapping[int, Map], *, strength: float | None = None, text: bool = False
) -> dict[int, dict[str, np.ndarray]]:
    """Return the wire form of a ``LinearMap`` for each layer.

    EasySteer applies ``h @ weight.T + bias`` to what a decoder layer returns. A payload
    names no layer: hand each to the engine with ``layers=[the key]``, algorithm
    ``"linear"`` and scale 1 (its scale multiplies the steered states; the strength is in
    the weights here).

    Args:
        maps: A map for each decoder layer, as :func:`to_numpy` takes it.
        strength: Share of the way to go; None takes 1, or a layer's own.
        text: Whether tensors are base64 text, for JSON over HTTP, instead of bytes.

    Returns:
        For each layer ``{"version", "kind", "tensors", "extra", "sha256"}``.

    Raises:
        ValueError: If a map cannot be exported, has leading axes or is not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> wire = to_easysteer({7: AffineMap(jnp.eye(2), jnp.ones(2))})[7]
        >>> wire["kind"], wire["tensors"]["weight"]["shape"]
        ('linear', [2, 2])

    References:
        Xu et al. 2025, EasySteer, arXiv 2509.25175; the format is version 1 of
        ``vllm/model_hooks/steering/payloads.py`` in ZJU-REAL/EasySteer-vllm-v1.
    """
    return {int(n): _wire(n, map, strength, text) for n, map in maps.items()}


def _wire(layer: Any, map: Map, strength: float | None, text: bool) -> dict[str, Any]:
    arrays = one_map(map, strength, f"layer {layer}")
    # The engine reads little-endian float32 in C order.
    tensors = {
        name: np.ascontiguousarray(getattr(arrays, name), "<f4")
        for name in ("bias", "weight")
    }
    digest = hashlib.sha256(f"linear:{_VERSION}".encode())
    packed = {}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"The {name} of layer {layer} is not finite.")
        data = tensor.tobytes()
        digest.update(name.encode() + str(tensor.shape).encode() + data)
        packed[name] = {
            "shape": list(tensor.shape),
            "data": base64.b64encode(data).decode() if text else data,
        }
    return {
        "version": _VERSION,
        "kind": "linear",
        "tensors": packed,
        "extra": {},
        "sha256": digest.hexdigest(),
    }
