"""Claim: intervals of a largest gap over thresholds that hold what they promise.

The largest gap is never negative and its estimate is biased upwards by noise, the more
the smaller the true gap, and a bootstrap adds that noise a second time. Measured here:
how often a 95% interval holds a known true gap, by how it is built from the same
resamples (v the value, v* the resampled ones, D and D* the signed gap at each threshold):

- percentile: [q(.025), q(.975)] of v*
- basic: [2 v - q(.975), 2 v - q(.025)], cut at 0
- used: [2 v - q(.995), 2 v - q(.005)], cut at 0, its upper end at least v; this is
  what `metrics.bootstrap` reports
- band: v -/+ the 95% quantile of max |D* - D|, cut at 0

Scores of one class are normal in two groups, shifted so that the largest gap is known.

    python benchmarks/bench_gap_intervals.py            # prints and writes the results
    python benchmarks/bench_gap_intervals.py --quick    # small, prints only
"""

from __future__ import annotations

import argparse

import numpy as np
from _machine import save
from scipy.stats import norm

GAPS = (0.0, 0.02, 0.05, 0.1, 0.2)
SIZES = ((150, 300), (600, 1200))
KINDS = ("percentile", "basic", "used", "band")


def signed_gaps(score, group, weights):
    """Difference of the groups' distribution functions at every score, ``[..., n]``."""
    order = np.argsort(score)
    mass = weights[..., order]
    shares = []
    for code in (0, 1):
        own = np.where(group[order] == code, mass, 0)
        shares.append(np.cumsum(own, -1) / own.sum(-1, keepdims=True))
    return shares[0] - shares[1]


def intervals(score, group, rng, n_boot):
    n = len(score)
    there = signed_gaps(score, group, np.ones(n))
    counts = rng.multinomial(n, np.full(n, 1 / n), n_boot).astype(float)
    moved = signed_gaps(score, group, counts)
    value, resampled = np.abs(there).max(), np.abs(moved).max(-1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    lowest, highest = np.quantile(resampled, [0.005, 0.995])
    reach = np.quantile(np.abs(moved - there).max(-1), 0.95)
    return {
        "percentile": (low, high),
        "basic": (max(0, 2 * value - high), max(0, 2 * value - low)),
        "used": (max(0, 2 * value - highest), max(value, 2 * value - lowest)),
        "band": (max(0, value - reach), value + reach),
    }


def study(gap, size, runs, n_boot, seed):
    shift = 2 * norm.ppf((1 + gap) / 2)
    rng = np.random.default_rng(seed)
    group = np.repeat([0, 1], size)
    held, width = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0.0)
    for _ in range(runs):
        score = rng.normal(size=len(group)) + shift * group
        for kind, (low, high) in intervals(score, group, rng, n_boot).items():
            held[kind] += low <= gap + 1e-12 and gap <= high
            width[kind] += high - low
    return {
        kind: {"coverage": held[kind] / runs, "width": width[kind] / runs}
        for kind in KINDS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, prints only")
    options = parser.parse_args()
    runs, n_boot = (20, 50) if options.quick else (200, 200)
    figures = []
    for size in SIZES[:1] if options.quick else SIZES:
        for gap in GAPS:
            found = study(gap, size, runs, n_boot, seed=len(figures))
            figures.append({"rows": list(size), "gap": gap, **found})
            line = ", ".join(
                f"{kind} {found[kind]['coverage']:.2f} ({found[kind]['width']:.3f})"
                for kind in KINDS
            )
            print(f"{size} rows, true gap {gap}: {line}", flush=True)
    if not options.quick:
        save("gap_intervals", {"runs": runs, "n_boot": n_boot, "figures": figures})


if __name__ == "__main__":
    main()
