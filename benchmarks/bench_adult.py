"""The comparison table on census income (Adult), for the README.

Fitted on the 32,561 published training rows and measured on the 16,281 test rows, once
with logistic regression and once with boosted trees; nothing is tuned. One seed of the
folds; ``bench_fair_scores.py`` has five, with their spread. Writes
``benchmarks/results/adult.json`` and ``adult.md`` beside it, with machine and versions.

    python benchmarks/bench_adult.py            # the full table
    python benchmarks/bench_adult.py --quick    # 6,000 rows; prints and writes nothing
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import time

import numpy as np

from jaxsteer.compare import DEFAULT_METHODS, METHODS, compare, split_table
from jaxsteer.datasets import load_adult
from jaxsteer.report import versions

RESULTS = pathlib.Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows, no files")
    parser.add_argument("--all", action="store_true", help="also the extra rows")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    table = load_adult()
    methods = tuple(METHODS) if options.all else DEFAULT_METHODS
    if options.quick:
        rows = np.random.default_rng(options.seed).permutation(len(table))[:6000]
        table = table.take(np.sort(rows))
        methods = tuple(m for m in methods if m != "exponentiated_gradient")
    start, start_cpu = time.perf_counter(), time.process_time()
    split = split_table(table)
    encoded = time.perf_counter() - start
    found = compare(
        split,
        methods=methods,
        seed=options.seed,
        n_boot=50 if options.quick else 200,
        progress=lambda text, done, total: print(
            f"[{done}/{total}] {text}", flush=True
        ),
    )
    seconds = time.perf_counter() - start
    machine = {
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }
    record = {
        "machine": machine,
        "versions": dict(versions()),
        "dtype": str(split.x_train.dtype),
        "features": split.x_train.shape[1],
        "seconds": {
            "encode": round(encoded, 2),
            "all": round(seconds, 2),
            "processor": round(time.process_time() - start_cpu, 2),
        },
        "comparison": json.loads(found.to_json()),
    }
    stated = (
        f"{len(found.label_test):,} test rows, seed {options.seed}, "
        f"{machine['processors']} processors, {seconds:.0f} s; "
        + ", ".join(f"{name} {version}" for name, version in versions())
        + "."
    )
    text = found.to_markdown() + "\n" + stated + "\n"
    print(text)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "adult.json").write_text(json.dumps(record, indent=1) + "\n")
        (RESULTS / "adult.md").write_text(text)


if __name__ == "__main__":
    main()
