"""What a model's shape is: read from the files, never guessed."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Shape of a Llama-style decoder.

    Attributes:
        vocab_size: Number of tokens.
        dim: Width of the residual stream.
        hidden_dim: Width inside the feed-forward blocks.
        n_layers: Number of blocks.
        n_heads: Query heads.
        n_kv_heads: Key and value heads, each shared by ``n_heads / n_kv_heads`` queries.
        max_length: Longest text the model was trained on.
        rope_base: Base of the rotary frequencies.
        norm_eps: Added to the mean square in RMS norms.
        tied: Whether the output matrix is the embedding.
    """

    vocab_size: int
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    max_length: int
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5
    tied: bool = True

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.n_heads


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape of a BERT-style encoder.

    Attributes:
        vocab_size: Number of tokens.
        dim: Width of the residual stream.
        hidden_dim: Width inside the feed-forward blocks.
        n_layers: Number of blocks.
        n_heads: Attention heads.
        max_length: Number of learned positions.
        norm_eps: Added to the variance in layer norms.
    """

    vocab_size: int
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    max_length: int
    norm_eps: float = 1e-12
