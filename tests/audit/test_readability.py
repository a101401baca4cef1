"""How well trees read the group before and after a move, given the class."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from jaxsteer.audit import group_readability

TREE = DecisionTreeClassifier(random_state=0)


def integers(n=900, n_groups=2, seed=0):
    rng = np.random.default_rng(seed)
    label, group = rng.integers(0, 2, n), rng.integers(0, n_groups, n)
    x = rng.integers(0, 6, (n, 2)) + rng.integers(0, 2, (n, 2)) * group[:, None]
    return x.astype(float), label, group


@pytest.mark.parametrize("n_groups", [2, 3])
def test_a_move_off_the_lattice_is_seen_and_said(n_groups):
    x, label, group = integers(n_groups=n_groups)
    moved = x - 0.51 * group[:, None]
    with pytest.warns(UserWarning, match="tell group . better than before"):
        found = group_readability(x, moved, label, group, classifier=TREE)
    assert found.before.shape == (2, n_groups) and found.before.max() < 0.9
    assert found.after.min() > 0.99
    assert found.rise == (found.after - found.before).max()
    assert found.rows.tolist() == np.bincount(label).tolist()


def test_a_common_move_changes_nothing_and_says_nothing():
    x, label, group = integers()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = group_readability(x, 2 * x + 1, label, group, classifier=TREE)
    np.testing.assert_array_equal(found.before, found.after)
    assert found.rise == 0


def test_areas_are_scikit_learns():
    class Given:
        def fit(self, x, y):
            pass

        def predict_proba(self, x):
            return np.stack([-x[:, 0], x[:, 0]], 1)

    x, label, group = integers()
    found = group_readability(x, x, label, group, classifier=Given())
    for cls in (0, 1):
        mine = label == cls
        expected = roc_auc_score(group[mine], x[mine, 0])
        np.testing.assert_allclose(found.before[cls], expected)


def test_cells_without_rows_are_left_out():
    x, label, group = integers()
    keep = (label == 0) | (group == 0)
    found = group_readability(
        x[keep], x[keep], label[keep], group[keep], classifier=TREE, most_rows=200
    )
    assert np.isnan(found.before[1]).all() and np.isfinite(found.before[0]).all()
    assert found.rows[0] == 200


def test_bad_input_is_named():
    x, label, group = integers(60)
    with pytest.raises(ValueError, match="one value"):
        group_readability(x, x, label, 0 * group, classifier=TREE)
    with pytest.raises(ValueError, match="folds=1"):
        group_readability(x, x, label, group, classifier=TREE, folds=1)
    with pytest.raises(ValueError, match="moved has shape"):
        group_readability(x, x[:, 0], label, group, classifier=TREE)
