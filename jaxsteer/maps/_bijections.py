"""Bijections of the line, and maps conjugated by them.

A divergence does not see a bijection that all classes and groups share, so a program
solved for the base family is solved for the transformed one: only the maps change, from
``T`` to ``forward . T . inverse``.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Bool, Float
from jaxsteer.maps._map import Map


@runtime_checkable
class Bijection(Protocol):
    """A differentiable increasing bijection, applied feature by feature.

    Example:
        >>> isinstance(Exp(), Bijection)
        True
    """

    def forward(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Map base coordinates to data."""
        ...

    def inverse(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Map data to base coordinates; NaN outside the range."""
        ...

    def log_slope(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``log d forward / d z``."""
        ...


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Exp:
    """``x = exp z``: positive data, NaN at or below 0.

    Example:
        >>> import jax.numpy as jnp
        >>> [round(float(x), 4) for x in Exp().inverse(jnp.array([1.0, 10.0, -1.0]))]
        [0.0, 2.3026, nan]
    """

    def forward(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``exp z``."""
        return jnp.exp(z)

    def inverse(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``log x``, NaN for ``x <= 0``."""
        positive = x > 0
        return jnp.where(positive, jnp.log(jnp.where(positive, x, 1.0)), jnp.nan)

    def log_slope(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``z``."""
        return z


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Sigmoid:
    """``x = 1 / (1 + exp(-z))``: data between 0 and 1, NaN elsewhere.

    Example:
        >>> import jax.numpy as jnp
        >>> Sigmoid().forward(jnp.array([-jnp.inf, 0.0])).tolist()
        [0.0, 0.5]
    """

    def forward(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the sigmoid of `z`."""
        return jax.nn.sigmoid(z)

    def inverse(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``log(x / (1 - x))``."""
        inside = (x > 0) & (x < 1)
        safe = jnp.where(inside, x, 0.5)
        return jnp.where(inside, jnp.log(safe) - jnp.log1p(-safe), jnp.nan)

    def log_slope(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``log(x (1 - x))``."""
        return -jax.nn.softplus(z) - jax.nn.softplus(-z)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Chain:
    """Bijections one after the other: ``x = last(... first(z))``.

    Attributes:
        links: The bijections, the one nearest to the base first.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array(2.0)
        >>> both = Chain((Exp(), Exp()))
        >>> bool(jnp.abs(both.forward(both.inverse(x)) - x) < 1e-6)
        True
    """

    links: tuple[Bijection, ...]

    def forward(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Map base coordinates to data."""
        for link in self.links:
            z = link.forward(z)
        return z

    def inverse(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Map data to base coordinates."""
        for link in reversed(self.links):
            x = link.inverse(x)
        return x

    def log_slope(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``log d forward / d z``, the sum over the links."""
        total = jnp.zeros_like(z)
        for link in self.links:
            total = total + link.log_slope(z)
            z = link.forward(z)
        return total


@register_dataclass
@dataclasses.dataclass(frozen=True)
class ConjugatedMap:
    """The map ``bijection.forward . base . bijection.inverse``.

    A bijection may reach only part of the base's line, or race to infinity on it. With
    `limits` targets beyond them are cut off there, unless the row itself lies further
    out: then at the row. Finite rows so have finite images.

    Attributes:
        base: The map in base coordinates.
        bijection: The shared bijection.
        limits: Lowest and highest target, in base coordinates, each ``[]`` or ``[d]``;
            None does not cut.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer.maps import DiagonalMap
        >>> base = DiagonalMap(jnp.array(2.0), jnp.array(0.0))
        >>> square = ConjugatedMap(base, Exp())  # exp(2 log x)
        >>> round(float(square(jnp.array(3.0))), 4)
        9.0
    """

    base: Map
    bijection: Bijection
    limits: tuple[Array, Array] | None = None

    @classmethod
    def alike(
        cls,
        base: Map,
        bijection: Bijection,
        batch: tuple[int, ...],
        limits: tuple[Array, Array] | None = None,
    ) -> ConjugatedMap:
        """Maps with leading axes `batch` that share one bijection's parameters."""

        def repeat(leaf: Array):
            return jnp.broadcast_to(leaf, batch + jnp.shape(leaf))

        return cls(base, *jax.tree.map(repeat, (bijection, limits)))

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Apply one map to data."""
        z, target = self._targets(x)
        if self.limits is not None:
            low, high = self.limits
            target = jnp.clip(target, jnp.minimum(low, z), jnp.maximum(high, z))
        return self.bijection.forward(target)

    def is_cut(self, x: Float[Array, "..."]) -> Bool[Array, "..."]:
        """Tell which values of `x` one map would carry beyond its limits."""
        z, target = self._targets(x)
        if self.limits is None:
            return jnp.zeros(target.shape, bool)
        low, high = self.limits
        return (target < jnp.minimum(low, z)) | (target > jnp.maximum(high, z))

    def _targets(self, x: Array) -> tuple[Array, Array]:
        z = self.bijection.inverse(x)
        return z, self.base(z)

    def compose(self, first: ConjugatedMap) -> ConjugatedMap:
        """Return ``x -> self(first(x))``; both must share the bijection and limits."""
        return dataclasses.replace(self, base=self.base.compose(first.base))

    def inverse(self) -> ConjugatedMap:
        """Return the inverse map (of what is not cut off)."""
        return dataclasses.replace(self, base=self.base.inverse())

    def interpolate(self, strength: Float[Array, ""] | float) -> ConjugatedMap:
        """Interpolate in base coordinates, where the geometry is Gaussian."""
        return dataclasses.replace(self, base=self.base.interpolate(strength))

    def n_features(self, batch: int) -> int | None:
        """Length of a vector that a map takes, None for scalars."""
        return self.base.n_features(batch)
