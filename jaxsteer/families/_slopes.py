"""Slopes of two divergences by the first law's parameters, in few operations.

A search needs the slope and its derivative at every step, and the divergences are
written for their last digits near 0: reverse mode through them takes ten times the
operations of these formulas, which lose no more than the rounding of their terms.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array
from jaxsteer.linalg import expm1_minus, log_minus_digamma, stirling_remainder
from jaxsteer.linalg._special import SHIFT, STIRLING


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _polygamma(order: int, x: Array) -> Array:
    """Derivative of `order` of ``digamma``, ``x > 0``, to the rounding of its terms.

    Ten steps of the recurrence, then Stirling's series; each derivative is another one
    of these, not a derivative of that sum.
    """
    n = order + 1
    sign, factor = (-1.0) ** n, float(math.factorial(order))
    ranks = np.arange(SHIFT, dtype=x.dtype).reshape(SHIFT, *(1,) * x.ndim)
    below = factor * jnp.sum(1 / (x + ranks) ** n, 0)
    y = 1 / (x + SHIFT)
    series = jnp.zeros_like(y)
    for m in reversed(range(len(STIRLING))):
        # c / x^(2 m + 1), differentiated n times.
        rise = math.factorial(2 * m + n) // math.factorial(2 * m)
        series = series * y * y + rise * STIRLING[m]
    tail = series * y ** (n + 1) + 0.5 * factor * y**n
    if order == 0:
        return jnp.log(x + SHIFT) - below - tail
    return sign * (below + tail + factor / order * y**order)


@_polygamma.defjvp
def _polygamma_jvp(
    order: int, primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return _polygamma(order, x), _polygamma(order + 1, x) * dx


@jax.custom_jvp
def _lgamma_above(x: Array) -> Array:
    """``lgamma(1 + x)``."""
    return jax.lax.lgamma(1 + x)


@_lgamma_above.defjvp
def _lgamma_above_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return _lgamma_above(x), (_polygamma(0, x) + 1 / x) * dx


@jax.custom_jvp
def _remainder(x: Array) -> Array:
    """Binet's function."""
    return stirling_remainder(x)


@_remainder.defjvp
def _remainder_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return _remainder(x), (_polygamma(0, x) - jnp.log(x) + 0.5 / x) * dx


def gumbel_kl_and_slope(p: Any, q: Any) -> tuple[Array, Any]:
    """``KL = exp(u) - 1 - u + lgamma(r) + 0.5772 (r - 1)``, ``r`` the ratio of scales.

    ``u = (q.loc - p.loc) / q.scale + lgamma(1 + r)``; see ``kl_gumbel``.
    """
    ratio = p.scale / q.scale
    shift = (q.loc - p.loc) / q.scale
    above = _lgamma_above(ratio)
    excess = jnp.expm1(shift + above)
    value = excess - shift - jnp.log(ratio) + np.euler_gamma * (ratio - 1)
    low = _polygamma(0, ratio)
    by_ratio = excess * (low + 1 / ratio) + low + np.euler_gamma
    return value, type(p)(-excess / q.scale, by_ratio / q.scale)


def gamma_kl_and_slope(p: Any, q: Any) -> tuple[Array, Any]:
    """``KL = b (m - 1 - log m) + G(b) - G(a) - G'(a) (b - a)``; see ``kl_gamma``.

    ``a, b`` the concentrations, ``m`` the ratio of the means and ``G(x) = lgamma(x) - x
    log x + x``, which is ``(log(2 pi / x)) / 2`` and a small remainder. The
    inverse-gamma's scale is the gamma's rate.
    """
    rate, other = (law.rate if hasattr(law, "rate") else law.scale for law in (p, q))
    a, b = p.concentration, q.concentration
    ratio = other / rate
    value = b * expm1_minus(jnp.log(a / b * ratio))
    value = value + log_minus_digamma(a) * (b - a)
    value = value + _remainder(b) - _remainder(a) - 0.5 * jnp.log(b / a)
    by_shape = (a - b) * _polygamma(1, a) + (other - rate) / rate
    return value, type(p)(by_shape, (b - a * ratio) / rate)
