"""What the steering layers have in common: the map, its strength, the precision."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsteer.nn._residuals import residual_of
from jaxsteer.nn._variables import SteeringConstant, load, store


class SteeringLayer(nnx.Module):
    """A map or maps ``[G]``, kept as ``W - I`` and ``b``; subclasses say what moves."""

    batch_axes: ClassVar[int]  # leading axes of the maps

    bias: nnx.Variable

    def __init__(
        self,
        maps: Any,
        *,
        strength: float | jax.Array = 1.0,
        trainable: bool = False,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        sharding: tuple[str | None, str | None] | None = None,
    ):
        residual = residual_of(maps, batch=self.batch_axes, dtype=param_dtype)
        store(self, residual, trainable=trainable, sharding=sharding)
        self.kind = type(residual)
        self.strength = SteeringConstant(jnp.asarray(strength, jnp.float32))
        self.dtype = dtype
        self.precision = precision

    def residual(self) -> Any:
        """Return ``W - I`` and ``b`` as they are now."""
        return load(self, self.kind)

    def to_map(self) -> Any:
        """Return the map, or the maps ``[G]``, at full strength."""
        return self.residual().to_map()
