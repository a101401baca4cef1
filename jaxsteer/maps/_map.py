"""What a map is: one vocabulary for all that moves data."""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

from jaxsteer._types import Array, Float


@runtime_checkable
class Map(Protocol):
    """An invertible map of features, its parameters stacked along leading axes.

    A class is a frozen dataclass of arrays, made a pytree by ``register_dataclass``;
    ``vmap`` over the leading axes of its leaves is a batch of maps. A family that such
    maps act on has ``pushforward(map)``. What is not a formula of parameters (a neural
    network, say) is no map of this package: nothing could promise its inverse.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> isinstance(AffineMap(jnp.eye(2), jnp.zeros(2)), Map)
        True
    """

    def __call__(self, x: Array) -> Array:
        """Apply one map to points ``[...]`` or ``[..., d]``, whichever it moves."""
        ...

    def compose(self, first: Self) -> Map:
        """Return ``x -> self(first(x))`` for a map of the same kind."""
        ...

    def inverse(self) -> Map:
        """Return the inverse map, NaN or infinite where there is none."""
        ...

    def interpolate(self, strength: Float[Array, ""] | float) -> Map:
        """Return the identity at 0, this map at 1, and a map between them."""
        ...

    def n_features(self, batch: int) -> int | None:
        """Length of a vector that a map takes; None for scalars.

        Args:
            batch: Number of leading axes that are a batch of maps.
        """
        ...
