"""The encoder against torch's, and the texts it embeds."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer.maps import AffineMap
from jaxsteer.models import (
    Encoder,
    EncoderConfig,
    embed_texts,
    load_encoder,
    pad_tokens,
)
from jaxsteer.nn import AffineSteer, insert_steering
from tests.models._small import random_model

CONFIG = EncoderConfig(
    vocab_size=30, dim=12, hidden_dim=20, n_layers=2, n_heads=3, max_length=40
)
TOKENS = np.random.default_rng(0).integers(1, 30, (3, 8)).astype(np.int32)
LENGTHS = np.array([8, 5, 1])
MASK = np.arange(8) < LENGTHS[:, None]


class Letters:
    """A tokenizer of letters."""

    start, stop = None, None

    def encode(self, text):
        return [ord(letter) - ord("a") + 1 for letter in text]

    def decode(self, codes):
        return "".join(chr(code + ord("a") - 1) for code in codes)


@pytest.fixture(scope="module")
def small():
    return random_model(lambda: Encoder(CONFIG, rngs=nnx.Rngs(0)))


@nnx.jit
def run(model, tokens, mask):
    return model(tokens, mask)


@nnx.jit
def embed(model, tokens, mask):
    return model.embed(tokens, mask)


@pytest.mark.slow
def test_equals_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    flax = pytest.importorskip(
        "safetensors.flax", reason="safetensors is not installed"
    )
    torch.manual_seed(0)
    d = CONFIG.dim
    layers = [
        torch.nn.TransformerEncoderLayer(
            d,
            CONFIG.n_heads,
            CONFIG.hidden_dim,
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=CONFIG.norm_eps,
            batch_first=True,
        ).eval()
        for _ in range(CONFIG.n_layers)
    ]
    words, places = torch.randn(CONFIG.vocab_size, d), torch.randn(CONFIG.max_length, d)
    kinds, norm = torch.randn(2, d), torch.nn.LayerNorm(d, eps=CONFIG.norm_eps)
    tensors = {
        "embeddings.word_embeddings.weight": words,
        "embeddings.position_embeddings.weight": places,
        "embeddings.token_type_embeddings.weight": kinds,
        "embeddings.LayerNorm.weight": norm.weight,
        "embeddings.LayerNorm.bias": norm.bias,
        "embeddings.position_ids": torch.arange(CONFIG.max_length)[None],
        "pooler.dense.weight": torch.zeros(d, d),
    }
    for place, layer in enumerate(layers):
        attention = layer.self_attn
        parts = {"attention.output.dense": attention.out_proj}
        parts |= {"intermediate.dense": layer.linear1, "output.dense": layer.linear2}
        parts |= {"attention.output.LayerNorm": layer.norm1}
        parts |= {"output.LayerNorm": layer.norm2}
        for name, part in parts.items():
            tensors[f"encoder.layer.{place}.{name}.weight"] = part.weight
            tensors[f"encoder.layer.{place}.{name}.bias"] = part.bias
        weights = attention.in_proj_weight.chunk(3)
        biases = attention.in_proj_bias.chunk(3)
        for name, weight, bias in zip(
            ("query", "key", "value"), weights, biases, strict=True
        ):
            tensors[f"encoder.layer.{place}.attention.self.{name}.weight"] = weight
            tensors[f"encoder.layer.{place}.attention.self.{name}.bias"] = bias
    flax.save_file(
        {name: jnp.asarray(value.detach().numpy()) for name, value in tensors.items()},
        tmp_path / "model.safetensors",
    )
    about = {
        "model_type": "bert",
        "vocab_size": CONFIG.vocab_size,
        "hidden_size": d,
        "intermediate_size": CONFIG.hidden_dim,
        "num_hidden_layers": CONFIG.n_layers,
        "num_attention_heads": CONFIG.n_heads,
        "max_position_embeddings": CONFIG.max_length,
        "layer_norm_eps": CONFIG.norm_eps,
        "hidden_act": "gelu",
    }
    (tmp_path / "config.json").write_text(json.dumps(about))
    model = load_encoder(tmp_path)
    assert model.config == CONFIG
    x = norm(words[TOKENS] + places[:8] + kinds[0])
    for layer in layers:
        x = layer(x, src_key_padding_mask=torch.tensor(~MASK))
    found = run(model, TOKENS, MASK)
    np.testing.assert_allclose(
        np.asarray(found)[MASK], x.detach().numpy()[MASK], atol=2e-5
    )
    (tmp_path / "config.json").write_text(json.dumps({**about, "hidden_act": "relu"}))
    with pytest.raises(ValueError, match="'relu'"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**about, "model_type": "t5"}))
    with pytest.raises(ValueError, match="'t5'"):
        load_encoder(tmp_path)


def test_padding_is_not_seen(small):
    whole = embed(small, TOKENS, MASK)
    other = np.where(MASK, TOKENS, 7)
    assert (other != TOKENS).any()
    np.testing.assert_allclose(embed(small, other, MASK), whole, atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(whole, axis=1), 1, rtol=1e-5)


def test_texts_come_back_in_their_order(small):
    texts = ["abc", "z" * 60, "b", "hello", "abc"]
    found = embed_texts(small, Letters(), texts, batch_size=2, max_length=32)
    assert found.shape == (5, CONFIG.dim)
    codes = [Letters().encode(text) for text in texts]
    tokens, lengths = pad_tokens(codes, max_length=32, pad=3)
    expected = embed(small, tokens, np.arange(32) < lengths[:, None])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_too_long(small):
    with pytest.raises(ValueError, match="max_length=40"):
        small(np.ones((1, 41), np.int32), np.ones((1, 41), bool))


def test_steering_reaches_the_encoder(small):
    before = embed(small, TOKENS, MASK)
    layer = AffineSteer(AffineMap.identity(CONFIG.dim))
    with insert_steering(small, "layers.0", layer):
        # XLA fuses the norms differently around a layer: not bit for bit here.
        found = embed(small, TOKENS, MASK)
        np.testing.assert_allclose(found, before, atol=1e-6)
        layer.bias[...] = jnp.arange(CONFIG.dim, dtype=jnp.float32)
        assert float(jnp.abs(embed(small, TOKENS, MASK) - before).max()) > 1e-3
    np.testing.assert_array_equal(embed(small, TOKENS, MASK), before)
