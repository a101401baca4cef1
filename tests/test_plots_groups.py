"""Pictures of 2, 6 and 10 groups with long names, on figures of ours and of others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

import jaxsteer as js
from jaxsteer import plots

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

NAMES = [
    "Native Hawaiian or Pacific Islander (Not Hispanic or Latino)",
    "Native Hawaiian or Pacific Islander (Hispanic or Latino)",
    "White",
    "Black or African American",
    "Two or More Races, of which at least one is not known to the employer",
    *(f"group of region {i}" for i in range(5)),
]
N = 600
RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 2, N)


class Rates(NamedTuple):
    """What `price_curves` reads of the rates of rules."""

    risk: np.ndarray
    rate_gaps: np.ndarray


def interval(value):
    return SimpleNamespace(value=value, low=value - 0.02, high=value + 0.02)


def pictures(n_groups: int) -> dict:
    """What draws each picture, and how many panels it has."""
    group = np.arange(N) % n_groups
    score = np.clip(RNG.normal(0.3 + 0.3 * LABEL + 0.02 * group, 0.2), 0, 1)
    names = NAMES[:n_groups]
    hulls = [
        plots.roc_points(LABEL[group == a], score[group == a]) for a in range(n_groups)
    ]
    cells = js.Normal(
        np.arange(2.0)[:, None] + 0.3 * np.arange(n_groups), np.ones((2, n_groups))
    )
    population = js.Population(np.full((2, n_groups), 0.5 / n_groups), cells)
    weights = np.linspace(0, 1, 9)
    front = SimpleNamespace(
        group_losses=np.stack([weights, 1 - weights], 1) ** 2,
        group_weights=np.stack([weights, 1 - weights], 1),
        value=weights**2,
    )
    point = SimpleNamespace(
        group_losses=np.array([0.3, 0.4]), group_weights=weights[3:5], value=0.2
    )
    triangle = np.array(
        [(i, j, 6 - i - j) for i in range(7) for j in range(7 - i)], float
    )
    simplex = SimpleNamespace(group_weights=triangle / 6, value=triangle[:, 0] / 6)
    mark = SimpleNamespace(group_weights=np.full(3, 1 / 3))
    summary = {
        name: np.linspace(0, 1, 4)
        for name in ("effect", "low", "high", "kl", "perplexity")
    }
    choice = SimpleNamespace(
        strengths=[SimpleNamespace(best=1, summary=lambda train=False: summary)] * 3,
        paths=NAMES[:3],
        path="a",
        rule="gap",
        best=1,
        unsteered=[1, 1],
        **dict.fromkeys(
            ("gap", "gap_others", "low", "high", "left", "left_others"), np.ones(3)
        ),
    )
    strength = SimpleNamespace(
        strengths=np.linspace(0, 1, 4),
        best=2,
        strength=0.6,
        summary=lambda train=False: summary,
    )
    rates = Rates(weights[1:], np.ones((8, 2, 2)))
    rows = [
        SimpleNamespace(
            method=title,
            title=title,
            learner=learner,
            decision_only=learner == "b",
            metrics={
                key: interval(0.02 * i)
                for key in ("accuracy", "sup_tpr_gap", "sup_fpr_gap")
            },
        )
        for i, title in enumerate(names)
        for learner in "ab"
    ]
    comparison = SimpleNamespace(rows=rows, learners=["a", "b"])
    methods = dict.fromkeys(names, score)
    two = {"before": score, "after": score / 2}
    return {
        "roc_meet": (
            lambda **o: plots.roc_meet(
                hulls,
                hulls[0],
                achieved=(LABEL, score, group),
                group_names=names,
                **o,
            ),
            (1, 2),
        ),
        "gap_curves": (
            lambda **o: plots.gap_curves(methods, LABEL, group, **o),
            (1, 2),
        ),
        "score_densities": (
            lambda **o: plots.score_densities(
                two, LABEL, group, group_names=names, **o
            ),
            (2, 2),
        ),
        "group_differences": (
            lambda **o: plots.group_differences(
                np.linspace(-1, 1, n_groups),
                np.zeros(n_groups),
                feature_names=names,
                **o,
            ),
            (1, 1),
        ),
        "population_densities": (
            lambda **o: plots.population_densities(
                {"before": population, "after": population}, group_names=names, **o
            ),
            (1, 2),
        ),
        "price_curves": (
            lambda **o: plots.price_curves(
                SimpleNamespace(source=rates, transferred=rates, target=rates),
                weights[1:],
                **o,
            ),
            (1, 2),
        ),
        "pareto_front": (
            lambda **o: plots.pareto_front(
                dict.fromkeys(names, front),
                {f"point {name}": point for name in names},
                group_names=names,
                **o,
            ),
            (1, 2),
        ),
        "simplex_map": (
            lambda **o: plots.simplex_map(
                simplex, dict.fromkeys(names, mark), group_names=NAMES[:3], **o
            ),
            (1, 1),
        ),
        "layer_choice": (lambda **o: plots.layer_choice(choice, **o), (1, 3)),
        "strength_choice": (lambda **o: plots.strength_choice(strength, **o), (1, 3)),
        "comparison_dots": (
            lambda **o: plots.comparison_dots(comparison, **o),
            (1, 3),
        ),
    }


CURVES = ("roc_meet", "gap_curves", "score_densities", "population_densities")


def test_every_picture_is_here():
    drawn = {
        name
        for name in plots.__all__
        if name not in ("gap_curve", "standardized_differences", "roc_points")
    }
    assert set(pictures(2)) == drawn


@pytest.mark.parametrize("n_groups", [2, 6, 10])
def test_legends_fit_and_lines_differ(n_groups):
    for name, (draw, shape) in pictures(n_groups).items():
        figure = draw()
        data = figure._repr_png_()
        assert data.startswith(b"\x89PNG") and len(data) > 5000, name
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        for legend in figure.legends:
            box = legend.get_window_extent(renderer)
            inside = figure.bbox.padded(1)
            assert inside.containsx(box.x0) and inside.containsx(box.x1), name
            assert inside.containsy(box.y0) and inside.containsy(box.y1), name
            for ax in figure.axes:
                assert not ax.get_window_extent(renderer).overlaps(box), name
            texts = [text.get_text() for text in legend.get_texts()]
            assert len(set(texts)) == len(texts), name
        # Panels keep most of the picture.
        for ax in figure.axes[: shape[0] * shape[1]]:
            assert ax.get_window_extent(renderer).height > 90, name
        if name in CURVES:
            lines = figure.axes[0].get_legend_handles_labels()[0]
            styles = [(str(look(i)), str(i.get_linestyle())) for i in lines]
            assert len(set(styles)) == len(styles) >= n_groups, name
        ticks = [t.get_text() for t in figure.axes[0].get_yticklabels()]
        assert len(set(ticks)) == len(ticks), name


def look(line):
    return line.get_color() if hasattr(line, "get_color") else line.get_edgecolor()


def test_pictures_are_drawn_on_axes_that_are_handed_in():
    for name, (draw, shape) in pictures(3).items():
        figure = Figure(figsize=(4 * shape[1], 3 * shape[0]))
        axes = figure.subplots(*shape, squeeze=False)
        given = axes[0, 0] if axes.size == 1 else axes
        assert draw(ax=given) is figure, name
        assert not figure.legends and all(ax.has_data() for ax in axes.flat), name
        extra = Figure().subplots(1, 5)
        with pytest.raises(
            ValueError, match=f"ax holds 5 axes.*has {axes.size} panels"
        ):
            draw(ax=extra)


def test_no_score_is_cut_off():
    group = np.arange(N) % 2
    score = np.where(group == 1, 1.7, -0.4) + 0.1 * LABEL
    figure = plots.score_densities({"odds": score}, LABEL, group)
    for ax in figure.axes:
        assert ax.get_xlim() == (pytest.approx(score.min()), pytest.approx(score.max()))
        shares = [np.sum(p.get_data().values) for p in ax.patches]
        assert shares == pytest.approx([1.0] * len(shares))
    curves = plots.gap_curves({"odds": score}, LABEL, group)
    line = curves.axes[0].lines[0]
    assert line.get_xdata()[0] <= -0.3 and line.get_xdata()[-1] >= 1.8
    assert line.get_ydata().max() == 1


def test_names_that_are_cut_short_still_differ():
    names = ["capital gain of the last calendar year, " + end for end in "abc"]
    figure = plots.group_differences(np.ones(3), np.zeros(3), feature_names=names)
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    # By what they differ in, not by a number.
    assert [tick[-1] for tick in ticks] == ["c", "b", "a"] or [
        tick[-1] for tick in ticks
    ] == ["a", "b", "c"]
    assert len(set(ticks)) == 3 and all("…" in tick for tick in ticks)
    some = plots.group_differences(np.ones(3), np.zeros(3), feature_names=names, top=2)
    assert "the 2 largest of 3 features" in some.axes[0].get_xlabel()
    # No line is wider than the picture.
    assert max(map(len, some.axes[0].get_xlabel().split("\n"))) < 70
    same = plots.roc_meet([np.eye(2)] * 2, np.eye(2), group_names=[1, "1"])
    labels = [text.get_text() for text in same.legends[0].get_texts()]
    assert labels[:2] == ["1", "1 (2)"]
