"""Hundreds of processes full of factorizations, each under a watchdog: none may hang.

jaxlib's batched LAPACK kernels of a CPU wait for each other on the threads that they run
on; with few threads they can wait for ever. ``jaxsteer.linalg`` never hands LAPACK a
batch on a CPU, so that nothing can wait; this looks for what it may have missed. Every
process runs one case a few times on new numbers, with the default settings; one that has
not ended after its time counts as a hang.

Claim (two cores): no hang in 300 processes, those among them that used to hang (marked *).

    python benchmarks/soak_factorizations.py [--runs 300] [--quick] [--only WORD]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

MAPS = ("general", "positive_definite", "pivot", "shared_covariance", "diagonal")
INTERVENTIONS = ("affirmative", "all_groups")
ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Case:
    """One program: what it computes, of how many problems, how large.

    Attributes:
        what: "kl", or "ideal" for the nearest ideal population.
        d: Features.
        batch: Problems side by side; 0 is one problem without ``vmap``.
        derivative: "value", "gradient" or "hessian" (products with four directions).
        maps: Of "ideal".
        intervention: Of "ideal".
        hung: Whether it used to hang.
    """

    what: str
    d: int
    batch: int
    derivative: str
    maps: str = ""
    intervention: str = ""
    hung: bool = False

    def __str__(self) -> str:
        parts = [self.what, self.intervention, self.maps, self.derivative]
        size = f"d={self.d}, " + (f"batch {self.batch}" if self.batch else "single")
        return " ".join(filter(None, parts)) + f", {size}" + " *" * self.hung


def cases(quick: bool) -> list[Case]:
    """All cases, those that used to hang first."""
    every = INTERVENTIONS[1]
    named = [
        Case("ideal", 64, 0, "value", "positive_definite", every, True),
        Case("ideal", 64, 0, "value", "general", every, True),
        Case("ideal", 128, 0, "gradient", "positive_definite", INTERVENTIONS[0], True),
        Case("ideal", 16, 300, "value", "general", every, True),
        Case("ideal", 16, 300, "value", "pivot", every, True),
        Case("ideal", 16, 300, "gradient", "general", INTERVENTIONS[0], True),
        Case("ideal", 16, 300, "gradient", "shared_covariance", INTERVENTIONS[0], True),
        *(Case("ideal", 16, 300, "gradient", maps, every, True) for maps in MAPS[:4]),
    ]
    divergences = [
        Case("kl", d, batch, derivative)
        for (d, batch), derivative in itertools.product(
            ((16, 2000), (32, 1000), (64, 300)), ("value", "gradient", "hessian")
        )
    ]
    wide = [
        Case("ideal", d, batch, derivative, maps, intervention)
        for (d, batch), derivative, intervention, maps in itertools.product(
            ((16, 1000), (32, 300)), ("value", "gradient"), INTERVENTIONS, MAPS
        )
    ]
    if quick:
        return [named[0], named[2], named[6], divergences[4], wide[1]]
    return named + divergences + wide


def work(case: Case, seed: int, repeats: int) -> None:
    """Run a case; the process ends when all of it is computed."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jaxsteer as js

    rng = np.random.default_rng(seed)
    batch = (case.batch,) if case.batch else ()

    def laws() -> Any:
        shape = (*batch, 2, 2) if case.what == "ideal" else (2, *batch)
        half = rng.normal(size=(*shape, case.d, 2 * case.d)).astype(np.float32)
        cov = half @ np.swapaxes(half, -1, -2) / (2 * case.d)
        mean = 0.3 * rng.normal(size=(*shape, case.d)).astype(np.float32)
        return js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))

    if case.what == "kl":

        def value(p, q):
            return p.kl(q)

        def arguments():
            both = laws()
            law = type(both)
            return law(both.mean[0], both.cov[0]), law(both.mean[1], both.cov[1])
    else:
        options = {"maps": case.maps, "intervention": case.intervention}
        priors = jnp.full((*batch, 2, 2), 0.25)

        def value(pop):
            if case.derivative == "value":
                return js.nearest_ideal(pop, **options).kl
            return js.ideality_gap(pop, **options)

        def arguments():
            return (js.Population(priors, laws()),)

    def products(*args):
        """Products of the Hessian with a few directions."""
        keys = jax.random.split(jax.random.key(0), 4)
        slope = jax.grad(lambda args: value(*args))

        def along(key):
            step = jax.tree.map(
                lambda leaf: 0.1 * jax.random.normal(key, leaf.shape, leaf.dtype), args
            )
            return jax.jvp(slope, (args,), (step,))[1]

        return jax.vmap(along)(keys)

    program = {"value": value, "gradient": jax.value_and_grad(value)}.get(
        case.derivative, products
    )
    program = jax.jit(jax.vmap(program) if case.batch else program)
    for _ in range(repeats):
        found = jax.block_until_ready(program(*arguments()))
    finite = [bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found)]
    print("ended" if all(finite) else "ended, not finite")


def watch(case: Case, seed: int, repeats: int, limit: float, cache: str) -> dict:
    """Run a case in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    # What compiles once need not compile in every process; nothing else is shared.
    env |= {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    # Settings that would hide a hang must not be inherited.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "XLA_FLAGS"):
        env.pop(name, None)
    given = json.dumps(dataclasses.asdict(case))
    command = [sys.executable, __file__, "--worker", given, str(seed), str(repeats)]
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        end, message = "hang", ""
    else:
        last = done.stderr.strip().splitlines()[-1:]
        message = "".join(last) if done.returncode else ""
        end = "failed" if done.returncode else done.stdout.strip()
    return {"end": end, "message": message, "seconds": time.perf_counter() - start}


def table(found: dict[Case, list[dict]]) -> str:
    """One row a case."""
    head = "| case | processes | ended | hung | failed | median s | longest s |"
    rows = [head, "|:--|--:|--:|--:|--:|--:|--:|"]
    for case, runs in found.items():
        times = sorted(run["seconds"] for run in runs)
        ends = [run["end"] for run in runs]
        counts = (
            sum(end.startswith("ended") for end in ends),
            ends.count("hang"),
            ends.count("failed"),
        )
        cells = (
            str(case), len(runs), *counts, f"{times[len(times) // 2]:.1f}",
            f"{times[-1]:.1f}",
        )  # fmt: skip
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="processes in all")
    parser.add_argument("--repeats", type=int, default=3, help="calls in a process")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds a process")
    parser.add_argument("--only", default="", help="cases whose name has this word")
    parser.add_argument("--quick", action="store_true", help="five cases, once each")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        case, seed, repeats = options.worker
        work(Case(**json.loads(case)), int(seed), int(repeats))
        return
    chosen = [case for case in cases(options.quick) if options.only in str(case)]
    runs = len(chosen) if options.quick else options.runs
    found: dict[Case, list[dict]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as cache:
        for seed, case in zip(range(runs), itertools.cycle(chosen), strict=False):
            run = watch(case, seed, options.repeats, options.limit, cache)
            found[case].append(run)
            print(
                f"{seed + 1}/{runs} {case}: {run['end']} {run['message']}", flush=True
            )
    print(table(found))
    ends = [run["end"] for runs in found.values() for run in runs]
    bad = ends.count("hang") + ends.count("failed")
    print(f"{len(ends)} processes, {bad} that hung or failed")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
