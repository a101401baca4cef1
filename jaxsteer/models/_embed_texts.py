"""Texts to vectors, a padded batch of tokens at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer._types import Array
from jaxsteer.models._encoder import Encoder
from jaxsteer.models._tokenizer import Tokenizer, pad_tokens


def token_batches(
    texts: Sequence[Sequence[int]],
    batch_size: int = 32,
    *,
    max_length: int | None = None,
    multiple: int = 32,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield token lists in padded batches of one size, from the shortest up.

    Little is spent on padding, and few shapes are compiled: the last batch is filled up
    with copies.

    Args:
        texts: Token lists, none empty.
        batch_size: Texts a batch.
        max_length: As for :func:`pad_tokens`, like `multiple`.
        multiple: The widths are multiples of it.

    Yields:
        Which texts they are (for the last batch fewer than `batch_size`), tokens
        ``[batch_size, T]`` and lengths ``[batch_size]``, int32.

    Example:
        >>> for rows, tokens, lengths in token_batches([[1, 2], [3]], 1, multiple=1):
        ...     print(rows.tolist(), tokens.tolist(), lengths.tolist())
        [1] [[3]] [1]
        [0] [[1, 2]] [2]
    """
    order = np.argsort([len(text) for text in texts], kind="stable")
    for start in range(0, len(texts), batch_size):
        rows = order[start : start + batch_size]
        chosen = [texts[row] for row in np.resize(rows, batch_size).tolist()]
        yield rows, *pad_tokens(chosen, max_length=max_length, multiple=multiple)


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

    Example:
        ::

            model = load_encoder("all-MiniLM-L6-v2")
            vectors = embed_texts(model, load_tokenizer("all-MiniLM-L6-v2"), ["a text"])
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
def _embed(model: Encoder, tokens: Array, mask: Array):
    return model.embed(tokens, mask)
