"""One map for every row: ``x -> x + strength * ((W - I) x + b)``."""

from __future__ import annotations

from typing import Any

from jaxsteer._types import Array, Float
from jaxsteer.nn._apply import steer
from jaxsteer.nn._layer import SteeringLayer


class AffineSteer(SteeringLayer):
    """Moves activations ``[..., d]`` by one affine map.

    ``x + strength * ((W - I) x + b)``. The identity map leaves activations unchanged bit
    for bit, in any precision. Cost O(d^2) a row, O(d r) for a low-rank map.

    Attributes:
        strength: Share of the way to go, a scalar variable that may be set between
            calls without compiling anew: ``layer.strength[...] = 0.5``.

    Args:
        map: :class:`jaxsteer.AffineMap`, a low-rank map or a
            :class:`jaxsteer.maps.DiagonalMap` of `d` features.
        strength: 0 leaves activations as they are, 1 applies the map, more goes beyond.
        trainable: Whether the map is a :class:`SteeringParam`, which optimizers see, or
            a :class:`SteeringConstant`, which they do not.
        dtype: Precision of the product; None takes that of the activations. Sums are
            accumulated in float32 at least, and the output has the activations' dtype.
        param_dtype: Precision in which the map is kept.
        precision: ``jax.lax.Precision`` of the product; None takes JAX's default, TF32
            on some GPUs.
        sharding: Names of the mesh axes (or logical axes) of the input and output
            features; making the layer then needs a mesh (``jax.set_mesh``).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> layer = AffineSteer(AffineMap(2 * jnp.eye(2), jnp.ones(2)), strength=0.5)
        >>> layer(jnp.array([[1.0, 2.0]])).tolist()
        [[2.0, 3.5]]
    """

    batch_axes = 0

    def __init__(self, map: Any, **options: Any):
        super().__init__(map, **options)

    def __call__(
        self,
        x: Float[Array, "... d"],
        *,
        strength: Float[Array, "..."] | float | None = None,
    ) -> Float[Array, "... d"]:
        """Steer activations.

        Args:
            x: ``[..., d]``.
            strength: A number, or ``[B]`` for each example its own, instead of the
                layer's.
        """
        strength = self.strength[...] if strength is None else strength
        return steer(
            self.residual(),
            x,
            strength,
            dtype=self.dtype,
            precision=self.precision,
        )
