"""Claims: "exact" reaches the grid's optimum, and "sgd" ends near it, never worse.

Grid: 101 group weights of two groups, each model fitted to the end, seven metrics.
"exact" on 50 made-up problems (150 rows, 3 features), on Adult (all columns), German
credit and Communities and Crime: how far its value lies above the grid's smallest one
(negative: below it). "sgd" in the method's scalability setting, individual fairness and
l2 = 0.1, batches of n / 20 rows: 80 runs on made-up rows, n = 5,000 to 150,000, and 20 on
Adult (14 principal components): the share of the grid's improvement over equal weights
that it attains.

    python benchmarks/bench_pareto_grid.py exact     # writes results/pareto_exact.json
    python benchmarks/bench_pareto_grid.py sgd       # writes results/pareto_sgd.json
    python benchmarks/bench_pareto_grid.py --quick   # small, prints only: does it run?

Communities and Crime is read from the path in JAXSTEER_CRIME_CSV and left out, with a
word, where that is not set.
"""

from __future__ import annotations

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
from _machine import describe, save
from _pareto_problems import CRIME, adult_rows, crime_rows, german_rows, made_rows

from jaxsteer import pareto

SEVEN = (
    pareto.DemographicParity(),
    pareto.EqualOpportunity(),
    pareto.EqualizedOdds(),
    pareto.DisparateMistreatment(),
    pareto.HSIC(),
    pareto.GroupLossVariance(),
    pareto.IndividualFairness(),
)
NAMES = [type(metric).__name__ for metric in SEVEN]


@jax.jit
def all_seven(model, params, data):
    """Every metric of every model of a front."""

    def values(params):
        score = model.score(params, data.x)
        losses = model.losses(params, data.x, data.target)
        seen = pareto.Outputs(score, losses, params)
        return jnp.stack([metric.smooth(seen, data) for metric in SEVEN])

    return jax.lax.map(values, params)


def against_grid(rows, model):
    """Return for each metric the excess over the grid, and what was found."""
    data = pareto.group_data(*rows)
    front = pareto.sample_front(data, model, SEVEN[0])
    grid = np.asarray(all_seven(model, front.params, data))
    found = {}
    for i, name in enumerate(NAMES):
        one = pareto.MetricSum(metrics=SEVEN, coefficients=np.eye(7)[i])
        start = time.perf_counter()
        end = pareto.solve_badr(data, model, one)
        end.value.block_until_ready()
        found[name] = {
            "excess": float(end.value) - float(grid[:, i].min()),
            "value": float(end.value),
            "grid": float(grid[:, i].min()),
            "start": float(end.start_value),
            "residual": float(end.residual),
            "seconds": time.perf_counter() - start,
        }
    return found


def exact(quick):
    """Compare with the grid on made-up and real problems."""
    model = pareto.Logistic(0.02)
    runs = [
        against_grid(made_rows(150, 3, 2, seed), model)
        for seed in range(2 if quick else 50)
    ]
    report = {
        "random": {
            name: {
                "problems": len(runs),
                "largest_excess": max(run[name]["excess"] for run in runs),
                "within_1e-4": sum(run[name]["excess"] <= 1e-4 for run in runs),
            }
            for name in NAMES
        }
    }
    real = {"german": (german_rows, pareto.Logistic(0.01))}
    if not quick:
        real["adult"] = (adult_rows, pareto.Logistic(0.01))
        real["crime"] = (crime_rows, pareto.Ridge(0.1))
    for name, (load, model) in real.items():
        rows = load()
        report[name] = (
            f"left out: {CRIME} is not set"
            if rows is None
            else {"shape": list(rows[0].shape), **against_grid(rows, model)}
        )
    return report


def one_sgd(data, model, metric, best, seed):
    """One run: the share of the grid's improvement, and the end against the start."""
    n = int(data.count.sum())
    options = pareto.LoopOptions(batch_size=n // 20)
    start = time.perf_counter()
    found = pareto.solve_badr(
        data, model, metric, "sgd", options=options, key=jax.random.key(seed)
    )
    found.value.block_until_ready()
    span = float(found.start_value) - best
    # Where equal weights are optimal already there is nothing to gain but rounding.
    rounding = 8 * float(jnp.finfo(jnp.float32).eps) * abs(best)
    return {
        "n": n,
        "seed": seed,
        "share": (float(found.start_value) - float(found.value)) / span,
        "within_1_percent": float(found.value) <= best + 0.01 * span + rounding,
        "nothing_to_gain": span <= rounding,
        "not_worse": bool(found.value <= found.start_value),
        "start": float(found.start_value),
        "grid": best,
        "value": float(found.value),
        "steps": int(found.steps),
        "seconds": time.perf_counter() - start,
    }


def sgd(quick):
    """A hundred runs in the scalability setting."""
    model, metric = pareto.Logistic(0.1), pareto.IndividualFairness()
    # Fewer of the larger ones, whose grids take most of the time.
    sizes = {5000: 30, 11_000: 24, 23_000: 16, 50_000: 8, 150_000: 2}
    runs = []
    for n, seeds in ({2000: 2} if quick else sizes).items():
        for seed in range(seeds):
            data = pareto.group_data(*made_rows(n, 14, 2, seed))
            best = float(pareto.sample_front(data, model, metric).value.min())
            runs.append(one_sgd(data, model, metric, best, seed))
    if not quick:
        data = pareto.group_data(*adult_rows(14))
        best = float(pareto.sample_front(data, model, metric).value.min())
        runs += [one_sgd(data, model, metric, best, seed) for seed in range(20)]
    shares = np.asarray([run["share"] for run in runs if not run["nothing_to_gain"]])
    return {
        "runs": len(runs),
        "not_worse_than_start": sum(run["not_worse"] for run in runs),
        "nothing_to_gain": sum(run["nothing_to_gain"] for run in runs),
        "within_1_percent": sum(run["within_1_percent"] for run in runs),
        "smallest_share": float(shares.min()),
        "median_share": float(np.median(shares)),
        "each": runs,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["exact", "sgd"])
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    arguments = parser.parse_args()
    parts = {"exact": exact, "sgd": sgd}
    for name, run in parts.items():
        if arguments.part in (None, name):
            report = {**describe(), **run(arguments.quick)}
            if arguments.quick:
                print(json.dumps(report, indent=2))
            else:
                save(f"pareto_{name}", report)


if __name__ == "__main__":
    main()
