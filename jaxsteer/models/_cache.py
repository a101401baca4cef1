"""Keys and values of the tokens so far, and the rotation by which they know their place."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, DTypeLike, Float, Int
from jaxsteer.models._configs import DecoderConfig


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


@register_dataclass
@dataclasses.dataclass(frozen=True)
class KeyValues:
    """Keys and values of one block.

    Attributes:
        keys: ``[B, S, H, D]``, rotated already.
        values: ``[B, S, H, D]``.
    """

    keys: Float[Array, "B S H D"]
    values: Float[Array, "B S H D"]

    def write(
        self,
        keys: Float[Array, "B T H D"],
        values: Float[Array, "B T H D"],
        positions: Int[Array, "B T"],
    ) -> KeyValues:
        """Return a copy with new rows at `positions`; rows past the end are dropped."""
        rows = jnp.arange(keys.shape[0])[:, None]
        return KeyValues(
            self.keys.at[rows, positions].set(
                keys.astype(self.keys.dtype), mode="drop"
            ),
            self.values.at[rows, positions].set(
                values.astype(self.values.dtype), mode="drop"
            ),
        )


@register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Memory of a decoder: one :class:`KeyValues` for each block, and the lengths.

    Examples of a batch may have texts of different lengths: each has its own.

    Attributes:
        blocks: Keys and values of each block.
        length: ``[B]`` tokens seen.
    """

    blocks: tuple[KeyValues, ...]
    length: Int[Array, " B"]

    @classmethod
    def empty(
        cls,
        config: DecoderConfig,
        batch: int,
        size: int,
        dtype: DTypeLike = jnp.float32,
    ) -> KVCache:
        """Return a cache with room for `size` tokens of `batch` texts."""
        shape = (batch, size, config.n_kv_heads, config.head_dim)
        blocks = tuple(
            KeyValues(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
            for _ in range(config.n_layers)
        )
        return cls(blocks, jnp.zeros((batch,), jnp.int32))

    @property
    def size(self) -> int:
        """Room, in tokens."""
        return self.blocks[0].keys.shape[1]
