"""A BERT-style encoder: learned positions, attention both ways, norms after each sum."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsteer._types import Array, Bool, DTypeLike, Float, Int
from jaxsteer.models._configs import EncoderConfig


class SelfAttention(nnx.Module):
    """Attention to every token of the text."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs, **precision: Any):
        self.n_heads = config.n_heads

        def linear() -> nnx.Linear:
            return nnx.Linear(config.dim, config.dim, rngs=rngs, **precision)

        self.q, self.k, self.v, self.o = linear(), linear(), linear(), linear()

    def __call__(
        self, x: Float[Array, "B T d"], mask: Bool[Array, "B T"]
    ) -> Float[Array, "B T d"]:
        """Attend to the tokens that `mask` keeps."""
        batch, length, _ = x.shape
        shape = (batch, length, self.n_heads, -1)
        q, k, v = (layer(x).reshape(shape) for layer in (self.q, self.k, self.v))
        out = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :])
        return self.o(out.reshape(batch, length, -1))


class EncoderBlock(nnx.Module):
    """Attention and feed-forward; a layer norm follows each sum."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs, **precision: Any):
        norm: dict[str, Any] = dict(epsilon=config.norm_eps, rngs=rngs, **precision)
        self.attention = SelfAttention(config, rngs=rngs, **precision)
        self.attention_norm = nnx.LayerNorm(config.dim, **norm)
        self.up = nnx.Linear(config.dim, config.hidden_dim, rngs=rngs, **precision)
        self.down = nnx.Linear(config.hidden_dim, config.dim, rngs=rngs, **precision)
        self.mlp_norm = nnx.LayerNorm(config.dim, **norm)

    def __call__(
        self, x: Float[Array, "B T d"], mask: Bool[Array, "B T"]
    ) -> Float[Array, "B T d"]:
        """Return the stream after the block."""
        x = self.attention_norm(x + self.attention(x, mask))
        wide = jax.nn.gelu(self.up(x), approximate=False)
        return self.mlp_norm(x + self.down(wide))


class Encoder(nnx.Module):
    """Texts to vectors, small enough to read.

    Places to steer or to capture at: ``layers.3`` (the stream after block 3),
    ``layers.3.attention``, ``embed_norm``.

    Attributes:
        config: The shape.

    Args:
        config: The shape.
        dtype: Precision of the activations.
        param_dtype: Precision of the weights.
        rngs: Random numbers for the first weights; :func:`load_encoder` reads others.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> config = EncoderConfig(vocab_size=11, dim=8, hidden_dim=16, n_layers=1,
        ...     n_heads=4, max_length=16)
        >>> def run(tokens):
        ...     return Encoder(config, rngs=nnx.Rngs(0)).embed(tokens, tokens > 0)
        >>> nnx.eval_shape(run, jnp.array([[1, 2, 0]])).shape
        (1, 8)

    References:
        Devlin et al. 2019, arXiv 1810.04805; Reimers and Gurevych 2019, arXiv 1908.10084.
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        precision: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype)
        self.config = config
        self.dtype = dtype
        self.tokens: nnx.Embed = nnx.Embed(
            config.vocab_size, config.dim, rngs=rngs, **precision
        )
        self.positions: nnx.Embed = nnx.Embed(
            config.max_length, config.dim, rngs=rngs, **precision
        )
        # The vector of "first sentence", which is added to every token of a single one.
        self.segment: nnx.Param[Array] = nnx.Param(
            jnp.zeros((config.dim,), param_dtype)
        )
        self.embed_norm: nnx.LayerNorm = nnx.LayerNorm(
            config.dim, epsilon=config.norm_eps, rngs=rngs, **precision
        )
        self.layers: nnx.List[EncoderBlock] = nnx.List(
            [
                EncoderBlock(config, rngs=rngs, **precision)
                for _ in range(config.n_layers)
            ]
        )

    def __call__(
        self, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"]
    ) -> Float[Array, "B T d"]:
        """Return the hidden states.

        Args:
            tokens: ``[B, T]``, padded.
            mask: ``[B, T]``, True where there is a token.
        """
        length = tokens.shape[1]
        if length > self.config.max_length:
            raise ValueError(
                f"tokens has {length} positions, the encoder {self.config.max_length}; "
                f"cut the texts: pad_tokens(..., max_length={self.config.max_length})."
            )
        x = self.tokens(tokens) + self.positions(jnp.arange(length))
        x = self.embed_norm(x + self.segment[...].astype(x.dtype))
        for layer in self.layers:
            x = layer(x, mask)
        return x

    def embed(
        self, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"]
    ) -> Float[Array, "B d"]:
        """Return one vector a text: the mean over its tokens, scaled to length 1."""
        hidden = self(tokens, mask).astype(jnp.float32)
        kept = mask[..., None].astype(jnp.float32)
        mean = jnp.sum(hidden * kept, axis=1) / jnp.sum(kept, axis=1)
        return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)
