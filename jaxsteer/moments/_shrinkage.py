"""Covariance shrinkage toward a multiple of the identity."""

from __future__ import annotations

import numbers
from functools import partial

import jax
import jax.numpy as jnp

from jaxsteer._compilation import broadcasting
from jaxsteer._types import Array, Float, Scalar
from jaxsteer.moments._cells import CellMoments


def check_shrinkage(shrinkage: str | float | None) -> str | float | None:
    """Return `shrinkage`, None for the intensity 0, or raise if it is not known."""
    if shrinkage is None or shrinkage in ("oas", "ledoit-wolf"):
        return shrinkage
    if isinstance(shrinkage, numbers.Real) and not isinstance(shrinkage, bool):
        intensity = float(shrinkage)
        if 0 <= intensity <= 1:
            return intensity or None
    raise ValueError(
        f"shrinkage={shrinkage!r} is not known; give 'oas', 'ledoit-wolf', an intensity "
        f"between 0 and 1, or None."
    )


def _unit_scale(cov: Array) -> Array:
    """Covariances scaled to mean variance 1, whose squares fit float32."""
    level = jnp.trace(cov, axis1=-2, axis2=-1) / cov.shape[-1]
    return cov / jnp.where(level > 0, level, 1.0)[:, None, None]


def oas_intensity(moments: CellMoments) -> Float[Array, " C"]:
    """Oracle-approximating shrinkage intensity of each cell.

    ``min(1, (a + m^2) / ((n + 1) (a - m^2 / d)))`` with ``m = tr S / d`` and ``a`` the
    mean square entry of ``S``.

    References:
        Chen, Wiesel, Eldar and Hero 2010 (arXiv 0907.4698), equation 23.
    """
    d = moments.cov.shape[-1]
    cov = _unit_scale(moments.cov)
    level = jnp.trace(cov, axis1=-2, axis2=-1) / d
    power = jnp.mean(jnp.square(cov), (-2, -1))
    spread = (moments.effective_count + 1) * (power - level**2 / d)
    positive = spread > 0
    ratio = (power + level**2) / jnp.where(positive, spread, 1.0)
    return jnp.where(positive, jnp.minimum(ratio, 1.0), 1.0)


def ledoit_wolf_intensity(moments: CellMoments) -> Float[Array, " C"]:
    """Ledoit-Wolf shrinkage intensity of each cell.

    ``min(b, s) / s`` with ``s = |S - m I|^2 / d`` and ``b = (mean |x|^4 - |S|^2) / (d
    n)``.

    References:
        Ledoit and Wolf 2004, section 3.
    """
    d = moments.cov.shape[-1]
    cov = _unit_scale(moments.cov)
    level = jnp.trace(cov, axis1=-2, axis2=-1) / d
    power = jnp.sum(jnp.square(cov), (-2, -1))
    spread = (power - d * level**2) / d
    noise = (moments.fourth - power) / (d * jnp.maximum(moments.effective_count, 1.0))
    positive = spread > 0
    ratio = jnp.minimum(noise, spread) / jnp.where(positive, spread, 1.0)
    return jnp.where(positive, ratio, 1.0)


def shrink(
    moments: CellMoments, shrinkage: str | float | None
) -> Float[Array, "C d d"]:
    """Return ``(1 - r) S + r (tr S / d) I`` with the intensity ``r`` asked for.

    Args:
        moments: Moments of the cells.
        shrinkage: "oas", "ledoit-wolf", an intensity in [0, 1], or None.

    Raises:
        ValueError: If `shrinkage` is none of these.
    """
    shrinkage = check_shrinkage(shrinkage)
    if shrinkage is None:
        return moments.cov
    if isinstance(shrinkage, str):
        return _shrink(moments, None, kind=shrinkage)
    return _shrink(moments, shrinkage, kind=None)


# Compiled as one: outside of jit every operation would be a program of its own.
@partial(jax.jit, static_argnames="kind")
@broadcasting
def _shrink(
    moments: CellMoments, intensity: Scalar | None, *, kind: str | None
) -> Array:
    if kind == "oas":
        share = oas_intensity(moments)
    elif kind == "ledoit-wolf":
        share = ledoit_wolf_intensity(moments)
    else:
        assert intensity is not None
        share = jnp.full(moments.mass.shape, intensity, moments.cov.dtype)
    d = moments.cov.shape[-1]
    level = jnp.trace(moments.cov, axis1=-2, axis2=-1) / d
    weight = share[:, None, None]
    target = level[:, None, None] * jnp.eye(d, dtype=moments.cov.dtype)
    return (1 - weight) * moments.cov + weight * target
