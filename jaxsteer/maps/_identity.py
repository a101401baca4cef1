"""The identity, for features that no map may move."""

from __future__ import annotations

import dataclasses

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float


@register_dataclass
@dataclasses.dataclass(frozen=True)
class IdentityMap:
    """The map ``x -> x`` of a scalar feature, such as a category's code.

    Attributes:
        zero: ``[...]`` zeros, which carry the batch shape and the precision.
    """

    zero: Float[Array, "..."]

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return `x`."""
        return x + self.zero

    def compose(self, first: IdentityMap) -> IdentityMap:
        """Return the identity."""
        return first

    def inverse(self) -> IdentityMap:
        """Return the identity."""
        return self

    def interpolate(self, strength: Float[Array, ""] | float) -> IdentityMap:
        """Return the identity."""
        del strength
        return self

    def n_features(self, batch: int) -> None:
        """None: scalars."""
        del batch
