"""Occupation from biographies: which way of steering leaves which gap between genders.

Sentence embeddings of real biographies; the gender is known for training rows and
predicted for test rows. Every method is measured with a linear and a boosted learner,
over 5 random splits, and over all thresholds.

    python benchmarks/biographies.py DATA [--part two|six|wiki] [--quick]

DATA is the folder with ``bias_in_bios`` (``bios.csv.gz``, ``minilm_l6_f16.npz``) and
``wiki_bios_gender`` (embedded here with all-MiniLM-L6-v2, see `--encoder`). The texts are
about real people: the folder is not part of this project, and only figures are written.
Writes results/biographies_PART.{json,md} and a picture.
"""

from __future__ import annotations

import argparse
import pathlib
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from _machine import RESULTS, describe, save  # noqa: E402
from scipy.stats import ks_2samp  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402

import jaxsteer as js  # noqa: E402
from jaxsteer.compare import LEARNERS, apply_group_maps  # noqa: E402

SIX = ("accountant", "dentist", "nurse", "physician", "psychologist", "surgeon")
WIKI = ("athlete", "politician", "royal", "scientist", "singer", "writer")
METRICS = ("accuracy", "balanced", "rms_tpr_gap", "sup_tpr_gap", "sup_fpr_gap")


class Rows(NamedTuple):
    """What a method sees: features, classes, groups; test groups are predicted."""

    x: np.ndarray
    label: np.ndarray
    group: np.ndarray
    x_test: np.ndarray
    group_test: np.ndarray
    posterior: np.ndarray
    reference: int
    seed: int


# Features for training and test, and weights or None.
Prepared = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def raw(rows: Rows) -> Prepared:
    """As they are."""
    return rows.x, rows.x_test, None


def reweighing(rows: Rows) -> Prepared:
    """Weights that make class and gender independent."""
    weights = js.baselines.reweighing(rows.label, rows.group)
    return rows.x, rows.x_test, np.asarray(weights)


def moved(maps: Any, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Rows carried by the map of their group."""
    return (
        apply_group_maps(maps, rows.x, rows.group),
        apply_group_maps(maps, rows.x_test, rows.group_test),
    )


def mean_matching(rows: Rows) -> Prepared:
    """Equal means of the genders."""
    maps = js.baselines.fit_mean_match(rows.x, rows.group, reference=rows.reference)
    return *moved(maps, rows), None


def mimic(rows: Rows) -> Prepared:
    """Equal means and covariances of the genders."""
    maps = js.baselines.fit_mimic(rows.x, rows.group, reference=rows.reference)
    return *moved(maps, rows), None


def erased(eraser: Any, rows: Rows) -> Prepared:
    """One map for all rows."""
    return np.asarray(eraser(rows.x)), np.asarray(eraser(rows.x_test)), None


def leace(rows: Rows) -> Prepared:
    """Gender linearly erased."""
    return erased(js.baselines.fit_leace(rows.x, rows.group), rows)


def inlp(rows: Rows) -> Prepared:
    """Gender's linear probes projected away, ten times."""
    return erased(js.baselines.fit_inlp(rows.x, rows.group), rows)


def population(rows: Rows) -> js.Population:
    """Class by gender cells, covariances shrunk."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cells of fewer rows than features: shrunk
        return js.fit_population(rows.x, rows.label, rows.group)


def steering(**options: Any) -> Callable[[Rows], Prepared]:
    """Group maps to the nearest ideal population, with its weights."""

    def prepare(rows: Rows) -> Prepared:
        found = js.nearest_ideal(
            population(rows), reference=rows.reference, differentiate="none", **options
        ).require()
        _, _, weights = reweighing(rows)
        return *moved(found.group_maps, rows), weights

    return prepare


def soft_steering(rows: Rows) -> Prepared:
    """Each row moved by every group's map, weighted by the predicted gender."""
    found = js.nearest_ideal(
        population(rows), reference=rows.reference, gauge="tied", differentiate="none"
    ).require()
    x, _ = moved(found.group_maps, rows)
    every = [
        np.asarray(
            jax.tree.map(lambda leaf, a=a: leaf[a], found.group_maps)(rows.x_test)
        )
        for a in range(rows.posterior.shape[1])
    ]
    test = np.einsum("na,and->nd", rows.posterior, np.stack(every))
    return x, test, reweighing(rows)[2]


def fair_channel(rows: Rows) -> Prepared:
    """The classes' discriminant coordinates with noise: label-free, exactly fair."""
    channel = js.fair_channel(population(rows), reference=rows.reference)
    keys = jax.random.split(jax.random.key(rows.seed))
    x = channel.transport(jnp.asarray(rows.x), rows.group, key=keys[0])
    test = channel.transport(jnp.asarray(rows.x_test), rows.group_test, key=keys[1])
    return np.asarray(x), np.asarray(test), reweighing(rows)[2]


METHODS: dict[str, Callable[[Rows], Prepared]] = {
    "raw": raw,
    "reweighing": reweighing,
    "mean matching": mean_matching,
    "MiMiC": mimic,
    "LEACE": leace,
    "INLP": inlp,
    "affirmative, tied": steering(gauge="tied"),
    "affirmative, full": steering(gauge="full"),
    "all groups": steering(intervention="all_groups", gauge="tied"),
    "affirmative, soft groups": soft_steering,
    "fair channel": fair_channel,
}


def measure(
    score: np.ndarray, label: np.ndarray, group: np.ndarray
) -> dict[str, float]:
    """Figures of class probabilities ``[n, K]`` on rows with their true groups."""
    chosen, k = score.argmax(1), score.shape[1]
    recall, gap, sup_tpr, sup_fpr = [], [], [], []
    for i in range(k):
        mine = label == i
        recall.append(np.mean(chosen[mine] == i))
        parts = [mine & (group == a) for a in (0, 1)]
        rates = [np.mean(chosen[part] == i) for part in parts]
        gap.append(abs(rates[0] - rates[1]))
        sup_tpr.append(ks_2samp(*(score[part, i] for part in parts)).statistic)
        others = [~mine & (group == a) for a in (0, 1)]
        sup_fpr.append(ks_2samp(*(score[part, i] for part in others)).statistic)
    figures = {
        "accuracy": np.mean(chosen == label),
        "balanced": np.mean(recall),
        "rms_tpr_gap": np.sqrt(np.mean(np.square(gap))),
        "sup_tpr_gap": max(sup_tpr),
        "sup_fpr_gap": max(sup_fpr),
    }
    return {name: float(value) for name, value in figures.items()} | {
        f"tpr_gap_{i}": float(value) for i, value in enumerate(gap)
    }


def one_split(
    x: np.ndarray, label: np.ndarray, group: np.ndarray, seed: int, names: list[str]
) -> list[dict[str, Any]]:
    """Every method and learner on one split."""
    cell = label * 2 + group
    train, test = train_test_split(
        np.arange(len(x)), test_size=0.4, random_state=seed, stratify=cell
    )
    probe = LogisticRegression(max_iter=500).fit(x[train], group[train])
    posterior = probe.predict_proba(x[test])
    rows = Rows(
        x[train],
        label[train],
        group[train],
        x[test],
        posterior.argmax(1),
        posterior,
        1,
        seed,
    )
    found = []
    for name in names:
        start = time.perf_counter()
        features, held_out, weights = METHODS[name](rows)
        seconds = time.perf_counter() - start
        for learner in LEARNERS.values():
            model = learner.fit(features, rows.label, weights)
            score = model.predict_proba(held_out)
            row = measure(score, label[test], group[test])
            found.append(
                {
                    "method": name,
                    "learner": learner.name,
                    "seed": seed,
                    "fit_seconds": seconds,
                    "gender_accuracy": float(np.mean(rows.group_test == group[test])),
                    **row,
                }
            )
    return found


def read(data: pathlib.Path, part: str, encoder: str | None) -> tuple[np.ndarray, ...]:
    """Embeddings, class codes and group codes (women 0, men 1) of a part."""
    if part == "wiki":
        table = pd.read_csv(data / "wiki_bios_gender" / "wiki_bios.csv.gz")
        keep = table.occupation.isin(WIKI).to_numpy()
        names, x = WIKI, embed_wiki(table[keep].text.tolist(), encoder)
    else:
        folder = data / "bias_in_bios"
        table = pd.read_csv(folder / "bios.csv.gz")
        x = np.load(folder / "minilm_l6_f16.npz")["emb"].astype(np.float32)
        names = ("nurse", "surgeon") if part == "two" else SIX
        keep = table.occupation.isin(names).to_numpy()
        if part == "two":
            keep = keep & (table.source == "find").to_numpy()
        x = x[keep]
    table = table[keep]
    label = table.occupation.map({name: i for i, name in enumerate(names)}).to_numpy()
    return x, label.astype(int), (table.gender == "M").to_numpy().astype(int)


def embed_wiki(texts: list[str], encoder: str | None) -> np.ndarray:
    """Sentence embeddings by the encoder whose files lie in a folder."""
    if encoder is None:
        raise SystemExit(
            "--part wiki needs --encoder FOLDER (all-MiniLM-L6-v2's files)."
        )
    from jaxsteer.models import load_minilm

    return np.asarray(load_minilm(encoder)(texts))


def table(rows: pd.DataFrame) -> str:
    """Means over the splits, with half of a 95% interval."""
    lines = ["| learner | method | " + " | ".join(METRICS) + " |"]
    lines.append("|---" * (2 + len(METRICS)) + "|")
    grouped = rows.groupby(["learner", "method"], sort=False)
    for (learner, method), mine in grouped:
        cells = []
        for name in METRICS:
            half = 2.776 * mine[name].std(ddof=1) / len(mine) ** 0.5  # t, 4 degrees
            cells.append(f"{mine[name].mean():.3f} ± {half:.3f}")
        lines.append(f"| {learner} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def picture(rows: pd.DataFrame, path: pathlib.Path) -> None:
    """Accuracy against the largest gap, a panel a learner."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (learner, mine) in zip(axes, rows.groupby("learner"), strict=True):
        means = mine.groupby("method", sort=False)[["accuracy", "sup_tpr_gap"]].mean()
        ax.scatter(means.sup_tpr_gap, means.accuracy, s=14)
        for name, (accuracy, gap) in means.iterrows():
            ax.annotate(
                name,
                (gap, accuracy),
                fontsize=7,
                xytext=(3, 2),
                textcoords="offset points",
            )
        ax.set(title=learner, xlabel="largest TPR gap over thresholds and classes")
    axes[0].set_ylabel("accuracy")
    path.write_bytes(js.plots.figure_bytes(figure))


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--part", choices=("two", "six", "wiki"), default="two")
    parser.add_argument("--encoder")
    parser.add_argument("--components", type=int, default=0, help="PCA; 0 for none")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    x, label, group = read(arguments.data, arguments.part, arguments.encoder)
    if arguments.components:
        x = PCA(arguments.components, random_state=0).fit_transform(x)
    names = [
        name for name in METHODS if not arguments.quick or name != "affirmative, full"
    ]
    found = []
    for seed in range(1 if arguments.quick else 5):
        found += one_split(np.asarray(x, np.float64), label, group, seed, names)
        print(f"split {seed + 1} done", flush=True)
    rows = pd.DataFrame(found)
    text = table(rows) if not arguments.quick else rows.to_string()
    print(text)
    if not arguments.quick:
        stem = f"biographies_{arguments.part}"
        save(stem, {**describe(), "part": arguments.part, "rows": found})
        (RESULTS / f"{stem}.md").write_text(text)
        picture(rows, RESULTS / f"{stem}.png")


if __name__ == "__main__":
    main()
