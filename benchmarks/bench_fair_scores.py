"""Claim: fair scores at the limit of their scores, for every seed of the folds.

Learners that do not see the group, scored by fold models (three repeats of five folds,
new rows by fold models). Census income: the published split, five fold seeds, boosted
trees. German credit: five random splits of 60 to 40, boosted trees. With ``--data``:
surgeons and nurses (sentence embeddings, logistic regression) and politicians among
Wikipedia's biographies (words, logistic regression), five splits each, and six
occupations for the multiclass channel, ten splits.

For each answer the largest TPR and FPR gap over all thresholds on test rows, the chance
level of the same score (mean over 100 shuffles of the groups within the label), and the
area under the curve. The risk at seven costs stands beside methods that give decisions
only: fairlearn, error-parity (where installed), linear rules with and without the group.

    python benchmarks/bench_fair_scores.py --data FOLDER   # writes results/fair_scores.*
    python benchmarks/bench_fair_scores.py --quick         # one small run; prints

Some minutes of processor time for each part; ``--parts german adult:0`` measures these
alone and leaves the others in ``results/fair_scores.json`` as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd
from _biography_data import read, sentence_embeddings
from _fair_score_table import LAST, TITLES, markdown
from _machine import RESULTS, describe, save
from _score_baselines import (
    COSTS,
    Scored,
    decision_gap,
    error_parity,
    has_error_parity,
    joint_of_known_groups,
    linear_post,
    risk,
    threshold_optimizer,
)
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import jaxsteer as js
from jaxsteer._labels import cell_codes
from jaxsteer.audit import metrics
from jaxsteer.compare import Split, split_table
from jaxsteer.compare._learners import LEARNERS
from jaxsteer.datasets import load_adult, load_german
from jaxsteer.estimators._fold_models import fit_fold_models, log_odds, row_values

GAPS = ("sup_tpr_gap", "sup_fpr_gap")
KEYS = 3  # of a channel's randomness, over which its figures are means


def expit(value: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(value / 2))


def measure(
    score: np.ndarray, split: Split, chance: dict[str, float] | None = None
) -> dict[str, Any]:
    """Gaps, their chance levels, area, and risks with the score as a probability."""
    label, group = np.asarray(split.label_test), np.asarray(split.group_test)
    if chance is None:
        levels = metrics.chance_level(
            GAPS, label, None, group, score=score, key=jax.random.key(0), n_groups=2
        )
        chance = {f"chance_{name[4:7]}": float(levels[name].mean) for name in GAPS}
    found = {
        rate: float(metrics.sup_gap(label, score, group, rate=rate))
        for rate in ("tpr", "fpr")
    }
    found |= chance
    found["ratio"] = max(found["tpr"], found["fpr"]) / max(
        found["chance_tpr"], found["chance_fpr"]
    )
    found["auc"] = float(metrics.auc(label, score, group))
    decisions = {cost: (score > cost).astype(int) for cost in COSTS}
    return found | of_decisions(decisions, label, group)


def of_decisions(
    decisions: dict[float, np.ndarray], label: np.ndarray, group: np.ndarray
) -> dict[str, Any]:
    """Risk at each cost, and the largest gap of any of the decisions."""
    gaps = [decision_gap(made, label, group) for made in decisions.values()]
    return {
        "risk": {
            str(cost): risk(made, label, cost) for cost, made in decisions.items()
        },
        "decision_gap": max(gaps),
    }


def measure_draws(draw: Callable[[int], Any], split: Split) -> dict[str, Any]:
    """Means over the keys of one channel; the chance level is that of the first."""
    found: list[dict[str, Any]] = []
    for key in range(KEYS):
        chance = None
        if found:
            chance = {name: found[0][name] for name in ("chance_tpr", "chance_fpr")}
        found.append(measure(np.asarray(draw(key), float), split, chance))
    mean: dict[str, Any] = {
        key: float(np.mean([one[key] for one in found]))
        for key in found[0]
        if key != "risk"
    }
    costs = found[0]["risk"]
    mean["risk"] = {c: float(np.mean([one["risk"][c] for one in found])) for c in costs}
    return mean


def folds(estimator: Any, split: Split, target: np.ndarray, seed: int, **more: Any):
    cells = cell_codes(split.label_train, split.group_train, 2)
    options = {"weights": None, "cv": 5, "repeats": 3} | more
    return fit_fold_models(
        estimator, split.x_train, target, cells, seed=seed, **options
    )


def study(
    estimator: Any,
    split: Split,
    seed: int,
    *,
    peers: bool,
    blind_bins: tuple[int, int] | None = None,
) -> dict[str, dict]:
    """Every answer on one split or fold seed; bins go by the rows of the cells."""
    label, group = np.asarray(split.label_train), np.asarray(split.group_train)
    rows = row_values(split.x_test)
    models = folds(estimator, split, label, seed)
    score = log_odds(models.held_out)
    test = log_odds(models.log_probabilities(split.x_test, rows))
    out = {"raw": measure(expit(test), split)}
    given, bins = (score, label, group), "auto"
    fits = {
        "quantiles": lambda: js.balanced_quantiles(*given),
        "quantiles, shrunk": lambda: js.balanced_quantiles(*given, shrinkage="auto"),
        "quantiles, equal TPR": lambda: js.balanced_quantiles(*given, class_weight=1.0),
        "roc": lambda: js.roc_channel(*given, bins=bins),
        "roc, shrunk": lambda: js.roc_channel(*given, bins=bins, shrinkage="auto"),
        "roc, tolerance .02": lambda: js.roc_channel(*given, bins=bins, tolerance=0.02),
    }
    for name, fit in fits.items():
        fair = fit()
        if name.startswith("quantiles"):
            moved = fair.calibrate(fair.transport(test, split.group_test))
            out[name] = measure(np.asarray(moved, float), split)
        else:
            out[name] = measure_draws(
                lambda key, fair=fair: drawn(fair, test, split.group_test, key, rows),
                split,
            )
        for key in ("frechet_gap", "random_share"):
            if hasattr(fair, key):
                out[name][key] = float(getattr(fair, key))
        out[name]["gap_in_sample"] = float(np.max(getattr(fair, "gaps", 0)))
        out[name]["shrinkage"] = np.asarray(fair.shrinkage).tolist()
    if blind_bins is not None:
        out |= blind(estimator, split, seed, blind_bins, score, test, rows)
    if peers:
        scored = Scored(expit(score), label, group, expit(test), split.group_test)
        out |= decisions_of_peers(scored, split, seed)
        out |= reweighed(estimator, split, seed)
    for name, found in out.items():
        said = ", ".join(
            f"{key} {found[key]:.3f}"
            for key in ("tpr", "chance_tpr", "fpr", "chance_fpr", "ratio", "auc")
            if key in found
        )
        print(f"  {name}: {said or found}", flush=True)
    return out


def drawn(channel: Any, score: np.ndarray, other: Any, key: int, rows: Any):
    how = {"key": jax.random.key(key), "draw": "row", "rows": rows}
    return channel.transport(score, other, **how)


def blind(
    estimator: Any, split: Split, seed: int, bins: Any, score: Any, test: Any, rows: Any
) -> dict[str, dict]:
    """The channel that sees no group, and a linear rule that sees none either."""
    label, group = np.asarray(split.label_train), np.asarray(split.group_train)
    probe = folds(estimator, split, group, seed)
    reads = log_odds(probe.log_probabilities(split.x_test, rows))
    channel = js.blind_channel(score, log_odds(probe.held_out), label, group, bins=bins)
    found = measure_draws(lambda key: drawn(channel, test, reads, key, rows), split)
    for key in ("slack", "random_share", "aware_auc"):
        found[key] = float(getattr(channel, key))
    found["auc_in_sample"] = float(channel.auc)
    cells = cell_codes(label, group, 2)
    both = folds(estimator, split, cells, seed, repeats=1)
    joint = np.exp(both.held_out).reshape(-1, 2, 2)
    new = np.exp(both.log_probabilities(split.x_test, rows)).reshape(-1, 2, 2)
    linear = of_decisions(
        linear_post(joint, new), split.label_test, np.asarray(split.group_test)
    )
    return {"blind": found, "linear rule as LinearPost's, blind*": linear}


def decisions_of_peers(rows: Scored, split: Split, seed: int) -> dict[str, dict]:
    label, group = np.asarray(split.label_test), np.asarray(split.group_test)
    peers = {"fairlearn ThresholdOptimizer*": threshold_optimizer}
    if has_error_parity():
        peers["error-parity, a rule for each cost*"] = error_parity
    peers["linear rule as LinearPost's, group known*"] = lambda rows, seed: linear_post(
        *joint_of_known_groups(rows)
    )
    return {
        name: of_decisions(peer(rows, seed), label, group)
        for name, peer in peers.items()
    }


def reweighed(estimator: Any, split: Split, seed: int) -> dict[str, dict]:
    """Reweighing, with the group as a feature."""
    seen = dataclasses.replace(
        split,
        x_train=np.concatenate([split.x_train, split.group_train[:, None]], 1),
        x_test=np.concatenate([split.x_test, split.group_test[:, None]], 1),
    )
    weights = np.asarray(js.baselines.reweighing(split.label_train, split.group_train))
    models = folds(estimator, seen, split.label_train, seed, weights=weights, repeats=1)
    test = models.log_probabilities(seen.x_test, row_values(seen.x_test))
    return {"reweighing, group as a feature": measure(expit(log_odds(test)), split)}


def one_at_a_time(split: Split, seed: int) -> dict[str, Any]:
    """5,000 test rows, a call each: the same answers as one batch, and what it takes."""
    models = folds(
        LEARNERS["boosted"].build(), split, split.label_train, seed, repeats=1
    )
    rows = row_values(split.x_test)[:5000]
    test = log_odds(models.log_probabilities(split.x_test[:5000], rows))
    score, group = log_odds(models.held_out), np.asarray(split.group_test[:5000])
    channel = js.roc_channel(score, split.label_train, split.group_train)
    how: dict[str, Any] = {"key": jax.random.key(0), "draw": "row"}
    batch = np.asarray(channel.transport(test, group, rows=rows, **how))

    def calls(take: slice, **more: Any) -> list:
        numbers = range(len(rows))[take]
        return [
            channel.transport(
                test[i : i + 1],
                group[i : i + 1],
                **{name: part[i : i + 1] for name, part in more.items()},
                **how,
            )
            for i in numbers
        ]

    def least_milliseconds(**more: Any) -> float:
        # The least of fifty blocks: a busy machine only adds.
        times = []
        for start in range(0, len(rows), 100):
            begun = time.process_time()
            calls(slice(start, start + 100), **more)
            times.append((time.process_time() - begun) / 100)
        return 1e3 * min(times)

    alone = calls(slice(None), rows=rows)
    label = np.asarray(split.label_test[:5000])
    gaps = [
        float(metrics.sup_gap(label, drawn, group, rate=rate))
        for drawn in (batch, np.concatenate(alone))
        for rate in ("tpr", "fpr")
    ]
    return {
        "rows": len(rows),
        "equal_to_the_batch": bool((np.concatenate(alone) == batch).all()),
        "gaps_of_the_batch": gaps[:2],
        "gaps_one_at_a_time": gaps[2:],
        "milliseconds_a_call_by_features": least_milliseconds(rows=rows),
        "columns": int(rows.shape[1]),
        "milliseconds_a_call_by_score_and_group": least_milliseconds(),
    }


def german_splits(n: int) -> list[Split]:
    table = load_german()
    splits = []
    for seed in range(n):
        order = np.random.default_rng(seed).permutation(len(table))
        train = np.zeros(len(table), bool)
        train[order[: int(0.6 * len(table))]] = True
        splits.append(split_table(dataclasses.replace(table, train=train)))
    return splits


def random_split(
    x: np.ndarray, label: np.ndarray, group: np.ndarray, seed: int
) -> Split:
    """60 to 40, every class and group in equal shares."""
    train, test = train_test_split(
        np.arange(len(x)), test_size=0.4, random_state=seed, stratify=label * 2 + group
    )
    return Split(
        x[train], label[train], group[train], x[test], label[test], group[test]
    )


def reduced(components: int) -> Any:
    return make_pipeline(
        StandardScaler(),
        PCA(components, random_state=0),
        LogisticRegression(max_iter=500),
    )


def politicians(data: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words of Wikipedia's biographies, politician or another occupation, gender."""
    table = pd.read_csv(data / "wiki_bios_gender" / "wiki_bios.csv.gz")
    table = table[table.occupation.notna()]
    words = TfidfVectorizer(min_df=5, sublinear_tf=True)
    counts = words.fit_transform(table.text.astype(str))
    x = TruncatedSVD(64, random_state=0).fit_transform(counts)
    label = (table.occupation == "politician").to_numpy(int)
    return x, label, (table.gender == "M").to_numpy(int)


def confusion_gap(chosen: np.ndarray, label: np.ndarray, group: np.ndarray) -> float:
    """Largest difference between two groups in any entry of the confusion matrix."""
    table = np.zeros((2, label.max() + 1, label.max() + 1))
    np.add.at(table, (group, label, chosen), 1)
    table /= table.sum(-1, keepdims=True)
    return float(np.abs(table[0] - table[1]).max())


def six_occupations(data: pathlib.Path, n_splits: int) -> list[dict[str, dict]]:
    """The multiclass channel with 64 bins; the chance level is of the same answers."""
    people = read(data, "six")
    x = np.asarray(sentence_embeddings(people, data, "six", None, None), float)
    found = []
    for seed in range(n_splits):
        split = random_split(x, people.label, people.group, seed)
        models = folds(reduced(32), split, split.label_train, seed)
        score, test = (
            np.exp(models.held_out),
            np.exp(models.log_probabilities(split.x_test, row_values(split.x_test))),
        )
        one: dict[str, dict] = {}
        for name, how in {
            "raw": None,
            "multiclass channel": {},
            "multiclass channel, shrunk": {"shrinkage": "auto"},
            "multiclass channel, soft counts": {"counts": "soft"},
            "multiclass channel, soft counts, shrunk": {
                "counts": "soft",
                "shrinkage": "auto",
            },
        }.items():
            if how is None:
                answers = [test.argmax(1)]
            else:
                channel = js.multiclass_channel(
                    score, split.label_train, split.group_train, bins=64, **how
                )
                answers = [
                    np.asarray(drawn(channel, test, split.group_test, key, None))
                    for key in range(5)
                ]
            rng, label = np.random.default_rng(0), split.label_test
            gaps, floors = [], []
            for chosen in answers:
                gaps.append(confusion_gap(chosen, label, split.group_test))
                for _ in range(20):
                    shuffled = np.array(split.group_test)
                    for cls in np.unique(label):
                        mine = label == cls
                        shuffled[mine] = rng.permutation(shuffled[mine])
                    floors.append(confusion_gap(chosen, label, shuffled))
            one[name] = {
                "accuracy": float(np.mean([np.mean(a == label) for a in answers])),
                "gap": float(np.mean(gaps)),
                "chance": float(np.mean(floors)),
                "ratio": float(np.mean(gaps) / np.mean(floors)),
            }
        print(f"six occupations, split {seed}: {one}", flush=True)
        found.append(one)
    return found


#: What is measured by itself; ``adult:S`` is census income with fold seed S.
PARTS = (
    "german",
    "surgeons",
    "politicians",
    "six_occupations",
    "one_at_a_time",
    *(f"adult:{seed}" for seed in range(5)),
)
NEED_DATA = ("surgeons", "politicians", "six_occupations")


def measured(part: str, data: pathlib.Path | None) -> Any:
    """One part: a list of runs, or of a single fold seed its answers."""
    boosted = LEARNERS["boosted"].build()
    if part == "german":
        return [
            study(boosted, split, seed, peers=True)
            for seed, split in enumerate(german_splits(5))
        ]
    if part.startswith("adult"):
        seed = int(part.split(":")[1])
        cells = (24, 5) if seed == 0 else None
        split = split_table(load_adult())
        return study(boosted, split, seed, peers=seed == 0, blind_bins=cells)
    if part == "one_at_a_time":
        return one_at_a_time(split_table(load_adult()), 0)
    assert data is not None
    if part == "six_occupations":
        return six_occupations(data, 10)
    if part == "surgeons":
        two = read(data, "two")
        x = np.asarray(sentence_embeddings(two, data, "two", None, None), float)
        arrays, model = (x, two.label, two.group), reduced(64)
    else:
        arrays, model = politicians(data), LogisticRegression(C=10, max_iter=300)
    return [
        study(model, random_split(*arrays, seed), seed, peers=True) for seed in range(5)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small run, prints")
    parser.add_argument("--data", type=pathlib.Path, help="folder of the biographies")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="these alone")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    if options.quick:
        with threadpool_limits(1):
            study(LEARNERS["boosted"].build(), german_splits(1)[0], 0, peers=True)
        return
    stored: dict[str, Any] = {}
    if options.parts and (RESULTS / "fair_scores.json").exists():
        stored = json.loads((RESULTS / "fair_scores.json").read_text())
    figures = {name: stored[name] for name in (*TITLES, *LAST) if name in stored}
    seeds = dict(
        zip(stored.get("adult_fold_seeds", []), figures.get("adult", []), strict=True)
    )
    took = stored.get("processor_s", {})
    for part in options.parts or PARTS:
        if part in NEED_DATA and options.data is None:
            continue
        print(part, flush=True)
        start = time.process_time()
        with threadpool_limits(1):
            found = measured(part, options.data)
        took[part] = round(time.process_time() - start)
        if part.startswith("adult"):
            seeds[int(part.split(":")[1])] = found
            figures["adult"] = [seeds[seed] for seed in sorted(seeds)]
        else:
            figures[part] = found
        peers = ["fairlearn", *(["error-parity"] if has_error_parity() else [])]
        facts = describe("scikit-learn", "scipy", *peers)
        facts |= {"adult_fold_seeds": sorted(seeds), "processor_s": took}
        save("fair_scores", facts | figures)
        (RESULTS / "fair_scores.md").write_text(markdown(figures))


if __name__ == "__main__":
    main()
