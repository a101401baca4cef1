"""The ROME paper's simulation: are the coefficients of every latent group recovered?

A hundred samples of 8,000 rows (20 columns, 4 groups, noise .1) with fixed coefficients.
"likelihood" is this library's EM as it comes (8 starts drawn from the rows, no label);
"released choices" does as the code released with the paper (unit variance, one-vs-rest
memberships, half steps), from that code's own start: the true labels, half of them
replaced; "likelihood, same start" is ours from there; "pooled" is one regression. Groups
are matched by their coefficients (Hungarian method). Writes the errors of every parameter
and their quartiles.

    python benchmarks/bench_rome_simulation.py            # 100 samples
    python benchmarks/bench_rome_simulation.py --quick    # 2 small ones, prints only
"""

from __future__ import annotations

import argparse
import json
import time

import jax
import numpy as np
from _machine import RESULTS, describe, save

from jaxsteer.latent import (
    fit_rome_em,
    match_groups,
    released_choices,
    simulate_rome,
)

METHODS = ("likelihood", "likelihood, same start", "released choices", "pooled")


def corrupted(group, seed):
    """Labels of which half are moved to another group, as the released demo starts."""
    rng = np.random.default_rng([seed, 3])
    other = (group + rng.integers(1, 4, len(group))) % 4
    return np.where(rng.random(len(group)) < 0.5, other, group)


def fit_all(sample, seed, restarts):
    """Coefficients of every method, matched to the truth, and memberships."""
    rows = (sample.y, sample.x, sample.s)
    labels = corrupted(sample.group, seed)
    released = {**released_choices(), "init": labels, "max_steps": 100}
    fits = {
        "likelihood": fit_rome_em(
            *rows, 4, restarts=restarts, key=jax.random.key(seed)
        ),
        "likelihood, same start": fit_rome_em(*rows, 4, init=labels),
        "released choices": fit_rome_em(*rows, 4, **released),
    }
    coefs, memberships = {}, {}
    for name, fit in fits.items():
        fit = fit.permute(match_groups(fit.coef, sample.coef))
        coefs[name] = np.asarray(fit.coef, float)
        own = np.asarray(fit.membership, float)[:, -5:]
        memberships[name] = own - own.mean(0)
        sure = np.asarray(fit.responsibilities).argmax(1)
        memberships[name + " accuracy"] = np.mean(sure == sample.group)
    pooled = np.asarray(fit_rome_em(*rows, 1, ridge=0.0).coef[0], float)
    coefs["pooled"] = np.tile(pooled, (4, 1))
    return coefs, memberships


def summary(errors):
    """Quartiles, median and root mean square over samples and parameters, a group."""
    groups = np.moveaxis(errors, 1, 0).reshape(4, -1)
    size = np.abs(groups)
    return [
        {
            "median_absolute": float(np.median(size[j])),
            "mean_absolute": float(size[j].mean()),
            "root_mean_square": float(np.sqrt((groups[j] ** 2).mean())),
            "quartiles": np.quantile(groups[j], [0, 0.25, 0.5, 0.75, 1]).tolist(),
        }
        for j in range(4)
    ]


def box_plots(errors, path):
    """Errors of all coefficients, a panel for each group."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(12, 3.2), sharey=True)
    for j, ax in enumerate(axes):
        parts = [errors[name][:, j].reshape(-1) for name in METHODS]
        ax.boxplot(parts, showfliers=False, orientation="vertical")
        ax.set_yscale("symlog", linthresh=0.01)
        ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        ax.set_title(f"latent group {j + 1}")
        ax.set_xticks(range(1, 5), ["EM", "EM, same\nstart", "released", "pooled"])
        ax.tick_params(axis="x", labelsize=7)
    axes[0].set_ylabel("estimate - truth")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def table(report):
    """The summary as Markdown."""
    lines = [
        "| method | "
        + " | ".join(f"group {j + 1} median / RMS" for j in range(4))
        + " | rows in the right group |",
        "| --- |" + " --- |" * 5,
    ]
    for name in METHODS:
        cells = [
            f"{g['median_absolute']:.4f} / {g['root_mean_square']:.4f}"
            for g in report["coefficients"][name]
        ]
        right = report["right_group"].get(name)
        cells.append("" if right is None else f"{right:.3f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    quick = parser.parse_args().quick
    n, repeats, restarts = (800, 2, 2) if quick else (8000, 100, 8)
    errors = {name: [] for name in METHODS}
    gates: dict[str, list] = {name: [] for name in METHODS[:3]}
    right: dict[str, list] = {name: [] for name in METHODS[:3]}
    sizes = []
    start = time.perf_counter()
    for seed in range(repeats):
        sample = simulate_rome(n, seed=seed)
        sizes.append(np.bincount(sample.group, minlength=4) / n)
        coefs, memberships = fit_all(sample, seed, restarts)
        for name in METHODS:
            errors[name].append(coefs[name] - sample.coef)
        truth = sample.membership - sample.membership.mean(0)
        for name in METHODS[:3]:
            gates[name].append(memberships[name] - truth)
            right[name].append(memberships[name + " accuracy"])
    stacked = {name: np.array(found) for name, found in errors.items()}
    worse = {
        name: [
            bool(ours["mean_absolute"] < theirs["mean_absolute"])
            and bool(ours["median_absolute"] < theirs["median_absolute"])
            for ours, theirs in zip(
                summary(stacked[name]),
                summary(stacked["released choices"]),
                strict=True,
            )
        ]
        for name in METHODS[:2]
    }
    report = {
        **describe(),
        "samples": repeats,
        "rows": n,
        "seconds": time.perf_counter() - start,
        "group_shares": np.mean(sizes, 0).tolist(),
        "coefficients": {name: summary(found) for name, found in stacked.items()},
        "median_absolute_error_of_each_coefficient": {
            name: np.median(np.abs(found), 0).round(6).tolist()
            for name, found in stacked.items()
        },
        "memberships_median_absolute": {
            name: np.median(np.abs(np.array(found)), (0, 2)).tolist()
            for name, found in gates.items()
        },
        "right_group": {name: float(np.mean(found)) for name, found in right.items()},
        "better_than_released_in_each_group": worse,
    }
    if quick:
        print(json.dumps(report, indent=2))
        return
    save("rome_simulation", report)
    (RESULTS / "rome_simulation.md").write_text(table(report))
    box_plots(stacked, RESULTS / "rome_simulation.png")


if __name__ == "__main__":
    main()
