"""A Llama-style decoder: RMS norms, rotary attention, gated feed-forward blocks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsteer._types import Array, DTypeLike, Float, Int
from jaxsteer.models._cache import KeyValues, KVCache, rotate
from jaxsteer.models._configs import DecoderConfig


class Attention(nnx.Module):
    """Causal attention; several query heads share one key and value head."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs, **precision: Any):
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        self.rope_base = config.rope_base

        def linear(width_in: int, width_out: int) -> nnx.Linear:
            return nnx.Linear(
                width_in, width_out, use_bias=False, rngs=rngs, **precision
            )

        kv_dim = config.n_kv_heads * config.head_dim
        self.q = linear(config.dim, config.dim)
        self.k = linear(config.dim, kv_dim)
        self.v = linear(config.dim, kv_dim)
        self.o = linear(config.dim, config.dim)

    def __call__(
        self,
        x: Float[Array, "B T d"],
        positions: Int[Array, "B T"],
        memory: KeyValues | None,
    ) -> tuple[Float[Array, "B T d"], KeyValues | None]:
        """Attend to the tokens up to each position."""
        batch, length, _ = x.shape

        def heads(y: Array, count: int) -> Array:
            return y.reshape(batch, length, count, -1)

        queries = rotate(heads(self.q(x), self.n_heads), positions, self.rope_base)
        keys = rotate(heads(self.k(x), self.n_kv_heads), positions, self.rope_base)
        values = heads(self.v(x), self.n_kv_heads)
        if memory is not None:
            memory = memory.write(keys, values, positions)
            keys = memory.keys.astype(queries.dtype)
            values = memory.values.astype(queries.dtype)
        # A row of memory holds the token of its own position. Later rows, which an
        # earlier call may have left there, are never seen before they are overwritten.
        seen = jnp.arange(keys.shape[1]) <= positions[..., None]
        out = jax.nn.dot_product_attention(queries, keys, values, mask=seen[:, None])
        return self.o(out.reshape(batch, length, -1)), memory


class FeedForward(nnx.Module):
    """``down(silu(gate(x)) * up(x))``."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs, **precision: Any):
        wide: dict[str, Any] = dict(use_bias=False, rngs=rngs, **precision)
        self.gate = nnx.Linear(config.dim, config.hidden_dim, **wide)
        self.up = nnx.Linear(config.dim, config.hidden_dim, **wide)
        self.down = nnx.Linear(config.hidden_dim, config.dim, **wide)

    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Apply to each row."""
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


class Block(nnx.Module):
    """Attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs, **precision: Any):
        norm: dict[str, Any] = dict(epsilon=config.norm_eps, rngs=rngs, **precision)
        self.attention_norm = nnx.RMSNorm(config.dim, **norm)
        self.attention = Attention(config, rngs=rngs, **precision)
        self.mlp_norm = nnx.RMSNorm(config.dim, **norm)
        self.mlp = FeedForward(config, rngs=rngs, **precision)

    def __call__(
        self,
        x: Float[Array, "B T d"],
        positions: Int[Array, "B T"],
        memory: KeyValues | None = None,
    ) -> tuple[Float[Array, "B T d"], KeyValues | None]:
        """Return the residual stream after the block, and the memory."""
        change, memory = self.attention(self.attention_norm(x), positions, memory)
        x = x + change
        return _rounded_sum(x, self.mlp(self.mlp_norm(x))), memory


def _rounded_sum(x: Array, change: Array) -> Array:
    """Return ``x + change``, rounded to its dtype wherever it goes.

    Of sums in bfloat16 that one fusion both makes and reads, XLA skips the rounding. A
    layer put in between would bring it back, and an identity would change logits.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32)) + change
    kind = jnp.finfo(x.dtype)
    return jax.lax.reduce_precision(wide, kind.nexp, kind.nmant).astype(x.dtype)


class Decoder(nnx.Module):
    """A causal language model, small enough to read.

    Places to steer or to capture at: ``layers.3`` (the residual stream after block 3),
    ``layers.3.attention``, ``layers.3.mlp``, ``norm``.

    Attributes:
        config: The shape.

    Args:
        config: The shape.
        dtype: Precision of the activations.
        param_dtype: Precision of the weights.
        rngs: Random numbers for the first weights; :func:`load_decoder` reads others.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> config = DecoderConfig(vocab_size=11, dim=8, hidden_dim=16, n_layers=1,
        ...     n_heads=4, n_kv_heads=2, max_length=16)
        >>> def run(tokens):
        ...     return Decoder(config, rngs=nnx.Rngs(0))(tokens)
        >>> nnx.eval_shape(run, jnp.array([[1, 2, 3]])).shape
        (1, 3, 11)

    References:
        Touvron et al. 2023, arXiv 2302.13971; Ainslie et al. 2023, arXiv 2305.13245.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        precision: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype)
        self.config = config
        self.dtype = dtype
        self.embed: nnx.Embed = nnx.Embed(
            config.vocab_size, config.dim, rngs=rngs, **precision
        )
        self.layers: nnx.List[Block] = nnx.List(
            [Block(config, rngs=rngs, **precision) for _ in range(config.n_layers)]
        )
        self.norm: nnx.RMSNorm = nnx.RMSNorm(
            config.dim, epsilon=config.norm_eps, rngs=rngs, **precision
        )
        if not config.tied:
            self.head: nnx.Linear = nnx.Linear(
                config.dim, config.vocab_size, use_bias=False, rngs=rngs, **precision
            )

    def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T V"]:
        """Return the logits of the next token, after each token."""
        return self.logits(self.hidden(tokens))

    def hidden(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T d"]:
        """Return the last hidden states (after the final norm).

        A token never sees later ones, so texts padded on the right have the same hidden
        states as without padding: take row ``length - 1`` for the last token's.
        """
        positions = _positions(jnp.zeros(tokens.shape[:1], jnp.int32), tokens)
        return self._run(tokens, positions, [None] * len(self.layers))[0]

    def extend(
        self, tokens: Int[Array, "B T"], cache: KVCache
    ) -> tuple[Float[Array, "B T d"], KVCache]:
        """Read more tokens, after those in `cache`.

        Returns:
            The hidden states of the new tokens (:meth:`logits` makes logits of them), and
            the cache with these tokens.
        """
        positions = _positions(cache.length, tokens)
        hidden, blocks = self._run(tokens, positions, list(cache.blocks))
        return hidden, KVCache(tuple(blocks), cache.length + tokens.shape[1])

    def logits(self, hidden: Float[Array, "... d"]) -> Float[Array, "... V"]:
        """Return logits of the next token."""
        if self.config.tied:
            return self.embed.attend(hidden)
        return self.head(hidden)

    def _run(
        self, tokens: Array, positions: Array, memories: list[Any]
    ) -> tuple[Array, list[Any]]:
        x = self.embed(tokens)
        for place, layer in enumerate(self.layers):
            x, memories[place] = layer(x, positions, memories[place])
        return self.norm(x), memories


def _positions(start: Int[Array, " B"], tokens: Int[Array, "B T"]) -> Int[Array, "B T"]:
    return start[:, None] + jnp.arange(tokens.shape[1], dtype=jnp.int32)
