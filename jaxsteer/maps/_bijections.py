"""Bijections of the line, and maps conjugated by them.

A divergence does not see a bijection that all classes and groups share, so a program
solved for the base family is solved for the transformed one: only the maps change, from
``T`` to ``forward . T . inverse``.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float


class Bijection(Protocol):
    """A differentiable increasing bijection, applied feature by feature."""

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
    """``x = exp z``: positive data, NaN at or below 0."""

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
    """``x = 1 / (1 + exp(-z))``: data between 0 and 1, NaN elsewhere."""

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
    """

    links: tuple[Any, ...]

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

    Attributes:
        base: The map in base coordinates.
        bijection: The shared bijection.
    """

    base: Any
    bijection: Any

    @classmethod
    def alike(cls, base: Any, bijection: Any, batch: tuple[int, ...]) -> ConjugatedMap:
        """Maps with leading axes `batch` that share one bijection's parameters."""

        def repeat(leaf):
            return jnp.broadcast_to(leaf, batch + jnp.shape(leaf))

        return cls(base, jax.tree.map(repeat, bijection))

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Apply one map to data."""
        return self.bijection.forward(self.base(self.bijection.inverse(x)))

    def compose(self, first: ConjugatedMap) -> ConjugatedMap:
        """Return ``x -> self(first(x))``; both must share the bijection."""
        return ConjugatedMap(self.base.compose(first.base), self.bijection)

    def inverse(self) -> ConjugatedMap:
        """Return the inverse map."""
        return ConjugatedMap(self.base.inverse(), self.bijection)

    def interpolate(self, strength: Float[Array, ""] | float) -> ConjugatedMap:
        """Interpolate in base coordinates, where the geometry is Gaussian."""
        return ConjugatedMap(self.base.interpolate(strength), self.bijection)

    def n_features(self, batch: int) -> int | None:
        """Length of a vector that a map takes, None for scalars."""
        return self.base.n_features(batch)
