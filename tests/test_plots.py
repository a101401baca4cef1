"""Figures: right numbers on the axes, and nothing global is changed."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_curve

import jaxsteer as js
from jaxsteer import metrics, plots

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    label, group = rng.integers(0, 2, (2, 500)).astype(np.int32)
    score = np.round(np.clip(rng.normal(0.3 + 0.3 * label, 0.2), 0, 1), 2)
    return label, score, group


def test_roc_points_are_those_of_scikit_learn(rows):
    label, score, _ = rows
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    np.testing.assert_allclose(plots.roc_points(label, score), np.stack([fpr, tpr], 1))


@pytest.mark.parametrize("rate", ["tpr", "fpr", "dp"])
def test_the_largest_point_of_the_gap_curve_is_sup_gap(rows, rate):
    label, score, group = rows
    thresholds = np.unique(score)
    curve = plots.gap_curve(label, score, group, thresholds, rate=rate)
    expected = float(metrics.sup_gap(label, score, group, rate=rate))
    assert curve.max() == pytest.approx(expected, abs=1e-6)


def test_rows_that_cannot_be_drawn_are_refused_by_name(rows):
    label, score, group = rows
    doors = {
        "gap_curves": lambda y, s, g: plots.gap_curves({"a": s}, y, g),
        "score_densities": lambda y, s, g: plots.score_densities({"a": s}, y, g),
    }
    for door in doors.values():
        with pytest.raises(ValueError, match="score has 1 values that are not finite"):
            door(label, np.where(np.arange(500) == 3, np.nan, score), group)
        with pytest.raises(ValueError, match="score has 499"):
            door(label, score[:-1], group)
    with pytest.raises(ValueError, match="group must hold integer codes"):
        doors["score_densities"](label, score, group.astype(str))
    with pytest.raises(ValueError, match="reference=2 must be a group that has rows"):
        plots.standardized_differences(score[:, None], group, reference=2)
    with pytest.raises(ValueError, match="rate='tnr' is not known"):
        plots.gap_curve(label, score, group, np.ones(1), rate="tnr")


def test_no_gap_is_drawn_where_one_group_has_rows(rows):
    label, score, group = rows
    label = np.where(group == 0, 0, label)
    with pytest.raises(
        ValueError, match="true-positive rate needs rows of at least two"
    ):
        plots.gap_curves({"a": score}, label, group)
    assert len(plots.gap_curves({"a": score}, label, group, rates="fpr").axes) == 1


def test_standardized_differences_with_weights_and_three_groups():
    rng = np.random.default_rng(1)
    group = np.arange(300) % 3
    x = rng.normal(size=(300, 2)) + np.array([0.0, 1.0, 5.0])[group][:, None]
    weights = rng.random(300)
    found = plots.standardized_differences(
        x, group, reference=1, weights=weights, scale=np.full(2, 2.0)
    )
    means = [
        np.average(x[group == a], axis=0, weights=weights[group == a]) for a in (1, 2)
    ]
    np.testing.assert_allclose(found, (means[1] - means[0]) / 2)
    # A constant column has no scale: its difference is 0, not NaN.
    constant = plots.standardized_differences(np.ones((300, 1)), group)
    assert constant.tolist() == [0.0]


def figures(rows):
    label, score, group = rows
    hulls = [plots.roc_points(label[group == a], score[group == a]) for a in (0, 1)]
    rng = np.random.default_rng(2)
    differences = rng.normal(size=(2, 30))
    return {
        "roc": plots.roc_meet(hulls, hulls[0], achieved=(label, score, group)),
        "roc_alone": plots.roc_meet(hulls, hulls[0], group_names=["f", "m"]),
        "gaps": plots.gap_curves({"raw": score, "half": score / 2}, label, group),
        "densities": plots.score_densities(
            {"raw": score, "half": score / 2}, label, group
        ),
        "differences": plots.group_differences(
            *differences, feature_names=[f"feature {i}" for i in range(30)], top=10
        ),
    }


def test_figures_have_labels_and_change_nothing_global(rows):
    before = dict(matplotlib.rcParams)
    for name, figure in figures(rows).items():
        assert len(plots.figure_bytes(figure)) > 5000, name
        assert any(ax.get_xlabel() for ax in figure.axes), name
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_figure_gives_the_same_bytes(rows, kind):
    first, second = (figures(rows)["gaps"] for _ in range(2))
    assert plots.figure_bytes(first, kind) == plots.figure_bytes(second, kind)


def test_top_features_are_those_with_the_largest_difference():
    before = np.array([0.1, -2.0, 0.3, 1.0])
    figure = plots.group_differences(before, before / 10, feature_names="abcd", top=2)
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert ticks == ["d", "b"]


def test_no_panel_of_the_gap_curves_is_cut_off(rows):
    label, score, group = rows
    # A gap in class 0 only: the second panel is far higher than the first.
    apart = np.where((label == 0) & (group == 1), 0.9, score / 2)
    figure = plots.gap_curves({"apart": apart}, label, group)
    assert figure.axes[1].get_ylim()[1] > 0.9


def test_drawn_values_are_the_tables():
    from jaxsteer.compare import Split, compare

    rng = np.random.default_rng(3)
    label, group = rng.integers(0, 2, (2, 400)).astype(np.int32)
    x = rng.normal(size=(400, 2)) + label[:, None]
    split = Split(*(part[i::2] for i in (0, 1) for part in (x, label, group)))
    found = compare(split, learners=["logistic"], methods=["raw", "mimic"], n_boot=5)
    figure = plots.comparison_dots(found)
    drawn = {float(line.get_xdata()[0]) for line in figure.axes[1].lines}
    for row in found.rows:
        assert float(row.metrics["sup_tpr_gap"].value) in drawn
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert ticks == ["raw", "MiMiC"]


def test_population_pictures():
    cells = js.Normal(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.ones((2, 2)))
    pop = js.Population(jnp.full((2, 2), 0.25), cells)
    target = js.nearest_ideal(pop, reference=1).target
    figure = js.plots.population_densities({"before": pop, "after": target})
    before, after = figure.axes
    assert [len(ax.lines) for ax in (before, after)] == [4, 4]
    # The reference group stays, the other one moves.
    lines = {line.get_label(): line.get_ydata() for line in before.lines}
    moved = {line.get_label(): line.get_ydata() for line in after.lines}
    assert np.allclose(lines["class 1, group 1"], moved["class 1, group 1"], atol=1e-5)
    assert not np.allclose(
        lines["class 1, group 0"], moved["class 1, group 0"], atol=1e-2
    )

    ratios = [0.5, 1.0, 2.0]
    figure = js.plots.price_curves(js.price_of_fairness(pop, jnp.array(ratios)), ratios)
    risk, gaps = figure.axes
    source, transferred, _ = (line.get_ydata() for line in risk.lines)
    assert (transferred >= source - 1e-6).all()
    assert max(gaps.lines[2].get_ydata()) < 1e-5 < min(gaps.lines[0].get_ydata())
