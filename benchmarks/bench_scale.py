"""Claim: moments stream at three quarters of the machine's matrix-product rate.

Ten million rows of 256 float32 features in two classes and two groups, made chunk by
chunk (the making is not timed), go through :func:`jaxsteer.moments.update` in constant
memory; the rate is against ``x' x`` of the same chunks in the same run, by CPU seconds,
which other work on the machine does not disturb. Beside it: time and memory against
rows, features, cells, simulated devices and real processes, with fitted exponents; a
12-column CSV through :func:`jaxsteer.streaming.steer_file` against reading and writing it
with pyarrow; maps at thousands of features, with the factorizations of ``d x d``
matrices in their programs; and leading directions by a range finder.

    python benchmarks/bench_scale.py            # all; the results to results/scale.json
    python benchmarks/bench_scale.py rate csv   # some parts only
    python benchmarks/bench_scale.py --quick    # small, prints only: does it run?

``--rows`` scales the two long parts down; the results say how many there were. On two
quiet cores "rate" takes two minutes, "csv" two, "large_d" four, "largest_d" with its
8,192 features half an hour, each other part less than one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PARTS = (
    "rate",
    "curves",
    "devices",
    "processes",
    "csv",
    "large_d",
    "sketch",
    "largest_d",
)


def peak():
    """Largest memory of this process so far, GB (that of its parent left out)."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 2**20


def cpu(call, repeats=3):
    """Least CPU seconds of a few calls, after one that compiles."""
    import jax

    jax.block_until_ready(call())
    found = []
    for _ in range(repeats):
        start = time.process_time()
        jax.block_until_ready(call())
        found.append(time.process_time() - start)
    return min(found)


def exponent(sizes, values):
    """Slope of the logarithms."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def chunk(rng, n, d):
    """Make rows, labels and groups of one chunk."""
    import numpy as np

    x = rng.standard_normal((n, d), np.float32)
    label, group = rng.integers(0, 2, (2, n), np.int32)
    x[:, 0] += label * (1 + group)
    return x, label, group


def rate(rows, quick):
    """The long stream, and the products of the same chunks."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxsteer.moments import finish, init, update

    n, d = (2048, 32) if quick else (65_536, 256)
    found = {"features": d, "chunk_rows": n}
    product = jax.jit(lambda x: jnp.matmul(x.T, x, precision="highest"))
    for scatter in ("pooled", "cell"):
        rng = np.random.default_rng(0)
        state = init(d, n_classes=2, n_groups=2, scatter=scatter)
        seconds = {"update": 0.0, "product": 0.0}
        wall = dict(seconds)
        memory, total = [], 0
        for turn in range(-1, max(rows // n, 2)):
            made = tuple(jnp.asarray(v) for v in chunk(rng, n, d))
            x, label, group = jax.block_until_ready(made)
            calls = {
                "product": lambda x=x: product(x),
                "update": lambda s=state, r=(x, label, group): update(s, *r),
            }
            for name, call in calls.items():
                start = time.process_time(), time.perf_counter()
                result = jax.block_until_ready(call())
                if turn >= 0:  # the first compiles
                    seconds[name] += time.process_time() - start[0]
                    wall[name] += time.perf_counter() - start[1]
            if turn >= 0:
                state, total = result, total + n
                memory.append(peak())
        found[scatter] = {
            "rows": total,
            "cpu_s": seconds,
            "wall_s": wall,
            "share_of_product_rate": seconds["product"] / seconds["update"],
            "rows_per_cpu_s": total / seconds["update"],
            "peak_gb": {"after_first_chunk": memory[0], "at_the_end": memory[-1]},
        }
        if scatter == "cell":
            law = finish(state, shrinkage=None).conditionals
            found["largest_error_of_a_variance"] = float(
                jnp.max(jnp.abs(jnp.diagonal(law.cov, axis1=-2, axis2=-1) - 1))
            )
    return found


def curves(rows, quick):
    """CPU seconds and memory of one update against rows, features and cells."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxsteer.moments import init, update
    from jaxsteer.moments._stream import _updated

    del rows
    rng = np.random.default_rng(0)

    def seconds(n, d, cells):
        state = init(d, n_classes=cells // 2, n_groups=2)
        x = jnp.asarray(rng.standard_normal((n, d), np.float32))
        label = jnp.asarray(rng.integers(0, cells // 2, n))
        group = jnp.asarray(rng.integers(0, 2, n))
        order = jnp.zeros(n, jnp.int32)
        plan = _updated.lower(state, x, label, group, None, order).compile()
        kept = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        working = plan.memory_analysis().temp_size_in_bytes
        seconds = cpu(lambda: update(state, x, label, group))
        return seconds, kept / 2**20, working / 2**20

    axes = {
        "rows": [(n, 128, 4) for n in (8192, 16384, 32768, 65536)],
        "features": [(8192, d, 4) for d in (64, 128, 256, 512)],
        "cells": [(32768, 64, c) for c in (4, 16, 64, 256)],
    }
    if quick:
        axes = {"rows": [(256, 8, 4), (512, 8, 4)]}
    found = {}
    for place, (name, sizes) in enumerate(axes.items()):
        measured = [seconds(*size) for size in sizes]
        along = [size[place] for size in sizes]
        found[name] = {
            "sizes": along,
            "cpu_s": [m[0] for m in measured],
            "state_mb": [m[1] for m in measured],
            "working_mb": [m[2] for m in measured],
            "exponent_of_memory": exponent(along, [m[1] + m[2] for m in measured]),
            "exponent_of_time": exponent(along, [m[0] for m in measured]),
        }
    return found


ON_DEVICES = """
import json, sys, time, jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxsteer.moments import sharded_moments
count, n, d = (int(v) for v in sys.argv[1:])
mesh = Mesh(np.array(jax.devices()), ("rows",))
rng = np.random.default_rng(0)
lay = NamedSharding(mesh, P("rows"))
x = jax.device_put(rng.standard_normal((n, d), np.float32), lay)
label, group = (jax.device_put(rng.integers(0, 2, n), lay) for _ in range(2))
def run():
    return jax.block_until_ready(
        sharded_moments(x, label, group, n_classes=2, n_groups=2, mesh=mesh))
run()
cpu, wall = [], []
for _ in range(3):
    start = time.process_time(), time.perf_counter()
    run()
    cpu.append(time.process_time() - start[0])
    wall.append(time.perf_counter() - start[1])
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 2**20
print(json.dumps([min(cpu), min(wall), peak]))
"""


def child(program, *args, devices=1):
    """Run a program of its own and read what it prints."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-c", program, *map(str, args)]
    out = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return json.loads(out.stdout.splitlines()[-1])


def devices(rows, quick):
    """One machine cut into simulated devices: what the cutting costs."""
    del rows
    n, d = (1024, 16) if quick else (65_536, 128)
    counts = (1, 2) if quick else (1, 2, 4, 8)
    found = [child(ON_DEVICES, c, n, d, devices=c) for c in counts]
    return {
        "devices": list(counts),
        "rows": n,
        "features": d,
        "cpu_s": [f[0] for f in found],
        "wall_s": [f[1] for f in found],
        "peak_gb": [f[2] for f in found],
        "exponent_of_cpu": exponent(counts, [f[0] for f in found]),
        "exponent_of_memory": exponent(counts, [f[2] for f in found]),
    }


def processes(rows, quick):
    """Real processes over one Parquet data set: start to end, one machine."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as parquet

    del rows
    n = 2_000 if quick else 400_000
    rng = np.random.default_rng(0)
    found = {"rows": 2 * n, "features": 8, "processes": [], "wall_s": [], "cpu_s": []}
    found["largest_process_gb"] = []
    with tempfile.TemporaryDirectory() as folder:
        for part in range(2):
            x, label, group = chunk(rng, n, 8)
            columns = {f"x{j}": x[:, j] for j in range(8)}
            columns |= {"y": label.astype(str), "g": group.astype(str)}
            parquet.write_table(pa.table(columns), f"{folder}/{part}.parquet")
        for count in (1, 2) if quick else (1, 2, 4):
            start = time.perf_counter()
            spent = resource.getrusage(resource.RUSAGE_CHILDREN)
            before = spent.ru_utime + spent.ru_stime
            command = [sys.executable, "-m", "jaxsteer.examples.multi_process", folder]
            command += ["--label", "y", "--group", "g", "--processes", str(count)]
            command += ["--folder", f"{folder}/out-{count}", "--piece-rows", "65536"]
            subprocess.run(command, check=True, capture_output=True)
            found["processes"].append(count)
            found["wall_s"].append(time.perf_counter() - start)
            spent = resource.getrusage(resource.RUSAGE_CHILDREN)
            found["cpu_s"].append(spent.ru_utime + spent.ru_stime - before)
            # The largest process so far, here or in the parts before.
            found["largest_process_gb"].append(spent.ru_maxrss / 2**20)
    for clock in ("wall_s", "cpu_s"):
        found[f"exponent_of_{clock}"] = exponent(found["processes"], found[clock])
    return found


CSV = """
import json, sys, time
import pyarrow.csv as csv
source, out, how = sys.argv[1:]
start = time.process_time(), time.perf_counter()
if how == "pyarrow":
    with csv.open_csv(source) as reader:
        with csv.CSVWriter(out, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
else:
    from jaxsteer.streaming import steer_file
    steer_file(source, label="y", group="g", out=out)
print(json.dumps({
    "cpu_s": time.process_time() - start[0],
    "wall_s": time.perf_counter() - start[1],
    "peak_gb": int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 2**20,
}))
"""


def csv(rows, quick):
    """A 12-column CSV steered, and only read and written."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv

    rows = 20_000 if quick else rows
    rng = np.random.default_rng(0)
    found = {"columns": 12}
    with tempfile.TemporaryDirectory() as folder:
        source, written, writer = f"{folder}/rows.csv", 0, None
        while written < rows:
            n = min(262_144, rows - written)
            x, label, group = chunk(rng, n, 8)
            columns = {f"x{j}": x[:, j].round(4) for j in range(8)}
            columns["job"] = np.array(["cook", "clerk", "nurse"])[rng.integers(0, 3, n)]
            columns["part"] = rng.integers(0, 2, n)
            columns["y"] = np.array(["no", "yes"])[label]
            columns["g"] = np.array(["f", "m"])[group]
            table = pa.table(columns)
            writer = writer or pa.csv.CSVWriter(source, table.schema)
            writer.write_table(table)
            written += n
        writer.close()
        found |= {"rows": written, "file_gb": os.path.getsize(source) / 2**30}
        for how in ("pyarrow", "steer_file"):
            found[how] = child(CSV, source, f"{folder}/out.csv", how)
            found[how]["out_gb"] = os.path.getsize(f"{folder}/out.csv") / 2**30
    for clock in ("cpu_s", "wall_s"):
        ratio = found["steer_file"][clock] / found["pyarrow"][clock]
        found[f"times_{clock}_of_pyarrow"] = ratio
    return found


LARGE = """
import json, sys, time
import jax, jax.numpy as jnp, numpy as np
import jaxsteer as js
from jaxsteer.linalg import _factor
d, maps = int(sys.argv[1]), sys.argv[2]
options = {"maps": maps, "reference": 1, "differentiate": "none"}
if sys.argv[3:]:
    options["solver"] = js.solvers.MatrixNewton(max_steps=int(sys.argv[3]))
rng = np.random.default_rng(0)
# As of groups of 2 d rows: the largest variance is 34 times the smallest.
root = jnp.asarray(rng.standard_normal((2, d, 2 * d), np.float32) / (2 * d) ** 0.5)
cov = jnp.einsum("gij,gkj->gik", root, root, precision="highest")
cov = jnp.broadcast_to(cov, (2, 2, d, d))
mean = jnp.asarray(rng.standard_normal((2, 2, d), np.float32)) / 8
pop = js.Population(jnp.array([[0.3, 0.2], [0.3, 0.2]]), js.MultivariateNormal(mean, cov))
del root, cov, mean
text = jax.jit(lambda pop: js.nearest_ideal(pop, **options)).lower(pop).as_text()
names = ("potrf", "geqrf", "syevd", "gesdd", "trsm")
lines = [line for line in text.splitlines() if f"{d}x{d}x" in line]
calls = {
    name: sum(f"lapack_s{name}" in line or f"blas_s{name}" in line for line in lines)
    for name in names
}
start = time.process_time(), time.perf_counter()
found = js.nearest_ideal(pop, **options)
kl = float(found.kl)
print(json.dumps({
    "features": d, "maps": maps, "kl": kl, "status": js.Status(int(found.status)).name,
    "residual": float(found.residual), "steps": int(found.steps),
    "cpu_s": time.process_time() - start[0], "wall_s": time.perf_counter() - start[1],
    "peak_gb": int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 2**20,
    "population_gb": sum(v.nbytes for v in jax.tree.leaves(pop)) / 2**30,
    "calls_on_d_by_d_in_the_program": calls,
}))
"""


def large_d(rows, quick, sizes=(256, 512, 1024)):
    """Maps at hundreds to thousands of features, each in a process of its own."""
    del rows
    sizes = (32,) if quick else sizes
    found = {}
    for maps in ("shared_covariance", "positive_definite"):
        found[maps] = [child(LARGE, d, maps) for d in sizes]
        if not quick:
            seconds = [one["cpu_s"] for one in found[maps]]
            found[f"{maps}_exponent_of_time"] = exponent(sizes, seconds)
    return found


SKETCH = """
import dataclasses, json, sys, time
import jax, jax.numpy as jnp, numpy as np
from jaxsteer.moments import finish_low_rank, init
d, rank = int(sys.argv[1]), 16
state = init(d, n_classes=1)
root = jax.random.normal(jax.random.key(0), (rank, d)) * 8 / d**0.5
cov = jnp.matmul(root.T, root, precision="highest") + jnp.eye(d)
ones = jnp.full(1, 1e4)
state = dataclasses.replace(state, cov=cov[None], mass=ones, squares=ones)
def run():
    return jax.block_until_ready(finish_low_rank(state, rank=rank, key=jax.random.key(1)))
run()
start = time.process_time(), time.perf_counter()
found = run()
print(json.dumps({
    "features": d, "rank": rank, "missed": float(found.missed[0, 0]),
    "captured": float(found.captured[0, 0]),
    "cpu_s": time.process_time() - start[0], "wall_s": time.perf_counter() - start[1],
    "peak_gb": int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 2**20,
}))
"""


def sketch(rows, quick, sizes=(1024, 2048, 4096, 8192)):
    """Sixteen leading directions, no ``d x d`` matrix decomposed."""
    del rows
    found = [child(SKETCH, d) for d in ((64,) if quick else sizes)]
    seconds = [one["cpu_s"] for one in found]
    slope = None if quick else exponent(sizes, seconds)
    return {"sizes": found, "exponent_of_time": slope}


# The last one, all steps of which would take two hours, is for its memory.
LARGEST = (
    (2048, "positive_definite"),
    (4096, "shared_covariance"),
    (4096, "positive_definite"),
    (8192, "shared_covariance"),
    (8192, "positive_definite", 1),
)


def largest_d(rows, quick, cases=LARGEST):
    """Maps at thousands of features: minutes each, within 12 GB."""
    del rows
    cases = [(48, *case[1:]) for case in cases[-2:]] if quick else cases
    return [child(LARGE, *case) for case in cases]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    args = parser.parse_args()
    here = Path(__file__).resolve().parent
    found = {}
    for part in args.parts or PARTS:
        found[part] = globals()[part](20_000 if args.quick else args.rows, args.quick)
        print(part, json.dumps(found[part], indent=1), flush=True)
    if args.quick:
        return
    sys.path.insert(0, str(here))
    from _machine import RESULTS, describe, save

    path = RESULTS / "scale.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    save("scale", {**before, **describe("pyarrow"), **found})


if __name__ == "__main__":
    main()
