"""A map, or a layer, as a weight and a bias."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxsteer._errors import is_concrete
from jaxsteer._types import DTypeLike, Float
from jaxsteer.maps import Map
from jaxsteer.nn import AffineSteer, GroupSteer


@dataclasses.dataclass(frozen=True, kw_only=True)
class AffineArrays:
    """``x -> weight x + bias`` in NumPy.

    Attributes:
        weight: ``[..., d, d]``, outputs first.
        bias: ``[..., d]``.
    """

    weight: Float[np.ndarray, "... d d"]
    bias: Float[np.ndarray, "... d"]

    @property
    def change(self) -> Float[np.ndarray, "... d d"]:
        """``W - I``."""
        return self.weight - np.eye(self.weight.shape[-1], dtype=self.weight.dtype)


def to_numpy(
    map: Map, *, strength: float | None = None, dtype: DTypeLike = np.float32
) -> AffineArrays:
    """Return a map as arrays: ``W_s = I + s (W - I)`` and ``s b`` at strength `s`.

    Args:
        map: An :class:`jaxsteer.AffineMap`, a low-rank or diagonal map of vectors, with
            any leading axes, or a layer (:class:`jaxsteer.nn.AffineSteer`,
            :class:`jaxsteer.nn.GroupSteer`).
        strength: Share of the way to go; None takes 1, or the layer's.
        dtype: Of the result; the sums are done in float64.

    Returns:
        The arrays.

    Raises:
        ValueError: If there is no such map, it is traced, or the strength is no number.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> arrays = to_numpy(AffineMap(3 * jnp.eye(1), jnp.ones(1)), strength=0.5)
        >>> arrays.weight.tolist(), arrays.bias.tolist()
        ([[2.0]], [0.5])
    """
    change, bias, strength = residual_arrays(map, strength)
    weight = np.eye(change.shape[-1]) + strength * change
    return AffineArrays(
        weight=weight.astype(dtype), bias=(strength * bias).astype(dtype)
    )


def residual_arrays(
    map: Map, strength: float | None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return ``W - I`` and ``b`` in float64 at full strength, and the strength."""
    if isinstance(map, AffineSteer | GroupSteer):
        if strength is None:
            strength = _number(map.strength[...])
        map = map.to_map()
    strength = 1.0 if strength is None else _number(strength)
    values = [getattr(map, name, None) for name in ("weight", "bias", "u", "v", "b")]
    values += [getattr(map, name, None) for name in ("scale", "shift")]
    if not is_concrete(*values):
        raise ValueError("map is traced; export it outside of jit.")
    weight, bias, u, v, b, scale, shift = (
        None if value is None or callable(value) else np.asarray(value, np.float64)
        for value in values
    )
    if weight is not None and bias is not None and weight.ndim > 1:
        if weight.shape[-1] != weight.shape[-2]:
            raise ValueError(
                f"map has a weight of shape {weight.shape}; a steering keeps the number "
                f"of features: [..., d, d]."
            )
        return weight - np.eye(weight.shape[-1]), bias, strength
    if u is not None and v is not None and b is not None:
        return u @ np.swapaxes(v, -1, -2), b, strength
    if scale is not None and shift is not None and scale.ndim > 0:
        return (scale - 1)[..., None] * np.eye(scale.shape[-1]), shift, strength
    raise ValueError(
        f"map is a {type(map).__name__}, expected an AffineMap, a LowRankMap, a "
        f"DiagonalMap of vectors, an AffineSteer or a GroupSteer: no other engine "
        f"knows what a {type(map).__name__} does."
    )


def one_map(map: Map, strength: float | None, where: str) -> AffineArrays:
    """Return the arrays of one map without leading axes, or raise."""
    arrays = to_numpy(map, strength=strength)
    if arrays.bias.ndim != 1:
        raise ValueError(
            f"The map of {where} has leading axes {arrays.bias.shape[:-1]}, and the file "
            f"holds one map a layer; export the map of each group: "
            f"jax.tree.map(lambda leaf: leaf[g], maps)."
        )
    return arrays


def _number(strength: Any) -> float:
    value = np.asarray(strength, np.float64)
    if value.ndim:
        raise ValueError(
            f"strength has shape {value.shape}, expected one number: pass strength=..."
        )
    return float(value)
