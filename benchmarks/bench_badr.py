"""Claim: at least 10 times as fast as badr's SLSQP, and 50 times per SGD iteration.

50,000 rows of 14 features, 2 or 4 groups, logistic regression with an intercept and
l2 = 0.01, float32, the same two objectives in both programs: demographic parity by
badr's formula, and the squared covariance of group number and score. Both answers are
judged by badr's own objective (its lower level refitted, in its precision). SGD: batches
of n / 20 rows, 150 iterations, as in the method's scalability runs; ours counts checks
and everything else. Times are of the second run, compilation excluded, first run beside
them; all in one run on one machine.

    python benchmarks/bench_badr.py --groups 2 --peer-python VENV/bin/python
    python benchmarks/bench_badr.py --quick    # small, prints only: does it run?

badr (GPL-3) is a peer to measure against; it wants numpy < 2.1 and so an environment of
its own: ``python -m venv VENV && VENV/bin/pip install badr==0.1.2``. Without it our own
figures are measured alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _machine import describe, first_and_median, save
from _pareto_problems import made_rows

from jaxsteer import pareto

L2 = 0.01
ITERATIONS = 150


def without_intercept(outputs, data):
    """The score as the peer's metrics see it."""
    return outputs.score - outputs.params["intercept"]


def demographic_parity(outputs, data):
    """Badr's formula, its temperature 1."""
    rates = data.group_mean(jax.nn.sigmoid(without_intercept(outputs, data)))
    return jax.nn.logsumexp(jnp.sqrt((rates - rates.mean()) ** 2 + 1e-6))


def covariance(outputs, data):
    """Squared covariance of group number and score."""
    number = jnp.arange(data.n_groups)
    means = data.group_mean(without_intercept(outputs, data))
    center = jnp.sum(data.mass * number)
    return jnp.sum(data.mass * (number - center) * means) ** 2


METRICS = {
    "demographic_parity": pareto.CustomMetric(fn=demographic_parity),
    "covariance": pareto.CustomMetric(fn=covariance),
}


def ours(data, metric, n, repeats):
    """Time the exact solve and the SGD iterations."""
    found = []

    def exact():
        found[:] = [pareto.solve_badr(data, pareto.Logistic(L2), metric)]
        return found[0].value

    first, seconds = first_and_median(exact, repeats)
    # Nothing may end it early: it is the iteration that is timed.
    options = pareto.LoopOptions(
        max_steps=ITERATIONS,
        check_every=ITERATIONS // 3,
        batch_size=n // 20,
        tolerance=-1.0,  # no residual is so small, not even 0 at a corner
        patience=ITERATIONS,
    )
    walked = []

    def sgd():
        key = jax.random.key(0)
        walked[:] = [
            pareto.solve_badr(
                data, pareto.Logistic(L2), metric, "sgd", options=options, key=key
            )
        ]
        return walked[0].value

    _, sgd_seconds = first_and_median(sgd, repeats)
    return {
        "exact_s": seconds,
        "exact_first_s": first,
        "sgd_iteration_s": sgd_seconds / int(walked[0].steps),
        "steps": int(found[0].steps),
        "residual": float(found[0].residual),
        "weights": np.asarray(found[0].group_weights, float).tolist(),
        "sgd_weights": np.asarray(walked[0].group_weights, float).tolist(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer-limit", type=float, default=75.0, help="s a problem")
    arguments = parser.parse_args()
    quick, groups = arguments.quick, arguments.groups
    n, repeats = (2000, 1) if quick else (50_000, 5)
    x, y, group = made_rows(n, 14, groups)
    data = pareto.group_data(x.astype(np.float32), y, group)
    report = {
        **describe(),
        "rows": n,
        "features": 14,
        "groups": groups,
        "l2": L2,
        "problems": {name: ours(data, m, n, repeats) for name, m in METRICS.items()},
    }
    if quick:
        print(json.dumps(report, indent=2))
        return
    rows = {"x": x, "y": y, "group": group, "l2": L2, "iterations": ITERATIONS}
    for name, own in report["problems"].items():
        weights = np.asarray(own["weights"])
        rows["ours"] = weights / weights.sum()
        own["peer"] = peer(rows, name, arguments)
        compare(own, own["peer"])
    save(f"badr_{groups}_groups", report)


def peer(rows, name, arguments):
    """Run the peer on the same rows; what it had done when its time was up counts."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.json"
        np.savez(source, **rows)
        script = str(Path(__file__).with_name("_badr_peer.py"))
        command = [arguments.peer_python, script, str(source), name, str(target)]
        limit = arguments.peer_limit
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=limit
            )
            note = done.stderr.strip()[-200:] if done.returncode else None
        except subprocess.TimeoutExpired:
            note = f"stopped after {limit} s"
        found = json.loads(target.read_text()) if target.exists() else {}
        return found if note is None else {**found, "note": note}


def compare(own, other):
    """Put the ratios beside our figures."""
    if "slsqp_first_s" in other:
        slsqp = other.get("slsqp_s", other["slsqp_first_s"])
        own["exact_times_faster"] = slsqp / own["exact_s"]
        own["not_worse"] = other["ours"] <= other["slsqp"] + 1e-6
    if "sgd_iteration_s" in other:
        ratio = other["sgd_iteration_s"] / own["sgd_iteration_s"]
        own["sgd_iteration_times_faster"] = ratio


if __name__ == "__main__":
    main()
