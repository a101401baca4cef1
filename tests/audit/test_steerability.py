"""What a steering does to each group, and how sure that is."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxsteer.audit import steerability

S, N, G = 6, 60, 3
GROUP = np.arange(N) % G
KEY = jax.random.key(0)
rng = np.random.default_rng(0)


def draw(difference=0.0):
    return 1 + rng.normal(size=(S, N)) + difference * (GROUP == 1)


def test_figures_are_those_of_each_group():
    effect, cost = draw(difference=-1.0), rng.normal(size=(S, N)) ** 2
    found = steerability(effect, cost, GROUP, key=KEY, reference=2)
    for name, table in (("effect", effect), ("wrong", effect < 0), ("cost", cost)):
        means = np.array([table[:, g == GROUP].mean() for g in range(G)])
        np.testing.assert_allclose(getattr(found, name).value, means, rtol=1e-5)
        difference = getattr(found, f"{name}_difference")
        np.testing.assert_allclose(difference.value, means - means[2], atol=1e-5)
        np.testing.assert_array_equal(
            [difference.low[2], difference.high[2], difference.standard_error[2]], 0
        )
        gap = getattr(found, f"{name}_gap")
        np.testing.assert_allclose(gap.value, np.ptp(means), rtol=1e-4)
        assert gap.smallest_cell == N // G and gap.undefined == 0
        each = getattr(found, name)
        assert (each.low < each.value).all() and (each.value < each.high).all()
    # One of two groups that differ by a standard deviation is told from the other.
    assert found.effect_difference.high[1] < 0
    assert found.effect_difference.low[0] < 0 < found.effect_difference.high[0]
    again = steerability(effect, cost, GROUP, key=KEY, reference=2)
    np.testing.assert_array_equal(again.effect.low, found.effect.low)


def test_standard_errors_are_those_of_the_means():
    effect = draw()[:1]
    found = steerability(effect[0], None, GROUP, key=KEY)
    assert found.cost is None and found.cost_gap is None
    for g in range(G):
        rows = effect[0, g == GROUP]
        expected = rows.std() / np.sqrt(len(rows))
        assert found.effect.standard_error[g] == pytest.approx(expected, rel=0.15)


def test_what_seeds_share_is_seen_and_cancels_in_differences():
    effect, shared = draw(), np.linspace(-2, 2, S)[:, None]
    calm, moved = (
        steerability(e, None, GROUP, key=KEY) for e in (effect, effect + shared)
    )
    expected = np.sqrt(calm.effect.standard_error**2 + shared.var() / S)
    np.testing.assert_allclose(moved.effect.standard_error, expected, rtol=0.15)
    for field in ("low", "high", "standard_error"):
        np.testing.assert_allclose(
            getattr(moved.effect_difference, field),
            getattr(calm.effect_difference, field),
            atol=1e-5,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"effect": np.ones(5)}, "effect has shape"),
        ({"effect": np.full((S, N), np.nan)}, "effect has .* not finite"),
        ({"cost": np.ones(N)}, "same seeds"),
        ({"group": GROUP[:, None]}, r"expected \[n\]"),
        ({"n_groups": 4}, r"groups \[3\] have no prompt"),
        ({"reference": 3}, "reference=3"),
        ({"n_boot": 1}, "n_boot=1"),
        ({"level": 1.0}, "level=1.0"),
    ],
)
def test_refusals(change, message):
    given = {"effect": np.ones((S, N)), "cost": np.ones((S, N)), "group": GROUP}
    with pytest.raises(ValueError, match=message):
        steerability(**{**given, "key": KEY, **change})
