"""Claim: fair scores at the limit of their scores, for every seed of the folds.

Boosted trees that do not see the group, scored by `FairScore` (three repeats of five
folds, new rows by fold models). Census income: the published split, five fold seeds.
German credit: five random splits of 60 to 40. For each answer the largest TPR and FPR
gap over all thresholds on test rows, the chance level of the same score (mean over 100
shuffles of the groups within the label), and the area under the curve.

    python benchmarks/bench_fair_scores.py            # writes results/fair_scores.*
    python benchmarks/bench_fair_scores.py --quick    # German credit, one split; prints
"""

from __future__ import annotations

import argparse
import dataclasses
import time
import warnings

import jax
import numpy as np
from _machine import RESULTS, describe, save

from jaxsteer.audit import metrics
from jaxsteer.compare import Split, split_table
from jaxsteer.compare._learners import LEARNERS
from jaxsteer.datasets import load_adult, load_german
from jaxsteer.estimators import FairScore

ANSWERS = {
    "quantiles": {"method": "quantiles"},
    "equal TPR": {"method": "quantiles", "class_weight": 1.0},
    "roc": {},
    "roc, tolerance .02": {"tolerance": 0.02},
    "blind": {"method": "blind"},
}
GAPS = ("sup_tpr_gap", "sup_fpr_gap")


def measure(score: np.ndarray, split: Split) -> dict[str, float]:
    label, group = np.asarray(split.label_test), np.asarray(split.group_test)
    chance = metrics.chance_level(
        GAPS, label, None, group, score=score, key=jax.random.key(0), n_groups=2
    )
    found = {
        rate: float(metrics.sup_gap(label, score, group, rate=rate))
        for rate in ("tpr", "fpr")
    }
    floors = {f"chance_{name[4:7]}": float(chance[name].mean) for name in GAPS}
    area = float(metrics.auc(label, score, group))
    return {**found, **floors, "auc": area}


def ratio(found: dict[str, float]) -> float:
    """The larger gap as a multiple of the larger chance level."""
    return max(found["tpr"], found["fpr"]) / max(
        found["chance_tpr"], found["chance_fpr"]
    )


def study(split: Split, seed: int, bins: dict) -> dict[str, dict]:
    model = FairScore(LEARNERS["boosted"].build(), bins=bins["roc"], random_state=seed)
    model.fit(split.x_train, split.label_train, sensitive_features=split.group_train)
    raw = model._label_models.log_probabilities(split.x_test, split.x_test)
    out = {"raw": measure(raw[:, 1] - raw[:, 0], split)}
    for name, options in ANSWERS.items():
        size = bins.get(options.get("method", "roc"))
        if name == "blind" and size is None:
            continue
        answer = model.with_options(**options, bins=size)
        start = time.process_time()
        fair = answer.predict_proba(split.x_test, sensitive_features=split.group_test)
        out[name] = measure(fair[:, 1], split)
        out[name]["predict_s"] = round(time.process_time() - start, 2)
        for key in ("random_share", "frechet_gap", "aware_auc", "slack"):
            if hasattr(answer.channel_, key):
                out[name][key] = float(getattr(answer.channel_, key))
    for name, found in out.items():
        found["ratio"] = ratio(found)
        print(
            f"  {name}: TPR {found['tpr']:.3f} (chance {found['chance_tpr']:.3f}), "
            f"FPR {found['fpr']:.3f} (chance {found['chance_fpr']:.3f}), "
            f"AUC {found['auc']:.3f}",
            flush=True,
        )
    return out


def table(figures: dict) -> str:
    """Mean and range over splits or fold seeds, in Markdown."""
    lines = []
    for name, title in (
        ("adult", "Census income, published split, five fold seeds"),
        ("german", "German credit, five random splits"),
    ):
        runs = figures[name]
        lines += [
            f"**{title}**", "",
            "| answer | TPR gap | chance | FPR gap | chance | ratio | AUC |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]  # fmt: skip
        for answer in runs[0]:
            found = [run[answer] for run in runs if answer in run]
            cells = [f"{answer} ({len(found)})"]
            for key in ("tpr", "chance_tpr", "fpr", "chance_fpr", "ratio", "auc"):
                values = [one[key] for one in found]
                text = f"{np.mean(values):.3f}"
                if not key.startswith("chance") and len(values) > 1:
                    text += f" [{min(values):.3f}, {max(values):.3f}]"
                cells.append(text)
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    lines.append(
        "Ratio: the larger gap over the larger chance level. In brackets after a name the "
        "number of runs, after a figure the least and the largest of them."
    )
    return "\n".join(lines) + "\n"


def german_splits(n: int) -> list[Split]:
    table = load_german()
    splits = []
    for seed in range(n):
        order = np.random.default_rng(seed).permutation(len(table))
        train = np.zeros(len(table), bool)
        train[order[: int(0.6 * len(table))]] = True
        splits.append(split_table(dataclasses.replace(table, train=train)))
    return splits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small run, prints")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    figures: dict = {"german": [], "adult": []}
    start = time.process_time()
    for seed, split in enumerate(german_splits(1 if options.quick else 5)):
        print(f"German credit, split {seed}", flush=True)
        found = study(split, seed, {"roc": 15, "quantiles": None})
        figures["german"].append(found)
    if options.quick:
        return
    split = split_table(load_adult())
    for seed in range(5):
        print(f"census income, fold seed {seed}", flush=True)
        bins = {"roc": 60, "quantiles": None} | (
            {"blind": (24, 5)} if seed == 0 else {}
        )
        figures["adult"].append(study(split, seed, bins))
    figures["processor_s"] = round(time.process_time() - start)
    save("fair_scores", {**describe("scikit-learn", "scipy"), **figures})
    (RESULTS / "fair_scores.md").write_text(table(figures))


if __name__ == "__main__":
    main()
