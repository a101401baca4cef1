"""The language model of the experiment: read prompts once, then speak, score, look.

:func:`jaxsteer.models.generate` reads the prompts at every call. Here they are read once,
by the model as it is, and every strength of every arm goes on from there: what is steered
is the last token of the prompt and each token after it, as the authors of the concept
subspace do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer.models import Decoder, KVCache, pad_tokens
from jaxsteer.nn import capture_activations


class Opened(NamedTuple):
    """Prompts that were read but for their last token.

    Attributes:
        last: ``[B]`` the last tokens.
        cache: What was read, with room to go on.
    """

    last: Any
    cache: KVCache


def open_prompts(
    model: Decoder, tokenizer: Any, prompts: Sequence[str], width: int
) -> Opened:
    """Read prompts but for their last token, with room for `width` tokens in all."""
    tokens, lengths = pad_tokens([tokenizer.encode(text) for text in prompts])
    padded = np.zeros((len(tokens), width), np.int32)
    padded[:, : tokens.shape[1]] = tokens
    last = jnp.asarray(tokens[np.arange(len(tokens)), lengths - 1])
    # The padding is read too, where it is cheap: one shape for all prompts.
    read = min(width, -(-tokens.shape[1] // 8) * 8)
    cache = _read(model, jnp.asarray(padded[:, :read]), jnp.asarray(lengths - 1), width)
    return Opened(last, cache)


def speak(
    model: Decoder,
    opened: Opened,
    *,
    steps: int,
    temperature: float,
    seed: int,
    forbidden: int,
) -> jax.Array:
    """Continue prompts by `steps` tokens ``[B, steps]``.

    One seed draws the same noise at every strength. The `forbidden` token (the end of
    the text) is never said: all texts are of one length.
    """
    return _speak(
        model,
        opened,
        jax.random.key(seed),
        jnp.asarray(temperature, jnp.float32),
        jnp.asarray(forbidden, jnp.int32),
        steps=steps,
    )


@nnx.jit
def surprise(model: Decoder, opened: Opened, said: jax.Array) -> jax.Array:
    """Negative log-likelihoods ``[B, steps]`` of the tokens that were said, in nats."""
    before = jnp.concatenate([opened.last[:, None], said[:, :-1]], 1)
    hidden, _ = model.extend(before, opened.cache)

    def one(pair):
        logits = model.logits(pair[0]).astype(jnp.float32)
        own = jnp.take_along_axis(logits, pair[1][:, None], 1)[:, 0]
        return jax.nn.logsumexp(logits, -1) - own

    # A token at a time: all logits at once would be half a gigabyte.
    return jax.lax.map(one, (jnp.swapaxes(hidden, 0, 1), said.T)).T


@partial(nnx.jit, static_argnames="places")
def look(model: Decoder, opened: Opened, places: tuple[str, ...]) -> dict[str, Any]:
    """Residual stream ``[B, d]`` at the prompts' last token, by place."""
    with capture_activations(model, places) as kept:
        model.extend(opened.last[:, None], opened.cache)
    return {place: kept[place][:, 0] for place in places}


@partial(nnx.jit, static_argnums=3)
def _read(model, tokens, read, width):
    cache = KVCache.empty(model.config, len(tokens), width, model.dtype)
    _, cache = model.extend(tokens, cache)
    # The next token overwrites the last one, and what padding left behind.
    return dataclasses.replace(cache, length=read)


@partial(nnx.jit, static_argnames="steps")
def _speak(model, opened, key, temperature, forbidden, *, steps):
    def step(carry, key):
        token, cache = carry
        hidden, cache = model.extend(token[:, None], cache)
        logits = model.logits(hidden[:, 0]).astype(jnp.float32)
        logits = logits.at[:, forbidden].set(-jnp.inf)
        token = jax.random.categorical(key, logits / temperature).astype(token.dtype)
        return (token, cache), token

    start = (opened.last, opened.cache)
    return jax.lax.scan(step, start, jax.random.split(key, steps))[1].T
