"""What the biographies' benchmark measures, against slow and plain ways."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer import AffineMap
from jaxsteer.nn import GroupSteer, insert_steering

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    pytest.importorskip("sklearn", reason="the benchmark trains its learners")
    if not (FOLDER / "biographies.py").exists():
        pytest.skip("no benchmarks beside these tests")
    monkeypatch.syspath_prepend(str(FOLDER))
    return lambda name: import_module(f"_biography_{name}")


def test_gaps_over_thresholds_are_the_largest_of_all_thresholds(module):
    rng = np.random.default_rng(0)
    score = rng.dirichlet(np.ones(3), 120).round(2)
    label, group = rng.integers(0, 3, 120), rng.integers(0, 2, 120)
    found = module("methods").measure(score, label, group)

    def rate(rows, i, cut):
        return np.mean(score[rows, i] >= cut)

    for name, of_class in [("sup_tpr_gap", True), ("sup_fpr_gap", False)]:
        largest = max(
            abs(rate(rows & (group == 0), i, cut) - rate(rows & (group == 1), i, cut))
            for i in range(3)
            for rows in [(label == i) == of_class]
            for cut in np.linspace(0, 1.01, 102).round(2) - 0.005
        )
        np.testing.assert_allclose(found[name], largest, atol=1e-12)

    right = score.argmax(1) == label
    gaps = [
        np.mean(right[(label == i) & (group == 0)])
        - np.mean(right[(label == i) & (group == 1)])
        for i in range(3)
    ]
    np.testing.assert_allclose(found["rms_tpr_gap"], np.linalg.norm(gaps) / 3**0.5)
    np.testing.assert_allclose([found[f"tpr_gap_{i}"] for i in range(3)], np.abs(gaps))
    np.testing.assert_allclose(found["accuracy"], right.mean())


def test_thinning_keeps_the_rarer_gender_of_each_class(module):
    data = module("data")
    label, group = np.repeat([0, 1], 50), np.tile([0, 0, 0, 0, 1], 20)
    group[50:] = 1 - group[50:]
    texts = [str(i) for i in range(100)]
    found = data.thinned(
        data.Biographies(texts, label, group, np.arange(100), ("a", "b")), 60
    )
    assert list(found.cells().values())[1:3] == [10, 10]
    assert len(found.texts) == 60
    assert found.texts == [str(i) for i in found.place]


class _Letters:
    """A tokenizer of one token a letter."""

    def encode(self, text):
        return [1 + ord(letter) % 9 for letter in text]


@pytest.mark.slow
def test_steering_the_last_token_is_that_of_a_whole_text(module):
    nnx = pytest.importorskip("flax.nnx", reason="the benchmark steers a Flax model")
    from jaxsteer.models import Decoder, DecoderConfig, pad_tokens

    hidden, pieces = module("hidden"), module("data").Pieces
    shape = dict(n_layers=2, n_heads=2, n_kv_heads=1, dim=8, hidden_dim=8)
    config = DecoderConfig(vocab_size=11, max_length=32, **shape)
    model = Decoder(config, rngs=nnx.Rngs(0))
    texts, group = ["abca", "q", "xyzzyx", "hello"], np.array([0, 1, 1, 0])
    rng = np.random.default_rng(0)
    maps = AffineMap(*(jnp.asarray(rng.normal(size=s)) for s in [(2, 8, 8), (2, 8)]))
    layer = GroupSteer(maps)
    (found,) = hidden.steered_states(
        model, _Letters(), texts, 1, [hidden.Layer(layer, group)], pieces()
    )

    tokens, lengths = pad_tokens([_Letters().encode(text) for text in texts])
    last = np.arange(4), lengths - 1

    @nnx.jit
    def whole(model, tokens):
        def last_only(x):
            return x.at[last].set(layer(x[last], group))

        unmoved = model.hidden(tokens)[last]
        with insert_steering(model, "layers.1", last_only):
            return model.hidden(tokens)[last], unmoved

    expected, unmoved = whole(model, jnp.asarray(tokens))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    assert np.abs(found - unmoved).max(1).min() > 0.01
