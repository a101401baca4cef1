"""Claim: 1,000,000 rows of 12 columns: steer in 60 s and 2 GB, apply and audit in 10 s.

A made-up file as people have them (an id, codes with leading zeros, whole numbers with
gaps, amounts with two decimals, long fractions, words, a date). Every command runs in a
process of its own: seconds of the clock and of the processor, loading the packages and
compiling included (without a cache on disk), and the most memory that it held. `steer`
leaves out the comparison of its report; `apply` is run with what `steer` kept of 20,000
rows (three repeats of five fold models), features and scores apart and together, and with
what it kept of all rows (one repeat of five). The audit has 64 intersections. Where other
work shares the machine, seconds of the clock are too many: `load` is how many programs
wanted a core. The hashes are of what `apply` wrote, which no work on its speed may change.

    python benchmarks/bench_command_line.py            # prints and writes the results
    python benchmarks/bench_command_line.py --quick    # 20,000 rows, prints only
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _machine import describe, save

JOBS = [
    "clerk",
    "nurse",
    "driver",
    "teacher",
    "cook",
    "engineer",
    "other, or none",
    "none",
]
STEER = ["--label", "paid", "--group", "sex", "--id", "person", "--no-check"]
#: What `steer` is asked for, and which columns `apply` then writes.
KINDS = {
    "features": ["--features"],
    "score, logistic": ["--score", "--learner", "logistic"],
    "score, boosted trees": ["--score"],
    "features, weights and score": [],
}


def make_rows(n: int, seed: int = 0) -> pd.DataFrame:
    """Return `n` rows of 12 columns, in which the label depends on features and group."""
    rng = np.random.default_rng(seed)
    male = rng.random(n) < 0.6
    paid = rng.random(n) < np.where(male, 0.55, 0.4)
    age = rng.integers(18, 80, n).astype("U2")
    age[rng.random(n) < 0.02] = ""
    days = rng.integers(0, 4000, n)
    amount = rng.gamma(2, 700, n) * (1 + 0.4 * paid + 0.2 * male)
    return pd.DataFrame(
        {
            "person": np.char.zfill(np.arange(n).astype(str), 9),
            "zip": np.char.zfill(rng.integers(0, 8, n).astype(str), 5),
            "age": age,
            "income": amount.round(2),
            "ratio": rng.beta(2, 5, n) + 0.1 * paid,
            "debt": rng.normal(30 - 6 * paid + 3 * male, 5, n).round(4),
            "kids": rng.integers(0, 6, n),
            "job": rng.choice(JOBS, n),
            "since": np.datetime_as_string(np.datetime64("2012-01-01") + days),
            "member": rng.choice(["TRUE", "FALSE"], n),
            "sex": np.where(male, "M", "F"),
            "paid": np.where(paid, "yes", "no"),
        }
    )


def measured(*arguments: Any) -> dict[str, float]:
    """Run one command in a process of its own."""
    command = [sys.executable, "-m", "jaxsteer.cli", *map(str, arguments), "--quiet"]
    plain = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=plain)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"failed: {' '.join(command)}")
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_GB": round(used.ru_maxrss * 1024 / 1e9, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def digest(path: Path) -> str:
    """Return the first digits of a file's hash."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, prints only")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", default="", help="kinds whose name holds this text")
    options = parser.parse_args()
    n = 20_000 if options.quick else options.rows
    kinds = {k: v for k, v in KINDS.items() if options.only in k}
    found: dict[str, Any] = {"rows": n, "columns": 12, "steer": {}, "apply": {}}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        frame = make_rows(n)
        frame.to_csv(place / "rows.csv", index=False)
        frame.iloc[:20_000].to_csv(place / "part.csv", index=False)
        found["input_MB"] = round((place / "rows.csv").stat().st_size / 1e6, 1)
        for kind, asked in kinds.items():
            names = ("part", "rows") if n > 20_000 and not asked else ("part",)
            for name in names:
                out = place / f"{name}_out.csv"
                used = measured(
                    *("steer", place / f"{name}.csv", "--out", out, "--force"),
                    *(*STEER, *asked),
                )
                size = min(n, 20_000) if name == "part" else n
                found["steer"][f"{kind}; {size:,} rows"] = used
                new = place / "applied.csv"
                used = measured(
                    *("apply", place / f"{name}_out.maps", place / "rows.csv"),
                    *("--out", new, "--force"),
                )
                title = f"{kind}; fitted to {size:,} rows"
                found["apply"][title] = used | {"sha256": digest(new)}
                print(title, found["apply"][title], flush=True)
        found["audit"] = measured(
            *("audit", place / "rows.csv", "--label", "paid", "--group", "zip,job"),
            *("--score", "ratio", "--n-boot", 200),
        )
    if options.quick or options.only:
        print(found)
        return
    save("command_line", describe("pandas", "pyarrow", "scikit-learn") | found)


if __name__ == "__main__":
    main()
