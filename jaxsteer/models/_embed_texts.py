"""Texts to vectors."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer.models._batches import token_batches
from jaxsteer.models._encoder import Encoder
from jaxsteer.models._tokenizer import Tokenizer


def embed_texts(
    model: Encoder,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    max_length: int = 128,
    batch_size: int = 32,
) -> np.ndarray:
    """Return one vector a text, ``[n, d]``, of length 1.

    Texts of like length share a batch, so that little is spent on padding; the rows
    come back in the order of `texts`.

    Args:
        model: The encoder.
        tokenizer: Its tokenizer.
        texts: Texts, in any number.
        max_length: Tokens of a text that are read, special ones included.
        batch_size: Texts a batch.
    """
    codes = [tokenizer.encode(text) for text in texts]
    out = np.zeros((len(codes), model.config.dim), np.float32)
    for rows, tokens, lengths in token_batches(
        codes, batch_size, max_length=max_length
    ):
        mask = np.arange(tokens.shape[1]) < lengths[:, None]
        vectors = _embed(model, jnp.asarray(tokens), jnp.asarray(mask))
        out[rows] = np.asarray(vectors)[: len(rows)]
    return out


@nnx.jit
def _embed(model, tokens, mask):
    return model.embed(tokens, mask)
