"""Reads llama2.c checkpoints ("version 0"), such as stories260K.bin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxsteer._types import PathLike
from jaxsteer.models._configs import DecoderConfig


def read_llama2c(path: PathLike) -> tuple[DecoderConfig, dict[str, Any]]:
    """Read a checkpoint: seven int32 of shape, then float32 arrays one after another."""
    header = np.fromfile(path, np.int32, 7).tolist()
    if len(header) < 7 or min(header[:5]) < 1 or header[6] < 1 or header[5] == 0:
        raise ValueError(f"{path} is no llama2.c checkpoint: its header is {header}.")
    dim, hidden, n_layers, n_heads, n_kv, vocab, length = header
    # A negative vocabulary says that the output matrix is another than the embedding.
    config = DecoderConfig(
        vocab_size=abs(vocab),
        dim=dim,
        hidden_dim=hidden,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv,
        max_length=length,
        tied=vocab > 0,
    )
    numbers = np.fromfile(path, np.float32, offset=28)
    if n_layers * dim > numbers.size:
        raise ValueError(
            f"{path} ends early: {numbers.size} numbers for {n_layers} layers of width "
            f"{dim}; load the file again."
        )
    place = 0

    def take(*shape: int) -> np.ndarray:
        nonlocal place
        size = math.prod(shape)  # of Python's integers, which do not overflow
        if place + size > numbers.size:
            raise ValueError(
                f"{path} ends early: {numbers.size} numbers, but its header asks for "
                f"more; load the file again."
            )
        place += size
        return numbers[place - size : place].reshape(shape)

    kv_dim = n_kv * config.head_dim
    weights: dict[str, Any] = {"embed.embedding": take(config.vocab_size, dim)}
    stacks = {
        "attention_norm.scale": take(n_layers, dim),
        "attention.q.kernel": take(n_layers, dim, dim),
        "attention.k.kernel": take(n_layers, kv_dim, dim),
        "attention.v.kernel": take(n_layers, kv_dim, dim),
        "attention.o.kernel": take(n_layers, dim, dim),
        "mlp_norm.scale": take(n_layers, dim),
        "mlp.gate.kernel": take(n_layers, hidden, dim),
        "mlp.down.kernel": take(n_layers, dim, hidden),
        "mlp.up.kernel": take(n_layers, hidden, dim),
    }
    for name, stack in stacks.items():
        for layer in range(n_layers):
            weights[f"layers.{layer}.{name}"] = stack[layer].T
    weights["norm.scale"] = take(dim)
    take(2, length, config.head_dim // 2)  # rotary tables, which we compute
    if not config.tied:
        weights["head.kernel"] = take(config.vocab_size, dim).T
    return config, weights
