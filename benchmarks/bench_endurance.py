"""Memory over many solves: of one shape, and of shapes that change.

    python benchmarks/bench_endurance.py [--solves 10000] [--shapes 300]

Solves of one shape compile once, so that what is left after the first thousand is a leak.
Every new shape compiles a program, which JAX keeps; ``jax.clear_caches`` drops them all.
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _machine import describe, save

import jaxsteer as js


def resident() -> float:
    """Resident memory of this process, MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def population(rng: np.random.Generator, k: int, g: int) -> js.Population:
    """Random normal cells."""
    cells = js.Normal(
        jnp.asarray(rng.normal(size=(k, g))), jnp.asarray(rng.uniform(0.5, 2, (k, g)))
    )
    return js.Population(
        jnp.asarray(rng.dirichlet(np.ones(k * g)).reshape(k, g)), cells
    )


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--solves", type=int, default=10_000)
    parser.add_argument("--shapes", type=int, default=300)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    start = resident()
    for _ in range(options.solves // 10):
        js.nearest_ideal(population(rng, 3, 2)).require()
    warm, clock = resident(), time.process_time()
    for _ in range(options.solves - options.solves // 10):
        js.nearest_ideal(population(rng, 3, 2)).require()
    steady = resident()
    seconds = time.process_time() - clock
    shapes = [(2 + i % 20, 2 + i // 20) for i in range(options.shapes)]
    for k, g in shapes:
        js.nearest_ideal(population(rng, k, g)).require()
    full = resident()
    jax.clear_caches()
    cleared = resident()
    js.nearest_ideal(population(rng, 3, 2)).require()
    row = {
        "solves_of_one_shape": options.solves,
        "cpu_seconds": seconds,
        "megabytes_at_start": start,
        "megabytes_after_a_tenth": warm,
        "megabytes_after_all": steady,
        "bytes_a_solve": (steady - warm) * 2**20 / (0.9 * options.solves),
        "shapes": options.shapes,
        "megabytes_after_shapes": full,
        "megabytes_a_shape": (full - steady) / max(options.shapes, 1),
        "megabytes_after_clear_caches": cleared,
    }
    for name, value in row.items():
        print(f"{name}: {value:.6g}")
    save("endurance", {**describe(), **row})


if __name__ == "__main__":
    main()
