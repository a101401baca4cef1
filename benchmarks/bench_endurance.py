"""Memory over many solves: of one shape, and of shapes that change.

Solves of one shape compile once, so that what is left after the first tenth is a leak.
Every new shape compiles a program; beyond ``jaxsteer.solvers.limit_programs`` the one
that was used longest ago is dropped, and with ``clear=True`` what JAX itself keeps of it
(traces of its own functions), so that memory stops growing. The limit is small here, to
be reached. A solve compiles for seconds, a check (``jaxsteer.is_ideal``) for a fraction:
the same programs come and go.

    python benchmarks/bench_endurance.py [--solves 10000] [--shapes 3000] [--limit 64]
        [--door is_ideal | nearest_ideal] [--keep-traces] [--seconds 480]

The shapes that were not reached in the time are not counted; results/endurance.json says
how many were, and how memory grew over the second half of them.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _machine import describe, save

import jaxsteer as js
from jaxsteer.solvers import limit_programs

MARK = 50  # shapes between two looks at the memory
DOORS = ("is_ideal", "nearest_ideal")


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


def one_shape(rng: np.random.Generator, solves: int) -> dict:
    """Memory over solves of one shape."""
    start = resident()
    for _ in range(solves // 10):
        js.nearest_ideal(population(rng, 3, 2)).require()
    warm, clock = resident(), time.process_time()
    for _ in range(solves - solves // 10):
        js.nearest_ideal(population(rng, 3, 2)).require()
    steady = resident()
    return {
        "solves_of_one_shape": solves,
        "cpu_seconds": time.process_time() - clock,
        "megabytes_at_start": start,
        "megabytes_after_a_tenth": warm,
        "megabytes_after_all": steady,
        "bytes_a_solve": (steady - warm) * 2**20 / (solves - solves // 10),
    }


def many_shapes(
    rng: np.random.Generator,
    shapes: int,
    limit: int,
    seconds: float,
    *,
    door: str,
    clear: bool,
) -> dict:
    """Memory over calls of ever new shapes, with a limit on programs."""
    before, begin = resident(), time.time()
    limit_programs(limit, clear=clear)
    marks, done = [], 0
    for i in range(shapes):
        if time.time() - begin > seconds:
            break
        k, g = 2 + i % 55, 2 + i // 55
        if door == "is_ideal":
            js.is_ideal(population(rng, k, g))
        else:
            js.nearest_ideal(population(rng, k, g)).require()
        done = i + 1
        if done % MARK == 0:
            marks.append(resident())
    full = resident()
    # What one more shape costs once the limit is reached twice: a line through the marks
    # of the second half.
    settled = marks[max(-(-2 * limit // MARK), len(marks) // 2) :]
    slope = float("nan")
    if len(settled) > 2:
        slope = float(np.polyfit(np.arange(len(settled)) * MARK, settled, 1)[0])
    first = marks[: limit // MARK + 1]
    return {
        "door": door,
        "jax_caches_cleared": clear,
        "shapes": done,
        "shapes_asked_for": shapes,
        "limit_of_programs": limit,
        "megabytes_before_shapes": before,
        "megabytes_after_shapes": full,
        "megabytes_a_shape_below_the_limit": (first[-1] - before) / (len(first) * MARK)
        if first
        else float("nan"),
        "megabytes_a_shape_above_the_limit": slope,
        "megabytes_every_50_shapes": [round(mark, 1) for mark in marks],
    }


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--solves", type=int, default=10_000)
    parser.add_argument("--shapes", type=int, default=3_000)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--door", choices=DOORS, default="is_ideal")
    parser.add_argument("--keep-traces", action="store_true")
    parser.add_argument("--print-only", action="store_true", help="do not save")
    parser.add_argument("--seconds", type=float, default=480.0)
    options = parser.parse_args()
    begin, rng = time.time(), np.random.default_rng(0)
    row = one_shape(rng, options.solves)
    left = options.seconds - (time.time() - begin)
    row |= many_shapes(
        rng,
        options.shapes,
        options.limit,
        left,
        door=options.door,
        clear=not options.keep_traces,
    )
    jax.clear_caches()
    row["megabytes_after_clear_caches"] = resident()
    js.nearest_ideal(population(rng, 3, 2)).require()
    if options.print_only:
        print(json.dumps(row, indent=1))
    else:
        save("endurance", {**describe(), **row})


if __name__ == "__main__":
    main()
