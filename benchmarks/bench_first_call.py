"""CPU seconds of first calls, each in a process of its own, against another commit.

Claims: first calls do not grow with the number of groups, and take a fraction of what
they took at the commit compared with; with JAX's persistent cache a second process's
first call takes a tenth of that, under half a second. Importing the package, after JAX,
is timed by itself. Run:

    python benchmarks/bench_first_call.py [--against PATH] [--repeats N] [--quick]
        [--part first|second]

PATH is a checkout of another commit; without it only this one is measured. Both are
imported by the same interpreter, one case after the other, so that a busy machine slows
both. In the first part nothing is cached between processes. In the second each case runs
in several processes with a new folder as ``JAX_COMPILATION_CACHE_DIR``, and nothing else
set: the first is cold, the others are warm.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from _machine import describe, save

ROOT = Path(__file__).parent.parent
PROGRAM = r"""
import inspect, json, sys, time
import jax, jax.numpy as jnp, numpy as np
start = time.process_time()
import jaxsteer as js
js.nearest_ideal  # some modules are imported when a name is first asked for
IMPORT = time.process_time() - start

OLD = {"general": "full", "positive_definite": "monge", "pivot": "symmetric",
       "shared_covariance": "tied"}

def options(**given):
    old = "gauge" in inspect.signature(js.nearest_ideal).parameters
    if old and "maps" in given:
        given["gauge"] = OLD.get(given.pop("maps"), given.get("maps"))
    return given

def full(n_groups, d=10, k=2):
    rng = np.random.default_rng(0)
    half = rng.normal(size=(k, n_groups, d, 2 * d)) / np.sqrt(2 * d)
    cov = half @ half.swapaxes(-1, -2) + 0.1 * np.eye(d)
    mean = rng.normal(size=(k, n_groups, d))
    cells = js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    return js.Population(jnp.full((k, n_groups), 1 / (k * n_groups)), cells)

def line(family, n_groups, k=2):
    rng = np.random.default_rng(0)
    one, two = jnp.asarray(rng.uniform(0.5, 2.0, (2, k, n_groups)))
    cells = getattr(js, family)(one, two)
    return js.Population(jnp.full((k, n_groups), 1 / (k * n_groups)), cells)

def solve(pop, **given):
    return js.nearest_ideal(pop, reference=1, **options(**given))

CASES = {
    "affirmative general, G=2": lambda: solve(full(2), maps="general"),
    "affirmative general, G=20": lambda: solve(full(20), maps="general"),
    "all_groups general, G=2": lambda: solve(
        full(2), intervention="all_groups", maps="general"),
    "affirmative positive_definite, G=2": lambda: solve(
        full(2), maps="positive_definite"),
    "all_groups normal, G=2": lambda: solve(line("Normal", 2), intervention="all_groups"),
    "all_groups normal, G=10": lambda: solve(
        line("Normal", 10), intervention="all_groups"),
    "affirmative gamma, G=2": lambda: solve(line("Gamma", 2)),
    "all_groups weibull, G=2": lambda: solve(
        line("Weibull", 2), intervention="all_groups"),
    "is_ideal, d=5": lambda: js.is_ideal(full(2, 5)),
    "ideal_residual, d=5": lambda: js.ideal_residual(full(2, 5)),
}

def seconds(call):
    start = time.process_time()
    jax.block_until_ready(jax.tree.leaves(call()))
    return time.process_time() - start

if __name__ == "__main__":
    jnp.zeros(3).block_until_ready()
    call = CASES[sys.argv[1]]
    first, second = seconds(call), seconds(call)
    print(json.dumps({"import": IMPORT, "first": first, "second": second}))
"""
NAMES = [
    line.split('"')[1] for line in PROGRAM.splitlines() if line.startswith('    "')
]
QUICK = ("affirmative positive_definite, G=2",)
SECOND = (
    "affirmative general, G=2",
    "affirmative general, G=20",
    "affirmative positive_definite, G=2",
    "is_ideal, d=5",
)


def measure(name: str, checkout: Path, cache: str | None = None) -> dict | None:
    """First and second call of one case in a new process; None where it failed."""
    # Of settings for caches none but the folder counts.
    ours = ("JAX_PERSISTENT_", "JAX_COMPILATION_", "JAXSTEER_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    env |= {"PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu"}
    env["JAX_ENABLE_COMPILATION_CACHE"] = "false" if cache is None else "true"
    if cache is not None:
        env["JAX_COMPILATION_CACHE_DIR"] = cache
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name],
        env=env,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stderr[-500:], file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def medians(runs: list[dict | None]) -> dict | None:
    """Of each figure, over the runs that did not fail."""
    whole = [run for run in runs if run]
    if not whole:
        return None
    return {key: statistics.median(run[key] for run in whole) for key in whole[0]}


def first_process(name: str, checkout: Path, repeats: int) -> dict | None:
    """A case where nothing is cached."""
    return medians([measure(name, checkout) for _ in range(repeats)])


def second_process(name: str, checkout: Path, repeats: int) -> dict | None:
    """A case in the first process with a folder for programs, and in later ones."""
    with tempfile.TemporaryDirectory() as cache:
        cold = measure(name, checkout, cache)
        warm = medians([measure(name, checkout, cache) for _ in range(repeats)])
    if not cold or not warm:
        return None
    ratio = warm["first"] / cold["first"]
    return {"cold": cold["first"], **warm, "warm_over_cold": ratio}


def table(case, names, against: Path | None, repeats: int) -> dict:
    """Rows by name, of this commit and of the one that it is compared with."""
    rows = {}
    for name in names:
        row = {}
        for label, checkout in (("before", against), ("now", ROOT)):
            found = checkout and case(name, checkout, repeats)
            if found:
                row[label] = found
        if len(row) == 2:
            row["ratio"] = row["now"]["first"] / row["before"]["first"]
        rows[name] = row
        print(name, json.dumps(row), flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="checkout of another commit")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one case; writes no file")
    parser.add_argument("--part", choices=("first", "second"), help="both if not given")
    options = parser.parse_args()
    for part, case, names, file in (
        ("first", first_process, NAMES, "first_call"),
        ("second", second_process, SECOND, "second_process"),
    ):
        if options.part not in (None, part):
            continue
        names = QUICK if options.quick else names
        rows = table(case, names, options.against, options.repeats)
        if not options.quick:
            save(file, {**describe(), "cpu_seconds": rows})


if __name__ == "__main__":
    main()
