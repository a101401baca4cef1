"""Where and how much at run time: right in prefill and in decoding, compiled once."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer.maps import AffineMap, DiagonalMap
from jaxsteer.models import Decoder, DecoderConfig, generate
from jaxsteer.nn import (
    AffineSteer,
    GroupSteer,
    insert_steering,
    set_groups,
    set_positions,
    set_strength,
    steer_model,
)
from tests.nn import block_models as models

D, B, T, SIZE = models.D, 2, 4, 8
TOKENS = jnp.array([[1, 2, 3, 4], [5, 6, 7, 8]])
STEP = jnp.array([[9], [10]])
LENGTHS = jnp.array([2, 4])
X = jnp.zeros((B, T, D))


def one():
    return AffineSteer(DiagonalMap(jnp.ones(D), jnp.ones(D)))


class Positions(nnx.Module):
    """A block that is told where its tokens stand, and returns its input."""

    def __call__(self, x, segment_pos=None, where=None):
        return x


def amounts(model, *args, **kwargs):
    """How much each token was moved, ``[B, T]``."""
    return np.asarray(model(*args, **kwargs)[..., 0]).tolist()


def test_without_positions_one_token_is_a_step():
    model = models.Holder(Positions())
    step = jnp.zeros((B, 1, D))
    insert_steering(model, "block", one(), positions="last")
    assert amounts(model, X) == [[0, 0, 0, 1]] * 2
    assert amounts(model, step) == [[1]] * 2
    set_positions(model, "last", lengths=LENGTHS)
    assert amounts(model, X) == [[0, 1, 1, 1], [0, 0, 0, 1]]
    assert amounts(model, step) == [[1]] * 2
    set_positions(model, "prompt", lengths=LENGTHS)
    assert amounts(model, X) == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert amounts(model, step) == [[0]] * 2
    set_positions(model, "prompt")
    assert amounts(model, X) == [[1] * 4] * 2
    assert amounts(model, step) == [[0]] * 2
    set_positions(model, [True, False, True, False])
    assert amounts(model, X) == [[1, 0, 1, 0]] * 2
    assert amounts(model, step) == [[0]] * 2
    with pytest.raises(
        ValueError, match=r"positions has 4 tokens and the acti.* have 3"
    ):
        model(X[:, :3])
    set_positions(model, "all")
    assert amounts(model, X) == [[1] * 4] * 2
    assert amounts(model, step) == [[1]] * 2
    # Without an axis of examples too.
    set_positions(model, "last")
    assert amounts(model, X[0]) == [0, 0, 0, 1]


def test_with_positions_prompts_may_come_in_pieces():
    model = models.Holder(Positions())
    insert_steering(model, "block", one(), positions="last", lengths=LENGTHS)
    first, second = jnp.arange(2), jnp.arange(2, 4)
    assert amounts(model, X[:, :2], first) == [[0, 1], [0, 0]]
    assert amounts(model, X[:, :2], segment_pos=second) == [[1, 1], [0, 1]]
    # A prompt of one token is no step of decoding.
    assert amounts(model, X[:, :1], jnp.zeros((B, 1), int)) == [[0], [0]]
    each = jnp.array([[1], [3]])
    assert amounts(model, X[:, :1], each) == [[1], [1]]
    set_positions(model, "prompt", lengths=3)
    assert amounts(model, X[:, :2], second[None]) == [[1, 0], [1, 0]]
    set_positions(model, np.array([[True, False, False, True], [False] * 4]))
    assert amounts(model, X[:, :2], second) == [[0, 1], [0, 0]]
    assert amounts(model, X[:, :1], jnp.full((B, 1), 4)) == [[0], [0]]


def test_positions_under_another_name():
    model = models.Holder(Positions())
    options = {"positions": "prompt", "lengths": 1}
    with insert_steering(model, "block", one(), position_ids="where", **options):
        assert amounts(model, X, where=jnp.arange(4)) == [[1, 0, 0, 0]] * 2
        with pytest.raises(ValueError, match="one for each token"):
            model(X, where=jnp.arange(3))
    with insert_steering(
        model, "block", one(), position_ids=lambda x, at: at, **options
    ):
        with pytest.raises(TypeError):
            model(X, segment_pos=jnp.arange(4))
        assert amounts(model, X, jnp.arange(4)) == [[1, 0, 0, 0]] * 2


def test_strength_by_example_and_by_token():
    model = models.Holder(Positions())
    insert_steering(model, "block", one())
    set_strength(model, 0.5)
    assert amounts(model, X) == [[0.5] * 4] * 2
    set_strength(model, jnp.array([0.0, 2.0]))
    assert amounts(model, X) == [[0] * 4, [2] * 4]
    assert amounts(model, X[:, :1]) == [[0], [2]]
    by_token = jnp.array([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]])
    set_strength(model, by_token)
    assert amounts(model, X) == by_token.tolist()
    # A step of decoding is after the last entry; with positions, an entry is found.
    assert amounts(model, X[:, :1]) == [[0], [0]]
    assert amounts(model, X[:, :1], jnp.array([[2], [0]])) == [[2], [4]]
    assert amounts(model, X[:, :1], jnp.array([[4], [-1]])) == [[0], [0]]
    set_positions(model, "last")
    assert amounts(model, X) == [[0, 0, 0, 3], [0, 0, 0, 7]]


def test_what_is_left_alone_is_never_mixed_in():
    model = models.Holder(Positions())
    bad = AffineSteer(DiagonalMap(jnp.full(D, jnp.inf), jnp.zeros(D)))
    with insert_steering(model, "block", bad, positions="last"):
        out = model(X)
    np.testing.assert_array_equal(out[:, :-1], X[:, :-1])
    assert not np.isfinite(out[:, -1]).any()


@pytest.mark.parametrize("kind", ["affine", "group"])
def test_decoding_compiles_once_and_the_cache_of_the_prompt_stays(kind):
    model = models.Decoder(nnx.Rngs(0))
    model.eval()
    traces = []

    @nnx.jit
    def run(model, tokens, positions, cache):
        traces.append(tokens.shape)
        return model(tokens, positions, cache)

    prompt = jnp.broadcast_to(jnp.arange(T), (B, T))
    empty = model.empty_cache(B, SIZE)
    plain_logits, plain = run(model, TOKENS, prompt, empty)
    rng = np.random.default_rng(0)

    def layer():
        weight = jnp.eye(D) + jnp.asarray(0.3 * rng.normal(size=(2, D, D)), jnp.float32)
        maps = AffineMap(weight, jnp.ones((2, D)))
        if kind == "group":
            return GroupSteer(maps)
        return AffineSteer(AffineMap(maps.weight[0], maps.bias[0]))

    layers = {"layers.0": layer(), "layers.1.mlp": layer()}
    traces.clear()
    with steer_model(
        model, layers, positions="last", lengths=jnp.full(B, T)
    ) as steered:
        assert list(steered) == list(layers) and len(steered) == 2
        if kind == "group":
            set_groups(model, jnp.array([0, 1]))
        _, cache = run(model, TOKENS, prompt, empty)
        for memory, before in zip(cache, plain, strict=True):
            for name in ("k", "v"):
                # Of all that was read, the last token alone was steered.
                np.testing.assert_array_equal(
                    memory[name][:, : T - 1], before[name][:, : T - 1]
                )
        assert float(jnp.abs(cache[1]["k"] - plain[1]["k"])[:, T - 1].max()) > 0.01
        found = []
        for place in range(T, SIZE):
            logits, cache = run(model, STEP, jnp.full((B, 1), place), cache)
            found.append(logits)
        assert traces == [(B, T), (B, 1)]
        # What is said anew compiles nothing.
        set_positions(model, "prompt", lengths=LENGTHS)
        if kind == "group":
            set_groups(model, jnp.array([1, 0]))
        set_strength(model, 0.5)
        run(model, TOKENS, prompt, empty)
        unsteered, _ = run(model, STEP, jnp.full((B, 1), T), plain)
        assert traces == [(B, T), (B, 1)]
        # All of it in one call, as in training.
        set_positions(model, "last", lengths=jnp.full(B, T))
        set_strength(model, 1.0)
        set_groups(model, jnp.array([0, 1])) if kind == "group" else None
        whole = jnp.concatenate([TOKENS] + [STEP] * (SIZE - T), axis=1)
        logits, _ = model(whole)
        np.testing.assert_allclose(
            logits[:, T:], jnp.concatenate(found, 1), rtol=1e-4, atol=1e-4
        )
    expected, _ = run(model, STEP, jnp.full((B, 1), T), plain)
    np.testing.assert_allclose(unsteered, expected, atol=1e-6)
    np.testing.assert_array_equal(run(model, TOKENS, prompt, empty)[0], plain_logits)


def test_several_layers_or_none():
    model = models.Decoder(nnx.Rngs(0))
    graph = nnx.split(model)[0]
    with pytest.raises(ValueError, match="has no '7'"):
        steer_model(model, {"layers.0": one(), "layers.7": one()})
    assert nnx.split(model)[0] == graph


@pytest.mark.parametrize(
    ("positions", "lengths", "message"),
    [
        ("first", None, "'all', 'last', 'prompt'"),
        ([1, 0, 1, 0], None, "booleans"),
        (True, None, "booleans"),
        ("last", jnp.ones(2), "expected integers"),
    ],
)
def test_refusals(positions, lengths, message):
    model = models.Holder(Positions())
    with pytest.raises(ValueError, match=message):
        insert_steering(model, "block", one(), positions=positions, lengths=lengths)
    insert_steering(model, "block", one())
    with pytest.raises(ValueError, match=message):
        set_positions(model, positions, lengths=lengths)


def test_refusals_of_shapes_and_of_models_without_layers():
    model = models.Holder(Positions())
    for change in (
        lambda: set_positions(model, "all"),
        lambda: set_strength(model, 1.0),
    ):
        with pytest.raises(ValueError, match="no inserted layer; add one"):
            change()
    insert_steering(model, "block", jnp.sin)
    with pytest.raises(ValueError, match="have no strength"):
        set_strength(model, 1.0)
    with pytest.raises(ValueError, match=r"no inserted layer at 'block\.base'"):
        set_positions(model, "all", path="block.base")
    assert set_positions(model, "last", lengths=jnp.ones(3, int), path="block") == 1
    with pytest.raises(ValueError, match=r"lengths has shape \(3,\)"):
        model(X)
    set_positions(model, jnp.ones((3, T), bool))
    with pytest.raises(ValueError, match="one row an example"):
        model(X)
    with pytest.raises(ValueError, match="one vector"):
        model(X[0, 0])


def test_padded_prompts_generate_what_each_would_alone():
    config = DecoderConfig(
        vocab_size=17,
        dim=D,
        hidden_dim=12,
        n_layers=2,
        n_heads=2,
        n_kv_heads=1,
        max_length=16,
    )
    model = Decoder(config, rngs=nnx.Rngs(1))
    plain = generate(model, TOKENS, steps=4, lengths=LENGTHS)
    rng = np.random.default_rng(1)
    map_ = AffineMap(jnp.asarray(rng.normal(size=(D, D)), jnp.float32), jnp.ones(D))
    insert_steering(model, "layers.0", AffineSteer(map_), positions="last")
    set_positions(model, "last", lengths=LENGTHS)
    both = generate(model, TOKENS, steps=4, lengths=LENGTHS)
    assert (both != plain).any()
    for row, length in enumerate(LENGTHS.tolist()):
        set_positions(model, "last", lengths=length)
        prompt = TOKENS[row : row + 1, :length]
        np.testing.assert_array_equal(generate(model, prompt, steps=4)[0], both[row])
