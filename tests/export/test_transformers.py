"""A Llama of Hugging Face and ours with its weights, steered alike, give the same text."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer.export import attach, hook_source, to_numpy, to_torch
from jaxsteer.maps import AffineMap
from jaxsteer.models import generate, load_decoder
from jaxsteer.nn import (
    AffineSteer,
    GroupSteer,
    insert_steering,
    set_groups,
    set_positions,
)

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed", exc_type=ImportError
)
st = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")

D = 16
rng = np.random.default_rng(0)
TOKENS = rng.integers(0, 19, (3, 6))
GROUP = np.array([1, 0, 1])
MAPS = AffineMap(
    jnp.asarray(np.eye(D) + 0.3 * rng.normal(size=(2, D, D)), jnp.float32),
    jnp.asarray(rng.normal(size=(2, D)), jnp.float32),
)
ONE = AffineMap(MAPS.weight[0], MAPS.bias[0])


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    config = transformers.LlamaConfig(
        vocab_size=19,
        hidden_size=D,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
        initializer_range=0.3,
        tie_word_embeddings=False,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(config).eval()
    folder = tmp_path_factory.mktemp("llama")
    theirs.save_pretrained(folder)
    return load_decoder(folder), theirs


@nnx.jit
def ours_of(model):
    return model(TOKENS)


def theirs_of(model):
    with torch.no_grad():
        return model(torch.from_numpy(TOKENS)).logits.numpy()


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", ["", ".mlp"])
def test_logits(both, part):
    ours, theirs = both
    plain = ours_of(ours)
    close(theirs_of(theirs), plain)
    for layer in (AffineSteer(ONE, strength=0.2), GroupSteer(MAPS, strength=0.2)):
        steer = to_torch(layer)
        steer.group = torch.from_numpy(GROUP) if isinstance(layer, GroupSteer) else None
        handle = attach(theirs, f"model.layers.1{part}", steer)
        with insert_steering(ours, f"layers.1{part}", layer):
            if isinstance(layer, GroupSteer):
                set_groups(ours, GROUP)
            expected = ours_of(ours)
        close(theirs_of(theirs), expected)
        assert float(jnp.abs(expected - plain).max()) > 0.1
        handle.remove()
    close(theirs_of(theirs), plain)


def test_cached_decoding_and_the_file_that_stands_alone(both, tmp_path):
    ours, theirs = both
    layer = AffineSteer(ONE)
    plain = generate(ours, TOKENS, steps=6)
    st.save_file(vars(to_numpy(ONE)), tmp_path / "map.safetensors")
    for positions in ("last", "prompt"):
        with insert_steering(ours, "layers.1", layer):
            set_positions(ours, positions)
            expected = np.asarray(generate(ours, TOKENS, steps=6))
        assert (expected != np.asarray(plain)).any()
        scope: dict = {}
        exec(hook_source("model.layers.1", positions=positions), scope)
        for hook in (
            lambda p=positions: attach(
                theirs, "model.layers.1", to_torch(layer), positions=p
            ),
            lambda s=scope: s["steer"](theirs, tmp_path / "map.safetensors"),
        ):
            handle = hook()
            prompt = torch.from_numpy(TOKENS)
            said = theirs.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=6,
                do_sample=False,
                pad_token_id=0,
            )
            np.testing.assert_array_equal(said[:, 6:].numpy(), expected)
            handle.remove()
