"""Trees by tables give what the classifier gives, to the last bit, or are not used."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from jaxsteer.estimators import _fold_models
from jaxsteer.estimators._tree_tables import TreeTables, tree_tables

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6000, 14)).astype(np.float32)
X[:, 3:] = X[:, 3:] > np.linspace(-1, 2, 11)
Y = (X[:, :5].sum(1) + RNG.normal(size=6000) > 1).astype(int)
OTHERS = np.vstack(
    [RNG.normal(size=(20_000, 14)), X[:3000] * 1.0, np.full((2, 14), 40)]
)


@pytest.fixture(scope="module")
def model():
    return HistGradientBoostingClassifier(random_state=0, max_iter=12).fit(X, Y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_answers_are_equal_to_the_last_bit(model, dtype):
    rows = OTHERS.astype(dtype)
    tables = tree_tables(model, rows[:500])
    assert tables is not None
    np.testing.assert_array_equal(tables.predict_proba(rows), model.predict_proba(rows))


@pytest.mark.parametrize("value", ["threshold", "leaf"])
def test_another_tree_is_noticed(model, monkeypatch, value):
    def spoiled(self, nodes):
        tables, by_bit = real(self, nodes)
        if value == "leaf":
            return tables, by_bit + 1e-9
        return [(g, np.roll(masks, 1)) for g, masks in tables], by_bit

    real = TreeTables._tables
    monkeypatch.setattr(TreeTables, "_tables", spoiled)
    assert tree_tables(model, X[:500]) is None


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"max_leaf_nodes": 80}, Y),
        ({"categorical_features": [13]}, Y),
        ({}, Y + (X[:, 0] > 1)),
    ],
)
def test_what_tables_do_not_hold_is_left_to_the_classifier(options, labels):
    other = HistGradientBoostingClassifier(max_iter=3, **options).fit(X, labels)
    assert tree_tables(other, X[:100]) is None
    assert tree_tables(object(), X[:100]) is None


def test_scores_of_many_rows_are_those_of_the_classifier(model, monkeypatch):
    rows = np.arange(len(OTHERS))
    expected = np.log(np.clip(model.predict_proba(OTHERS), 1e-12, 1 - 1e-12))
    used = []
    real = TreeTables.predict_proba
    monkeypatch.setattr(
        TreeTables, "predict_proba", lambda s, x: used.append(len(x)) or real(s, x)
    )
    found = _fold_models._log_probability(model, OTHERS, rows, 2)
    np.testing.assert_array_equal(found, expected)
    assert sum(used) >= len(rows)
    # Where a value is missing the classifier itself is asked.
    holes = OTHERS.copy()
    holes[-1, 2] = np.nan
    found = _fold_models._log_probability(model, holes, rows, 2)
    expected = np.log(np.clip(model.predict_proba(holes), 1e-12, 1 - 1e-12))
    np.testing.assert_array_equal(found, expected)


def test_a_classifier_fitted_anew_gets_new_tables():
    model = HistGradientBoostingClassifier(random_state=0, max_iter=3).fit(X, Y)
    rows = np.arange(len(OTHERS))
    first = _fold_models._log_probability(model, OTHERS, rows, 2)
    model.fit(X, 1 - Y)
    second = _fold_models._log_probability(model, OTHERS, rows, 2)
    np.testing.assert_allclose(np.exp(second[:, 0]), np.exp(first[:, 1]), atol=0.05)
    assert np.abs(second - first).max() > 0.1
