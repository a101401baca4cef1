"""The von Mises family of angles."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, ArrayLike, Float, Key
from jaxsteer.families._family import Natural, family
from jaxsteer.families._support import (
    as_floating,
    draws,
    newton,
    on_support,
    weighted_samples,
)
from jaxsteer.linalg import expm1_minus

NODES = 40
# From here on the density is too narrow for equidistant angles.
NARROW = 40.0
# Best and Fisher's envelope accepts two draws of three: one in 1e48 is left over.
MAX_TRIALS = 100


def _on_plane(law: VonMises):
    across, along = jnp.sin(law.loc), jnp.cos(law.loc)
    return law.concentration * across, law.concentration * along


def _from_plane(point: tuple[Array, Array]):
    across, along = point
    return VonMises(jnp.arctan2(across, along), jnp.hypot(across, along))


@family(
    domain={"loc": "real", "concentration": "not_negative"},
    maps="identity",
    natural=Natural(of=_on_plane, law=_from_plane),
)
@dataclasses.dataclass(frozen=True)
class VonMises:
    """Von Mises distributions of angles, of density ~ ``exp(concentration cos(x - loc))``.

    Attributes:
        loc: ``[...]`` mean directions, in radians; leading axes are a batch.
        concentration: ``[...]`` at least 0 (the uniform law).

    Example:
        >>> round(VonMises(0.0, 1.0).kl(VonMises(1.0, 1.0)).item(), 4)
        0.2052
    """

    loc: Float[Array, "..."]
    concentration: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> VonMises:
        """Maximum likelihood: the direction of the mean vector, and Newton on its length.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        x, weights = weighted_samples(x, weights)
        sine, cosine = (jnp.sum(weights * fn(x), -1) for fn in (jnp.sin, jnp.cos))
        loc = jnp.arctan2(sine, cosine)
        half = jnp.square(jnp.sin(0.5 * (x - loc[..., None])))
        variance = 2 * jnp.sum(weights * half, -1)
        length = 1 - variance
        # The start is Banerjee et al.'s; 1 / variance is nearly linear in the solution.
        start = length * (1 + variance * (2 - variance)) / (variance * (1 + length))
        start = jnp.maximum(start, jnp.finfo(x.dtype).tiny)
        return cls(loc, newton(_inverse_variance, 1 / variance, start, 8))

    @property
    def mean(self) -> Float[Array, "..."]:
        """Mean directions, ``[...]``, in radians."""
        return jnp.asarray(self.loc)

    @property
    def circular_variance(self) -> Float[Array, "..."]:
        """``1 - E cos(x - loc)``, ``[...]``, from 0 to 1."""
        return _circle(as_floating(self.concentration)).variance

    def kl(self, other: VonMises) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_von_mises`."""
        return kl_von_mises(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density per radian at angles `x`, which broadcast; periodic.

        NaN where `x` is no angle (NaN or infinite).
        """
        x = as_floating(x, self.loc, self.concentration)
        concentration = as_floating(self.concentration)
        drop = 2 * concentration * jnp.square(jnp.sin(0.5 * (x - self.loc)))
        value = -drop - math.log(2 * math.pi) - _circle(concentration).log_i0e
        return on_support(x, ~jnp.isnan(x), value)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` angles in ``[-pi, pi]``, by rejection.

        References:
            Best and Fisher 1979, "Efficient simulation of the von Mises distribution".
        """
        shape, dtype = draws(shape, self.loc, self.concentration)
        concentration = jnp.asarray(self.concentration, dtype)
        turned = self.loc + _rejection(key, concentration, shape, dtype)
        return jnp.arctan2(jnp.sin(turned), jnp.cos(turned))


class _Circle(NamedTuple):
    """Quadrature of von Mises laws in ``v = 1 - cos(angle)``."""

    v: Array
    weight: Array
    variance: Array
    log_i0e: Array


def _circle(concentration: Array) -> _Circle:
    """Nodes and weights for the angles of ``[...]`` laws, in a last axis of 40.

    Equidistant angles up to a concentration of 40; beyond, equidistant ``s`` with
    ``v = s^2 / concentration``. Both are the trapezoidal rule of an analytic function
    that vanishes at the ends or is periodic: exact to float64's last digits, and for
    every law of a concentration between half and one and a half times as large.
    """
    k = concentration[..., None]
    narrow = k > NARROW
    middle = np.arange(NODES) + 0.5
    wide_v = jnp.asarray(2 * np.sin(0.5 * math.pi / NODES * middle) ** 2, k.dtype)
    step = 8.5 / NODES
    square = jnp.asarray((step * middle) ** 2, k.dtype)
    large = jnp.where(narrow, k, 2 * NARROW)
    v = jnp.where(narrow, square / large, wide_v)
    drop = jnp.where(narrow, square, k * wide_v)
    stretch = jnp.where(narrow, 1 / jnp.sqrt(1 - square / (2 * large)), 1.0)
    mass = jnp.exp(-drop) * stretch
    total = jnp.sum(mass, -1)
    large = large[..., 0]
    log_unit = jnp.where(
        narrow[..., 0],
        math.log(step * math.sqrt(2) / math.pi) - 0.5 * jnp.log(large),
        -math.log(NODES),
    )
    weight = mass / total[..., None]
    return _Circle(v, weight, jnp.sum(weight * v, -1), jnp.log(total) + log_unit)


def _inverse_variance(concentration: Array) -> Array:
    return 1 / _circle(concentration).variance


def _rejection(
    key: Key[Array, ""], k: Array, shape: tuple[int, ...], dtype: jnp.dtype
) -> Array:
    """Angles around 0, drawn under a wrapped Cauchy envelope.

    With Best and Fisher's ``r = tau / (2 k)``, ``tau = 1 + sqrt(1 + 4 k^2)``, all is
    written without ``1 / k`` and without ``1 - cos``: good from ``k = 0`` to angles far
    below the precision of 1.
    """
    root = jnp.hypot(1.0, 2 * k)
    slack = 1 + 1 / (root + 2 * k)  # tau - 2 k of tau = 1 + root

    def draw(carry: tuple[Array, Array, Array, Array]):
        trial, key, angle, found = carry
        key, *parts = jax.random.split(key, 3)
        u, level = (
            jax.random.uniform(part, shape, dtype, minval=jnp.finfo(dtype).tiny)
            for part in parts
        )
        # v = 1 - cos(angle); the sign of the turn is that of the angle.
        turn = 2 * u - 1
        half = 2 * jnp.square(jnp.sin(0.5 * math.pi * turn))
        v = slack * half / (slack + 2 * k * (2 - half))
        c = 0.5 * slack + k * v
        accepted = (c * (2 - c) > level) | (jnp.log(c / level) + 1 - c >= 0)
        size = 2 * jnp.arcsin(jnp.sqrt(jnp.minimum(0.5 * v, 1)))
        new = jnp.where(turn < 0, -size, size)
        return trial + 1, key, jnp.where(found, angle, new), found | accepted

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        return (carry[0] < MAX_TRIALS) & ~jnp.all(carry[3])

    unknown = jnp.broadcast_to(jnp.isnan(k), shape)
    start = (jnp.zeros((), jnp.int32), key, jnp.full(shape, jnp.nan, dtype), unknown)
    return jax.lax.while_loop(unfinished, draw, start)[2]


def kl_von_mises(p: VonMises, q: VonMises) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats: a part of the concentrations and one of the directions.

    ``log I0(b) - log I0(a) - A(a) (b - a) + 2 A(a) b sin^2((p.loc - q.loc) / 2)`` with
    ``a, b`` the concentrations, ``A = I1 / I0``. For ``|a - b|`` up to ``a / 2`` (or 1)
    the first part is the mean over `p` of terms that are not negative, by quadrature
    with 40 nodes: no digits are lost, and both parts are zero with zero gradient at
    ``p = q``. Further apart it is the plain difference, which loses up to two digits.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    a, b = jnp.broadcast_arrays(
        as_floating(p.concentration), as_floating(q.concentration)
    )
    at_p, at_q = _circle(a), _circle(b)
    near = jnp.abs(b - a) <= jnp.maximum(1.0, 0.5 * a)
    step = jnp.where(near, b - a, 0.0)[..., None]
    # The divergence is log E exp(y) of y = (b - a) (cos - E cos), which has mean 0.
    terms = expm1_minus(step * (at_p.variance[..., None] - at_p.v))
    by_quadrature = jnp.log1p(jnp.sum(at_p.weight * terms, -1))
    plain = at_q.log_i0e - at_p.log_i0e + at_p.variance * (b - a)
    turned = jnp.square(jnp.sin(0.5 * jnp.asarray(p.loc - q.loc)))
    apart = 2 * (1 - at_p.variance) * b * turned
    return jnp.where(near, by_quadrature, plain) + apart
