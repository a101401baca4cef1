"""Everything that has a figure on a GPU, in one command of at most eight minutes.

    python benchmarks/gpu/run_all.py            # writes results/gpu.json as it goes
    python benchmarks/gpu/run_all.py --quick    # small; on a CPU too: does it run?

Each part runs in a process of its own under a limit of time; what has ended is in the
file even if a later part does not end. Parts: the rate of streamed moments against
matrix products, their sharding over all devices, and maps at thousands of features.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "gpu.json"

PRELUDE = """
import json, sys, time
import jax, jax.numpy as jnp, numpy as np
import jaxsteer as js
quick = sys.argv[1] == "quick"

def seconds(call, repeats=5):
    jax.block_until_ready(call())
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        found.append(time.perf_counter() - start)
    return sorted(found)[len(found) // 2]
"""

DEVICE = """
print(json.dumps({
    "device": jax.devices()[0].device_kind, "count": jax.device_count(),
    "platform": jax.default_backend(), "jax": jax.__version__,
}))
"""

RATE = """
from jaxsteer.moments import init, update
from jaxsteer.moments._stream import _updated
found = {}
for d in (32,) if quick else (256, 1024, 4096):
    n = 1024 if quick else 2**26 // d
    x = jax.random.normal(jax.random.key(0), (n, d))
    label, group = (jax.random.randint(jax.random.key(k), (n,), 0, 2) for k in (1, 2))
    weights = jnp.ones(n)
    product = jax.jit(lambda x: jnp.matmul(x.T, x, precision="highest"))
    base = seconds(lambda: product(x))
    for scatter in ("pooled", "cell"):
        state = init(d, n_classes=2, n_groups=2, scatter=scatter)
        mine = seconds(lambda: _updated(state, x, label, group, weights))
        found[f"{scatter}_{d}"] = {
            "rows": n, "update_s": mine, "product_s": base, "share": base / mine}
print(json.dumps(found))
"""

SHARDED = """
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxsteer.moments import sharded_moments
n, d = (1024, 32) if quick else (2**18, 256)
mesh = Mesh(np.array(jax.devices()), ("rows",))
lay = NamedSharding(mesh, P("rows"))
x = jax.device_put(jax.random.normal(jax.random.key(0), (n, d)), lay)
label, group = (
    jax.device_put(jax.random.randint(jax.random.key(k), (n,), 0, 2), lay) for k in (1, 2)
)
sizes = {"n_classes": 2, "n_groups": 2, "mesh": mesh}
print(json.dumps({
    "rows": n, "features": d, "devices": jax.device_count(),
    "seconds": seconds(lambda: sharded_moments(x, label, group, **sizes))}))
"""

LARGE = """
found = {}
for d in (32,) if quick else (512, 1024, 2048, 4096):
    key = jax.random.key(0)
    # As of groups of 2 d rows: the largest variance is 34 times the smallest.
    root = jax.random.normal(key, (2, d, 2 * d)) / (2 * d) ** 0.5
    cov = jnp.einsum("gij,gkj->gik", root, root, precision="highest")
    cov = jnp.broadcast_to(cov, (2, 2, d, d))
    mean = jax.random.normal(key, (2, 2, d)) / 8
    pop = js.Population(jnp.full((2, 2), 0.25), js.MultivariateNormal(mean, cov))
    for maps in ("shared_covariance", "positive_definite"):
        if maps == "positive_definite" and d > 2048:
            continue
        last = []
        def call():
            last[:] = [js.nearest_ideal(pop, maps=maps, reference=1, differentiate="none")]
            return last[0].kl
        run = seconds(call, 1)
        found[f"{maps}_{d}"] = {
            "seconds": run, "kl": float(last[0].kl), "steps": int(last[0].steps),
            "status": js.Status(int(last[0].status)).name,
            "population_gb": sum(v.nbytes for v in jax.tree.leaves(pop)) / 2**30}
        print(json.dumps(found), flush=True)
"""

PARTS = {"device": (DEVICE, 60), "rate": (RATE, 120), "sharded": (SHARDED, 60)}
PARTS |= {"large_d": (LARGE, 220)}


def run(program, limit, quick):
    """Run a part; keep the last whole line that it printed, whatever ends it."""
    command = [sys.executable, "-c", PRELUDE + program, "quick" if quick else "full"]
    start = time.perf_counter()
    ended = "in time"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        out, error = done.stdout, done.stderr
        if done.returncode:
            ended = f"with an error: {error.strip().splitlines()[-1]}"
    except subprocess.TimeoutExpired as late:
        out = (late.stdout or b"").decode()
        ended = f"cut off after {limit} s"
    lines = [line for line in out.splitlines() if line.startswith("{")]
    figures = json.loads(lines[-1]) if lines else {}
    return {"ended": ended, "wall_s": time.perf_counter() - start, **figures}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    found = {}
    for name, (program, limit) in PARTS.items():
        found[name] = run(program, limit, args.quick)
        print(name, json.dumps(found[name], indent=1), flush=True)
        if not args.quick:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
