"""Steer and capture in models of other hands: their shapes, transforms and types."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxsteer.maps import AffineMap, DiagonalMap, LowRankMap
from jaxsteer.nn import (
    AffineSteer,
    GroupSteer,
    SoftGroupSteer,
    SteeringParam,
    capture_activations,
    insert_steering,
    set_groups,
    set_positions,
)
from tests.nn import block_models as models

D = models.D
TOKENS = jnp.array([[1, 2, 3], [4, 5, 6]])


def shift(by=1.0):
    return AffineSteer(DiagonalMap(jnp.ones(D), jnp.full(D, by)))


def states(model, path, at="output", **kwargs):
    with capture_activations(model, path, at=at) as kept:
        model(TOKENS, **kwargs)
    return kept[path]


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize(
    ("path", "at"),
    [("layers.0", "output"), ("layers.0.mlp", "output"), ("layers.0", "input")],
)
def test_blocks_that_return_the_cache_first(path, at, remat):
    model = models.Decoder(nnx.Rngs(0), remat=remat)
    model.eval()
    before = states(model, path, at)
    for cache in (None, model.empty_cache(2, 3)):
        plain, _ = model(TOKENS, cache=cache)
        with insert_steering(model, path, shift(), at=at):
            logits, memory = model(TOKENS, cache=cache)
            seen = path + ".base" if at == "input" else path
            moved = states(model, seen, at, cache=cache)
        np.testing.assert_allclose(moved, before + 1, atol=1e-5)
        assert float(jnp.abs(logits - plain).max()) > 0.01
        assert (memory is None) == (cache is None)
    with insert_steering(model, path, AffineSteer(AffineMap.identity(D)), at=at):
        same, memory = model(TOKENS, cache=model.empty_cache(2, 3))
    plain, kept = model(TOKENS, cache=model.empty_cache(2, 3))
    np.testing.assert_array_equal(same, plain)
    jax.tree.map(np.testing.assert_array_equal, memory, kept)


def test_dropout_and_training_inside_a_jitted_step():
    model = models.Decoder(nnx.Rngs(0), remat=True)
    layer = AffineSteer(AffineMap.identity(D), trainable=True)
    insert_steering(model, "layers.1", layer, positions="last")
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=SteeringParam)
    weights = np.asarray(model.layers[0].mlp.kernel[...])

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            with capture_activations(model, "layers.1") as kept:
                logits, _ = model(TOKENS)
            return jnp.mean(logits**2), kept["layers.1"]

        wrt = nnx.DiffState(0, SteeringParam)
        (value, kept), slope = nnx.value_and_grad(loss, argnums=wrt, has_aux=True)(
            model
        )
        optimizer.update(model, slope)
        return value, kept

    (first, kept), (second, again) = step(model, optimizer), step(model, optimizer)
    assert kept.shape == (2, 3, D)
    assert first != second
    # Dropout drew anew: what no layer has touched differs too.
    assert not np.allclose(kept[:, 0], again[:, 0])
    np.testing.assert_array_equal(model.layers[0].mlp.kernel[...], weights)
    assert float(jnp.abs(layer.bias[...]).max()) > 0
    model.eval()
    np.testing.assert_array_equal(model(TOKENS)[0], model(TOKENS)[0])


def test_all_gradients_of_a_steered_model():
    model = models.Decoder(nnx.Rngs(0))
    model.eval()
    plain = nnx.grad(lambda model: jnp.sum(model(TOKENS)[0] ** 2))(model)
    insert_steering(model, "layers.0", AffineSteer(AffineMap.identity(D)))
    set_positions(model, "prompt")
    found = nnx.grad(lambda model: jnp.sum(model(TOKENS)[0] ** 2))(model)
    found["layers"][0] = found["layers"][0]["base"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        found,
        plain,
    )


def test_split_and_merged_models_keep_what_was_said():
    model = models.Decoder(nnx.Rngs(0))
    model.eval()
    insert_steering(model, "layers.0", shift(), which=1, positions="last", lengths=2)
    expected = model(TOKENS)[0]
    graph, state = nnx.split(model)
    np.testing.assert_array_equal(nnx.merge(graph, state)(TOKENS)[0], expected)
    found = jax.jit(lambda state: nnx.merge(graph, state)(TOKENS)[0])(state)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["affine", "low_rank", "diagonal", "group", "soft"])
@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.bfloat16])
def test_bfloat16_under_strict_promotion(kind, param_dtype):
    maps = AffineMap(jnp.tile(jnp.eye(D), (2, 1, 1)), jnp.ones((2, D)))
    options = {"param_dtype": param_dtype, "strength": 0.5}
    layer = {
        "affine": lambda: AffineSteer(AffineMap(jnp.eye(D), jnp.ones(D)), **options),
        "low_rank": lambda: AffineSteer(
            LowRankMap(jnp.zeros((D, 1)), jnp.zeros((D, 1)), jnp.ones(D)), **options
        ),
        "diagonal": lambda: AffineSteer(
            DiagonalMap(jnp.ones(D), jnp.ones(D)), **options
        ),
        "group": lambda: GroupSteer(maps, **options),
        "soft": lambda: SoftGroupSteer(maps, **options),
    }[kind]()
    model = models.Holder(models.Returns(lambda w, h: (w, h)))
    x = jnp.zeros((2, 3, D), jnp.bfloat16)
    with jax.numpy_dtype_promotion("strict"):
        insert_steering(model, "block", layer, positions="last")
        if kind == "group":
            set_groups(model, jnp.array([0, 1]))
        out = model(x)[1]
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(out[:, -1], np.float32), 0.5)
    np.testing.assert_array_equal(np.asarray(out[:, :-1], np.float32), 0)


class InTuple(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.data(tuple(nnx.Linear(D, D, rngs=rngs) for _ in range(2)))
        self.act = nnx.relu

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.act(x)


@pytest.mark.parametrize("path", ["layers.0", "layers.1", "act"])
def test_modules_in_a_tuple_and_functions(path):
    model, x = InTuple(nnx.Rngs(0)), jnp.ones((2, D))
    before, graph = model(x), nnx.split(model)[0]
    with insert_steering(model, path, shift()):
        assert float(jnp.abs(model(x) - before).max()) > 0.01
        with capture_activations(model, path) as kept:
            nnx.jit(lambda model, x: model(x))(model, x)
        assert kept[path].shape == (2, D)
    np.testing.assert_array_equal(model(x), before)
    assert nnx.split(model)[0] == graph
    assert isinstance(model.layers, tuple)


def test_paths_to_parameters_and_into_tuples_say_what_to_name():
    model = InTuple(nnx.Rngs(0))
    for put in (insert_steering, lambda m, p, _: capture_activations(m, p).__enter__()):
        with pytest.raises(ValueError, match=r"a parameter \(Param\).*'layers\.0'"):
            put(model, "layers.0.kernel", shift())
        with pytest.raises(ValueError, match=r"layers has no '2'; it has 0\.\.1"):
            put(model, "layers.2", shift())


def test_attributes_of_the_submodule_are_not_hidden():
    class Named(nnx.Module):
        def __init__(self):
            self.which, self.lengths, self.options = "a", 3, "b"
            self.layers = nnx.List([nnx.Linear(D, D, rngs=nnx.Rngs(0))])

        def __call__(self, x):
            return self.layers[0](x)

    model = models.Holder(Named())
    insert_steering(model, "block", shift(), positions="last", lengths=2)
    assert (model.block.which, model.block.lengths, model.block.options) == (
        "a",
        3,
        "b",
    )
    with insert_steering(model, "block.layers.0", shift()):
        assert model(jnp.ones((2, D))).shape == (2, D)
