"""Generation: memory, prompts of different lengths, temperatures, steering inside."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.maps import AffineMap
from jaxsteer.models import generate
from jaxsteer.nn import GroupSteer, insert_steering, set_groups
from tests.models._small import CONFIG, logits_of, small_decoder

STEPS = 8
rng = np.random.default_rng(1)
# One batch for all tests: prompts of 2 to 7 tokens.
LENGTHS = np.array([7, 2, 4, 5, 7, 3])
PROMPTS = rng.integers(0, CONFIG.vocab_size, (6, 7)).astype(np.int32)


@pytest.fixture(scope="module")
def model():
    model = small_decoder()
    # Random weights give flat logits; these choose.
    model.head.kernel[...] = 3 * model.head.kernel[...]
    return model


def said(model, **options):
    return np.asarray(generate(model, PROMPTS, steps=STEPS, lengths=LENGTHS, **options))


def test_greedy_tokens_are_the_likeliest_of_the_whole_text(model):
    """With memory and padding, as from each text alone without either."""
    found = said(model)
    texts = np.zeros((6, 7 + STEPS), np.int32)
    for text, prompt, length, tokens in zip(
        texts, PROMPTS, LENGTHS, found, strict=True
    ):
        text[: length + STEPS] = [*prompt[:length], *tokens]
    likeliest = np.argmax(logits_of(model, texts), -1)
    for row, length, tokens in zip(likeliest, LENGTHS, found, strict=True):
        np.testing.assert_array_equal(row[length - 1 : length - 1 + STEPS], tokens)
    assert len(np.unique(found)) > 3


@pytest.mark.slow
def test_temperature(model):
    def draw(temperature, seed):
        return said(model, temperature=temperature, key=jax.random.key(seed))

    warm = draw(1.0, 0)
    np.testing.assert_array_equal(warm, draw(1.0, 0))
    assert (warm != draw(1.0, 1)).any()
    np.testing.assert_array_equal(draw(1e-4, 0), said(model))
    assert (warm != said(model)).any()


@pytest.mark.slow
def test_frequencies_of_drawn_tokens(model):
    n = 4000
    tokens = np.repeat(PROMPTS[:1], n, 0)
    drawn = generate(model, tokens, steps=1, temperature=1.5, key=jax.random.key(0))
    logits = logits_of(model, np.resize(PROMPTS[:1], (6, 7)))[0, -1]
    expected = np.asarray(jax.nn.softmax(logits / 1.5))
    found = np.bincount(np.asarray(drawn)[:, 0], minlength=len(expected)) / n
    # Five deviations of a proportion; and another temperature would be seen.
    spread = 5 * np.sqrt(expected * (1 - expected) / n)
    assert (np.abs(found - expected) < spread).all()
    colder = np.asarray(jax.nn.softmax(logits))
    assert (np.abs(found - colder) > spread).any()


def test_a_stop_token_ends_a_text(model):
    free = said(model)
    stop = int(free[0, 3])
    stopped = said(model, stop=stop)
    for before, after in zip(free, stopped, strict=True):
        places = np.flatnonzero(before == stop)
        end = places[0] if len(places) else STEPS
        np.testing.assert_array_equal(after[:end], before[:end])
        assert (after[end:] == stop).all()
    assert (stopped[0, 3:] == stop).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 2, "temperature": 1.0}, "key"),
        ({"steps": 2, "temperature": -1.0}, "negative"),
        ({"steps": 26}, "32 positions"),
        ({"steps": 2, "lengths": [8] * 6}, "between 1 and 7"),
        ({"steps": 2, "lengths": [0] * 6}, "between 1 and 7"),
    ],
)
def test_refusals(model, options, message):
    with pytest.raises(ValueError, match=message):
        generate(model, PROMPTS, **options)
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        generate(model, PROMPTS[0], steps=2)


def test_groups_are_steered_each_its_own_way(model):
    d = CONFIG.dim
    push = jnp.asarray(10 * rng.normal(size=d), jnp.float32)
    maps = AffineMap(jnp.stack([jnp.eye(d)] * 2), jnp.stack([0 * push, push]))
    group = np.array([0, 1, 0, 1, 0, 0])
    before = said(model)
    with insert_steering(model, "layers.0", GroupSteer(maps)):
        set_groups(model, group)
        after = said(model)
        set_groups(model, 1 - group)
        swapped = said(model)
    np.testing.assert_array_equal(after[group == 0], before[group == 0])
    np.testing.assert_array_equal(swapped[group == 1], before[group == 1])
    assert (after[group == 1] != before[group == 1]).any()
