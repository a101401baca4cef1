"""The decoder of ``jaxsteer.models`` once more, in PyTorch: what hooks must agree with."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class Norm(nn.Module):
    def __init__(self, scale, eps):
        super().__init__()
        self.scale, self.eps = nn.Parameter(scale), eps

    def forward(self, x):
        return (
            x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.scale
        )


class Layer(nn.Module):
    """A block that returns ``(x, None)``, as Hugging Face's did."""

    def __init__(self, config, weights):
        super().__init__()
        self.config = config
        self.input_layernorm = Norm(weights("attention_norm.scale"), config.norm_eps)
        self.post_attention_layernorm = Norm(weights("mlp_norm.scale"), config.norm_eps)
        for name in ("attention.q", "attention.k", "attention.v", "attention.o"):
            self.register_parameter(name[-1], nn.Parameter(weights(f"{name}.kernel")))
        self.mlp = Mlp(*(weights(f"mlp.{n}.kernel") for n in ("gate", "up", "down")))

    def forward(self, hidden_states, positions=None):
        x, c = hidden_states, self.config
        y = self.input_layernorm(x)
        batch, length, _ = y.shape

        def heads(rows, count):
            return rows.reshape(batch, length, count, -1)

        q = rotate(heads(y @ self.q, c.n_heads), c.rope_base)
        k = rotate(heads(y @ self.k, c.n_kv_heads), c.rope_base)
        v = heads(y @ self.v, c.n_kv_heads)
        repeat = c.n_heads // c.n_kv_heads
        k, v = (t.repeat_interleave(repeat, dim=2) for t in (k, v))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + out.transpose(1, 2).reshape(batch, length, -1) @ self.o
        return x + self.mlp(self.post_attention_layernorm(x)), None


class Mlp(nn.Module):
    def __init__(self, gate, up, down):
        super().__init__()
        self.gate, self.up, self.down = map(nn.Parameter, (gate, up, down))

    def forward(self, x):
        return (nn.functional.silu(x @ self.gate) * (x @ self.up)) @ self.down


class Llama(nn.Module):
    def __init__(self, decoder):
        super().__init__()
        self.embed = nn.Parameter(tensor(decoder.embed.embedding[...]))

        def weights_of(layer):
            def weights(name):
                node = layer
                for key in name.split("."):
                    node = getattr(node, key)
                return tensor(node[...])

            return weights

        self.layers = nn.ModuleList(
            [Layer(decoder.config, weights_of(layer)) for layer in decoder.layers]
        )
        self.norm = Norm(tensor(decoder.norm.scale[...]), decoder.config.norm_eps)

    def forward(self, tokens):
        x = self.embed[tokens]
        for layer in self.layers:
            x, _ = layer(hidden_states=x)
        return self.norm(x) @ self.embed.T


def rotate(x, base):
    size = x.shape[-1]
    frequencies = base ** (-torch.arange(0, size, 2) / size)
    angles = torch.arange(x.shape[1])[:, None, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
    return turned.reshape(x.shape)


def tensor(array):
    return torch.from_numpy(np.array(array, np.float32))
