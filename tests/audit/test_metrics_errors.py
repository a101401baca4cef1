"""Every message of a bad input."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxsteer.audit import metrics

LABEL = np.array([0, 1, 0, 1, 0, 1])
PREDICTION = np.array([0, 1, 1, 1, 0, 0])
GROUP = np.array([0, 0, 0, 1, 1, 1])
SCORE = np.linspace(0, 1, 6)
KEY = jax.random.key(0)


def accuracy(label=LABEL, prediction=PREDICTION, group=GROUP, **options):
    return metrics.accuracy(label, prediction, group, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"label": np.array(["no", "yes"] * 3)},
            r"label must hold integer.*encode_lab",
        ),
        (
            {"group": np.array(["f", "m"] * 3)},
            r"group must hold integer.*encode_labels",
        ),
        ({"label": LABEL.astype(float)}, r"label must hold integer codes.*float64"),
        ({"prediction": SCORE}, r"prediction must hold integer.*scores go to sup_gap"),
        ({"prediction": LABEL.astype(object)}, r"prediction must hold.*object"),
        ({"label": LABEL[:, None]}, r"label must be one-dimensional.*\(6, 1\)"),
        ({"group": GROUP[:5]}, r"label has 6, prediction has 6, group has 5 rows"),
        ({"weights": np.ones(4)}, r"weights has 4 rows"),
        ({"label": LABEL - 1}, r"label has codes from -1 to 0"),
        ({"label": LABEL + 1, "n_classes": 2}, r"label has codes from 1 to 2"),
        ({"group": GROUP * 3, "n_groups": 2}, r"group has codes from 0 to 3"),
        ({"n_classes": 0}, r"n_classes must be a positive int, got 0"),
        ({"n_groups": 2.0}, r"n_groups must be a positive int, got 2\.0"),
        ({"label": LABEL * 10**6}, r"1000001 classes and 2 groups are too many"),
        ({"weights": -np.ones(6)}, r"weights must be at least 0"),
        ({"weights": np.zeros(6)}, r"weights must be .*positive sum"),
        (
            {"weights": np.array([1, np.nan, 1, 1, 1, 1])},
            r"weights has 1 values.*index 1",
        ),
        ({"weights": np.array(["a"] * 6)}, r"weights must hold real numbers"),
    ],
)
def test_bad_arrays(arguments, message):
    with pytest.raises(ValueError, match=message):
        accuracy(**arguments)


def test_no_rows():
    none = np.zeros(0, int)
    with pytest.raises(ValueError, match="no rows"):
        accuracy(none, none, none)
    with pytest.raises(ValueError, match="no rows"):
        metrics.auc(none, np.zeros(0), none)


@pytest.mark.parametrize("f", [metrics.sup_gap, metrics.auc])
def test_bad_scores(f):
    with pytest.raises(ValueError, match=r"score is NaN in 2 rows, first in row 1"):
        f(LABEL, np.array([0, np.nan, 1, 2, np.nan, 3]), GROUP)
    with pytest.raises(ValueError, match=r"score must hold real numbers"):
        f(LABEL, np.array(["a"] * 6), GROUP)
    with pytest.raises(ValueError, match=r"binary label with codes 0 and 1, got the c"):
        f(LABEL * 2, SCORE, GROUP)
    with pytest.raises(ValueError, match=r"score has 5 rows"):
        f(LABEL, SCORE[:5], GROUP)


def test_unknown_rate():
    with pytest.raises(
        ValueError, match=r"rate='fnr' is not known.*'tpr', 'fpr', 'dp'"
    ):
        metrics.sup_gap(LABEL, SCORE, GROUP, rate="fnr")


@pytest.mark.parametrize(
    "f",
    [
        metrics.demographic_parity,
        metrics.equal_opportunity,
        metrics.equalized_odds,
        metrics.tpr_gap,
        metrics.tpr_gap_per_class,
    ],
)
def test_a_gap_needs_two_groups(f):
    with pytest.raises(ValueError, match=r"compares groups, but group holds only"):
        f(LABEL, PREDICTION, GROUP * 0)


def test_a_sup_gap_needs_two_groups_and_accuracy_does_not():
    with pytest.raises(ValueError, match=r"sup_tpr_gap compares groups"):
        metrics.sup_gap(LABEL, SCORE, GROUP * 0)
    assert 0 < accuracy(group=GROUP * 0) < 1
    assert 0 < metrics.auc(LABEL, SCORE, GROUP * 0) < 1


def test_an_empty_cell_is_named():
    label, group = np.array([0, 1, 2, 0, 2, 0]), GROUP
    for f in (metrics.equalized_odds, metrics.tpr_gap, metrics.tpr_gap_per_class):
        with pytest.raises(ValueError, match=r"no row of class 1 in group 1 carries"):
            f(label, label, group)
    with pytest.raises(ValueError, match=r"equal_opportunity is undefined.*class 1 in"):
        metrics.equal_opportunity(label, label, group)
    assert metrics.equal_opportunity(label, label, group, positive=2) == 0
    with pytest.raises(ValueError, match=r"no row of group 1 carries weight"):
        metrics.demographic_parity(LABEL, PREDICTION, GROUP * 2)
    with pytest.raises(ValueError, match=r"no row of class 2 carries weight"):
        metrics.balanced_accuracy(LABEL, LABEL * 2, GROUP)
    with pytest.raises(ValueError, match=r"sup_fpr_gap.*no row of class 0 in group 0"):
        metrics.sup_gap(np.r_[1, 1, 1, 0, 0, 1], SCORE, GROUP, rate="fpr")
    with pytest.raises(ValueError, match=r"auc is undefined: no row of class 1"):
        metrics.auc(LABEL * 0, SCORE, GROUP)


def test_a_cell_without_weight_is_empty():
    weights = np.where((LABEL == 1) & (GROUP == 0), 0.0, 1.0)
    with pytest.raises(ValueError, match=r"no row of class 1 in group 0 carries"):
        metrics.tpr_gap(LABEL, PREDICTION, GROUP, weights=weights)


def test_the_positive_class_must_exist():
    with pytest.raises(
        ValueError, match=r"positive=2 is no class: the codes run 0\.\.1"
    ):
        metrics.equal_opportunity(LABEL, PREDICTION, GROUP, positive=2)


@pytest.mark.parametrize("option", ["n_classes", "n_groups"])
def test_sizes_are_needed_under_jit(option):
    sizes = {"n_classes": 2, "n_groups": 2}
    del sizes[option]
    with pytest.raises(ValueError, match=rf"{option} cannot be read off the traced"):
        jax.jit(lambda *a: metrics.accuracy(*a, **sizes))(LABEL, PREDICTION, GROUP)


def test_a_traced_size_is_refused():
    with pytest.raises(ValueError, match=r"n_groups must be a positive int"):
        jax.jit(lambda g: accuracy(n_groups=g))(2)


def bootstrap(names=("accuracy",), **options):
    options = {"key": KEY, "n_boot": 10} | options
    prediction = options.pop("prediction", PREDICTION)
    return metrics.bootstrap(names, LABEL, prediction, GROUP, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ()}, r"metrics is empty"),
        ({"names": ("f1",)}, r"metrics='f1' is not known; choose one of 'accuracy'"),
        ({"names": ("auc",)}, r"auc reads a score: pass score="),
        ({"prediction": None}, r"accuracy reads predictions, got prediction=None"),
        ({"key": 0}, r"key must be one jax\.random\.key\(seed\), got 0"),
        ({"key": jax.random.split(KEY)}, r"key must be one jax\.random\.key"),
        ({"n_boot": 1}, r"n_boot must be an int of 2 or more, got 1"),
        ({"n_boot": 10.5}, r"n_boot must be an int of 2 or more, got 10\.5"),
        ({"level": 95}, r"level must lie between 0 and 1, got 95"),
        ({"names": ("equal_opportunity",), "positive": 3}, r"positive=3 is no class"),
        ({"weights": -np.ones(6)}, r"weights must be at least 0"),
    ],
)
def test_bad_options_of_the_bootstrap(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(**arguments)


def test_the_bootstrap_names_an_empty_cell():
    with pytest.raises(ValueError, match=r"tpr_gap is undefined: no row of class 0 in"):
        metrics.bootstrap(["tpr_gap"], GROUP, PREDICTION, GROUP, key=KEY)
