"""Bijections with the shape of a law's tails, or of its whole quantile function."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float


@register_dataclass
@dataclasses.dataclass(frozen=True)
class SinhArcsinh:
    """``x = sinh((arcsinh z + skewness) * tailweight)``.

    Attributes:
        skewness: ``[]`` or ``[d]``; positive leans to the right.
        tailweight: ``[]`` or ``[d]``, positive; above 1 the tails are heavier than
            normal.

    Example:
        >>> import jax.numpy as jnp
        >>> plain = SinhArcsinh(jnp.array(0.0), jnp.array(1.0))
        >>> plain.forward(jnp.array([-1.0, 2.0])).round(4).tolist()
        [-1.0, 2.0]

    References:
        Jones and Pewsey 2009, "Sinh-arcsinh distributions" (their delta is
        ``1 / tailweight``).
    """

    skewness: Float[Array, "..."]
    tailweight: Float[Array, "..."]

    def forward(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Map base coordinates to data."""
        return jnp.sinh((jnp.arcsinh(z) + self.skewness) * self.tailweight)

    def inverse(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Map data to base coordinates."""
        return jnp.sinh(jnp.arcsinh(x) / self.tailweight - self.skewness)

    def log_slope(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``log d forward / d z``."""
        u = (jnp.arcsinh(z) + self.skewness) * self.tailweight
        # log cosh u without overflow.
        size = jnp.abs(u)
        log_cosh = size + jnp.log1p(jnp.exp(-2 * size)) - jnp.log(2.0)
        return jnp.log(self.tailweight) + log_cosh - 0.5 * jnp.log1p(z * z)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class RationalQuadraticSpline:
    """A monotone piecewise rational-quadratic curve between knots, straight outside.

    Attributes:
        z_knots: ``[n]`` or ``[d, n]`` increasing base coordinates of the knots.
        x_knots: The same shape, increasing data values of the knots.
        slopes: The same shape, positive slopes at the knots; the first and the last
            are those of the straight ends.

    Example:
        >>> import jax.numpy as jnp
        >>> curve = RationalQuadraticSpline.identity(jnp.array([-1.0, 0.0, 1.0]))
        >>> curve.forward(jnp.array([-3.0, 0.5])).round(4).tolist()
        [-3.0, 0.5]

    References:
        Gregory and Delbourgo 1982; Durkan et al. 2019, "Neural spline flows".
    """

    z_knots: Float[Array, "... n"]
    x_knots: Float[Array, "... n"]
    slopes: Float[Array, "... n"]

    @classmethod
    def identity(cls, knots: Float[Array, "... n"]) -> RationalQuadraticSpline:
        """The curve that moves nothing, to begin a fit with.

        Args:
            knots: ``[n]`` or ``[d, n]`` increasing values.
        """
        knots = jnp.asarray(knots)
        return cls(knots, knots, jnp.ones_like(knots))

    def forward(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Map base coordinates to data."""
        piece = self._piece(z, self.z_knots)
        t = _within((z - piece.z) / piece.width)
        inner = piece.x + piece.rise * piece.share(t)
        return self._ends(z, inner, self.z_knots, self.x_knots, self.slopes)

    def inverse(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Map data to base coordinates."""
        piece = self._piece(x, self.x_knots)
        y = _within((x - piece.x) / piece.rise)
        # The root in [0, 1] of the quadratic that share(t) = y makes.
        bend = piece.first + piece.last - 2 * piece.steepness
        a = piece.steepness - piece.first + y * bend
        b = piece.first - y * bend
        c = -piece.steepness * y
        t = -2 * c / (b + jnp.sqrt(jnp.maximum(b * b - 4 * a * c, 0.0)))
        inner = piece.z + piece.width * t
        return self._ends(x, inner, self.x_knots, self.z_knots, 1 / self.slopes)

    def log_slope(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``log d forward / d z``."""
        piece = self._piece(z, self.z_knots)
        t = _within((z - piece.z) / piece.width)
        s = piece.steepness
        bend = piece.first + piece.last - 2 * s
        top = piece.last * t**2 + 2 * s * t * (1 - t) + piece.first * (1 - t) ** 2
        inner = 2 * jnp.log(s) + jnp.log(top) - 2 * jnp.log(s + bend * t * (1 - t))
        below = z < self.z_knots[..., 0]
        above = z > self.z_knots[..., -1]
        ends = jnp.log(jnp.where(below, self.slopes[..., 0], self.slopes[..., -1]))
        return jnp.where(below | above, ends, inner)

    def _piece(self, value: Array, knots: Array) -> _Piece:
        """The piece that each value falls into."""
        n = knots.shape[-1]
        count = jnp.sum(value[..., None] >= knots, -1)
        left = jnp.clip(count - 1, 0, n - 2)

        def pick(leaf: Array, place: Array):
            leaf = jnp.broadcast_to(leaf, (*value.shape, n))
            return jnp.take_along_axis(leaf, place[..., None], -1)[..., 0]

        z, x = pick(self.z_knots, left), pick(self.x_knots, left)
        return _Piece(
            z=z,
            x=x,
            width=pick(self.z_knots, left + 1) - z,
            rise=pick(self.x_knots, left + 1) - x,
            first=pick(self.slopes, left),
            last=pick(self.slopes, left + 1),
        )

    @staticmethod
    def _ends(value: Array, inner: Array, knots: Array, images: Array, slopes: Array):
        below = images[..., 0] + (value - knots[..., 0]) * slopes[..., 0]
        above = images[..., -1] + (value - knots[..., -1]) * slopes[..., -1]
        inner = jnp.where(value < knots[..., 0], below, inner)
        return jnp.where(value > knots[..., -1], above, inner)


def _within(share: Array) -> Array:
    """A share of a piece; any other number where the straight ends are used anyway."""
    return jnp.where((share >= 0) & (share <= 1), share, 0.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Piece:
    """One piece of the curve: its lower corner, its size and the slopes at its ends."""

    z: Array
    x: Array
    width: Array
    rise: Array
    first: Array
    last: Array

    @property
    def steepness(self) -> Array:
        """Mean slope."""
        return self.rise / self.width

    def share(self, t: Array) -> Array:
        """Share of the rise at the share `t` of the width."""
        s = self.steepness
        bend = self.first + self.last - 2 * s
        return (s * t**2 + self.first * t * (1 - t)) / (s + bend * t * (1 - t))
