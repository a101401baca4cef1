"""Small models in the shapes of published ones: what their blocks take and return."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx, struct

D, HEADS, VOCAB = 8, 2, 11


class Attention(nnx.Module):
    """Causal attention; the cache is a dictionary of arrays, and comes out first."""

    def __init__(self, rngs, dtype=jnp.float32):
        def linear():
            return nnx.Linear(
                D, D, use_bias=False, dtype=dtype, param_dtype=dtype, rngs=rngs
            )

        self.q, self.k, self.v, self.o = linear(), linear(), linear(), linear()

    def __call__(self, x, segment_pos, cache):
        heads = (*x.shape[:-1], HEADS, D // HEADS)
        keys, values = self.k(x).reshape(heads), self.v(x).reshape(heads)
        if cache is not None:
            rows = jnp.arange(x.shape[0])[:, None]
            cache = {
                "k": cache["k"].at[rows, segment_pos].set(keys),
                "v": cache["v"].at[rows, segment_pos].set(values),
            }
            keys, values = cache["k"], cache["v"]
        seen = jnp.arange(keys.shape[1]) <= segment_pos[..., None]
        out = jax.nn.dot_product_attention(
            self.q(x).reshape(heads), keys, values, mask=seen[:, None]
        )
        return cache, self.o(out.reshape(x.shape))


class CacheFirst(nnx.Module):
    """A block of gemma and of google-tunix: ``(cache, x)``; the cache may be None."""

    def __init__(self, rngs, dtype=jnp.float32):
        self.attn = Attention(rngs, dtype)
        self.mlp = nnx.Linear(D, D, dtype=dtype, param_dtype=dtype, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, segment_pos, cache=None):
        cache, change = self.attn(x, segment_pos, cache)
        x = x + change
        return cache, x + self.drop(nnx.relu(self.mlp(x)))


class Decoder(nnx.Module):
    """A causal model of such blocks, in training and with a cache."""

    def __init__(self, rngs, n_layers=2, dtype=jnp.float32, remat=False):
        self.embed = nnx.Embed(VOCAB, D, dtype=dtype, param_dtype=dtype, rngs=rngs)
        self.layers = nnx.List([CacheFirst(rngs, dtype) for _ in range(n_layers)])
        self.remat = remat

    def __call__(self, tokens, segment_pos=None, cache=None):
        if segment_pos is None:
            segment_pos = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        x, caches = self.embed(tokens), []
        for place, layer in enumerate(self.layers):
            memory = None if cache is None else cache[place]
            if self.remat:
                run = nnx.remat(lambda layer, x, p, m: layer(x, segment_pos=p, cache=m))
                memory, x = run(layer, x, segment_pos, memory)
            else:
                memory, x = layer(x, segment_pos, memory)
            caches.append(memory)
        return self.embed.attend(x), (None if cache is None else caches)

    def empty_cache(self, batch, size):
        zeros = jnp.zeros((batch, size, HEADS, D // HEADS), jnp.float32)
        return [{"k": zeros, "v": zeros} for _ in self.layers]


class Pair(NamedTuple):
    weights: Any
    hidden: Any


@dataclasses.dataclass(frozen=True)
class Plain:
    """A dataclass that JAX does not know."""

    weights: Any
    hidden: Any


@struct.dataclass
class Registered:
    weights: Any
    hidden: Any


class Odd:
    """A registered node whose children have no names."""

    def __init__(self, weights, hidden):
        self.weights, self.hidden = weights, hidden


jax.tree_util.register_pytree_node(
    Odd, lambda o: ((o.weights, o.hidden), None), lambda aux, c: Odd(*c)
)


class Returns(nnx.Module):
    """A block that returns what it is told to make of ``weights`` and ``2 x``."""

    def __init__(self, make):
        self.make = make

    def __call__(self, x, *, scale=2.0):
        return self.make(jnp.ones((*x.shape[:-1], 3)), scale * x)


class Holder(nnx.Module):
    def __init__(self, block):
        self.block = block

    def __call__(self, *args, **kwargs):
        return self.block(*args, **kwargs)


class Block(nnx.Module):
    """A residual block with dropout, for stacks."""

    def __init__(self, rngs):
        self.lin = nnx.Linear(D, D, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return x + self.drop(jnp.tanh(self.lin(x)))


class Scanned(nnx.Module):
    """Blocks of one kind, kept as a stack and run one after another."""

    def __init__(self, rngs, n=3):
        self.n = n

        @nnx.split_rngs(splits=n)
        @nnx.vmap(in_axes=(0,))
        def make(rngs):
            return Block(rngs)

        self.blocks = make(rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x, block):
            return block(x)

        return run(x, self.blocks)


class ScannedDecoder(nnx.Module):
    """A causal model whose blocks are one stack, and its cache too: ``[L, B, ...]``."""

    def __init__(self, rngs, n=2):
        @nnx.split_rngs(splits=n)
        @nnx.vmap(in_axes=(0,))
        def make(rngs):
            return CacheFirst(rngs)

        self.embed = nnx.Embed(VOCAB, D, rngs=rngs)
        self.blocks = make(rngs)

    def __call__(self, tokens, segment_pos, cache=None):
        @nnx.scan(in_axes=(nnx.Carry, 0, None, 0), out_axes=(nnx.Carry, 0))
        def run(x, block, positions, memory):
            memory, x = block(x, positions, memory)
            return x, memory

        x, cache = run(self.embed(tokens), self.blocks, segment_pos, cache)
        return self.embed.attend(x), cache
