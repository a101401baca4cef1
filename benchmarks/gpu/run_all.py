"""Everything that has a figure on a GPU, in one command of at most eight minutes.

    python benchmarks/gpu/run_all.py            # writes results/gpu.json as it goes
    python benchmarks/gpu/run_all.py --quick    # small; on a CPU too: does it run?

Each part (parts.py) runs in a process of its own under a limit of time; what has ended is
in the file even if a later part does not end. Parts: whether the GPU gives the CPU's
answers; the rate of streamed moments against matrix products, and their sharding over
all devices; many problems at once; a training step with the gap in its loss; and maps of
thousands of features with the memory that they take.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "gpu.json"
LIMITS = {  # seconds
    "device": 30,
    "agreement": 90,
    "rate": 60,
    "sharded": 30,
    "batch": 60,
    "training_step": 110,
    "large_shared_covariance": 110,
    "large_positive_definite": 130,
}
TOTAL = 480.0  # seconds, all parts
ENV = os.environ | {"JAX_TRACEBACK_FILTERING": "off"}  # the error stands last


def run(name, limit, quick):
    """Run a part; keep the last whole line that it printed, whatever ends it."""
    command = [sys.executable, str(HERE / "parts.py"), name, *(["quick"] * quick)]
    start = time.perf_counter()
    ended = "in time"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, env=ENV
        )
        out, error = done.stdout, done.stderr
        if done.returncode:
            said = error.strip().splitlines() or ["nothing said"]  # killed, say
            ended = f"with an error, status {done.returncode}: {said[-1]}"
            print(error[-3000:], file=sys.stderr)
    except subprocess.TimeoutExpired as late:
        out = (late.stdout or b"").decode()
        ended = f"cut off after {limit:.0f} s"
    whole = out.rpartition("\n")[0].splitlines()
    lines = [line for line in whole if line.startswith("{")]
    figures = json.loads(lines[-1]) if lines else {}
    return {"ended": ended, "wall_s": time.perf_counter() - start, **figures}


def main():
    """Run the parts and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*LIMITS, []], default=[])
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    found, begin = {}, time.perf_counter()
    for name in args.parts or LIMITS:
        left = TOTAL - (time.perf_counter() - begin)
        found[name] = run(name, min(LIMITS[name], max(left, 1.0)), args.quick)
        print(name, json.dumps(found[name], indent=1), flush=True)
        if not args.quick:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
