"""Reads GGUF files of Llama-style models: weights, and what the tokenizer needs."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from jaxsteer._types import PathLike
from jaxsteer.models._configs import DecoderConfig
from jaxsteer.models._gguf_header import check_header
from jaxsteer.models._weights import check_layers, need

_NAMES = {
    "attn_norm": "attention_norm.scale",
    "attn_q": "attention.q.kernel",
    "attn_k": "attention.k.kernel",
    "attn_v": "attention.v.kernel",
    "attn_output": "attention.o.kernel",
    "ffn_norm": "mlp_norm.scale",
    "ffn_gate": "mlp.gate.kernel",
    "ffn_up": "mlp.up.kernel",
    "ffn_down": "mlp.down.kernel",
}


def read_gguf(path: PathLike) -> tuple[DecoderConfig, dict[str, Any]]:
    """Read a file, quantized or not; weights come back in float32."""
    gguf = need("gguf")
    reader = open_gguf(gguf, path)
    kind = field(reader, "general.architecture")
    if kind != "llama":
        raise ValueError(
            f"{path} holds a model of architecture {kind!r}; only 'llama' is read."
        )
    names = {tensor.name for tensor in reader.tensors}
    shape = {tensor.name: tensor.shape for tensor in reader.tensors}
    heads = int(field(reader, "llama.attention.head_count"))
    config = DecoderConfig(
        vocab_size=int(shape["token_embd.weight"][1]),
        dim=int(field(reader, "llama.embedding_length")),
        hidden_dim=int(field(reader, "llama.feed_forward_length")),
        n_layers=int(field(reader, "llama.block_count")),
        n_heads=heads,
        n_kv_heads=int(field(reader, "llama.attention.head_count_kv", heads)),
        max_length=int(field(reader, "llama.context_length")),
        rope_base=float(field(reader, "llama.rope.freq_base", 10_000.0)),
        norm_eps=float(field(reader, "llama.attention.layer_norm_rms_epsilon")),
        tied="output.weight" not in names,
    )
    check_layers(config.n_layers, names)
    weights = {}
    for tensor in reader.tensors:
        target = _target(tensor.name)
        if target is not None:
            value = gguf.dequantize(tensor.data, tensor.tensor_type)
            value = np.asarray(value, np.float32)
            weights[target] = value.T if target.endswith("kernel") else value
    return config, weights


def open_gguf(gguf: Any, path: PathLike) -> Any:
    """Open a file; what the format's own package says of damage names the file."""
    try:
        check_header(path)
        return gguf.GGUFReader(os.fspath(path))
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise ValueError(
            f"{path} is damaged or no GGUF file: {error}; fetch or write it again."
        ) from error


def field(reader: Any, name: str, default: Any = None) -> Any:
    """Read an entry of the header."""
    found = reader.get_field(name)
    if found is None:
        if default is None:
            raise ValueError(f"The GGUF file has no entry {name!r}.")
        return default
    return found.contents()


def _target(name: str) -> str | None:
    if name == "token_embd.weight":
        return "embed.embedding"
    if name == "output_norm.weight":
        return "norm.scale"
    if name == "output.weight":
        return "head.kernel"
    if name.startswith("blk."):
        _, layer, part, _ = name.split(".")
        if part in _NAMES:
            return f"layers.{layer}.{_NAMES[part]}"
    if name.startswith("rope_"):
        return None  # tables, which we compute
    raise ValueError(f"The GGUF file has a tensor {name!r}, which no block here uses.")
