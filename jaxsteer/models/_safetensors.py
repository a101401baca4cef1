"""Reads safetensors checkpoints with Hugging Face names, and their config.json."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxsteer.models._configs import DecoderConfig, EncoderConfig
from jaxsteer.models._weights import check_layers, need, pair_rotary_rows

_LLAMA = {
    "input_layernorm.weight": "attention_norm.scale",
    "self_attn.q_proj.weight": "attention.q.kernel",
    "self_attn.k_proj.weight": "attention.k.kernel",
    "self_attn.v_proj.weight": "attention.v.kernel",
    "self_attn.o_proj.weight": "attention.o.kernel",
    "post_attention_layernorm.weight": "mlp_norm.scale",
    "mlp.gate_proj.weight": "mlp.gate.kernel",
    "mlp.up_proj.weight": "mlp.up.kernel",
    "mlp.down_proj.weight": "mlp.down.kernel",
}
_BERT_TOP = {
    "embeddings.word_embeddings.weight": "tokens.embedding",
    "embeddings.position_embeddings.weight": "positions.embedding",
    "embeddings.LayerNorm.weight": "embed_norm.scale",
    "embeddings.LayerNorm.bias": "embed_norm.bias",
}
_BERT = {
    "attention.self.query": "attention.q",
    "attention.self.key": "attention.k",
    "attention.self.value": "attention.v",
    "attention.output.dense": "attention.o",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "mlp_norm",
}


def read_llama_folder(folder: Path) -> tuple[DecoderConfig, dict[str, Any]]:
    """Read a Llama-style decoder: ``config.json`` and ``*.safetensors``."""
    about = _config(folder, ("llama",))
    heads = about["num_attention_heads"]
    config = DecoderConfig(
        vocab_size=about["vocab_size"],
        dim=about["hidden_size"],
        hidden_dim=about["intermediate_size"],
        n_layers=about["num_hidden_layers"],
        n_heads=heads,
        n_kv_heads=about.get("num_key_value_heads", heads),
        max_length=about["max_position_embeddings"],
        rope_base=about.get("rope_theta", 10_000.0),
        norm_eps=about["rms_norm_eps"],
        tied=about.get("tie_word_embeddings", False),
    )
    if about.get("rope_scaling"):
        raise ValueError(
            f"{folder}: rope_scaling {about['rope_scaling']} is not read here."
        )
    weights = {}
    for name, value in _tensors(folder):
        name = name.removeprefix("model.")
        if name == "embed_tokens.weight":
            weights["embed.embedding"] = value
        elif name == "norm.weight":
            weights["norm.scale"] = value
        elif name == "lm_head.weight":
            if not config.tied:
                weights["head.kernel"] = value.T
        elif name.startswith("layers."):
            _, layer, part = name.split(".", 2)
            if part.endswith("rotary_emb.inv_freq"):
                continue
            target = _LLAMA.get(part, part)
            if part == "self_attn.q_proj.weight":
                value = pair_rotary_rows(value, config.n_heads)
            elif part == "self_attn.k_proj.weight":
                value = pair_rotary_rows(value, config.n_kv_heads)
            value = value.T if target.endswith("kernel") else value
            weights[f"layers.{layer}.{target}"] = value
        else:
            weights[name] = value
    check_layers(config.n_layers, weights)
    return config, weights


def read_bert_folder(folder: Path) -> tuple[EncoderConfig, dict[str, Any]]:
    """Read a BERT-style encoder: ``config.json`` and ``*.safetensors``."""
    about = _config(folder, ("bert",))
    if about.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"{folder}: hidden_act {about['hidden_act']!r} is not 'gelu'.")
    config = EncoderConfig(
        vocab_size=about["vocab_size"],
        dim=about["hidden_size"],
        hidden_dim=about["intermediate_size"],
        n_layers=about["num_hidden_layers"],
        n_heads=about["num_attention_heads"],
        max_length=about["max_position_embeddings"],
        norm_eps=about["layer_norm_eps"],
    )
    weights = {}
    for name, value in _tensors(folder):
        name = name.removeprefix("bert.")
        if name in _BERT_TOP:
            weights[_BERT_TOP[name]] = value
        elif name == "embeddings.token_type_embeddings.weight":
            weights["segment"] = value[0]
        elif name.startswith("encoder.layer."):
            _, _, layer, part = name.split(".", 3)
            part, kind = part.rsplit(".", 1)
            target = _BERT.get(part, part)
            if kind == "weight":
                norm = target.endswith("norm")
                kind, value = ("scale", value) if norm else ("kernel", value.T)
            weights[f"layers.{layer}.{target}.{kind}"] = value
        elif not name.startswith(("pooler.", "cls.")) and "position_ids" not in name:
            weights[name] = value
    check_layers(config.n_layers, weights)
    return config, weights


def _config(folder: Path, kinds: tuple[str, ...]) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        raise ValueError(f"{folder} has no config.json, which says the model's shape.")
    try:
        about = dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or no JSON: {error}") from error
    if about.get("model_type") not in kinds:
        raise ValueError(
            f"{path} describes a model of type {about.get('model_type')!r}; this reader "
            f"takes {', '.join(map(repr, kinds))}."
        )
    return about


def _tensors(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    flax = need("safetensors.flax")
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ValueError(f"{folder} has no .safetensors file.")
    for path in paths:
        # Through JAX, which knows bfloat16; NumPy does not.
        try:
            tensors = flax.load_file(os.fspath(path))
        except Exception as error:  # the package raises its own class
            raise ValueError(
                f"{path} is damaged or no safetensors file: {error}"
            ) from error
        for name, value in tensors.items():
            yield name, np.asarray(value, np.float32)
