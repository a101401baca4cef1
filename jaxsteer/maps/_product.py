"""Maps of several features side by side, each its own kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float
from jaxsteer.maps._map import Map


def split_columns(
    x: Float[Array, "... m"], widths: tuple[int | None, ...]
) -> list[Array]:
    """Split the last axis into parts: one column without its axis for a width of None."""
    parts, first = [], 0
    for width in widths:
        last = first + (1 if width is None else width)
        parts.append(x[..., first] if width is None else x[..., first:last])
        first = last
    return parts


def join_columns(
    parts: list[Array], widths: tuple[int | None, ...]
) -> Float[Array, "... m"]:
    """Undo :func:`split_columns`."""
    columns = [
        part[..., None] if width is None else part
        for part, width in zip(parts, widths, strict=True)
    ]
    return jnp.concatenate(columns, -1)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class ProductMap:
    """Maps that act on one block of columns each.

    Attributes:
        maps: One map for each block.
        widths: Columns of each block; None where the map takes scalars.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer.maps import DiagonalMap
        >>> double = DiagonalMap(jnp.array(2.0), jnp.array(0.0))
        >>> shift = DiagonalMap(jnp.ones(2), jnp.array([1.0, -1.0]))
        >>> ProductMap((double, shift), (None, 2))(jnp.array([1.0, 2.0, 3.0])).tolist()
        [2.0, 3.0, 2.0]
    """

    maps: tuple[Map, ...]
    widths: tuple[int | None, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Float[Array, "... m"]) -> Float[Array, "... m"]:
        """Apply every map to its columns."""
        parts = split_columns(x, self.widths)
        moved = [move(part) for move, part in zip(self.maps, parts, strict=True)]
        return join_columns(moved, self.widths)

    def compose(self, first: ProductMap) -> ProductMap:
        """Return ``x -> self(first(x))``."""
        pairs = zip(self.maps, first.maps, strict=True)
        return ProductMap(tuple(a.compose(b) for a, b in pairs), self.widths)

    def inverse(self) -> ProductMap:
        """Return the inverse map."""
        return self._each(lambda move: move.inverse())

    def interpolate(self, strength: Float[Array, ""] | float) -> ProductMap:
        """Interpolate every map."""
        return self._each(lambda move: move.interpolate(strength))

    def n_features(self, batch: int) -> int:
        """Number of columns."""
        del batch
        return sum(1 if width is None else width for width in self.widths)

    def _each(self, change: Callable[[Map], Map]) -> ProductMap:
        return ProductMap(tuple(change(move) for move in self.maps), self.widths)
