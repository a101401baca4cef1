"""The bootstrap against a loop in NumPy that draws rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxsteer.audit import metrics
from jaxsteer.audit._bootstrap import _replicate_counts, _replicate_rows
from jaxsteer.audit._bootstrap import interval as summarize
from jaxsteer.audit._formulas import METRICS
from jaxsteer.audit._rows import read_rows

pytestmark = pytest.mark.slow

KEY = jax.random.key(7)
ON_CODES = tuple(name for name, metric in METRICS.items() if not metric.on_scores)
ON_SCORES = tuple(name for name, metric in METRICS.items() if metric.on_scores)
TOL = 50 * float(jnp.finfo(jnp.result_type(float)).eps)


def loop(label, prediction, group, n_boot, weights=None, seed=0):
    """Accuracy, parity and opportunity of rows drawn one resample at a time."""
    rng = np.random.default_rng(seed)
    weights = np.ones(len(label)) if weights is None else weights
    out = {"accuracy": [], "demographic_parity": [], "equal_opportunity": []}
    for _ in range(n_boot):
        r = rng.integers(len(label), size=len(label))
        y, p, a, w = label[r], prediction[r], group[r], weights[r]
        out["accuracy"].append(np.average(y == p, weights=w))
        for name, keep in [
            ("demographic_parity", y >= 0),
            ("equal_opportunity", y == 1),
        ]:
            rates = [
                np.average(p[keep & (a == g)] == 1, weights=w[keep & (a == g)])
                for g in np.unique(group)
            ]
            out[name].append(max(rates) - min(rates))
    return {name: np.array(values) for name, values in out.items()}


def loop_on_scores(label, score, group, n_boot, seed=0):
    rng = np.random.default_rng(seed)
    sup, area = [], []
    for _ in range(n_boot):
        r = rng.integers(len(label), size=len(label))
        y, s, a = label[r], score[r], group[r]
        sup.append(
            stats.ks_2samp(
                s[(y == 1) & (a == 0)], s[(y == 1) & (a == 1)], method="asymp"
            ).statistic
        )
        wins = stats.mannwhitneyu(s[y == 1], s[y == 0], method="asymptotic").statistic
        area.append(wins / (np.sum(y == 1) * np.sum(y == 0)))
    return {"sup_tpr_gap": np.array(sup), "auc": np.array(area)}


def same_law(ours, theirs):
    ours = np.asarray(ours)
    assert stats.ks_2samp(ours, theirs).pvalue > 0.01
    spread = theirs.std()
    np.testing.assert_allclose(ours.mean(), theirs.mean(), atol=0.1 * spread)
    np.testing.assert_allclose(ours.std(), spread, rtol=0.08)


@pytest.mark.parametrize("how", ["counts", "rows", "weighted rows"])
def test_replicates_follow_the_law_of_rows_drawn(rows, how):
    d = rows(1200, 2, 2)
    data = d["label"], d["prediction"], d["group"]
    weights = d["weights"] if how == "weighted rows" else None
    theirs = loop(*data, 2000, weights)
    read = read_rows(
        d["label"], d["group"], prediction=d["prediction"], weights=weights
    )
    replicate = _replicate_counts if how == "counts" else _replicate_rows
    chosen = tuple(METRICS[name] for name in theirs)
    ours = replicate(read, jax.random.split(KEY, 2000), metrics=chosen, positive=1)
    for name in theirs:
        same_law(ours[name], theirs[name])


@pytest.mark.slow
def test_replicates_on_scores_follow_the_law_of_rows_drawn(rows):
    d = rows(500)
    data = d["label"], d["score"], d["group"]
    theirs = loop_on_scores(*data, 1000)
    read = read_rows(d["label"], d["group"], score=d["score"])
    chosen = tuple(METRICS[name] for name in theirs)
    keys = jax.random.split(KEY, 2000)
    ours = _replicate_rows(read, keys, metrics=chosen, positive=1)
    for name in theirs:
        same_law(ours[name], theirs[name])


@pytest.mark.parametrize("names", [ON_CODES, ON_SCORES + ON_CODES])
@pytest.mark.parametrize("weighted", [False, True])
def test_intervals_surround_the_metrics_own_values(rows, names, weighted):
    d = rows(900)
    weights = d["weights"] if weighted else None
    data = d["label"], d["prediction"], d["group"]
    found = metrics.bootstrap(
        names, *data, score=d["score"], key=KEY, weights=weights, n_boot=50
    )
    assert tuple(found) == names
    for name, interval in found.items():
        if name in ON_CODES:
            value = getattr(metrics, name)(*data, weights=weights)
        elif name == "auc":
            value = metrics.auc(d["label"], d["score"], d["group"], weights=weights)
        else:
            rate = name.split("_")[1]
            value = metrics.sup_gap(
                d["label"], d["score"], d["group"], rate=rate, weights=weights
            )
        np.testing.assert_allclose(interval.value, value, atol=TOL)
        assert np.all(interval.low < interval.value)
        assert np.all(interval.value < interval.high)
        width = interval.high - interval.low
        assert np.all(width < 6 * interval.standard_error)
        assert np.all(width > 2 * interval.standard_error)
        assert np.all(interval.undefined == 0)


def test_standard_errors_equal_their_formulas(rows):
    d = rows(3000)
    data = d["label"], d["prediction"], d["group"]
    found = metrics.bootstrap(
        ["accuracy", "equal_opportunity"], *data, key=KEY, n_boot=4000
    )
    p = float(metrics.accuracy(*data))
    exact = np.sqrt(p * (1 - p) / 3000)
    np.testing.assert_allclose(found["accuracy"].standard_error, exact, rtol=0.05)
    variance = 0.0
    for a in range(2):
        cell = (d["label"] == 1) & (d["group"] == a)
        rate = np.mean(d["prediction"][cell])
        variance += rate * (1 - rate) / cell.sum()
    np.testing.assert_allclose(
        found["equal_opportunity"].standard_error, np.sqrt(variance), rtol=0.05
    )


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    """300 samples of 600 rows, one vmapped call: the truth lies in 95% of them."""
    n, trials = 600, 300
    rng = np.random.default_rng(3)
    group = rng.integers(2, size=(trials, n))
    label = (rng.uniform(size=(trials, n)) < 0.3 + 0.3 * group).astype(int)
    flip = rng.uniform(size=(trials, n)) < np.where(group == 1, 0.1, 0.3)
    prediction = np.where(flip, 1 - label, label)

    @jax.jit
    @jax.vmap
    def run(label, prediction, group, key):
        names = ["accuracy", "equal_opportunity"]
        return metrics.bootstrap(
            names, label, prediction, group, key=key, n_classes=2, n_groups=2
        )

    found = run(label, prediction, group, jax.random.split(KEY, trials))
    for name, truth in [("accuracy", 0.8), ("equal_opportunity", 0.2)]:
        interval = found[name]
        share = np.mean((interval.low <= truth) & (truth <= interval.high))
        # Three standard errors of a share of 300 about .945 (percentile intervals of
        # 200 resamples are a little narrow).
        assert abs(share - 0.945) < 3 * np.sqrt(0.945 * 0.055 / trials)


def test_resamples_with_an_empty_cell_are_left_out_and_counted():
    n, n_boot = 400, 1000
    label, group = np.arange(n) % 2, np.arange(n) // 2 % 2
    keep = (label == 0) | (group == 0)
    keep[[3, 7]] = True
    label, group = label[keep], group[keep]
    prediction = np.where(np.arange(label.size) % 3 == 0, 1 - label, label)
    n = label.size
    expected = n_boot * (1 - 2 / n) ** n
    for extra in ({}, {"weights": np.ones(n)}):
        found = metrics.bootstrap(
            ["equal_opportunity", "accuracy"],
            *(label, prediction, group),
            key=KEY,
            n_boot=n_boot,
            **extra,
        )
        interval = found["equal_opportunity"]
        assert abs(int(interval.undefined) - expected) < 4 * np.sqrt(expected)
        assert np.isfinite(interval.low) and np.isfinite(interval.high)
        assert np.isfinite(interval.standard_error)
        assert interval.smallest_cell == 2 and interval.few
        assert found["accuracy"].undefined == 0 and not found["accuracy"].few


def test_the_smallest_cell_is_what_the_metric_divides_by(rows):
    d = rows(700)
    label, group = d["label"], d["group"]
    counts = np.array(
        [[np.sum((label == i) & (group == a)) for a in (0, 1)] for i in (0, 1)]
    )
    found = metrics.bootstrap(
        list(METRICS),
        *(label, d["prediction"], group),
        score=d["score"],
        weights=d["weights"],
        key=KEY,
        n_boot=5,
    )
    expected = {
        "accuracy": 700,
        "balanced_accuracy": counts.sum(1).min(),
        "demographic_parity": counts.sum(0).min(),
        "equal_opportunity": counts[1].min(),
        "equalized_odds": counts.min(),
        "tpr_gap": counts.min(),
        "tpr_gap_per_class": counts.min(1),
        "auc": counts.sum(1).min(),
        "sup_tpr_gap": counts[1].min(),
        "sup_fpr_gap": counts[0].min(),
        "sup_dp_gap": counts.sum(0).min(),
    }
    for name, interval in found.items():
        np.testing.assert_array_equal(interval.smallest_cell, expected[name])


def test_options_change_the_result(rows):
    d = rows(500, 3)
    data = d["label"], d["prediction"], d["group"]

    def run(**options):
        # With weights rows are drawn, which compiles in half the time.
        options = {"key": KEY, "n_boot": 100, "weights": np.ones(500)} | options
        return metrics.bootstrap(["equal_opportunity"], *data, **options)[
            "equal_opportunity"
        ]

    base = run()
    assert run().low == base.low
    assert run(key=jax.random.key(8)).low != base.low
    assert run(n_boot=101).standard_error != base.standard_error
    narrow = run(level=0.5)
    assert base.low < narrow.low < narrow.high < base.high
    assert run(positive=2).value != base.value
    assert run(weights=d["weights"]).value != base.value
    assert run(n_classes=4, n_groups=2).value == base.value


def test_one_name_and_repeated_names(rows):
    d = rows(100)
    data = d["label"], d["prediction"], d["group"]
    options = {"key": KEY, "n_boot": 5, "weights": d["weights"]}
    assert list(metrics.bootstrap("accuracy", *data, **options)) == ["accuracy"]
    found = metrics.bootstrap(["tpr_gap", "tpr_gap"], *data, **options)
    assert list(found) == ["tpr_gap"]


def test_more_resamples_than_fit_at_once(rows, monkeypatch):
    d = rows(300)
    arguments = ["sup_tpr_gap"], d["label"], None, d["group"]
    options = {"score": d["score"], "key": KEY, "n_boot": 23}
    at_once = metrics.bootstrap(*arguments, **options)["sup_tpr_gap"]
    monkeypatch.setattr("jaxsteer.audit._bootstrap.CHUNK_ENTRIES", 5 * 4 * 300)
    jax.clear_caches()
    in_parts = metrics.bootstrap(*arguments, **options)["sup_tpr_gap"]
    jax.clear_caches()
    for a, b in zip(jax.tree.leaves(at_once), jax.tree.leaves(in_parts), strict=True):
        np.testing.assert_allclose(a, b, atol=TOL)


def test_bad_codes_are_nan_under_jit(rows):
    d = rows(100)

    @jax.jit
    def run(label):
        return metrics.bootstrap(
            ["accuracy"],
            label,
            d["prediction"],
            d["group"],
            key=KEY,
            n_boot=5,
            n_classes=2,
            weights=d["weights"],
        )["accuracy"]

    assert np.isfinite(run(d["label"]).value)
    broken = run(d["label"] + 5)
    for part in (broken.value, broken.low, broken.high, broken.standard_error):
        assert np.isnan(part)


def test_the_largest_gaps_have_reflected_intervals():
    drawn = jnp.asarray(np.random.default_rng(0).normal(0.12, 0.02, 300))
    ends, tails = (np.quantile(drawn, [q, 1 - q]) for q in (0.025, 0.005))
    for value in (0.1, 0.04, 0.99):
        plain = summarize(jnp.asarray(value), drawn, 0.95, 9)
        np.testing.assert_allclose([plain.low, plain.high], ends, atol=TOL)
        found = summarize(jnp.asarray(value), drawn, 0.95, 9, reflected=True)
        low, high = np.clip(2 * value - tails[::-1], 0, 1)
        np.testing.assert_allclose(found.low, low, atol=TOL)
        np.testing.assert_allclose(found.high, max(value, high), atol=TOL)
    reflected = {name for name, metric in METRICS.items() if metric.reflected}
    assert reflected == set(ON_SCORES) - {"auc"}
