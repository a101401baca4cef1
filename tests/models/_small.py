"""A decoder with random weights, jitted once for all, and another way to its logits."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

from jaxsteer.models import Decoder, DecoderConfig
from jaxsteer.models._weights import fill

CONFIG = DecoderConfig(
    vocab_size=19,
    dim=16,
    hidden_dim=24,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    max_length=32,
    rope_base=50.0,
    tied=False,
)
TOKENS = np.random.default_rng(0).integers(0, 19, (2, 6)).astype(np.int32)


def random_model(make, dtype=np.float32):
    """Fill a model from NumPy: its own random numbers take seconds to compile."""
    rng = np.random.default_rng(0)
    weights = {}
    for path, value in nnx.iter_graph(nnx.eval_shape(make)):
        if isinstance(value, nnx.Param):
            name = ".".join(map(str, path))
            spread = value.shape[0] ** -0.5 if len(value.shape) > 1 else 0.1
            drawn = spread * rng.normal(size=value.shape)
            weights[name] = drawn + name.endswith("scale")
    return fill(make, weights, dtype)


def small_decoder(dtype=np.float32):
    """A fresh copy: tests change it."""
    return random_model(
        lambda: Decoder(CONFIG, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0)), dtype
    )


@nnx.jit
def logits_of(model, tokens):
    return model(tokens)


@nnx.jit
def hidden_of(model, tokens):
    return model.hidden(tokens)


@nnx.jit
def extend(model, tokens, cache):
    return model.extend(tokens, cache)


def weights_of(model):
    """Weights by path, in float64, one row an output."""
    state = nnx.to_flat_state(nnx.state(model, nnx.Param))
    found = {}
    for path, value in state:
        name = ".".join(map(str, path))
        array = np.asarray(value[...], np.float64)
        found[name] = array.T if name.endswith("kernel") else array
    return found


def reference_logits(config, weights, tokens):
    """Logits of one text, written with complex rotations and loops over heads."""

    def norm(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_eps) * scale

    def turn(x):
        half = x.shape[-1] // 2
        angle = np.arange(len(x))[:, None] / config.rope_base ** (
            np.arange(half) / half
        )
        turned = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * angle)
        return np.stack([turned.real, turned.imag], -1).reshape(x.shape)

    length, size = len(tokens), config.head_dim
    share = config.n_heads // config.n_kv_heads
    x = weights["embed.embedding"][tokens]
    for place in range(config.n_layers):
        w = {
            k.split(".", 2)[2]: v for k, v in weights.items() if f"layers.{place}." in k
        }
        y = norm(x, w["attention_norm.scale"])
        q, k, v = (y @ w[f"attention.{name}.kernel"].T for name in "qkv")
        heads = []
        for head in range(config.n_heads):
            mine = slice(head * size, (head + 1) * size)
            kv = slice(head // share * size, (head // share + 1) * size)
            score = turn(q[:, mine]) @ turn(k[:, kv]).T / np.sqrt(size)
            score[np.triu_indices(length, 1)] = -np.inf
            score = np.exp(score - score.max(-1, keepdims=True))
            heads.append(score / score.sum(-1, keepdims=True) @ v[:, kv])
        x = x + np.concatenate(heads, -1) @ w["attention.o.kernel"].T
        y = norm(x, w["mlp_norm.scale"])
        gate = y @ w["mlp.gate.kernel"].T
        wide = gate / (1 + np.exp(-gate)) * (y @ w["mlp.up.kernel"].T)
        x = x + wide @ w["mlp.down.kernel"].T
    x = norm(x, weights["norm.scale"])
    return x @ weights.get("head.kernel", weights["embed.embedding"]).T


def write_gguf(model, path):
    """Write a decoder as llama.cpp does; skips where gguf is not installed."""
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    c = model.config
    names = {
        "attention_norm.scale": "attn_norm",
        "mlp_norm.scale": "ffn_norm",
        "attention.o.kernel": "attn_output",
        **{f"attention.{n}.kernel": f"attn_{n}" for n in "qkv"},
        **{f"mlp.{n}.kernel": f"ffn_{n}" for n in ("gate", "up", "down")},
    }
    top = {"embed.embedding": "token_embd", "norm.scale": "output_norm"}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_embedding_length(c.dim)
    writer.add_feed_forward_length(c.hidden_dim)
    writer.add_block_count(c.n_layers)
    writer.add_head_count(c.n_heads)
    writer.add_head_count_kv(c.n_kv_heads)
    writer.add_context_length(c.max_length)
    writer.add_rope_freq_base(c.rope_base)
    writer.add_layer_norm_rms_eps(c.norm_eps)
    for name, value in weights_of(model).items():
        if name.startswith("layers."):
            _, layer, part = name.split(".", 2)
            target = f"blk.{layer}.{names[part]}.weight"
        else:
            target = f"{top.get(name, 'output')}.weight"
        writer.add_tensor(target, np.ascontiguousarray(value, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
