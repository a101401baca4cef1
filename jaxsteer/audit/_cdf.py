"""Cumulative distribution functions, by family: masses of pieces of the line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.scipy.special import betainc, gammainc, gammaincc, ndtr

from jaxsteer._types import Array
from jaxsteer.families import (
    Beta,
    Exponential,
    Gamma,
    Gumbel,
    InverseGamma,
    Laplace,
    Normal,
    Pareto,
    Rayleigh,
    Weibull,
)


def _laplace(law: Laplace, x: Array) -> Array:
    z = (x - law.loc) / law.scale
    tail = 0.5 * jnp.exp(-jnp.abs(z))
    return jnp.where(z < 0, tail, 1 - tail)


def _weibull(law: Weibull, x: Array) -> Array:
    return -jnp.expm1(-((_positive(x) / law.scale) ** law.concentration))


def _inverse_gamma(law: InverseGamma, x: Array) -> Array:
    positive = x > 0
    ratio = law.scale / jnp.where(positive, x, 1.0)
    return jnp.where(positive, gammaincc(law.concentration, ratio), 0.0)


def _pareto(law: Pareto, x: Array) -> Array:
    return 1 - (law.scale / jnp.maximum(x, law.scale)) ** law.concentration


def _beta(law: Beta, x: Array) -> Array:
    inside = jnp.clip(x, 0.0, 1.0)
    return betainc(law.concentration1, law.concentration0, inside)


def _positive(x: Array) -> Array:
    return jnp.maximum(x, 0.0)


# A law with parameters that broadcast against the points, and the points.
_FORMULAS: dict[type, Callable[[Any, Array], Array]] = {
    Beta: _beta,
    Exponential: lambda law, x: -jnp.expm1(-law.rate * _positive(x)),
    Gamma: lambda law, x: gammainc(law.concentration, law.rate * _positive(x)),
    Gumbel: lambda law, x: jnp.exp(-jnp.exp(-(x - law.loc) / law.scale)),
    InverseGamma: _inverse_gamma,
    Laplace: _laplace,
    Normal: lambda law, x: ndtr((x - law.loc) / law.scale),
    Pareto: _pareto,
    Rayleigh: lambda law, x: -jnp.expm1(-0.5 * (_positive(x) / law.scale) ** 2),
    Weibull: _weibull,
}


def cdf_of(family: type) -> Callable[[Any, Array], Array] | None:
    """The cumulative distribution function of a family: its own, ours, or None."""
    if hasattr(family, "cdf"):
        return lambda law, x: law.cdf(x)
    return _FORMULAS.get(family)
