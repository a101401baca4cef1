"""Steer and capture in the models of google-tunix, in training and cached decoding."""

from __future__ import annotations

import importlib

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

pytest.importorskip(
    "tunix.models.llama3.model",
    reason="google-tunix is not installed (it needs Python 3.12)",
    exc_type=ImportError,
)

D, B, T, SIZE = 16, 2, 3, 5
SHAPE = {
    "num_layers": 2,
    "embed_dim": D,
    "hidden_dim": 24,
    "num_heads": 4,
    "head_dim": 8,
    "num_kv_heads": 2,
}
LLAMA = {"vocab_size": 13, "rope_theta": 10_000, "norm_eps": 1e-5}
MODELS = {
    "llama3": ("Llama3", {**SHAPE, **LLAMA}),
    "qwen3": ("Qwen3", {**SHAPE, **LLAMA}),
    "gemma3": ("Gemma3", {**SHAPE, "num_embed": 13, "param_dtype": jnp.float32}),
}
TOKENS = jnp.array([[1, 2, 3], [4, 5, 6]])


@pytest.fixture(params=MODELS)
def model(request):
    name, shape = MODELS[request.param]
    module = importlib.import_module(f"tunix.models.{request.param}.model")
    if request.param == "gemma3":
        shape = {**shape, "sliding_window_size": 8}
    return getattr(module, name)(module.ModelConfig(**shape), rngs=nnx.Rngs(0))


def empty(model):
    cache = {}
    for place in range(2):
        zeros = jnp.zeros((B, SIZE, 2, 8))
        end = jnp.zeros((B,), jnp.int32)
        cache[f"layer_{place}"] = {"k": zeros, "v": zeros, "end_index": end}
    return cache


def prompt(model, cache):
    positions = jnp.broadcast_to(jnp.arange(T), (B, T))
    seen = jnp.arange(T if cache is None else SIZE) <= jnp.arange(T)[:, None]
    return model(TOKENS, positions, cache, jnp.broadcast_to(seen, (B, *seen.shape)))


def step(model, cache, place):
    seen = jnp.broadcast_to(jnp.arange(SIZE) <= place, (B, 1, SIZE))
    return model(jnp.full((B, 1), 7), jnp.full((B, 1), place), cache, seen)


@pytest.mark.parametrize(
    ("path", "at"),
    [("layers.0", "output"), ("layers.0.mlp", "output"), ("layers.0", "input")],
)
def test_steer_and_capture(model, path, at):
    def states(seen, cache):
        with capture_activations(model, seen, at=at) as kept:
            prompt(model, cache)
        return kept[seen]

    before = states(path, None)
    plain, memory = prompt(model, empty(model))
    identity = AffineSteer(AffineMap.identity(D))
    with insert_steering(model, path, identity, at=at):
        same, kept = prompt(model, empty(model))
        np.testing.assert_array_equal(same, plain)
        jax.tree.map(np.testing.assert_array_equal, kept, memory)
    shift = AffineSteer(DiagonalMap(jnp.ones(D), jnp.ones(D)))
    seen = path + ".base" if at == "input" else path
    with insert_steering(model, path, shift, at=at):
        for cache in (None, empty(model)):
            np.testing.assert_allclose(states(seen, cache), before + 1, atol=1e-5)


def test_the_last_position_in_cached_decoding(model):
    traces = []

    @nnx.jit
    def run(model, cache, place):
        traces.append(None)
        return step(model, cache, place)

    _, plain = prompt(model, empty(model))
    shift = AffineSteer(DiagonalMap(jnp.ones(D), jnp.ones(D)))
    with insert_steering(model, "layers.0", shift, positions="last"):
        _, cache = prompt(model, empty(model))
        for name in ("k", "v"):
            # The second block has read what the first one gave it.
            found, expected = cache["layer_1"][name], plain["layer_1"][name]
            np.testing.assert_array_equal(found[:, : T - 1], expected[:, : T - 1])
            assert float(jnp.abs(found - expected)[:, T - 1].max()) > 1e-4
        for place in (T, T + 1):
            logits, cache = run(model, cache, place)
        assert np.isfinite(logits).all()
        set_positions(model, "prompt")
        run(model, cache, T)
        assert len(traces) == 1
