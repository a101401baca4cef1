"""The comparison table: what it measures, and what it refuses."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from jaxsteer import metrics
from jaxsteer.compare import (
    COLUMNS,
    METHODS,
    Comparison,
    Split,
    compare,
    split_table,
)
from jaxsteer.compare import _fairlearn as fairlearn_rows
from jaxsteer.compare._steering import fair_score
from jaxsteer.datasets import load_adult

pytestmark = pytest.mark.slow

METHODS_WITHOUT_PEERS = [name for name in METHODS if "threshold" not in name]
METHODS_WITHOUT_PEERS.remove("exponentiated_gradient")


def toy_split(n: int = 1200, seed: int = 0, n_groups: int = 2) -> Split:
    """Two features; in group 0 the classes are further apart and the label rarer."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n).astype(np.int32)
    label = (rng.random(n) < np.where(group == 0, 0.3, 0.5)).astype(np.int32)
    gap = np.where(group == 0, 2.0, 1.0)
    x = rng.normal(size=(n, 2)) + np.stack([gap * label, group], axis=1)
    x = x.astype(np.float32)
    half = n // 2
    first, last = slice(None, half), slice(half, None)
    return Split(
        x[first], label[first], group[first], x[last], label[last], group[last]
    )


@pytest.fixture(scope="module")
def split() -> Split:
    return toy_split()


@pytest.fixture(scope="module")
def table(split) -> Comparison:
    return compare(
        split, learners=["logistic"], methods=METHODS_WITHOUT_PEERS, n_boot=20
    )


def test_every_method_gives_a_row_with_every_column(table):
    assert [row.method for row in table.rows] == METHODS_WITHOUT_PEERS
    for row in table.rows:
        assert set(row.metrics) == set(COLUMNS)
        for interval in row.metrics.values():
            assert 0 <= float(interval.low) <= float(interval.high) <= 1
        assert set(row.chance) == {key for key in COLUMNS if key.startswith("sup_")}
        assert all(0 < float(v.mean) < float(v.high) < 1 for v in row.chance.values())


def test_values_are_those_of_the_scores(table, split):
    for row in table.rows:
        predicted = row.score >= 0.5
        values = {key: float(i.value) for key, i in row.metrics.items()}
        eps = 10 * float(np.finfo(np.float32).eps)
        accuracy = accuracy_score(split.label_test, predicted)
        area = roc_auc_score(split.label_test, row.score.astype(np.float32))
        gap = metrics.sup_gap(split.label_test, row.score, split.group_test, rate="fpr")
        assert values["accuracy"] == pytest.approx(accuracy, abs=eps)
        assert values["auc"] == pytest.approx(area, abs=10 * eps)
        assert values["sup_fpr_gap"] == pytest.approx(float(gap), abs=eps)


def test_methods_differ_and_the_group_helps(table):
    raw = table.row("raw", "logistic")
    for name in METHODS_WITHOUT_PEERS[1:]:
        assert not np.array_equal(table.row(name, "logistic").score, raw.score), name


def test_roc_channel_closes_the_gaps():
    split = toy_split(16_000, seed=1)
    found = compare(
        split,
        learners=["logistic"],
        methods=["raw_with_group", "roc_channel_logistic"],
        n_boot=5,
    )
    before, after = (
        max(float(row.metrics[c].value) for c in ("sup_tpr_gap", "sup_fpr_gap"))
        for row in found.rows
    )
    assert before > 0.1
    assert after < 0.06


def test_the_channels_are_those_of_the_estimator(table, split):
    model = fair_score(split, 0, "boosted").with_options(method="quantiles")
    groups = {"sensitive_features": split.group_test}
    expected = model.predict_proba(split.x_test, **groups)[:, 1]
    row = table.row("balanced_quantiles", "logistic")
    np.testing.assert_array_equal(row.score, expected)
    drawn = fair_score(split, 0, "boosted").predict_proba(split.x_test, **groups)
    assert roc_auc_score(split.label_test, drawn[:, 1]) == pytest.approx(
        roc_auc_score(split.label_test, table.row("roc_channel", "logistic").score)
    )
    values = table.to_frame().set_index("method")
    assert values.loc["raw", "sup_tpr_gap_chance"] == pytest.approx(
        float(table.row("raw", "logistic").chance["sup_tpr_gap"].mean)
    )
    assert "by chance" in table.to_markdown()


def test_test_labels_are_read_by_the_metrics_only(split):
    flipped = dataclasses.replace(split, label_test=1 - split.label_test)
    options = {"learners": ["logistic"], "n_boot": 2}
    names = ["steering", "gaussian_channel", "roc_channel_logistic"]
    first = compare(split, methods=names, **options)
    second = compare(flipped, methods=names, **options)
    for one, other in zip(first.rows, second.rows, strict=True):
        np.testing.assert_array_equal(one.score, other.score)


def test_the_seed_decides_everything(split):
    options = {
        "learners": ["logistic"],
        "methods": ["gaussian_channel", "roc_channel_logistic"],
        "n_boot": 5,
    }
    first, again, other = (compare(split, seed=s, **options) for s in (0, 0, 1))
    for a, b, c in zip(first.rows, again.rows, other.rows, strict=True):
        np.testing.assert_array_equal(a.score, b.score)
        assert float(a.metrics["auc"].low) == float(b.metrics["auc"].low)
        assert not np.array_equal(a.score, c.score)


def test_three_groups():
    found = compare(
        toy_split(1500, n_groups=3),
        learners=["logistic"],
        methods=["raw_with_group", "mimic", "steering", "roc_channel_logistic"],
        n_boot=5,
    )
    assert all(np.isfinite(row.score).all() for row in found.rows)


def test_fairlearn_rows_give_decisions(split):
    pytest.importorskip("fairlearn", reason="fairlearn is not installed")
    names = ["threshold_optimizer", "exponentiated_gradient"]
    found = compare(split, learners=["logistic"], methods=names, n_boot=5)
    for row in found.rows:
        assert set(np.unique(row.score)) <= {0.0, 1.0}
        assert "auc" not in row.metrics
        gaps = [float(row.metrics[f"sup_{r}_gap"].value) for r in ("tpr", "fpr")]
        eps = 10 * float(np.finfo(np.float32).eps)
        assert float(row.metrics["eo_gap"].value) == pytest.approx(max(gaps), abs=eps)
    assert "one decision" in found.to_markdown()


def test_without_fairlearn_its_rows_are_left_out_with_a_word(split, monkeypatch):
    monkeypatch.setattr(fairlearn_rows, "has_fairlearn", lambda: False)
    found = compare(
        split,
        learners=["logistic"],
        methods=["raw", "threshold_optimizer"],
        n_boot=5,
    )
    assert [row.method for row in found.rows] == ["raw"]
    assert "fairlearn is not installed" in found.to_markdown()


def test_outputs(table):
    frame = table.to_frame()
    assert len(frame) == len(table.rows)
    assert {"accuracy", "accuracy_low", "sup_tpr_gap_high"} <= set(frame.columns)
    record = json.loads(table.to_json())
    assert record["n_test"] == len(table.label_test)
    assert record["rows"][0]["metrics"]["auc"]["value"] == pytest.approx(
        float(table.rows[0].metrics["auc"].value)
    )
    lines = table.to_markdown().splitlines()
    assert sum(line.startswith("| raw") for line in lines) == 2
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    with pytest.raises(ValueError, match="no row raw/boosted"):
        table.row("raw", "boosted")


def test_texts_are_short(table, split):
    assert repr(table).startswith(
        "Comparison(16 rows of logistic; 600 training and 600"
    )
    lines = str(table).splitlines()
    assert len(lines) == 2 + len(table.rows) and lines[1].startswith("learner")
    first = table.rows[0]
    assert repr(first).startswith("Row(raw / logistic: accuracy .")
    assert table._repr_html_().count("<tr>") == 1 + len(table.rows)
    assert "x_train=f32[600, 2]" in repr(split)


def test_progress_is_told(split):
    told = []
    compare(
        split,
        learners=["logistic"],
        methods=["raw", "reweighing"],
        n_boot=2,
        progress=lambda text, done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]


def test_a_table_is_encoded_by_its_training_rows():
    table = load_adult()
    table = table.take(np.arange(0, len(table), 60))
    split = split_table(table)
    assert len(split.label_train) == table.train.sum()
    assert split.x_train.shape[1] == split.x_test.shape[1] == len(split.feature_names)
    numbers = split.x_train[:, list(split.feature_names).index("age")]
    assert abs(numbers.mean()) < 1e-3
    assert abs(numbers.std() - 1) < 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_train": np.arange(600) % 3}, "label_train has codes"),
        ({"group_train": np.zeros(600, int)}, "no member of class"),
        ({"x_test": np.zeros((600, 5))}, "one d, got"),
        ({"x_train": np.full((600, 2), np.nan)}, "x_train has 1200 values"),
        ({"label_train": np.zeros(9, int)}, "label_train has 9"),
        ({"reference": 2}, "reference=2 is no group code"),
    ],
)
def test_bad_splits(split, change, message):
    with pytest.raises(ValueError, match=message):
        compare(dataclasses.replace(split, **change), methods=["raw"])


def test_one_group(split):
    zeros = np.zeros(600, int)
    one = dataclasses.replace(split, group_train=zeros, group_test=zeros)
    with pytest.raises(ValueError, match="at least two groups"):
        compare(one, methods=["raw"])


def test_unknown_names(split):
    with pytest.raises(ValueError, match="methods='magic' is not known"):
        compare(split, methods=["magic"])
    with pytest.raises(ValueError, match="learner='magic' is not known"):
        compare(split, learners=["magic"])


def test_columns_that_stay_are_named():
    rng = np.random.default_rng(0)
    label, group = rng.integers(0, 2, (2, 600))
    x = np.stack([rng.normal(size=600) + label * (1 + group), label ^ (group & 1)], 1)
    halves = [part[i::2] for i in (0, 1) for part in (x, label, group)]
    found = compare(
        Split(*halves), learners=["logistic"], methods=["steering"], n_boot=20
    )
    note = found.row("steering", "logistic").note
    assert "1 of 2 columns have few distinct values and stay" in note
