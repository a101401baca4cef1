"""Steering when no group label exists: Adult without sex, biographies without gender.

Soft groups take the place of the group: a population is fitted to them, its nearest
ideal found, and every row (training and test alike) goes to the mean of its images
under what is known of its group without its label. Three sources of groups:

- "known": the column itself, at training and test time.
- "latent": two ROME groups fitted to label and features alone; nobody's group is known.
- "proxy": a logistic regression of the group on the features, from a few labeled rows.

Learners are trained on the steered rows with the steering's weights, and measured on
test rows by the groups that were hidden. The biographies (surgeon or nurse) are read
from --bios, a folder with bios.csv.gz and minilm_l6_f16.npz; they are not shipped.

    python benchmarks/bench_rome_steering.py --bios DIR     # prints and writes
    python benchmarks/bench_rome_steering.py --quick        # few rows, prints only
"""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib
import time

import jax
import numpy as np
import pandas as pd
from _machine import RESULTS, describe, save
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import jaxsteer as js
from jaxsteer import metrics
from jaxsteer.compare import get_learner, positive_scores, split_table
from jaxsteer.datasets import load_adult
from jaxsteer.latent import fit_rome_em, fit_soft_population, soft_transport

COMPONENTS = 20  # of the features, that the mixture sees
PROXY_ROWS = 500


def adult(rows):
    """Training and test arrays of census income; the group is sex."""
    table = load_adult()
    if rows is not None:
        order = np.random.default_rng(0).permutation(len(table))[:rows]
        table = table.take(np.sort(order))
    split = split_table(table)
    train = (split.x_train, split.label_train, split.group_train)
    return train, (split.x_test, split.label_test, split.group_test)


def biographies(folder, rows):
    """Training and test arrays of surgeons and nurses; the group is gender."""
    folder = pathlib.Path(folder)
    with gzip.open(folder / "bios.csv.gz", "rt") as file:
        frame = pd.read_csv(file)
    emb = np.load(folder / "minilm_l6_f16.npz")["emb"].astype(np.float32)
    kept = (frame["source"] == "find") & frame["occupation"].isin(["surgeon", "nurse"])
    train = (kept & (frame["part"] != "test")).to_numpy()
    test = (kept & (frame["part"] == "test")).to_numpy()
    label = (frame["occupation"] == "surgeon").to_numpy(int)
    group = (frame["gender"] == "M").to_numpy(int)
    parts = [np.flatnonzero(mask)[:rows] for mask in (train, test)]
    return tuple((emb[i], label[i], group[i]) for i in parts)


def components(x_train, x_test, count):
    """Leading principal components of standardized columns."""
    scaler = StandardScaler().fit(x_train)
    train, test = scaler.transform(x_train), scaler.transform(x_test)
    basis = np.linalg.svd(train, full_matrices=False)[2][: min(count, train.shape[1])]
    return train @ basis.T, test @ basis.T


def sources(train, test, seed, restarts):
    """Each source of groups: responsibilities with labels, and without, both parts."""
    (x, label, group), (x_test, _, group_test) = train, test
    n_groups = int(group.max()) + 1
    hot, hot_test = np.eye(n_groups)[group], np.eye(n_groups)[group_test]
    found = {"known": (hot, hot, hot_test, {})}
    z, z_test = components(x, x_test, COMPONENTS)
    fit = fit_rome_em(
        label, z, z, 2, family="bernoulli", restarts=restarts, ridge=1.0, max_steps=200
    )
    free, free_test = fit.group_probabilities(z), fit.group_probabilities(z_test)
    about = {
        "log_likelihood": float(fit.log_likelihood),
        "bic": float(fit.bic),
        "pooled_bic": float(
            fit_rome_em(label, z, z, 1, family="bernoulli", ridge=1.0).bic
        ),
    }
    parts = (fit.responsibilities, free, free_test)
    found["latent"] = (*(np.asarray(part, float) for part in parts), about)
    rows = np.random.default_rng(seed).permutation(len(group))[:PROXY_ROWS]
    proxy = LogisticRegression(C=0.1, max_iter=1000).fit(z[rows], group[rows])
    given, given_test = proxy.predict_proba(z), proxy.predict_proba(z_test)
    found["proxy"] = (given, given, given_test, {"labeled_rows": PROXY_ROWS})
    return found


def steer(train, test, source, kind, seed):
    """Steered training and test rows, and the training rows' weights."""
    (x, label, _), (x_test, _, _) = train, test
    full, free, free_test, _ = source
    scaler = StandardScaler().fit(x)
    x, x_test = scaler.transform(x), scaler.transform(x_test)
    population = fit_soft_population(x, label, full, covariance="tied")
    reference = int(full.sum(0).argmax())
    if kind == "steering":
        steering = js.nearest_ideal(
            population, maps="shared_covariance", reference=reference
        )
    else:
        steering = js.gaussian_channel(population, reference=reference)
    steering = steering.require()
    keys = jax.random.split(jax.random.key(seed))
    moved = [
        np.asarray(soft_transport(steering, rows, theta, key=key))
        for rows, theta, key in zip((x, x_test), (free, free_test), keys, strict=True)
    ]
    cells = np.asarray(steering.cell_weights, float)
    return *moved, np.sum(full * cells[label], 1)


def measured(score, label, group):
    """Accuracy and gaps between the hidden groups."""
    predicted = (score >= 0.5).astype(int)
    parts = (label, predicted, group)
    return {
        "accuracy": float(metrics.accuracy(*parts)),
        "auc": float(roc_auc_score(label, score)),
        "equalized_odds": float(metrics.equalized_odds(*parts)),
        "rms_tpr_gap": float(metrics.tpr_gap(*parts)),
        "sup_tpr_gap": float(metrics.sup_gap(label, score, group)),
    }


def run(train, test, learners, restarts, seed=0):
    """All sources, steerings and learners of one data set."""
    start = time.perf_counter()
    found = sources(train, test, seed, restarts)
    seconds = time.perf_counter() - start
    label, group = train[1:]
    report: dict = {"groups": {}, "rows": {}, "sources_s": seconds}
    for name, (_, free, free_test, about) in found.items():
        report["groups"][name] = {
            **about,
            "shares": free.mean(0).tolist(),
            "auc_of_the_hidden_group": float(
                max(
                    roc_auc_score(test[2], free_test[:, 1]),
                    roc_auc_score(test[2], free_test[:, 0]),
                )
            ),
        }
    prepared = {"raw": (train[0], test[0], None)}
    weights = np.asarray(js.baselines.reweighing(label, group))
    prepared["reweighing, known"] = (train[0], test[0], weights)
    for name, source in found.items():
        for kind in ("steering", "Gaussian channel"):
            prepared[f"{kind}, {name}"] = steer(train, test, source, kind, seed)
    for learner in learners:
        for name, (x, x_test, w) in prepared.items():
            model = get_learner(learner).fit(x, label, w)
            score = positive_scores(model, x_test)
            figures = measured(score, test[1], test[2])
            report["rows"][f"{learner}: {name}"] = figures
            print(learner, name, figures, flush=True)
    return report


def table(reports):
    """The figures as Markdown."""
    lines = []
    for name, report in reports.items():
        lines += [f"**{name}**", ""]
        lines += ["| learner: rows | accuracy | AUC | equalized odds | sup TPR gap |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for row, f in report["rows"].items():
            lines.append(
                f"| {row} | {f['accuracy']:.3f} | {f['auc']:.3f} | "
                f"{f['equalized_odds']:.3f} | {f['sup_tpr_gap']:.3f} |"
            )
        auc = {k: v["auc_of_the_hidden_group"] for k, v in report["groups"].items()}
        lines += [
            "",
            "AUC of the soft groups for the hidden one: "
            + ", ".join(f"{k} {v:.3f}" for k, v in auc.items())
            + ".",
            "",
        ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    parser.add_argument("--bios", help="folder of the biographies")
    options = parser.parse_args()
    rows = 3000 if options.quick else None
    learners = ("logistic",) if options.quick else ("logistic", "boosted")
    restarts = 2 if options.quick else 10
    reports = {"Adult, sex hidden": run(*adult(rows), learners, restarts)}
    if options.bios is not None:
        parts = biographies(options.bios, rows)
        reports["Biographies, gender hidden"] = run(*parts, learners, restarts)
    report = {**describe("scikit-learn"), "proxy_rows": PROXY_ROWS, **reports}
    if options.quick:
        print(json.dumps(report, indent=2))
        return
    save("rome_steering", report)
    (RESULTS / "rome_steering.md").write_text(table(reports))


if __name__ == "__main__":
    main()
