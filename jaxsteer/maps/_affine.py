"""Affine maps ``x -> W x + b`` as pytrees; batches are leading axes of the leaves."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, DTypeLike, Float
from jaxsteer.linalg import inverse_and_logdet, matmul
from jaxsteer.maps._content import from_numpy, to_numpy
from jaxsteer.storage import content_hash

if TYPE_CHECKING:
    from jaxsteer.maps._low_rank import LowRankMap


@register_dataclass
@dataclasses.dataclass(frozen=True)
class AffineMap:
    """The map ``x -> weight @ x + bias``.

    Attributes:
        weight: ``[..., m, d]``.
        bias: ``[..., m]``.

    Example:
        >>> import jax.numpy as jnp
        >>> double = AffineMap(2 * jnp.eye(2), jnp.ones(2))
        >>> double(jnp.array([1.0, 2.0])).tolist()
        [3.0, 5.0]
        >>> double.inverse()(double(jnp.array([1.0, 2.0]))).tolist()
        [1.0, 2.0]
    """

    weight: Float[Array, "... m d"]
    bias: Float[Array, "... m"]

    @classmethod
    def identity(cls, d: int, dtype: DTypeLike | None = None) -> AffineMap:
        """Return the map that changes nothing."""
        return cls(jnp.eye(d, dtype=dtype), jnp.zeros(d, dtype))

    @classmethod
    def from_numpy(cls, weight: ArrayLike, bias: ArrayLike) -> AffineMap:
        """Build a map from arrays, with their shapes checked.

        Raises:
            ValueError: If shapes disagree or the numbers are not floating point.
        """
        arrays = {"weight": weight, "bias": bias}
        return from_numpy(cls, arrays, {"weight": "md", "bias": "m"})

    def to_numpy(self) -> dict[str, np.ndarray]:
        """Return the fields by name, as ``AffineMap.from_numpy(**...)`` takes them."""
        return to_numpy(self)

    def content_hash(self) -> str:
        """Return a hash of the content; see :func:`jaxsteer.maps.content_hash`."""
        return content_hash(self)

    def __call__(self, x: Float[ArrayLike, "... d"]) -> Float[Array, "... m"]:
        """Apply one map to points ``[..., d]``; batch maps with ``vmap``."""
        return matmul(x, self.weight.T) + self.bias

    def compose(self, first: AffineMap | LowRankMap) -> AffineMap:
        """Return ``x -> self(first(x))``; leading axes broadcast.

        Args:
            first: An :class:`AffineMap` or a :class:`LowRankMap`.
        """
        if not isinstance(first, AffineMap):
            first = first.to_dense()
        bias = matmul(self.weight, first.bias[..., None])[..., 0] + self.bias
        return AffineMap(matmul(self.weight, first.weight), bias)

    def inverse(self) -> AffineMap:
        """Return the inverse map (NaN or infinite where there is none). O(d^3)."""
        weight, _, _ = inverse_and_logdet(self.weight)
        return AffineMap(weight, -matmul(weight, self.bias[..., None])[..., 0])

    def interpolate(self, strength: Float[Array, ""] | float) -> AffineMap:
        """Return ``x -> (1 - strength) x + strength * self(x)``."""
        identity = jnp.eye(self.weight.shape[-1], dtype=self.weight.dtype)
        weight = identity + strength * (self.weight - identity)
        return AffineMap(weight, strength * self.bias)

    def n_features(self, batch: int) -> int:
        """Length of a vector that a map takes."""
        del batch
        return self.weight.shape[-1]


@register_dataclass
@dataclasses.dataclass(frozen=True)
class DiagonalMap:
    """The map ``x -> scale * x + shift``, feature by feature.

    Attributes:
        scale: ``[...]`` for scalars, ``[..., d]`` for vectors.
        shift: The same shape.

    Example:
        >>> import jax.numpy as jnp
        >>> DiagonalMap(jnp.array(2.0), jnp.array(1.0))(jnp.array([0.0, 3.0])).tolist()
        [1.0, 7.0]
    """

    scale: Float[Array, "..."]
    shift: Float[Array, "..."]

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Apply one map to points ``[...]`` or ``[..., d]``."""
        return self.scale * x + self.shift

    def compose(self, first: DiagonalMap) -> DiagonalMap:
        """Return ``x -> self(first(x))``."""
        return DiagonalMap(self.scale * first.scale, self(first.shift))

    def inverse(self) -> DiagonalMap:
        """Return the inverse map (infinite where a scale is 0)."""
        return DiagonalMap(1 / self.scale, -self.shift / self.scale)

    def interpolate(self, strength: Float[Array, ""] | float) -> DiagonalMap:
        """Return ``x -> (1 - strength) x + strength * self(x)``."""
        return DiagonalMap(1 + strength * (self.scale - 1), strength * self.shift)

    def n_features(self, batch: int) -> int | None:
        """Length of a vector that a map takes, None for scalars.

        Args:
            batch: Number of leading axes that are a batch of maps.
        """
        return self.scale.shape[-1] if jnp.ndim(self.scale) > batch else None

    def to_affine(self) -> AffineMap:
        """Return the same map of vectors with a diagonal matrix."""
        identity = jnp.eye(self.scale.shape[-1], dtype=self.scale.dtype)
        return AffineMap(self.scale[..., None] * identity, self.shift)
