"""A map as what it adds to its input: ``x -> x + residual(x)``.

Layers keep ``W - I`` rather than ``W``. A map near the identity then keeps its digits in
bfloat16, in which ``1 + 1/512`` is 1, and the identity adds exact zeros: ``x + 0`` is
``x``, bit for bit.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax.typing import PrecisionLike

from jaxsteer import maps
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, DTypeLike, Float

# Axes of each field after those of a batch of maps: "in" and "out" are features, None is
# an inner axis. Sharding annotations follow it.
_AXES = {
    "kernel": ("in", "out"),
    "down": ("in", None),
    "up": (None, "out"),
    "scale": ("out",),
    "bias": ("out",),
}


def wide_of(*dtypes: Any) -> Any:
    """Return float32, or float64 where one of `dtypes` is.

    Unlike JAX's promotion it is no rule that a strict mode forbids.
    """
    is_double = any(jnp.dtype(dtype) == jnp.float64 for dtype in dtypes)
    return jnp.dtype(jnp.float64 if is_double else jnp.float32)


def product(x: Array, kernel: Array, precision: PrecisionLike = None) -> Array:
    """Return ``x @ kernel``, accumulated in float32 at least."""
    wide = wide_of(x.dtype)
    return jnp.matmul(
        x, kernel.astype(x.dtype), precision=precision, preferred_element_type=wide
    )


@register_dataclass
@dataclasses.dataclass(frozen=True)
class FullResidual:
    """``x @ kernel + bias``: an affine map's ``(W - I)' `` and ``b``.

    Attributes:
        kernel: ``[..., d, d]``, inputs first.
        bias: ``[..., d]``.
    """

    kernel: Float[Array, "... d d"]
    bias: Float[Array, "... d"]

    def __call__(
        self, x: Float[Array, "... d"], precision: PrecisionLike = None
    ) -> Array:
        """Return what one map adds to `x`, in float32 at least."""
        return _sum(product(x, self.kernel, precision), self.bias)

    def to_map(self) -> Any:
        """Return the map."""
        weight = jnp.swapaxes(self.kernel, -1, -2)
        identity = jnp.eye(weight.shape[-1], dtype=weight.dtype)
        return maps.AffineMap(identity + weight, self.bias)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class LowRankResidual:
    """``(x @ down) @ up + bias``: few directions, O(d r) instead of O(d^2).

    Attributes:
        down: ``[..., d, r]``, what is read.
        up: ``[..., r, d]``, what is written.
        bias: ``[..., d]``.
    """

    down: Float[Array, "... d r"]
    up: Float[Array, "... r d"]
    bias: Float[Array, "... d"]

    def __call__(
        self, x: Float[Array, "... d"], precision: PrecisionLike = None
    ) -> Array:
        """Return what one map adds to `x`, in float32 at least."""
        inner = product(x, self.down, precision).astype(x.dtype)
        return _sum(product(inner, self.up, precision), self.bias)

    def to_map(self) -> Any:
        """Return the map."""
        return maps.LowRankMap(jnp.swapaxes(self.up, -1, -2), self.down, self.bias)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class DiagonalResidual:
    """``scale * x + bias``: a diagonal map's ``g - 1`` and ``c``.

    Attributes:
        scale: ``[..., d]``.
        bias: ``[..., d]``.
    """

    scale: Float[Array, "... d"]
    bias: Float[Array, "... d"]

    def __call__(
        self, x: Float[Array, "... d"], precision: PrecisionLike = None
    ) -> Array:
        """Return what one map adds to `x`, in float32 at least."""
        del precision
        wide = wide_of(x.dtype)
        return _sum(self.scale.astype(wide) * x.astype(wide), self.bias)

    def to_map(self) -> Any:
        """Return the map."""
        return maps.DiagonalMap(1 + self.scale, self.bias)


def _sum(change: Array, bias: Array) -> Array:
    # Said in full, for models that run under strict promotion of types.
    wide = wide_of(change.dtype, bias.dtype)
    return change.astype(wide) + bias.astype(wide)


Residual = FullResidual | LowRankResidual | DiagonalResidual


def residual_of(map: Any, *, batch: int, dtype: DTypeLike | None = None) -> Residual:
    """Return what a map adds.

    Args:
        map: An :class:`jaxsteer.AffineMap` (``weight``, ``bias``), a low-rank map (``u``,
            ``v``, ``b``) or a :class:`jaxsteer.maps.DiagonalMap` of vectors (``scale``,
            ``shift``); any object with these fields will do.
        batch: Number of leading axes that are a batch of maps: 0, or 1 for ``[G]``.
        dtype: Precision of the result; ``W - I`` is taken before it is rounded.

    Raises:
        ValueError: If the map is of another kind, is not square, or has another number
            of leading axes.
    """
    if hasattr(map, "weight") and hasattr(map, "bias"):
        weight = jnp.asarray(map.weight)
        if weight.ndim < 2 or weight.shape[-1] != weight.shape[-2]:
            raise ValueError(
                f"A steering layer keeps the number of features, got a weight of shape "
                f"{weight.shape}; pass a map with weight [d, d]."
            )
        change = weight - jnp.eye(weight.shape[-1], dtype=weight.dtype)
        found = FullResidual(jnp.swapaxes(change, -1, -2), jnp.asarray(map.bias))
    elif hasattr(map, "u") and hasattr(map, "v") and hasattr(map, "b"):
        up = jnp.swapaxes(jnp.asarray(map.u), -1, -2)
        found = LowRankResidual(jnp.asarray(map.v), up, jnp.asarray(map.b))
    elif hasattr(map, "scale") and hasattr(map, "shift"):
        scale = jnp.asarray(map.scale)
        found = DiagonalResidual(scale - 1, jnp.asarray(map.shift))
    else:
        raise ValueError(
            f"{type(map).__name__} is no affine map of vectors; pass an AffineMap, a "
            f"LowRankMap or a DiagonalMap (steering.group_maps of a vector family)."
        )
    _check_batch(map, found.bias.ndim - 1, batch)
    return found if dtype is None else jax.tree.map(lambda a: a.astype(dtype), found)


def axes_of(field: str) -> tuple[str | None, ...]:
    """Return what the last axes of a field are: ``"in"``, ``"out"`` or None."""
    return _AXES[field]


def _check_batch(map: Any, found: int, batch: int) -> None:
    if found == batch:
        return
    kind = type(map).__name__
    if found < 0:
        raise ValueError(
            f"{kind} moves scalars; a layer steers vectors of d features: "
            f"give its fields a last axis of length d."
        )
    if batch == 0:
        raise ValueError(
            f"AffineSteer takes one map, got a {kind} with {found} leading axes; pass "
            f"one of them, or all to GroupSteer."
        )
    raise ValueError(
        f"A group layer takes maps with one leading axis [G], got a {kind} with "
        f"{found} leading axes; stack one map for each group."
    )
