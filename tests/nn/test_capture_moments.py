"""Moments of every place in one pass are those of the activations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer import moments
from jaxsteer.nn import capture_activations, capture_moments
from tests.nn import block_models as models

B, T, D = 4, 3, models.D
rng = np.random.default_rng(0)
TOKENS = [rng.integers(0, models.VOCAB, (B, T)) for _ in range(3)]
LABEL = [np.array([0, 1, 0, 1]), np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1])]
GROUP = [np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([1, 0, 1, 0])]
COUNT = np.array([3, 1, 2, 3])
MASK = np.arange(T) < COUNT[:, None]
PATHS = ["layers.0", "layers.1.mlp"]


@pytest.fixture(scope="module")
def model():
    found = models.Decoder(nnx.Rngs(0))
    found.eval()
    return found


@nnx.jit
def activations(model, tokens):
    with capture_activations(model, PATHS) as kept:
        model(tokens)
        return dict(kept)


def by_hand(model, path, tokens, scatter):
    state = moments.init(D, n_classes=2, n_groups=2, scatter=scatter)
    for codes, label, group in zip(TOKENS, LABEL, GROUP, strict=True):
        x = np.asarray(activations(model, codes)[path])
        if tokens == "last":
            rows = x[np.arange(B), COUNT - 1]
        elif tokens == "mean":
            rows = np.stack([x[i, :n].mean(0) for i, n in enumerate(COUNT)])
        else:
            rows = x[MASK]
            label, group = np.repeat(label, COUNT), np.repeat(group, COUNT)
        state = moments.update(state, rows, label, group)
    return state


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    # Not the units in which fourth moments are kept, which are those of tiny cells.
    for name in ("mass", "squares", "mean", "cov"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("tokens", "scatter"), [("last", "group"), ("mean", "pooled"), ("all", "cell")]
)
def test_the_moments_of_two_places(model, tokens, scatter):
    graph = nnx.split(model)[0]
    batches = [(t, y, g, MASK) for t, y, g in zip(TOKENS, LABEL, GROUP, strict=True)]
    options = {"n_classes": 2, "n_groups": 2, "tokens": tokens, "scatter": scatter}
    found = capture_moments(model, PATHS, iter(batches), **options)
    assert list(found) == PATHS
    for path in PATHS:
        same(found[path], by_hand(model, path, tokens, scatter))
    assert nnx.split(model)[0] == graph
    if tokens == "last":
        # In two runs, the second from where the first ended.
        first = capture_moments(model, PATHS, batches[:1], **options)
        both = capture_moments(model, PATHS, batches[1:], states=first, **options)
        for path in PATHS:
            same(both[path], found[path])


def test_one_step_is_compiled_and_padding_may_hold_anything():
    traces = []

    class Model(nnx.Module):
        def __init__(self):
            self.act = nnx.relu

        def __call__(self, x):
            traces.append(None)
            return self.act(x)

    x = np.ones((B, T, D), np.float32)
    x[~MASK] = np.nan
    batches = [(jnp.asarray(x), y, g, MASK) for y, g in zip(LABEL, GROUP, strict=True)]
    for tokens in ("last", "mean", "all"):
        traces.clear()
        found = capture_moments(
            Model(), "act", batches, n_classes=2, n_groups=2, tokens=tokens
        )["act"]
        # Once for each step, and once for the shapes, which are the model's alone.
        assert len(traces) == (2 if tokens == "last" else 1)
        np.testing.assert_allclose(found.mean, 1)
        np.testing.assert_allclose(found.cov, 0, atol=1e-6)


def test_a_stack_gives_a_stack():
    model = models.Scanned(nnx.Rngs(0), 3)
    model.eval()
    x = jnp.asarray(rng.normal(size=(B, D)), jnp.float32)
    found = capture_moments(model, "blocks", [(x, LABEL[0])], n_classes=2)["blocks"]
    with capture_activations(model, "blocks") as kept:
        model(x)
    for place in range(3):
        start = moments.init(D, n_classes=2, scatter="pooled")
        whole = moments.update(start, kept["blocks"][place], LABEL[0])
        same(jax.tree.map(lambda leaf, p=place: leaf[p], found), whole)


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        ([], {}, "batches is empty"),
        ([(TOKENS[0], LABEL[0] + 1)], {}, "label has codes"),
        ([(TOKENS[0], LABEL[0][:2])], {}, "one entry a label"),
        ([(TOKENS[0], LABEL[0][:, None])], {}, "one code a row"),
        ([(TOKENS[0], LABEL[0], None, MASK[:, :1])], {}, "mask has shape"),
        ([(TOKENS[0], LABEL[0])], {"tokens": "first"}, "'last', 'mean', 'all'"),
    ],
)
def test_refusals(model, batches, options, message):
    with pytest.raises(ValueError, match=message):
        capture_moments(model, PATHS, batches, n_classes=2, **options)
