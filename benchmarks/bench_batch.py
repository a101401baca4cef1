"""Many problems at once: against a loop, over devices, and with hard ones among them.

Claims (CPU seconds, as ratios in one run): a batch of 1,000 problems at d=32 takes at
most what the same solves take one after the other in a Python loop over one jitted
solve; spread over 8 simulated devices at most 1.2 times one device's, by a program
without collectives; 10,000 small problems of which 5% are hard at most 3 times as many
easy ones; rows are moved in 36 groups at most 1.5 times as long as in 2. Also 256
problems at d=10 in seconds, for every kind of maps, and single large ones: definite maps
of 256 features, and of 36 groups at once; and what sums of products, in place of the
library's, are worth to problems of 4 to 7 features. Run:

    python benchmarks/bench_batch.py [--quick] [--part NAME ...]

A part run by itself is printed and not saved. About 6 minutes on one quiet core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

DEVICES = 8
COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
)


def cpu_seconds(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each call after its first, one after the other in turn."""
    import jax

    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            jax.block_until_ready(call())
            times[name].append(time.process_time() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def problems(n: int, d: int, kind: str = "unrelated", hard: float = 0.0) -> Any:
    """Random problems of two classes and two groups, leading axis `n`.

    Args:
        n: How many.
        d: Features.
        kind: "unrelated" or "related", see :mod:`_gauge_problems`.
        hard: Share of rows, in even distances, whose covariances have nothing in common
            and a condition number of about 1e4, with classes far apart.
    """
    import jax
    import numpy as np
    from _gauge_problems import population, related, unrelated

    rng = np.random.default_rng(0)
    draw = {"unrelated": unrelated, "related": related}[kind]
    rows = []
    every = round(1 / hard) if hard else n + 1
    for row in range(n):
        if row % every == every - 1:
            priors, mean, _ = unrelated(rng, 2, d)
            spread = np.exp(rng.uniform(-4.6, 0.0, size=(2, 2, d)) / 2)
            turn = np.linalg.qr(rng.normal(size=(2, 2, d, d)))[0] * spread[..., None, :]
            rows.append((priors, 5 * mean, turn @ np.swapaxes(turn, -1, -2)))
        else:
            rows.append(draw(rng, 2, d))
    stacked = tuple(np.stack(part) for part in zip(*rows, strict=True))
    pops = population(stacked)
    return jax.block_until_ready(pops)


def against_loop(quick: bool) -> dict:
    """A batch, the loop over one jitted solve, and ``lax.map`` over the solve."""
    import jax

    import jaxsteer as js

    d, sizes = (
        (4, {"general": 8})
        if quick
        else (32, {"positive_definite": 1000, "general": 200})
    )
    figures = {}
    for maps, n in sizes.items():
        pops = problems(n, d)
        rows = [jax.tree.map(lambda leaf, r=r: leaf[r], pops) for r in range(n)]

        def solve(pop, maps=maps):
            return js.nearest_ideal(pop, maps=maps, reference=1)

        alone, mapped = jax.jit(solve), jax.jit(lambda p, fn=solve: jax.lax.map(fn, p))
        seconds = cpu_seconds(
            {
                "batch": lambda pops=pops, maps=maps: js.nearest_ideal_batch(
                    pops, maps=maps, reference=1
                ),
                "loop": lambda rows=rows, fn=alone: [fn(row) for row in rows],
                "lax_map": lambda pops=pops, fn=mapped: fn(pops),
            },
            repeats=1 if quick else 3,
        )
        figures[maps] = {
            "problems": n,
            "features": d,
            "cpu_seconds": seconds,
            "share_of_loop": seconds["batch"] / seconds["loop"],
            "share_of_lax_map": seconds["batch"] / seconds["lax_map"],
        }
    return figures


def small(quick: bool) -> dict:
    """256 problems at d=10, every kind of maps that is searched for."""
    import jax

    import jaxsteer as js

    pops = problems(8 if quick else 256, 3 if quick else 10)
    kinds = ("general",) if quick else ("positive_definite", "pivot", "general")

    @partial(jax.jit, static_argnames="maps")
    def solve(pops, maps):
        return js.nearest_ideal_batch(pops, maps=maps, reference=1)

    calls = {maps: partial(solve, pops, maps=maps) for maps in kinds}
    return {
        "problems": pops.priors.shape[0],
        "features": pops.conditionals.mean.shape[-1],
        "cpu_seconds": cpu_seconds(calls, repeats=1 if quick else 7),
    }


def few_features(quick: bool) -> dict:
    """256 general problems of 4 to 7 features: products as sums, and by XLA's library."""
    import jax

    import jaxsteer as js
    from jaxsteer.linalg import _matmul

    few, figures = _matmul.FEW_ENTRIES, {}
    for d in (4,) if quick else (4, 5, 6, 7):
        pops = problems(8 if quick else 256, d)
        seconds = {}
        for name, entries in (("sums", few), ("library", 0)):
            _matmul.FEW_ENTRIES = entries
            jax.clear_caches()  # of what was traced with the other products
            solve = jax.jit(partial(js.nearest_ideal_batch, reference=1))
            seconds |= cpu_seconds({name: partial(solve, pops)}, 1 if quick else 5)
        figures[d] = {**seconds, "ratio": seconds["sums"] / seconds["library"]}
    return {"problems": pops.priors.shape[0], "cpu_seconds_by_features": figures}


def mixed(quick: bool) -> dict:
    """As many problems with and without hard ones among them."""
    import numpy as np

    import jaxsteer as js

    n, d = (40, 3) if quick else (10_000, 2)
    sets = {"easy": problems(n, d, "related"), "mixed": problems(n, d, "related", 0.05)}
    figures: dict = {"problems": n, "features": d, "hard": 0.05}
    for maps in ("general",) if quick else ("general", "positive_definite"):
        calls = {
            name: lambda pops=pops, maps=maps: js.nearest_ideal_batch(
                pops, maps=maps, reference=1
            )
            for name, pops in sets.items()
        }
        seconds = cpu_seconds(calls, repeats=1 if quick else 2)
        found = calls["mixed"]()
        steps = np.asarray(found.steps).reshape(-1, 20)
        figures[maps] = {
            "cpu_seconds": seconds,
            "ratio": seconds["mixed"] / seconds["easy"],
            "mean_steps_easy": float(steps[:, :-1].mean()),
            "mean_steps_hard": float(steps[:, -1].mean()),
            "most_steps_hard": int(steps[:, -1].max()),
            "converged": float(np.mean(np.asarray(found.converged))),
        }
    return figures


def sharded(quick: bool) -> dict:
    """One total over 8 simulated devices and on one of them; needs a fresh process."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    import jaxsteer as js

    assert jax.device_count() == DEVICES
    mesh = jax.make_mesh((DEVICES,), ("batch",))
    n, d = (16, 3) if quick else (800, 16)
    figures = {}
    for maps in ("positive_definite",) if quick else ("positive_definite", "general"):
        pops = problems(n, d)
        spread = jax.device_put(pops, NamedSharding(mesh, PartitionSpec("batch")))

        def solve(pops, mesh=None, maps=maps):
            return js.nearest_ideal_batch(pops, maps=maps, reference=1, mesh=mesh)

        seconds = cpu_seconds(
            {
                "one": lambda fn=solve, pops=pops: fn(pops),
                "eight": lambda fn=solve, pops=spread: fn(pops, mesh),
            },
            repeats=1 if quick else 3,
        )
        program = jax.jit(lambda pops, fn=solve: fn(pops, mesh)).lower(spread)
        text = program.compile().as_text() or ""
        figures[maps] = {
            "problems": n,
            "features": d,
            "cpu_seconds": seconds,
            "ratio": seconds["eight"] / seconds["one"],
            "collectives": sum(text.count(f"{name}(") for name in COLLECTIVES),
        }
    return figures


def single(quick: bool) -> dict:
    """One large problem at a time, and what moving rows costs by the number of groups."""
    import jax.numpy as jnp
    import numpy as np

    import jaxsteer as js

    def drawn(g: int, d: int) -> js.Population:
        rng = np.random.default_rng(0)
        half = rng.normal(size=(2, g, d, 2 * d)) / np.sqrt(2 * d)
        cov = half @ half.swapaxes(-1, -2) + 0.1 * np.eye(d)
        mean = rng.normal(size=(2, g, d))
        cells = js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
        return js.Population(jnp.full((2, g), 1 / (2 * g)), cells)

    found: dict[str, Any] = {}
    for intervention, g, d in (("affirmative", 2, 256), ("all_groups", 36, 16)):
        g, d = (min(g, 3), 4) if quick else (g, d)
        pop = drawn(g, d)
        solve = partial(
            js.nearest_ideal,
            pop,
            intervention=intervention,
            maps="positive_definite",
            reference=1,
        )
        name = f"{intervention} positive_definite, G={g}, d={d}"
        last = solve()
        found[name] = {
            "cpu_seconds": cpu_seconds({name: lambda call=solve: call().kl}, 5)[name],
            "steps": int(last.steps),
            "status": js.Status(int(last.status)).name,
        }
    rng = np.random.default_rng(0)
    n, d = (100, 4) if quick else (100_000, 64)
    x = jnp.asarray(rng.normal(size=(n, d)))
    calls = {}
    for g in (2, 36):
        steering = js.nearest_ideal(drawn(g, d), maps="shared_covariance")
        group = jnp.asarray(rng.integers(0, g, n))
        calls[f"G={g}"] = partial(steering.transport, x, group)
    found["transport"] = cpu_seconds(calls, 9)
    found["transport"]["G=36 / G=2"] = (
        found["transport"]["G=36"] / found["transport"]["G=2"]
    )
    return found


PARTS = {
    "against_loop": against_loop,
    "small": small,
    "few_features": few_features,
    "mixed": mixed,
    "sharded": sharded,
    "single": single,
}


def in_a_process(part: str, quick: bool) -> dict:
    """One part in a process of its own, as the number of devices is set at its start."""
    env = dict(os.environ)
    if part == "sharded":
        flag = f"--xla_force_host_platform_device_count={DEVICES}"
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} {flag}".strip()
    done = subprocess.run(
        [sys.executable, __file__, "--worker", part, *["--quick"] * quick],
        env={**env, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    print(part, json.dumps(figures, indent=2), flush=True)
    return figures


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny; writes no file")
    parser.add_argument("--part", choices=PARTS, nargs="+", help="writes no file")
    parser.add_argument("--worker", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(PARTS[options.worker](options.quick)))
        return
    wanted = options.part or list(PARTS)
    figures = {part: in_a_process(part, options.quick) for part in wanted}
    if not options.quick and not options.part:
        from _machine import describe, save

        claim = __doc__.split("\n\n")[1]
        save("batch", {"claim": claim, **describe(), **figures})


if __name__ == "__main__":
    main()
