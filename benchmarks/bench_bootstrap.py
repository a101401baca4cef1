"""Claim: bootstrap intervals at least 100 times faster than fairlearn's MetricFrame.

50,000 rows, 2 groups, 100 resamples, 3 metrics: accuracy, selection rate and
true-positive rate (here accuracy, demographic_parity and equal_opportunity). Both run
in the same process on the same rows; fairlearn once, jaxsteer the median of repeats
after compilation, with the first call (compilation included) reported beside it.
Also timed: the same with row weights (rows are drawn, not counts), and the gaps over
all thresholds on 16,000 rows with 200 resamples, where the goal is half a second.

    python benchmarks/bench_bootstrap.py            # prints and writes the results
    python benchmarks/bench_bootstrap.py --quick    # small, prints only: does it run?
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.util import find_spec

import jax
import numpy as np
from _machine import describe, first_and_median, save

from jaxsteer.audit import metrics

PEER = find_spec("fairlearn") is not None
ON_CODES = ["accuracy", "demographic_parity", "equal_opportunity"]
ON_SCORES = ["sup_tpr_gap", "sup_fpr_gap", "sup_dp_gap"]


def census_like(n, seed=0):
    """Draw labels, scores and groups with about the rates of a census income task."""
    rng = np.random.default_rng(seed)
    group = (rng.uniform(size=n) < 0.67).astype(int)
    label = (rng.uniform(size=n) < np.where(group == 1, 0.31, 0.11)).astype(int)
    score = rng.normal(2.2 * label + 0.4 * group, 1.0)
    return label, (score > 1.6).astype(int), group, score


def ours(names, data, n_boot, repeats, **options):
    label, prediction, group, score = data
    key = jax.random.key(0)

    def run():
        return metrics.bootstrap(
            names,
            label,
            prediction,
            group,
            score=score,
            key=key,
            n_boot=n_boot,
            **options,
        )

    first, median = first_and_median(run, repeats)
    report = {"first_call_s": first, "run_s": median, "compile_s": first - median}
    report["intervals"] = {
        name: [float(x.value), float(x.low), float(x.high)] for name, x in run().items()
    }
    return report


def theirs(data, n_boot):
    """Time fairlearn's MetricFrame with the same metrics and resamples."""
    from fairlearn.metrics import MetricFrame, selection_rate, true_positive_rate
    from sklearn.metrics import accuracy_score

    label, prediction, group, _ = data
    start = time.perf_counter()
    frame = MetricFrame(
        metrics={
            "accuracy": accuracy_score,
            "demographic_parity": selection_rate,
            "equal_opportunity": true_positive_rate,
        },
        y_true=label,
        y_pred=prediction,
        sensitive_features=group,
        n_boot=n_boot,
        ci_quantiles=[0.025, 0.975],
        random_state=0,
    )
    gaps, (low, high) = frame.difference(), frame.difference_ci()
    seconds = time.perf_counter() - start
    intervals = {
        name: [float(gaps[name]), float(low[name]), float(high[name])]
        for name in ON_CODES[1:]
    }
    low, high = frame.overall_ci
    overall = (frame.overall, low, high)
    intervals["accuracy"] = [float(x["accuracy"]) for x in overall]
    return {"run_s": seconds, "intervals": intervals}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    quick = parser.parse_args().quick
    n, n_boot, repeats = (2_000, 10, 3) if quick else (50_000, 100, 9)
    n_scores, n_boot_scores = (1_000, 10) if quick else (16_000, 200)
    data = census_like(n)
    of_scores = census_like(n_scores)
    report = {
        **describe("scikit-learn", *(["fairlearn"] if PEER else [])),
        "dtype": str(jax.numpy.zeros(()).dtype),
        "problem": {"rows": n, "resamples": n_boot, "groups": 2, "metrics": ON_CODES},
        "counts_drawn": ours(ON_CODES, data, n_boot, repeats),
        "rows_drawn": ours(ON_CODES, data, n_boot, repeats, weights=np.ones(n)),
        "scores": {
            "rows": n_scores,
            "resamples": n_boot_scores,
            "one_gap": ours(ON_SCORES[:1], of_scores, n_boot_scores, repeats),
            "three_gaps": ours(ON_SCORES, of_scores, n_boot_scores, repeats),
            "three_gaps_auc_accuracy": ours(
                [*ON_SCORES, "auc", "accuracy"], of_scores, n_boot_scores, repeats
            ),
        },
    }
    if PEER:
        report["fairlearn"] = theirs(data, n_boot)
        seconds = report["fairlearn"]["run_s"]
        report["times_faster"] = {
            f"{how}_{when}": seconds / report[how][f"{when}_s"]
            for how in ("counts_drawn", "rows_drawn")
            for when in ("run", "first_call")
        }
    else:
        report["fairlearn"] = "not installed (extra: peers), so nothing to compare with"
    report = rounded(report)
    if quick:
        print(json.dumps(report, indent=2))
    else:
        save("bootstrap", report)


def rounded(x):
    """Round every float to five significant digits."""
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    if isinstance(x, list):
        return [rounded(v) for v in x]
    return float(f"{x:.5g}") if isinstance(x, float) else x


if __name__ == "__main__":
    main()
