"""Claim: moments of all 30 layers in one pass cost at most 15% of the plain pass.

A decoder of SmolLM2's shape (30 blocks; random weights without its file, narrower
without ``--full``): CPU time of :func:`jaxsteer.nn.capture_moments` over a few batches at
every block, against the same model called on the same batches, both jitted. Moments are
"pooled" (one covariance) of the last token, and of all tokens, and of each cell's last
token. Passes take turns; medians, after compilation. Memory is counted, not measured:
``d^2 + K G (d + 2)`` numbers a block, no activation is kept.

    python benchmarks/bench_capture_moments.py            # prints and writes the results
    python benchmarks/bench_capture_moments.py --full     # SmolLM2's own width
    python benchmarks/bench_capture_moments.py --quick    # small, prints only
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import numpy as np
from _machine import describe, save
from flax import nnx

from jaxsteer.models import Decoder, DecoderConfig
from jaxsteer.nn import capture_moments

KINDS = {
    "last token": {"tokens": "last"},
    "all tokens": {"tokens": "all"},
    "last token, a covariance a cell": {"tokens": "last", "scatter": "cell"},
}


@nnx.jit
def forward(model, tokens):
    """Return the logits' sum, so that the pass gives back as little as the moments."""
    return model(tokens).sum()


def cpu_seconds(call):
    start = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - start


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--full", action="store_true", help="SmolLM2's own width")
    parser.add_argument("--quick", action="store_true", help="small, prints only")
    options = parser.parse_args()
    d = 576 if options.full else 192
    blocks, repeats, batch, length = (3, 2, 4, 16) if options.quick else (30, 7, 16, 64)
    config = DecoderConfig(
        vocab_size=49152 if options.full else 2048,
        dim=d,
        hidden_dim=d * 8 // 3,
        n_layers=blocks,
        n_heads=d // 64,
        n_kv_heads=d // 192,
        max_length=length,
    )
    model = Decoder(config, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    paths = [f"layers.{i}" for i in range(blocks)]
    batches = [
        (rng.integers(0, 2048, (batch, length)), np.arange(batch) % 2)
        for _ in range(3 if not options.quick else 1)
    ]

    def plain():
        return [forward(model, tokens) for tokens, _ in batches]

    def moments(**how):
        return capture_moments(model, paths, batches, n_classes=2, **how)

    runs = {"plain": plain}
    runs |= {name: lambda how=how: moments(**how) for name, how in KINDS.items()}
    times = {name: [] for name in runs}
    for name, run in runs.items():
        print(f"{name}: first call {cpu_seconds(run):.1f} CPU s", flush=True)
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(cpu_seconds(run))
    median = {name: statistics.median(t) for name, t in times.items()}
    figures = {
        "features": d,
        "blocks": blocks,
        "tokens_a_pass": batch * length * len(batches),
        "state_bytes": 4 * blocks * (d * d + 2 * (d + 2)),
        "cpu_ms": {name: 1e3 * t for name, t in median.items()},
        "times_plain": {name: t / median["plain"] for name, t in median.items()},
    }
    if options.quick:
        print(figures)
    else:
        save("capture_moments", {**describe("flax"), **figures})


if __name__ == "__main__":
    main()
