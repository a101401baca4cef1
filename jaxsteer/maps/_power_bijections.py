"""Power transformations that bring skewed features near a normal law."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float


def _log1p_ratio(x: Array, power: Array) -> Array:
    """``log(1 + power x) / power``: ``x`` at power 0, NaN where there is no logarithm."""
    within = power * x > -1
    x = jnp.where(within, x, 0.0)
    small = jnp.abs(power) < _near(x)
    safe = jnp.where(small, 1.0, power)
    # The first terms of the series; the next one is below rounding.
    series = x * (1 - power * x / 2 + power**2 * x**2 / 3)
    inside = jnp.where(small, 0.0, safe * x)
    value = jnp.where(small, series, jnp.log1p(inside) / safe)
    return jnp.where(within, value, jnp.nan)


def _expm1_ratio(u: Array, power: Array) -> Array:
    """``(exp(power u) - 1) / power``, which is ``u`` at power 0."""
    small = jnp.abs(power) < _near(u)
    safe = jnp.where(small, 1.0, power)
    series = u * (1 + power * u / 2 + power**2 * u**2 / 6)
    return jnp.where(small, series, jnp.expm1(safe * u) / safe)


def _near(x: Array) -> float:
    return float(jnp.finfo(x.dtype).eps) ** (1 / 3)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class BoxCox:
    """``z = (x^power - 1) / power`` for positive data; ``log x`` at power 0.

    Unless the power is 0 the range of ``z`` ends at ``-1 / power``: normal laws put
    some mass beyond it, where :meth:`forward` is NaN. Fit powers for which that mass is
    negligible, or take :class:`YeoJohnson`.

    Attributes:
        power: ``[]``, or ``[d]`` for each feature its own.

    Example:
        >>> import jax.numpy as jnp
        >>> BoxCox(jnp.array(2.0)).inverse(jnp.array([1.0, 3.0])).round(4).tolist()
        [0.0, 4.0]

    References:
        Box and Cox 1964, "An analysis of transformations".
    """

    power: Float[Array, "..."]

    def forward(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Map base coordinates to data."""
        return jnp.exp(_log1p_ratio(z, jnp.asarray(self.power)))

    def inverse(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Map data to base coordinates; NaN for ``x <= 0``."""
        positive = x > 0
        logs = jnp.log(jnp.where(positive, x, 1.0))
        z = _expm1_ratio(logs, jnp.asarray(self.power))
        return jnp.where(positive, z, jnp.nan)

    def log_slope(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``log d forward / d z``."""
        power = jnp.asarray(self.power)
        return (1 - power) * _log1p_ratio(z, power)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class YeoJohnson:
    """Box and Cox's power of ``1 + |x|``, with power ``2 - power`` below 0.

    For powers strictly between 0 and 2 a bijection of the whole line; 1 is the identity.

    Attributes:
        power: ``[]``, or ``[d]`` for each feature its own.

    Example:
        >>> import jax.numpy as jnp
        >>> YeoJohnson(jnp.array(1.0)).forward(jnp.array([-2.0, 3.0])).round(4).tolist()
        [-2.0, 3.0]

    References:
        Yeo and Johnson 2000, "A new family of power transformations".
    """

    power: Float[Array, "..."]

    def forward(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Map base coordinates to data."""
        sign, power = self._side(z)
        return sign * jnp.expm1(_log1p_ratio(jnp.abs(z), power))

    def inverse(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Map data to base coordinates."""
        sign, power = self._side(x)
        return sign * _expm1_ratio(jnp.log1p(jnp.abs(x)), power)

    def log_slope(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``log d forward / d z``."""
        _, power = self._side(z)
        return (1 - power) * _log1p_ratio(jnp.abs(z), power)

    def _side(self, x: Array) -> tuple[Array, Array]:
        power = jnp.asarray(self.power)
        return jnp.where(x < 0, -1.0, 1.0), jnp.where(x < 0, 2 - power, power)
