"""Rotary positions: pairs of coordinates turned by angles that grow with position."""

from __future__ import annotations

import jax.numpy as jnp

from jaxsteer._types import Array, Float, Int


def rotate(
    x: Float[Array, "B T H D"], positions: Int[Array, "B T"], base: float
) -> Float[Array, "B T H D"]:
    """Turn the pairs ``(2i, 2i + 1)`` of each head by ``position * base^(-2i/D)``.

    The angles are float32 whatever the precision of `x`.

    References:
        Su et al. 2021, arXiv 2104.09864.
    """
    size = x.shape[-1]
    frequencies = base ** (-jnp.arange(0, size, 2, dtype=jnp.float32) / size)
    angles = positions[..., None, None].astype(jnp.float32) * frequencies
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)
