"""Steer and capture in published models and in a scanned one, in training and decoding.

The models of google-tunix and of gemma need Python 3.12; each skips where it is absent.
"""

from __future__ import annotations

import importlib
from functools import cache as once

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer.maps import AffineMap, DiagonalMap
from jaxsteer.nn import (
    AffineSteer,
    capture_activations,
    insert_steering,
    set_positions,
)
from tests.nn import block_models

B, T, SIZE, HEADS, HEAD = 2, 3, 5, 2, 8
TOKENS = jnp.array([[1, 2, 3], [4, 5, 6]])
SHAPE = {
    "num_layers": 2,
    "embed_dim": 16,
    "hidden_dim": 24,
    "num_heads": 4,
    "head_dim": HEAD,
    "num_kv_heads": HEADS,
}
LLAMA = {"vocab_size": 13, "rope_theta": 10_000, "norm_eps": 1e-5}
TUNIX = {
    "llama3": ("Llama3", {**SHAPE, **LLAMA}),
    "qwen3": ("Qwen3", {**SHAPE, **LLAMA}),
    "gemma3": (
        "Gemma3",
        {
            **SHAPE,
            "num_embed": 13,
            "param_dtype": jnp.float32,
            "sliding_window_size": 8,
        },
    ),
}
CALL = jnp.zeros((B, T, 16)), TOKENS, None, jnp.ones((B, T, T), bool)


def imported(name, package):
    return pytest.importorskip(
        name,
        reason=f"{package} is not installed (it needs Python 3.12)",
        exc_type=ImportError,
    )


def tunix_model(name):
    module = imported(f"tunix.models.{name}.model", "google-tunix")
    kind, shape = TUNIX[name]
    return getattr(module, kind)(module.ModelConfig(**shape), rngs=nnx.Rngs(0))


def as_nnx(module, *example, seed):
    return nnx.bridge.lazy_init(nnx.bridge.ToNNX(module, rngs=nnx.Rngs(seed)), *example)


def gemma_block(seed):
    modules = imported("gemma.gm.nn._modules", "gemma")
    block = modules.Block(
        num_heads=4,
        num_kv_heads=HEADS,
        embed_dim=16,
        head_dim=HEAD,
        hidden_dim=24,
        use_post_attn_norm=False,
        use_post_ffw_norm=False,
        attn_type=modules.AttentionType.GLOBAL,
        query_pre_attn_scalar=1.0,
        transpose_gating_einsum=False,
    )
    return as_nnx(block, *CALL, seed=seed)


class GemmaParts(nnx.Module):
    """The parts of such a block in a block of NNX, where each has a path."""

    def __init__(self, seed):
        modules = imported("gemma.gm.nn._modules", "gemma")
        layers = importlib.import_module("gemma.gm.nn._layers")
        attention = modules.Attention(
            num_heads=4,
            num_kv_heads=HEADS,
            features=16,
            head_dim=HEAD,
            attn_type=modules.AttentionType.GLOBAL,
            query_pre_attn_scalar=1.0,
        )
        mlp = modules.FeedForward(
            features=16, hidden_dim=24, transpose_gating_einsum=False
        )
        self.attn = as_nnx(attention, *CALL, seed=seed)
        self.mlp = as_nnx(mlp, CALL[0], seed=seed + 1)
        self.norm = as_nnx(layers.RMSNorm(), CALL[0], seed=seed + 2)

    def __call__(self, x, segment_pos, cache, attn_mask):
        cache, change = self.attn(self.norm(x), segment_pos, cache, attn_mask)
        x = x + change
        return cache, x + self.mlp(self.norm(x))


class Gemma(nnx.Module):
    def __init__(self, layer):
        self.embed = nnx.Embed(13, 16, rngs=nnx.Rngs(0))
        self.layers = nnx.List([layer(seed) for seed in (10, 20)])

    def __call__(self, tokens, segment_pos, cache, attn_mask):
        x, kept = self.embed(tokens), {}
        for place, layer in enumerate(self.layers):
            name = f"layer_{place}"
            memory = None if cache is None else cache[name]
            kept[name], x = layer(x, segment_pos, memory, attn_mask)
        return self.embed.attend(x), None if cache is None else kept


class Scanned(block_models.ScannedDecoder):
    """Called like the others."""

    def __call__(self, tokens, segment_pos, cache, attn_mask):
        return super().__call__(tokens, segment_pos, cache)


@once
def made(name):
    if name == "scanned":
        model = Scanned(nnx.Rngs(0))
        model.eval()
        return model
    if name == "gemma":
        return Gemma(gemma_block)
    return Gemma(GemmaParts) if name == "gemma parts" else tunix_model(name)


MODELS = [*TUNIX, "gemma", "gemma parts", "scanned"]
PLACES = [(".mlp", "output"), (".mlp", "input"), ("", "output"), ("", "input")]
# Inside a bridged Linen block no part has a path.
CASES = [(m, *p) for m in MODELS for p in PLACES if not (m == "gemma" and p[0])]


def empty(name):
    if name == "scanned":
        shape = (2, B, SIZE, block_models.HEADS, block_models.D // block_models.HEADS)
        return {"k": jnp.zeros(shape), "v": jnp.zeros(shape)}
    zeros, end = jnp.zeros((B, SIZE, HEADS, HEAD)), jnp.zeros((B,), jnp.int32)
    layer = {"k": zeros, "v": zeros, "end_index": end}
    if name.startswith("gemma") and name != "gemma3":
        layer["positions"] = jnp.zeros((B, SIZE), jnp.int32)
    return {"layer_0": layer, "layer_1": layer}


def prompt(model, cache):
    positions = jnp.broadcast_to(jnp.arange(T), (B, T))
    seen = jnp.arange(T if cache is None else SIZE) <= jnp.arange(T)[:, None]
    return model(TOKENS, positions, cache, jnp.broadcast_to(seen, (B, *seen.shape)))


def step(model, cache, place):
    seen = jnp.broadcast_to(jnp.arange(SIZE) <= place, (B, 1, SIZE))
    return model(jnp.full((B, 1), 7), jnp.full((B, 1), place), cache, seen)


def layer_of(name, map_):
    """A layer for the first block, and its path."""
    if name != "scanned":
        return "layers.0", AffineSteer(map_)
    maps = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), map_)
    return "blocks", AffineSteer.stack(maps, strength=jnp.array([1.0, 0.0]))


def width(name):
    return block_models.D if name == "scanned" else 16


@pytest.mark.parametrize(("name", "part", "at"), CASES)
def test_steer_and_capture(name, part, at):
    model, d = made(name), width(name)

    def states(seen, cache, call=prompt, **options):
        with capture_activations(model, seen, at=at) as kept:
            _, cache = call(model, cache, **options)
        found = kept[seen]
        return (found[0] if name == "scanned" else found), cache

    block, identity = layer_of(name, AffineMap.identity(d))
    _, shift = layer_of(name, DiagonalMap(jnp.ones(d), jnp.ones(d)))
    path = block + part
    before, _ = states(path, None)
    plain, memory = prompt(model, empty(name))
    after_prompt, _ = states(path, memory, step, place=T)
    with insert_steering(model, path, identity, at=at):
        same, kept = prompt(model, empty(name))
        np.testing.assert_array_equal(same, plain)
        jax.tree.map(np.testing.assert_array_equal, kept, memory)
    seen = path + ".base" if at == "input" else path
    with insert_steering(model, path, shift, at=at):
        np.testing.assert_allclose(states(seen, None)[0], before + 1, atol=1e-5)
        found, cache = states(seen, empty(name))
        np.testing.assert_allclose(found, before + 1, atol=1e-5)
        # A block's own input decides what it remembers; nothing else does.
        if (part, at) != ("", "input"):
            found, _ = states(seen, cache, step, place=T)
            np.testing.assert_allclose(found, after_prompt + 1, atol=1e-5)
    assert np.array_equal(prompt(model, empty(name))[0], plain)


@pytest.mark.parametrize("name", MODELS)
def test_the_last_position_in_cached_decoding(name):
    model, d = made(name), width(name)
    traces = []

    @nnx.jit
    def run(model, cache, place):
        traces.append(None)
        return step(model, cache, place)

    def second(cache, kind):
        return cache[kind][1] if name == "scanned" else cache["layer_1"][kind]

    _, plain = prompt(model, empty(name))
    path, shift = layer_of(name, DiagonalMap(jnp.ones(d), jnp.ones(d)))
    with insert_steering(model, path, shift, positions="last"):
        _, cache = prompt(model, empty(name))
        for kind in ("k", "v"):
            # The second block has read what the first one gave it.
            found, expected = second(cache, kind), second(plain, kind)
            np.testing.assert_array_equal(found[:, : T - 1], expected[:, : T - 1])
            assert float(jnp.abs(found - expected)[:, T - 1].max()) > 1e-4
        for place in (T, T + 1):
            logits, cache = run(model, cache, place)
        assert np.isfinite(logits).all()
        set_positions(model, "prompt")
        run(model, cache, T)
        assert len(traces) == 1
