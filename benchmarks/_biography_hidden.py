"""Hidden states of a language model at the last token, steered inside or not.

Only the last token is steered, so the keys and values of the earlier ones, and the blocks
before the layer, are the same for every map: a batch is read once, and each map costs one
token in the blocks that follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _biography_data import Pieces
from _biography_methods import Move
from flax import nnx
from sklearn.linear_model import LogisticRegression

from jaxsteer import AffineMap
from jaxsteer.models import Decoder, KVCache, Tokenizer, token_batches
from jaxsteer.moments import Projection
from jaxsteer.nn import (
    GroupSteer,
    SoftGroupSteer,
    capture_activations,
    insert_steering,
    set_groups,
)

DECODER_TOKENS = 64
BATCH = 64


class Layer(NamedTuple):
    """A steering layer for all texts.

    Attributes:
        layer: What is inserted.
        group: ``[n]`` codes of the texts; None for a layer that asks its own probe.
    """

    layer: nnx.Module
    group: np.ndarray | None


def layer_of(
    move: Move, projection: Projection, probe: LogisticRegression, group: np.ndarray
) -> Layer:
    """Return the layer that moves the coordinates of `projection` as `move` says.

    Args:
        move: Maps of coordinates.
        projection: What of the residual stream they move; the rest stays.
        probe: Tells the gender from coordinates, for soft moves.
        group: ``[n]`` the genders by which the texts are moved otherwise.
    """
    maps = projection.lift(move.maps)
    if not move.soft:
        return Layer(GroupSteer(maps), group)
    inner = np.concatenate([np.zeros_like(probe.coef_), probe.coef_])
    weight = inner @ np.asarray(projection.basis).T
    offset = np.concatenate([[0.0], probe.intercept_])
    bias = offset - weight @ np.asarray(projection.center)
    soft = SoftGroupSteer(maps, AffineMap(jnp.asarray(weight), jnp.asarray(bias)))
    return Layer(soft, None)


def last_states(
    model: Decoder,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    block: int,
    pieces: Pieces,
) -> dict[str, np.ndarray]:
    """Return the states at the last token, each ``[n, d]``.

    Returns:
        ``middle``, the residual stream after block `block`, and ``final``, the hidden
        state after the last norm.
    """
    shape = (len(texts), model.config.dim)
    found = {name: np.zeros(shape, np.float32) for name in ("middle", "final")}
    for rows, tokens, lengths in _batches(tokenizer, texts):

        def compute(rows=rows, tokens=tokens, lengths=lengths):
            states = _read(model, tokens, lengths, f"layers.{block}")
            parts = [np.asarray(values)[: len(rows)] for values in states]
            return dict(zip(found, parts, strict=True))

        mine = [texts[row] for row in rows]
        states = pieces.batch(mine, (DECODER_TOKENS, block), compute)
        for name, values in states.items():
            found[name][rows] = values
    return found


def steered_states(
    model: Decoder,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    block: int,
    layers: Sequence[Layer],
    pieces: Pieces,
) -> np.ndarray:
    """Return the final states at the last token under each layer, ``[L, n, d]``.

    A layer is put after block `block`, the last token goes on from there, and the layer
    is taken out again. The layers of one kind share one compiled program.
    """
    found = np.zeros((len(layers), len(texts), model.config.dim), np.float32)
    rest = _from_block(model, block)
    settings = (DECODER_TOKENS, block, _digest(layers))
    for rows, tokens, lengths in _batches(tokenizer, texts):

        def compute(rows=rows, tokens=tokens, lengths=lengths):
            last, cache = _read_up_to(model, tokens, lengths, block)
            filled, moved = np.resize(rows, BATCH), []
            for layer, group in layers:
                with insert_steering(rest, "layers.0", layer):
                    if group is not None:
                        set_groups(rest, group[filled])
                    states = _go_on(rest, last, cache)
                moved.append(np.asarray(states)[: len(rows)])
            return {"states": np.stack(moved)}

        mine = [texts[row] for row in rows]
        found[:, rows] = pieces.batch(mine, settings, compute)["states"]
    return found


def _digest(layers: Sequence[Layer]) -> str:
    """A hash of all that the layers do."""
    digest = hashlib.sha256()
    for layer, group in layers:
        for leaf in jax.tree.leaves((nnx.state(layer), group)):
            digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _from_block(model: Decoder, block: int) -> Decoder:
    """Return the model without its first blocks; it takes states instead of tokens."""
    rest = nnx.merge(*nnx.split(model))
    rest.layers = nnx.List(list(rest.layers)[block:])
    rest.embed = _States()
    return rest


class _States(nnx.Module):
    """In place of an embedding: states are taken as they are."""

    def __call__(self, states: Any) -> Any:
        return states


def _batches(
    tokenizer: Tokenizer, texts: Sequence[str]
) -> Iterator[tuple[np.ndarray, Any, Any]]:
    """Yield rows, tokens and lengths of texts of like length together."""
    codes = [tokenizer.encode(text)[:DECODER_TOKENS] for text in texts]
    count = -(-len(codes) // BATCH)
    for done, (rows, tokens, lengths) in enumerate(token_batches(codes, BATCH)):
        yield rows, jnp.asarray(tokens), jnp.asarray(lengths)
        print(f"batch {done + 1} of {count}", flush=True)


@nnx.jit(static_argnums=3)
def _read(model, tokens, lengths, place):
    last = jnp.arange(len(tokens)), lengths - 1
    with capture_activations(model, place) as states:
        final = model.hidden(tokens)
        return states[place][last], final[last]


@nnx.jit(static_argnums=3)
def _read_up_to(model, tokens, lengths, block):
    last = jnp.arange(len(tokens)), lengths - 1
    place = f"layers.{block - 1}" if block else "embed"
    with capture_activations(model, place) as states:
        start = KVCache.empty(model.config, *tokens.shape)
        _, cache = model.extend(tokens, start)
        # The last token is read again, in its own place; what the padding left behind
        # is later in the text, where nothing looks.
        cache = KVCache(cache.blocks[block:], lengths - 1)
        return states[place][last][:, None], cache


@nnx.jit
def _go_on(rest, last, cache):
    return rest.extend(last, cache)[0][:, 0]
