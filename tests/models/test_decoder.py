"""The decoder against an independent one, its memory, and the files it is read from."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer.models import KVCache, load_decoder
from tests.models._small import (
    CONFIG,
    TOKENS,
    extend,
    hidden_of,
    logits_of,
    reference_logits,
    small_decoder,
    weights_of,
    write_gguf,
)
from tests.models._stories import FOLDER, needs_stories


@pytest.fixture(scope="module")
def small():
    return small_decoder()


def test_equals_an_independent_decoder(small):
    found = logits_of(small, TOKENS)
    for text, logits in zip(TOKENS, found, strict=True):
        expected = reference_logits(CONFIG, weights_of(small), text)
        np.testing.assert_allclose(logits, expected, atol=2e-5)


def test_a_token_never_sees_later_ones(small):
    changed = TOKENS.copy()
    changed[:, 4:] = (changed[:, 4:] + 1) % 19
    first, second = hidden_of(small, TOKENS), hidden_of(small, changed)
    np.testing.assert_array_equal(first[:, :4], second[:, :4])
    assert float(jnp.abs(first[:, 4:] - second[:, 4:]).min(-1).max()) > 0


def test_memory_changes_nothing(small):
    """In pieces of any size, with texts of their own lengths, as without memory."""
    whole = hidden_of(small, TOKENS)
    cache = KVCache.empty(CONFIG, 2, 8)
    assert cache.size == 8
    first, cache = extend(small, TOKENS[:, :3], cache)
    second, cache = extend(small, TOKENS[:, 3:], cache)
    found = jnp.concatenate([first, second], 1)
    np.testing.assert_allclose(found, whole, atol=1e-5)
    assert cache.length.tolist() == [6, 6]
    # The second text goes back to its second token, and says the rest again.
    again = np.stack([TOKENS[0, 3:], TOKENS[1, 2:5]])
    cache = KVCache(cache.blocks, jnp.array([3, 2], jnp.int32))
    third, cache = extend(small, again, cache)
    np.testing.assert_allclose(third[0], whole[0, 3:], atol=1e-5)
    np.testing.assert_allclose(third[1], whole[1, 2:5], atol=1e-5)


def test_memory_past_its_end_is_not_overwritten(small):
    cache = KVCache.empty(CONFIG, 2, 8)
    cache = KVCache(cache.blocks, jnp.array([6, 8], jnp.int32))
    _, after = extend(small, TOKENS[:, :3], cache)
    keys = np.asarray(after.blocks[0].keys)
    assert keys[0, 6:].all()
    assert not keys[0, :6].any()
    assert not keys[1].any()


def test_precision(small):
    low = small_decoder(jnp.bfloat16)
    logits = logits_of(low, TOKENS)
    assert logits.dtype == jnp.bfloat16
    assert low.head.kernel[...].dtype == jnp.bfloat16
    error = jnp.abs(logits.astype(jnp.float32) - logits_of(small, TOKENS)).max()
    assert 1e-4 < float(error) < 0.2


# Files.


def write_hugging_face(model, folder, dtype=np.float32):
    """Write a decoder as Hugging Face does: other names, halves instead of pairs."""
    flax = pytest.importorskip(
        "safetensors.flax", reason="safetensors is not installed"
    )
    c = model.config
    names = {
        "attention_norm.scale": "input_layernorm",
        "mlp_norm.scale": "post_attention_layernorm",
        **{f"attention.{n}.kernel": f"self_attn.{n}_proj" for n in "qkvo"},
        **{f"mlp.{n}.kernel": f"mlp.{n}_proj" for n in ("gate", "up", "down")},
    }
    out = {}
    for name, value in weights_of(model).items():
        if name.startswith("layers."):
            _, layer, part = name.split(".", 2)
            if part in ("attention.q.kernel", "attention.k.kernel"):
                count = c.n_heads if ".q." in part else c.n_kv_heads
                pairs = value.reshape(count, -1, 2, c.dim)
                value = np.concatenate([pairs[:, :, 0], pairs[:, :, 1]], 1)
                value = value.reshape(-1, c.dim)
            out[f"model.layers.{layer}.{names[part]}.weight"] = value
        else:
            top = {"embed.embedding": "model.embed_tokens", "norm.scale": "model.norm"}
            out[f"{top.get(name, 'lm_head')}.weight"] = value
    half = len(out) // 2
    items = [(name, jnp.asarray(value, dtype)) for name, value in out.items()]
    flax.save_file(dict(items[:half]), folder / "model-00001-of-00002.safetensors")
    flax.save_file(dict(items[half:]), folder / "model-00002-of-00002.safetensors")
    about = {
        "model_type": "llama",
        "vocab_size": c.vocab_size,
        "hidden_size": c.dim,
        "intermediate_size": c.hidden_dim,
        "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads,
        "num_key_value_heads": c.n_kv_heads,
        "max_position_embeddings": c.max_length,
        "rope_theta": c.rope_base,
        "rms_norm_eps": c.norm_eps,
        "tie_word_embeddings": c.tied,
    }
    (folder / "config.json").write_text(json.dumps(about))
    return about


def test_safetensors(small, tmp_path):
    about = write_hugging_face(small, tmp_path)
    back = load_decoder(tmp_path)
    assert back.config == CONFIG
    np.testing.assert_array_equal(logits_of(back, TOKENS), logits_of(small, TOKENS))
    half = load_decoder(
        tmp_path / "model-00001-of-00002.safetensors", param_dtype=jnp.bfloat16
    )
    assert half.layers[0].mlp.up.kernel[...].dtype == jnp.bfloat16
    (tmp_path / "config.json").write_text(
        json.dumps({**about, "rope_scaling": {"a": 1}})
    )
    with pytest.raises(ValueError, match="rope_scaling"):
        load_decoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**about, "model_type": "gpt2"}))
    with pytest.raises(ValueError, match="'gpt2'"):
        load_decoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**about, "vocab_size": 20}))
    with pytest.raises(ValueError, match=r"\(19, 16\) in the file"):
        load_decoder(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({**about, "num_attention_heads": 3})
    )
    with pytest.raises(ValueError, match="which are no 3 heads of an even width"):
        load_decoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**about, "num_hidden_layers": 3}))
    with pytest.raises(ValueError, match="9 are missing"):
        load_decoder(tmp_path)


def test_safetensors_in_bfloat16(small, tmp_path):
    write_hugging_face(small, tmp_path, jnp.bfloat16)
    back = load_decoder(tmp_path)
    rounded = small.norm.scale[...].astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_array_equal(back.norm.scale[...], rounded)


def test_gguf(small, tmp_path):
    path = tmp_path / "small.gguf"
    write_gguf(small, path)
    back = load_decoder(path)
    np.testing.assert_allclose(back.config.norm_eps, CONFIG.norm_eps, rtol=1e-6)
    # The header has its numbers in single precision: another rotary base to compile.
    np.testing.assert_allclose(
        logits_of(back, TOKENS), logits_of(small, TOKENS), atol=1e-5
    )


@needs_stories
def test_llama2c_files_that_are_cut_off(tmp_path):
    whole = (FOLDER / "stories260K.bin").read_bytes()
    path = tmp_path / "cut.bin"
    path.write_bytes(whole[:500_000])
    with pytest.raises(ValueError, match="ends early"):
        load_decoder(path)
    path.write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"no llama2\.c checkpoint"):
        load_decoder(path)


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_decoder(tmp_path / "nothing.gguf")
    with pytest.raises(ValueError, match=r"config\.json"):
        load_decoder(tmp_path)
    other = tmp_path / "model.pt"
    other.write_bytes(b"")
    with pytest.raises(ValueError, match="no model that is read here"):
        load_decoder(other)


@pytest.mark.slow
def test_gradients_reach_every_weight(small):
    @nnx.jit
    def slope(model):
        return nnx.grad(lambda m: jnp.mean(jax.nn.logsumexp(m(TOKENS), -1)))(model)

    for leaf in jax.tree.leaves(slope(small)):
        assert jnp.isfinite(leaf).all()
        assert float(jnp.abs(leaf).max()) > 0


def test_damaged_checkpoints_are_named(small, tmp_path):
    write_hugging_face(small, tmp_path)
    weights = tmp_path / "model-00001-of-00002.safetensors"
    weights.write_bytes(b"\x05")
    with pytest.raises(
        ValueError, match=r"model-00001-of-00002.safetensors is damaged"
    ):
        load_decoder(tmp_path)
    for text in (b"", b"\xff", b"[1]", b"3"):
        (tmp_path / "config.json").write_bytes(text)
        with pytest.raises(ValueError, match=r"config.json is damaged"):
            load_decoder(tmp_path)
