"""Layers go into models by path, and come out again without a trace."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer.maps import AffineMap, DiagonalMap
from jaxsteer.nn import (
    AffineSteer,
    GroupSteer,
    Steered,
    capture_activations,
    insert_steering,
    remove_steering,
    set_groups,
    set_strength,
)

D = 3


class Pair(NamedTuple):
    x: jax.Array
    memory: str


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(D, D, rngs=rngs)
        self.width = D

    def __call__(self, x, scale=1.0):
        return self.linear(x) * scale, "memory"


class Named(nnx.Module):
    def __call__(self, x):
        return Pair(2 * x, "kept")


class Model(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(7, D, rngs=rngs)
        self.blocks = nnx.List([Block(rngs), Block(rngs)])
        self.named = nnx.Dict({"last": Named()})
        self.size = 4

    def __call__(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x, memory = block(x, scale=2.0)
            assert memory == "memory"
            assert block.width == D
        out = self.named["last"](x)
        assert out.memory == "kept"
        return self.embed.attend(out.x)


@pytest.fixture
def model():
    return Model(nnx.Rngs(0))


TOKENS = jnp.array([[1, 2], [3, 4]])


def shift(by):
    return AffineSteer(DiagonalMap(jnp.ones(D), jnp.full(D, by)))


def paths_of(model):
    """Places of the parameters; wrappers hold other variables too."""
    return [path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))]


@pytest.mark.parametrize(
    "path",
    ["blocks.1", "blocks/1", ("blocks", 1), "blocks.0.linear", "embed", "named.last"],
)
def test_in_and_out_again(model, path):
    before, places = model(TOKENS), paths_of(model)
    graph = nnx.split(model)[0]
    handle = insert_steering(model, path, AffineSteer(AffineMap.identity(D)))
    np.testing.assert_array_equal(model(TOKENS), before)
    assert paths_of(model) != places or path == "named.last"
    handle.layer.bias[...] = jnp.ones(D)
    assert float(jnp.abs(model(TOKENS) - before).max()) > 0.01
    handle.remove()
    np.testing.assert_array_equal(model(TOKENS), before)
    assert paths_of(model) == places
    assert nnx.split(model)[0] == graph
    with pytest.raises(ValueError, match="not there any more"):
        handle.remove()


def test_output_and_input(model):
    with capture_activations(model, "blocks.0.linear") as kept:
        model(TOKENS)
    plain = kept["blocks.0.linear"]
    linear = model.blocks[0].linear
    with insert_steering(model, "blocks.0.linear", shift(1.0)):
        with capture_activations(model, "blocks.0.linear") as kept:
            model(TOKENS)
        np.testing.assert_allclose(kept["blocks.0.linear"], plain + 1, atol=1e-6)
    with insert_steering(model, "blocks.0.linear", shift(1.0), at="input"):
        with capture_activations(model, "blocks.0.linear") as kept:
            model(TOKENS)
        moved = plain + jnp.sum(linear.kernel[...], 0)
        np.testing.assert_allclose(kept["blocks.0.linear"], moved, atol=1e-6)


def test_layers_stack_and_leave_in_any_order(model):
    with capture_activations(model, "blocks.1") as kept:
        model(TOKENS)
    plain = kept["blocks.1"]

    def now():
        with capture_activations(model, "blocks.1") as kept:
            model(TOKENS)
        return kept["blocks.1"]

    double = AffineSteer(DiagonalMap(jnp.full(D, 2.0), jnp.zeros(D)))
    first = insert_steering(model, "blocks.1", shift(1.0))
    second = insert_steering(model, "blocks.1", double)
    np.testing.assert_allclose(now(), 2 * (plain + 1), atol=1e-6)
    inner = insert_steering(model, "blocks.1.linear", shift(0.0))
    first.remove()
    np.testing.assert_allclose(now(), 2 * plain, atol=1e-6)
    second.remove()
    inner.remove()
    np.testing.assert_array_equal(now(), plain)
    assert isinstance(model.blocks[1], Block)


def test_removal_after_an_error_inside_the_block(model):
    steered = insert_steering(model, "blocks.0", shift(1.0))
    with pytest.raises(RuntimeError, match="stop"), steered:
        raise RuntimeError("stop")
    assert isinstance(model.blocks[0], Block)


def test_copies_lose_their_layer_by_path(model):
    before = model(TOKENS)
    layer = shift(1.0)
    insert_steering(model, "blocks.0", layer)
    copy = nnx.merge(*nnx.split(model))
    assert isinstance(copy.blocks[0], Steered)
    removed = remove_steering(copy, "blocks.0")
    np.testing.assert_array_equal(removed.bias[...], layer.bias[...])
    np.testing.assert_array_equal(copy(TOKENS), before)
    with pytest.raises(ValueError, match="nothing was removed"):
        remove_steering(copy, "blocks.0")


def test_inside_a_jitted_function(model):
    before = model(TOKENS)

    @nnx.jit
    def run(model, layer):
        with insert_steering(model, "blocks.0", layer):
            steered = model(TOKENS)
        return steered, model(TOKENS)

    steered, after = run(model, shift(1.0))
    assert float(jnp.abs(steered - before).max()) > 0.01
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert isinstance(model.blocks[0], Block)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "path is empty"),
        ("blocks.7", r"blocks has no '7'; it has 0\.\.1"),
        ("blocks.0.lin", "blocks.0 has no 'lin'; it has linear"),
        ("nothing", "the model has no 'nothing'; it has embed, blocks, named"),
        ("size", "is not called"),
    ],
)
def test_wrong_paths_say_what_is_there(model, path, message):
    with pytest.raises(ValueError, match=message):
        insert_steering(model, path, shift(1.0))
    with pytest.raises(ValueError, match=message), capture_activations(model, [path]):
        pass


def test_other_refusals(model):
    with pytest.raises(ValueError, match="AffineSteer"):
        insert_steering(model, "embed", AffineMap.identity(D).weight)
    with pytest.raises(ValueError, match="'input', 'output'"):
        insert_steering(model, "embed", shift(1.0), at="middle")
    kept = capture_activations(model, "embed", at="middle")
    with pytest.raises(ValueError, match="'input', 'output'"), kept:
        pass


def test_any_function_of_one_array_will_do(model):
    insert_steering(model, "embed", jnp.zeros_like)
    with capture_activations(model, ["embed", "embed.base"]) as kept:
        model(TOKENS)
    assert not kept["embed"].any()
    assert kept["embed.base"].any()


def test_captures(model):
    paths = ["embed", ("blocks", 0), "blocks/0/linear"]
    with capture_activations(model, paths) as kept:
        with pytest.raises(RuntimeError, match="not called inside"):
            kept["embed"]
        model(TOKENS)
    assert list(kept) == ["embed", "blocks.0", "blocks.0.linear"]
    assert len(kept) == 3
    assert isinstance(model.blocks[0], Block)
    assert isinstance(model.blocks[0].linear, nnx.Linear)
    np.testing.assert_allclose(kept["embed"], model.embed(TOKENS))
    np.testing.assert_allclose(kept["blocks.0"], 2 * kept["blocks.0.linear"])
    with capture_activations(model, "blocks.0", at="input") as taken:
        model(TOKENS)
    np.testing.assert_array_equal(taken["blocks.0"], kept["embed"])


def test_captures_under_jit(model):
    @nnx.jit
    def run(model):
        with capture_activations(model, "blocks.1") as kept:
            model(TOKENS)
        return kept["blocks.1"]

    inside = run(model)
    with capture_activations(model, "blocks.1") as kept:
        nnx.jit(lambda model: model(TOKENS))(model)
        outside = kept["blocks.1"]
    np.testing.assert_allclose(inside, outside, atol=1e-6)
    with capture_activations(model, "blocks.1") as kept:
        model(TOKENS)
    np.testing.assert_allclose(inside, kept["blocks.1"], atol=1e-6)


def test_what_is_no_layer_or_path_is_named():
    model, maps = Block(nnx.Rngs(0)), AffineMap(jnp.eye(D), jnp.zeros(D))
    for layer, what in [
        (maps, "layer is a AffineMap"),
        (None, "layer is a NoneType"),
        (AffineSteer, "layer is the class AffineSteer"),
    ]:
        with pytest.raises(ValueError, match=f"{what}, expected a steering layer"):
            insert_steering(model, "linear", layer)
    for path in (None, 3):
        with pytest.raises(ValueError, match=f"path={path} must be a text"):
            insert_steering(model, path, AffineSteer(maps))


def test_strengths_that_are_no_numbers_are_refused():
    model, maps = Block(nnx.Rngs(0)), AffineMap(jnp.eye(D), jnp.zeros(D))
    with pytest.raises(ValueError, match="strength has 1 values that are not finite"):
        AffineSteer(maps, strength=np.nan)
    insert_steering(model, "linear", AffineSteer(maps))
    with pytest.raises(ValueError, match="strength has 1 values that are not finite"):
        set_strength(model, np.array([1.0, np.inf]))


def test_groups_are_set_in_all_layers_or_in_none():
    maps = AffineMap(jnp.tile(jnp.eye(D), (3, 1, 1)), jnp.zeros((3, D)))
    few = AffineMap(maps.weight[:2], maps.bias[:2])
    model = nnx.Sequential(
        nnx.Linear(D, D, rngs=nnx.Rngs(0)), nnx.Linear(D, D, rngs=nnx.Rngs(0))
    )
    insert_steering(model, "layers.0", GroupSteer(maps))
    insert_steering(model, "layers.1", GroupSteer(few))
    set_groups(model, [0, 1])
    before = model(jnp.ones((2, D)))
    with pytest.raises(ValueError, match=r"expected 0\.\.1"):
        set_groups(model, [2, 0])
    np.testing.assert_array_equal(model(jnp.ones((2, D))), before)
    for names in (["f", "m"], []):
        with pytest.raises(ValueError, match="group must hold integer codes"):
            set_groups(model, names)
