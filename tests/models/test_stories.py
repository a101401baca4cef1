"""A real language model, small enough for every run: what it says, and steering it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxsteer.maps import AffineMap, LowRankMap
from jaxsteer.models import generate, pad_tokens
from jaxsteer.nn import (
    AffineSteer,
    GroupSteer,
    SoftGroupSteer,
    SteeringParam,
    capture_activations,
    insert_steering,
    set_groups,
)
from tests.models._small import logits_of, reference_logits, weights_of
from tests.models._stories import needs_stories, stories, stories_tokenizer

pytestmark = needs_stories

# The first words of its greedy text, as its authors publish them.
OPENING = "Once upon a time, there was a little girl named Lily"
TEXTS = ("Lily and Tom like to play.", "The dog ran.")


def batch():
    encode = stories_tokenizer().encode
    return pad_tokens([encode(text) for text in TEXTS])


def bits(x):
    return np.asarray(x).view(np.uint8)


@pytest.fixture(scope="module")
def model():
    return stories()


def test_says_what_its_authors_say(model):
    tokenizer = stories_tokenizer()
    start = np.array([tokenizer.encode("")])
    said = generate(model, start, steps=24)
    assert tokenizer.decode([*start[0], *said[0].tolist()]).startswith(OPENING)


@pytest.mark.slow
def test_equals_an_independent_decoder(model):
    tokens, lengths = batch()
    found = np.asarray(logits_of(model, tokens))
    weights = weights_of(model)
    for text, length, logits in zip(tokens, lengths, found, strict=True):
        expected = reference_logits(model.config, weights, text[:length])
        np.testing.assert_allclose(logits[:length], expected, atol=2e-4)
    assert found.std() > 1


@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)]
)
def test_an_identity_layer_changes_no_bit_of_any_logit(dtype):
    model = stories(dtype=dtype, param_dtype=dtype)
    tokens, _ = batch()
    before = logits_of(model, tokens)
    maps = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), AffineMap.identity(64))
    insert_steering(model, "layers.0", AffineSteer(AffineMap.identity(64)))
    insert_steering(model, "layers.1.mlp", SoftGroupSteer(maps))
    insert_steering(model, "layers.2", GroupSteer(maps))
    low = AffineSteer(LowRankMap.identity(64, rank=2))
    insert_steering(model, "layers.3", low, at="input")
    insert_steering(model, "norm", AffineSteer(AffineMap.identity(64)))
    set_groups(model, [0, 1])
    assert (bits(logits_of(model, tokens)) == bits(before)).all()
    low.bias[...] = low.bias[...] + 0.1
    assert (bits(logits_of(model, tokens)) != bits(before)).any()


@pytest.mark.slow
def test_captured_activations_are_those_inside(model):
    tokens, _ = batch()

    @nnx.jit
    def run(model, tokens):
        with capture_activations(model, ["layers.4", "norm"]) as kept:
            hidden = model.hidden(tokens)
        return hidden, dict(kept)

    hidden, kept = run(model, tokens)
    np.testing.assert_array_equal(kept["norm"], hidden)
    scale = model.norm.scale[...]
    x = kept["layers.4"]
    size = jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + model.config.norm_eps)
    np.testing.assert_allclose(x / size * scale, hidden, atol=1e-4)


@pytest.mark.slow
def test_steering_is_trained_inside_the_model():
    """A map at one layer makes one word likelier; no weight of the model moves."""
    model = stories()
    tokens, lengths = batch()
    word = stories_tokenizer().encode("dog")[1]
    insert_steering(
        model, "layers.3", AffineSteer(AffineMap.identity(64), trainable=True)
    )
    optimizer = nnx.Optimizer(model, optax.adam(0.05), wrt=SteeringParam)
    weights = np.asarray(model.layers[3].base.mlp.up.kernel[...])

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            last = model(tokens)[jnp.arange(2), lengths - 1]
            return -jnp.mean(jax.nn.log_softmax(last)[:, word])

        by = nnx.DiffState(0, SteeringParam)
        value, slope = nnx.value_and_grad(loss, argnums=by)(model)
        optimizer.update(model, slope)
        return value

    losses = [float(step(model, optimizer)) for _ in range(30)]
    assert losses[-1] < losses[0] - 1
    np.testing.assert_array_equal(model.layers[3].base.mlp.up.kernel[...], weights)
