"""Tables and the picture of the biographies."""

from __future__ import annotations

import pathlib

import pandas as pd
from scipy.stats import t

import jaxsteer as js

CHANCE = "raw, gender at random"
TESTED = 0.4  # share of the rows that a split tests on
METRICS = ("accuracy", "balanced", "rms_tpr_gap", "sup_tpr_gap", "sup_fpr_gap")


def tables(rows: pd.DataFrame, classes: tuple[str, ...]) -> str:
    """Return the table of the figures, and that of each class's gap."""
    gaps = {f"tpr_gap_{i}": name for i, name in enumerate(classes)}
    first = _table(rows, {name: name for name in METRICS})
    second = _table(rows, gaps)
    return f"{first}\nGap between the true positive rates, class by class:\n\n{second}"


def _table(rows: pd.DataFrame, columns: dict[str, str]) -> str:
    """Means over the splits, with half of a 95% interval.

    The splits draw from the same rows, so that their figures vary less than those of
    other rows would: the variance of the mean is not ``1 / n`` of theirs, but about
    ``1 / n`` plus the ratio of tested to training rows (Nadeau and Bengio 2003,
    "Inference for the generalization error").
    """
    lines = ["| learner | method | " + " | ".join(columns.values()) + " |"]
    lines.append("|---" * (2 + len(columns)) + "|")
    grouped = rows.groupby(["learner", "method"], sort=False)
    for (learner, method), mine in grouped:
        n, cells = len(mine), []
        for name in columns:
            spread = mine[name].std(ddof=1) * (1 / n + TESTED / (1 - TESTED)) ** 0.5
            half = t.ppf(0.975, n - 1) * spread
            cells.append(f"{mine[name].mean():.3f} ± {half:.3f}")
        lines.append(f"| {learner} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def picture(rows: pd.DataFrame, path: pathlib.Path) -> None:
    """Accuracy against the largest gap, a panel a learner.

    A dotted line is where the gap would be if gender was random within each class.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    groups = rows.groupby("learner", sort=False)
    for ax, (learner, mine) in zip(axes, groups, strict=True):
        means = mine.groupby("method", sort=False)[["accuracy", "sup_tpr_gap"]].mean()
        ax.axvline(means.sup_tpr_gap[CHANCE], color="gray", linestyle=":")
        for code, (name, (accuracy, gap)) in enumerate(means.drop(CHANCE).iterrows()):
            style = {"marker": "osD^vPX"[code % 7], "color": f"C{code % 10}"}
            ax.plot(gap, accuracy, linestyle="none", label=name, **style)
        ax.set(title=learner, xlabel="largest TPR gap over thresholds and classes")
    axes[0].set_ylabel("accuracy")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right")
    path.write_bytes(js.plots.figure_bytes(figure))
