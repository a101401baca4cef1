"""Text from a decoder: greedy, or drawn at a temperature."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer._errors import is_concrete
from jaxsteer._types import Array, ArrayLike, Int, Key
from jaxsteer.models._cache import KVCache
from jaxsteer.models._decoder import Decoder


def generate(
    model: Decoder,
    tokens: Int[ArrayLike, "B T"],
    *,
    steps: int,
    lengths: Int[ArrayLike, " B"] | None = None,
    temperature: float = 0.0,
    key: Key[Array, ""] | None = None,
    stop: int | None = None,
) -> Int[Array, "B steps"]:
    """Continue texts.

    The prompt is read once; each further token costs one row through the model
    (:class:`KVCache`). Compiled once for each shape; new weights, steering or
    temperatures compile nothing.

    Args:
        model: The decoder, with or without steering layers inside.
        tokens: ``[B, T]`` prompts, padded on the right.
        steps: Number of tokens to add.
        lengths: ``[B]`` lengths of the prompts; None takes T for all.
        temperature: 0 takes the likeliest token; above, tokens are drawn from
            ``softmax(logits / temperature)``.
        key: Random key, needed above temperature 0.
        stop: Token that ends a text; it fills the rest.

    Returns:
        ``[B, steps]`` tokens after the prompts.

    Raises:
        ValueError: If a key is missing, the temperature is negative, a prompt is empty or
            the text would be longer than the model knows positions for.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsteer.models import Decoder, DecoderConfig
        >>> config = DecoderConfig(
        ...     dim=16, n_layers=2, n_heads=2, n_kv_heads=2, hidden_dim=32, vocab_size=20,
        ...     max_length=8,
        ... )
        >>> model = Decoder(config, rngs=nnx.Rngs(0))
        >>> generate(model, jnp.array([[3, 7, 5]]), steps=2).shape
        (1, 2)
    """
    tokens = jnp.asarray(tokens)
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise ValueError(
            f"tokens has shape {tokens.shape}, expected [B, T] with T at least 1; start "
            f"an empty prompt with the tokenizer's first token."
        )
    if temperature < 0:
        raise ValueError(f"temperature={temperature} is negative; 0 is greedy.")
    if temperature > 0 and key is None:
        raise ValueError(
            "temperature above 0 draws tokens: pass key=jax.random.key(0)."
        )
    batch, length = tokens.shape
    if length + steps > model.config.max_length:
        raise ValueError(
            f"{length} tokens and {steps} steps are more than the model's "
            f"{model.config.max_length} positions; shorten the prompt or steps."
        )
    lengths = jnp.full((batch,), length) if lengths is None else jnp.asarray(lengths)
    if (
        is_concrete(lengths)
        and not ((np.asarray(lengths) > 0) & (np.asarray(lengths) <= length)).all()
    ):
        raise ValueError(
            f"lengths must be between 1 and {length}, got {np.asarray(lengths).tolist()}."
        )
    return _generate(
        model,
        tokens,
        lengths.astype(jnp.int32),
        jax.random.key(0) if key is None else key,
        jnp.asarray(temperature, jnp.float32),
        jnp.asarray(-1 if stop is None else stop, tokens.dtype),
        steps=steps,
        draw=temperature > 0,
    )


@partial(nnx.jit, static_argnames=("steps", "draw"))
def _generate(
    model: Decoder,
    tokens: Array,
    lengths: Array,
    key: Array,
    temperature: Array,
    stop: Array,
    *,
    steps: int,
    draw: bool,
):
    batch, length = tokens.shape
    cache = KVCache.empty(model.config, batch, length + steps, model.dtype)
    hidden, cache = model.extend(tokens, cache)
    last = hidden[jnp.arange(batch), lengths - 1]
    # The rows of the padding stay in memory until tokens of these positions come.
    cache = dataclasses.replace(cache, length=lengths)

    def choose(hidden: Array, key: Array):
        logits = model.logits(hidden).astype(jnp.float32)
        if draw:
            chosen = jax.random.categorical(key, logits / temperature)
        else:
            chosen = jnp.argmax(logits, -1)
        return chosen.astype(tokens.dtype)

    def step(carry: tuple[Array, Array, KVCache], key: Array):
        token, done, cache = carry
        hidden, cache = model.extend(token[:, None], cache)
        token = jnp.where(done, stop, choose(hidden[:, 0], key))
        return (token, done | (token == stop), cache), token

    keys = jax.random.split(key, steps)
    first = choose(last, keys[0])
    _, rest = jax.lax.scan(step, (first, first == stop, cache), keys[1:])
    return jnp.concatenate([first[None], rest]).T
