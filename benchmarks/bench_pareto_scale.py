"""Claim: time and memory grow no faster than the rows, up to a million, 2 to 36 groups.

Logistic regression on 14 features, demographic parity, float32: n from 10,000 to
1,000,000 with 4 groups, and 2 to 36 groups with 100,000 rows; times of the second run,
the compilation beside them; memory is the process's largest so far (rising sizes, so
that of each size), rows as numpy arrays included.

    python benchmarks/bench_pareto_scale.py            # prints and writes the results
    python benchmarks/bench_pareto_scale.py --quick    # small, prints only
"""

from __future__ import annotations

import argparse
import json
import resource

import numpy as np
from _machine import describe, first_and_median, save
from _pareto_problems import made_rows

from jaxsteer import pareto


def measure(n, groups, repeats):
    """Solve one size."""
    x, y, group = made_rows(n, 14, groups)
    data = pareto.group_data(x.astype(np.float32), y, group)
    found = []

    def run():
        found[:] = [
            pareto.solve_badr(data, pareto.Logistic(0.01), pareto.DemographicParity())
        ]
        return found[0].value

    first, seconds = first_and_median(run, repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "n": n,
        "groups": groups,
        "seconds": seconds,
        "first_call_s": first,
        "peak_mb": peak,
        "start": float(found[0].start_value),
        "value": float(found[0].value),
        "steps": int(found[0].steps),
        "residual": float(found[0].residual),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    quick = parser.parse_args().quick
    sizes = (1000, 2000) if quick else (10_000, 30_000, 100_000, 300_000, 1_000_000)
    groups = (2,) if quick else (2, 8, 18, 36)
    rows = [measure(n, 4, 3) for n in sizes]
    many = [measure(sizes[0] if quick else 100_000, g, 3) for g in groups]
    for row in many:
        del row["peak_mb"]  # that of the million rows before
    # Slopes of log time and log memory between the three largest sizes.
    tail = rows[-3:]
    logs = {k: np.log([row[k] for row in tail]) for k in ("n", "seconds", "peak_mb")}
    report = {
        **describe(),
        "rows": rows,
        "groups": many,
        "time_exponent": float(np.polyfit(logs["n"], logs["seconds"], 1)[0]),
        "memory_exponent": float(np.polyfit(logs["n"], logs["peak_mb"], 1)[0]),
    }
    if quick:
        print(json.dumps(report, indent=2))
    else:
        save("pareto_scale", report)


if __name__ == "__main__":
    main()
