"""Which layer and which strength, on a real language model of a quarter million weights."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.maps import AffineMap
from jaxsteer.models import pad_tokens
from jaxsteer.nn import (
    AffineSteer,
    GroupSteer,
    capture_activations,
    choose_layer,
    choose_strength,
    insert_steering,
    set_groups,
    set_positions,
    set_strength,
)
from tests.models._small import logits_of
from tests.models._stories import needs_stories, stories, stories_tokenizer

pytestmark = needs_stories

GIRLS = ("Lily", "Sue", "Mia", "Amy", "Anna", "Lucy", "Jane", "Sara")
BOYS = ("Tim", "Tom", "Ben", "Max", "Sam", "Jack", "Bob", "Dan")
MOODS = (
    ("{} had a lot of fun and was very", "{} got a new toy and felt so"),
    ("{} lost the ball and was very", "{} fell down and felt so"),
)
# After "She" or "He" the model knows the gender.
SAID = (
    ("{} had a lot of fun and was happy. {}", "{} got a new toy. {}"),
    ("{} lost the ball and was sad. {}", "{} fell down. {}"),
)
PATHS = ["layers.1", "layers.3"]
# A closed form: little to compile.
PROGRAM = {"reference": 0, "maps": "shared_covariance"}


@cache
def texts(moods=MOODS):
    """Tokens, lengths, mood (0 happy, 1 sad), gender and training rows."""
    encode, rows = stories_tokenizer().encode, []
    for gender, (names, pronoun) in enumerate(((GIRLS, "She"), (BOYS, "He"))):
        for place, name in enumerate(names):
            for mood, endings in enumerate(moods):
                for text in endings:
                    tokens = encode(text.format(name, pronoun))
                    rows.append((tokens, mood, gender, place % 2 == 0))
    tokens, lengths = pad_tokens([row[0] for row in rows])
    mood, gender, train = (np.array([row[i] for row in rows]) for i in (1, 2, 3))
    return jnp.asarray(tokens), np.asarray(lengths), mood, gender, train


@cache
def words():
    encode = stories_tokenizer().encode
    return tuple(encode(f"so {word}")[2] for word in ("happy", "sad"))


def joy(law, tokens, lengths):
    """How much likelier "happy" is than "sad" after the text."""
    last = law[jnp.arange(len(tokens)), lengths - 1]
    return last[:, words()[0]] - last[:, words()[1]]


def last_states(model, paths, moods=SAID):
    tokens, lengths, *_ = texts(moods)
    with capture_activations(model, paths) as kept:
        model(tokens)
        rows = np.arange(len(tokens))
        return {path: np.asarray(kept[path][rows, lengths - 1]) for path in paths}


def toward_joy(path):
    """The difference of the moods' means over the training rows."""
    *_, mood, _, train = texts()
    x = last_states(stories(), [path], MOODS)[path]
    shift = x[train & (mood == 0)].mean(0) - x[train & (mood == 1)].mean(0)
    return AffineSteer(AffineMap(jnp.eye(64), jnp.asarray(shift)))


STRENGTHS = [0.0, 0.5, 1.0, 2.0, 16.0]


def test_strengths_are_measured_on_rows_and_chosen_within_the_limits():
    tokens, lengths, _, _, train = texts()
    model = stories()
    plain = logits_of(model, tokens)
    insert_steering(model, "layers.1", toward_joy("layers.1"), positions="all")
    found = choose_strength(
        model,
        tokens,
        joy,
        strengths=STRENGTHS,
        train=train,
        lengths=lengths,
        batch_size=64,
        max_kl=0.05,
        max_perplexity=1.5,
    )
    assert float(model.layers[1].layer.strength[...]) == 1.0
    # By hand at one strength.
    set_strength(model, 2.0)
    law, before = (
        np.asarray(jax.nn.log_softmax(x), np.float64)
        for x in (logits_of(model, tokens), plain)
    )
    for row, length in enumerate(lengths):
        p, q = law[row, :length], before[row, :length]
        kl = (np.exp(p) * (p - q)).sum(-1).mean()
        np.testing.assert_allclose(found.kl[3, row], kl, rtol=1e-3, atol=1e-6)
        said = p[np.arange(length - 1), tokens[row, 1:length]]
        np.testing.assert_allclose(found.surprise[3, row], -said.mean(), rtol=1e-4)
        gain = [x[-1, words()[0]] - x[-1, words()[1]] for x in (p, q)]
        np.testing.assert_allclose(found.effect[3, row], gain[0] - gain[1], atol=1e-3)
    np.testing.assert_array_equal(found.effect[0], 0)
    np.testing.assert_array_equal(found.kl[0], 0)
    # The choice is that of the training rows alone.
    seen, others = found.summary(train=True), found.summary()
    np.testing.assert_allclose(
        seen["effect"], found.effect[:, train].mean(1), rtol=1e-5
    )
    share = (lengths - 1)[train] / (lengths - 1)[train].sum()
    rise = (found.surprise - found.plain_surprise)[:, train] @ share
    np.testing.assert_allclose(seen["perplexity"], np.exp(rise), rtol=1e-4)
    fits = (found.kl[:, train].mean(1) <= 0.05) & (np.exp(rise) <= 1.5)
    np.testing.assert_array_equal(found.allowed, fits)
    assert 0 < fits.sum() < len(STRENGTHS)
    best = int(np.where(fits, seen["effect"], -np.inf).argmax())
    assert int(found.best) == best and found.strength == STRENGTHS[best] > 0
    # What was chosen does something on rows that it was not chosen on.
    assert float(others["low"][best]) > 0
    width = found.effect[best, ~train].std(ddof=1) / (~train).sum() ** 0.5
    reach = others["high"][best] - others["effect"][best]
    np.testing.assert_allclose(reach, 1.96 * width, rtol=1e-3)
    none = choose_strength(
        model,
        tokens,
        lambda *args: -joy(*args),
        strengths=[1.0],
        train=train,
        lengths=lengths,
        batch_size=24,
        max_kl=9.0,
        max_perplexity=9.0,
    )
    assert none.strength == 0.0 and int(none.best) == -1


@pytest.fixture(scope="module")
def layers():
    tokens, lengths, mood, gender, train = texts(SAID)
    return choose_layer(
        stories(),
        PATHS,
        tokens,
        mood,
        gender,
        train=train,
        rule="recovered",
        later="norm",
        effect=joy,
        strengths=[0.5, 1.0],
        max_kl=9.0,
        max_perplexity=9.0,
        lengths=lengths,
        n_components=3,
        n_boot=20,
        batch_size=64,
        **PROGRAM,
        key=jax.random.key(0),
    )


def view_of(x):
    """Coordinates in three principal directions of the training rows."""
    *_, train = texts(SAID)
    return js.moments.principal_projection(
        js.moments.accumulate(
            [(x[train], np.zeros(train.sum(), int))], n_classes=1, scatter="pooled"
        ),
        3,
    )


def gap_of(y, rows):
    _, _, mood, gender, _ = texts(SAID)
    return js.ideality_gap(
        js.fit_population(y[rows], mood[rows], gender[rows]), **PROGRAM
    )


def test_gaps_of_layers_with_intervals(layers):
    *_, train = texts(SAID)
    states = last_states(stories(), [*PATHS, "norm"])
    for place, path in enumerate(PATHS):
        y = view_of(states[path])(states[path])
        for rows, value in ((train, layers.gap), (~train, layers.gap_others)):
            np.testing.assert_allclose(value[place], gap_of(y, rows), rtol=1e-2)
    y = view_of(states["norm"])(states["norm"])
    for rows, value in zip((train, ~train), layers.unsteered, strict=True):
        np.testing.assert_allclose(value, gap_of(y, rows), rtol=1e-2)
    # The gender is plain to see after the second block, and not after the fourth.
    assert float(layers.high[0]) > 10 * float(layers.high[1])
    assert np.argmax(layers.gap) == 0 and (layers.low >= 0).all()
    assert (layers.low < layers.gap_others).all()


def test_what_a_later_layer_recovers(layers):
    _, lengths, mood, gender, train = texts(SAID)
    assert layers.path == PATHS[int(np.argmin(layers.left))]
    # By hand at one layer: the same maps, the same place behind them.
    states = last_states(stories(), [*PATHS, "norm"])
    x = states["layers.1"]
    view = view_of(x)
    pop = js.fit_population(view(x[train]), mood[train], gender[train])
    maps = view.lift(js.nearest_ideal(pop, **PROGRAM).group_maps)
    model = stories()
    insert_steering(model, "layers.1", GroupSteer(maps))
    set_groups(model, gender)
    set_positions(model, "last", lengths=lengths)
    y = view_of(states["norm"])(last_states(model, ["norm"])["norm"])
    for rows, value in ((train, layers.left), (~train, layers.left_others)):
        np.testing.assert_allclose(value[0], gap_of(y, rows), rtol=5e-2)


def test_each_layer_has_its_strengths(layers):
    assert len(layers.strengths) == 2
    effects = [one.summary(train=True)["effect"] for one in layers.strengths]
    assert all(effect.shape == (2,) for effect in effects)
    assert float(effects[0][1]) != float(effects[1][1])
    assert all(bool(one.allowed.any()) for one in layers.strengths)


def test_figures_of_choices(layers):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    figure = js.plots.layer_choice(layers)
    titles = [ax.get_title() for ax in figure.axes]
    assert len(titles) == 3 and layers.path in figure.axes[0].get_title()
    one = js.plots.strength_choice(layers.strengths[0])
    assert len(one.axes) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": np.ones(64, bool)}, "same for all rows"),
        ({"train": np.arange(64)}, "expected booleans"),
        ({"rule": "largest"}, "'gap', 'recovered', 'effect'"),
        ({"rule": "recovered"}, "needs later="),
        ({"rule": "effect"}, "needs effect="),
        ({"train": np.arange(64) < 4}, "training rows"),
    ],
)
def test_refusals(change, message):
    tokens, _, mood, gender, train = texts()
    options = {"train": train, "key": jax.random.key(0), **change}
    with pytest.raises(ValueError, match=message):
        choose_layer(stories(), PATHS, tokens, mood, gender, **options)


def test_refusals_of_strengths():
    tokens, lengths, _, _, train = texts()
    model = stories()
    for change, message in (
        ({"strengths": 1.0}, "expected \\[S\\]"),
        ({"lengths": lengths[:3]}, "lengths has shape"),
        ({"batch_size": 0}, "at least 1"),
        ({"inputs": tokens[0]}, "expected tokens"),
    ):
        options = {"inputs": tokens, "strengths": [1.0], "train": train, **change}
        with pytest.raises(ValueError, match=message):
            choose_strength(model, effect=joy, **options)
