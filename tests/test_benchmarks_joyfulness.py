"""What the joyfulness benchmark makes of its figures, on ones that are known."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    if not (FOLDER / "joyfulness.py").exists():
        pytest.skip("no benchmarks beside these tests")
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module


def log_odds(p):
    return np.log(p / (1 - p))


def curve(module, joy, surprise):
    """An arm from joyfulness and surprise ``[R, S, n]``."""
    points = [
        [
            SimpleNamespace(
                score=log_odds(j), surprise=s, own_surprise=s - 1, distinct=s
            )
            for j, s in zip(*row, strict=True)
        ]
        for row in zip(joy, surprise, strict=True)
    ]
    return module("_joyfulness_report").Curve(points)


def test_resamples_vary_as_the_seeds_do_where_films_are_alike(module):
    values = np.random.default_rng(0).normal(size=(5, 1, 1)) * np.ones((5, 1, 40))
    drawn = module("_joyfulness_report").Resamples(5, 40).mean(values)[:, 0]
    np.testing.assert_allclose(drawn[0], values.mean())
    # A bootstrap mean's variance is that of the values by their number.
    np.testing.assert_allclose(
        drawn[1:].std(), values[:, 0, 0].std() / 5**0.5, rtol=0.1
    )


def test_steering_as_far_as_asking_is_read_off_the_curve(module):
    strengths = np.array([0.0, 0.1, 0.2])
    shape = (2, 1, 6)
    rising = np.array([0.3, 0.5, 0.6])[:, None] * np.ones(shape)
    nll = np.array([2.0, 2.4, 3.0])[:, None] * np.ones(shape)
    steered = curve(module, rising, nll)
    asked = curve(module, np.full(shape, 0.55), np.full(shape, 2.2))
    against = module("_joyfulness_asked").against_asking
    found = against(steered, asked, strengths, 1)
    far = found["steered_as_far"]
    np.testing.assert_allclose(far["strength"], 0.15, rtol=1e-6)
    np.testing.assert_allclose(far["perplexity"], np.exp(2.7), rtol=1e-6)
    assert far["resamples_that_get_there"] == 1
    np.testing.assert_allclose(found["steered"]["joyfulness"], 0.5)
    own = found["asked"]["perplexity_of_its_own_request"]
    np.testing.assert_allclose(own, np.exp(1.2))
    beyond = curve(module, np.full(shape, 0.7), np.full(shape, 2.2))
    far = against(steered, beyond, strengths, 1)["steered_as_far"]
    assert far["resamples_that_get_there"] == 0
    np.testing.assert_allclose(far["joyfulness"], 0.6)


def test_effects_of_a_genre_are_compared_with_the_other_ones(module):
    pytest.importorskip("jax")
    rng = np.random.default_rng(1)
    noise = 0.01 * rng.normal(size=(2, 3, 2, 30))
    steps = np.array([0.3, 0.5])[:, None]
    first = curve(module, steps + noise[0], 2 + steps + noise[0])
    second = curve(module, steps / 2 + noise[1], 2 + 2 * steps + noise[1])
    asked = module("_joyfulness_asked")
    pair = asked.moved(first, 1), asked.moved(second, 1)
    found = asked.equal(*pair)
    value, low, high = found["effect"]["difference"]
    np.testing.assert_allclose(value, pair[1][0].mean() - pair[0][0].mean(), atol=1e-6)
    assert low < -0.1 < high < -0.08
    np.testing.assert_allclose(found["cost"]["difference"][0], 0.2, atol=0.02)
    assert found["wrong"]["difference"] == [0, 0, 0]


def test_what_was_measured_is_not_measured_again(module, tmp_path):
    pieces = module("_pieces")
    calls = []

    def kept(seconds=float("inf"), about="a"):
        return pieces.Kept(tmp_path, about, pieces.Clock(seconds))

    def compute():
        calls.append(None)
        return len(calls)

    assert [kept()("one", compute), kept()("one", compute)] == [1, 1]
    assert kept(about="b")("one", compute) == 2
    assert kept(seconds=-1)("one", compute) == 1
    with pytest.raises(SystemExit, match="again to go on"):
        kept(seconds=-1)("two", compute)
    assert len(calls) == 2
