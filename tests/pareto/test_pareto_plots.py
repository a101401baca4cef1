"""The front's figures show the numbers of the fronts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from jaxsteer import pareto
from jaxsteer.plots._pareto import pareto_front, simplex_map
from jaxsteer.plots._style import figure_bytes


def _front(groups, points):
    weights = pareto.simplex_grid(groups, points)
    return SimpleNamespace(
        group_weights=weights,
        group_losses=1 - weights / 2,
        value=(weights**2).sum(1),
    )


def _point(weights):
    weights = np.asarray(weights)
    return SimpleNamespace(group_weights=weights, group_losses=1 - weights, value=0.7)


def test_fronts_before_and_after_are_in_one_picture():
    before = _front(2, 11)
    after = SimpleNamespace(**{**vars(before), "value": before.value / 2})
    figure = pareto_front(
        {"before": before, "after": after},
        {"fairest": _point([0.25, 0.75])},
        group_names=("f", "m"),
    )
    losses, values = figure.axes
    assert [line.get_label() for line in losses.lines] == ["before", "after", "fairest"]
    np.testing.assert_allclose(losses.lines[0].get_xdata(), before.group_losses[:, 0])
    np.testing.assert_allclose(values.lines[1].get_ydata(), after.value)
    assert losses.lines[2].get_xdata() == [0.75]
    assert values.lines[2].get_ydata() == [0.7]
    assert losses.get_xlabel() == "loss of f"
    assert len(figure_bytes(figure)) > 5000


def test_the_map_of_three_groups_has_its_corners_and_points():
    drawn = [
        simplex_map(_front(3, 28), {"fairest": _point([0.0, 1.0, 0.0])})
        for _ in range(2)
    ]
    ax = drawn[0].axes[0]
    marked = ax.lines[-1]
    np.testing.assert_allclose([marked.get_xdata()[0], marked.get_ydata()[0]], [1, 0])
    assert {text.get_text() for text in ax.texts} == {
        "all on group 0",
        "all on group 1",
        "all on group 2",
    }
    assert figure_bytes(drawn[0]) == figure_bytes(drawn[1])


def test_other_numbers_of_groups_are_refused():
    with pytest.raises(ValueError, match="'raw' has 3 groups; this figure needs two"):
        pareto_front({"raw": _front(3, 10)})
    with pytest.raises(ValueError, match="the front has 2 groups"):
        simplex_map(_front(2, 10))
