"""Where one univariate normal outweighs another: exact, by a quadratic."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import ndtr

from jaxsteer._types import Array, Bool, Float
from jaxsteer.audit._bayes_rule import log_priors
from jaxsteer.families import Normal


class Region(NamedTuple):
    """An interval of the line or what lies outside it.

    Attributes:
        anchor: A point near the interval's ends, from which they are measured so that
            ends next to a narrow law keep their digits.
        low: Lower end minus `anchor`.
        high: Upper end minus `anchor`.
        outside: Whether the region is the complement of the interval.
    """

    anchor: Float[Array, "..."]
    low: Float[Array, "..."]
    high: Float[Array, "..."]
    outside: Bool[Array, "..."]

    def mass(self, law: Normal) -> Float[Array, "..."]:
        """Probability of the region."""
        shift = self.anchor - law.loc
        low, high = (shift + self.low) / law.scale, (shift + self.high) / law.scale
        # The difference of the two lower or of the two upper tails: the smaller terms.
        flip = low > 0
        inside = ndtr(jnp.where(flip, -low, high)) - ndtr(jnp.where(flip, -high, low))
        return jnp.where(self.outside, ndtr(low) + ndtr(-high), inside)


def heavier(
    first: Normal,
    second: Normal,
    first_weight: Float[Array, "..."],
    second_weight: Float[Array, "..."],
) -> Region:
    """Where ``second_weight second(x) > first_weight first(x)``.

    With ``m`` and ``r`` the mean and scale of `second` in units of `first` and ``t`` the
    log-ratio of weights minus ``log r``, the ends are ``(-m +- r sqrt(E)) / (r^2 - 1)``,
    ``E = m^2 - 2 (r^2 - 1) t``, which is written without cancellation; from `second`'s
    side ``(-m r +- sqrt(E)) / (r^2 - 1)``. Weights may have any sign.

    Args:
        first: A law, batch ``[...]``.
        second: The other.
        first_weight: ``[...]``.
        second_weight: ``[...]``.

    Returns:
        The region, finite ends standing in for infinite ones.
    """
    dtype = jnp.result_type(first.loc, first.scale)
    big = float(jnp.finfo(dtype).max) ** 0.4
    both = (first_weight > 0) & (second_weight > 0)
    neither = (first_weight < 0) & (second_weight < 0)
    balance = log_priors(jnp.abs(second_weight)) - log_priors(jnp.abs(first_weight))
    balance = jnp.where(both | neither, balance, 0.0)

    r = second.scale / first.scale
    m = (second.loc - first.loc) / first.scale
    widening = (second.scale - first.scale) / first.scale * (1 + r)
    t = balance - jnp.log(r)
    square = m * m - 2 * widening * t
    root = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    sign = jnp.where(m < 0, -1.0, 1.0)

    narrower = second.scale < first.scale
    length = jnp.where(narrower, jnp.abs(m) * r + root, jnp.abs(m) + r * root)
    product = jnp.where(narrower, m * m + 2 * t, 2 * r * r * t - m * m)
    near = -sign * _quotient(product, length, 0.0)
    # Where scales are equal but for rounding, compilers may round each use of them
    # differently: the side of the far end must be the one that `narrower` says.
    side = jnp.where(narrower, sign, -sign)
    far = side * _quotient(length, jnp.abs(widening), big)
    unit = jnp.where(narrower, second.scale, first.scale)
    near, far = (jnp.clip(unit * end, -big, big) for end in (near, far))

    same = (widening == 0) & (m == 0)
    constant = same | (square < 0)
    always = jnp.where(same, t > 0, ~narrower)
    low = jnp.where(constant, 0.0, jnp.minimum(near, far))
    high = jnp.where(constant, 0.0, jnp.maximum(near, far))
    # An empty interval and its complement are nothing and everything.
    outside = jnp.where(constant, always, ~narrower) ^ neither
    certain = ~(both | neither)
    low, high = jnp.where(certain, 0.0, low), jnp.where(certain, 0.0, high)
    outside = jnp.where(certain, second_weight > first_weight, outside)
    return Region(jnp.where(narrower, second.loc, first.loc), low, high, outside)


def _quotient(a: Array, b: Array, otherwise: float) -> Array:
    return jnp.where(b != 0, a / jnp.where(b != 0, b, 1.0), otherwise)


def two_class_region(
    priors: Float[Array, "2 G"], cells: Normal, cost: Float[Array, "2 2"]
) -> Region:
    """Where the group-aware Bayes rule predicts class 1, one region for each group."""
    first, second = (Normal(cells.loc[i], cells.scale[i]) for i in (0, 1))
    return heavier(
        first,
        second,
        (cost[1, 0] - cost[0, 0]) * priors[0],
        (cost[0, 1] - cost[1, 1]) * priors[1],
    )


def exact_rates(region: Region, cells: Normal) -> Float[Array, "2 2 G"]:
    """Rates ``[predicted, true, group]`` where class 1 is predicted in `region`."""
    chosen = region.mass(cells)
    rest = region._replace(outside=~region.outside).mass(cells)
    return jnp.stack([rest, chosen])
