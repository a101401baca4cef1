"""Stacks of modules, which nnx.scan runs, take a stack of layers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer.maps import AffineMap
from jaxsteer.nn import (
    AffineSteer,
    GroupSteer,
    SoftGroupSteer,
    SteeringParam,
    capture_activations,
    insert_steering,
    set_groups,
    set_positions,
    set_strength,
)
from tests.nn import block_models as models

D, L, G, B, T = models.D, 3, 2, 3, 4
rng = np.random.default_rng(0)


def draw(*shape, scale=1.0):
    return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)


def maps_of(*batch):
    return AffineMap(jnp.eye(D) + draw(*batch, D, D, scale=0.3), draw(*batch, D))


def pick(maps, place):
    return jax.tree.map(lambda leaf: leaf[place], maps)


X = draw(B, T, D)
MAPS = maps_of(L)
GROUP_MAPS = maps_of(L, G)
GROUP = jnp.array([0, 1, 1])


@pytest.fixture
def model():
    found = models.Scanned(nnx.Rngs(0), L)
    found.eval()
    return found


@nnx.jit
def run(model, x):
    return model(x)


def by_hand(model, change):
    """Run the blocks one after another, with a change after each."""
    kernel, bias = model.blocks.lin.kernel[...], model.blocks.lin.bias[...]
    x, states = X, []
    for place in range(L):
        x = change(place, x + jnp.tanh(x @ kernel[place] + bias[place]))
        states.append(x)
    return x, jnp.stack(states)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_one_map_for_each_and_a_subset_and_strengths(model):
    plain = run(model, X)
    every = by_hand(
        model, lambda i, x: pick(MAPS, i)(x.reshape(-1, D)).reshape(x.shape)
    )
    layer = AffineSteer.stack(MAPS)
    assert layer.stack_shape == (L,)
    with insert_steering(model, "blocks", layer):
        close(run(model, X), every[0])
        with capture_activations(model, "blocks") as kept:
            run(model, X)
        assert kept["blocks"].shape == (L, B, T, D)
        close(kept["blocks"], every[1])
        # Half of the way in the first two examples only, in every layer.
        set_strength(model, jnp.array([0.5, 0.5, 0.0]))
        half = by_hand(
            model,
            lambda i, x: (x + pick(MAPS, i)(x.reshape(-1, D)).reshape(x.shape)) / 2,
        )
        close(run(model, X)[:2], half[0][:2])
        np.testing.assert_array_equal(run(model, X)[2], plain[2])
        set_strength(model, 1.0)
        layer.set_maps(pick(MAPS, jnp.array([2, 1, 0])))
        turned = by_hand(
            model, lambda i, x: pick(MAPS, 2 - i)(x.reshape(-1, D)).reshape(x.shape)
        )
        close(run(model, X), turned[0])
    some = AffineSteer.stack(MAPS)
    with insert_steering(model, "blocks", some, layers=[False, True, False]):
        only = by_hand(
            model,
            lambda i, x: (
                pick(MAPS, 1)(x.reshape(-1, D)).reshape(x.shape) if i == 1 else x
            ),
        )
        close(run(model, X), only[0])
        set_positions(model, "last")
        last = by_hand(
            model,
            lambda i, x: x.at[:, -1].set(pick(MAPS, 1)(x[:, -1])) if i == 1 else x,
        )
        close(run(model, X), last[0])
    np.testing.assert_array_equal(run(model, X), plain)


def test_a_submodule_of_a_stack(model):
    zero = AffineMap(jnp.zeros((L, D, D)), jnp.zeros((L, D)))
    with insert_steering(model, "blocks.lin", AffineSteer.stack(zero)):
        np.testing.assert_array_equal(run(model, X), X)


def test_groups_with_as_many_examples_as_layers(model):
    assert B == L
    insert_steering(model, "blocks", GroupSteer.stack(GROUP_MAPS))
    set_groups(model, GROUP)
    expected = by_hand(
        model,
        lambda i, x: jnp.stack(
            [
                pick(GROUP_MAPS, (i, int(g)))(row)
                for row, g in zip(x, GROUP, strict=True)
            ]
        ),
    )
    close(run(model, X), expected[0])


def test_a_probe_for_each_layer(model):
    layer = SoftGroupSteer.stack(GROUP_MAPS, AffineMap(draw(L, G, D), draw(L, G)))
    assert layer.probe_kernel.shape == (L, D, G)
    # A probe that is sure of group 1, whatever it sees.
    sure = AffineMap(jnp.zeros((L, G, D)), jnp.tile(jnp.array([0.0, 100.0]), (L, 1)))
    insert_steering(model, "blocks", SoftGroupSteer.stack(GROUP_MAPS, sure))
    ones = by_hand(
        model,
        lambda i, x: pick(GROUP_MAPS, (i, 1))(x.reshape(-1, D)).reshape(x.shape),
    )
    close(run(model, X), ones[0])


def test_training_a_stack_with_dropout(model):
    layer = AffineSteer.stack(
        AffineMap(jnp.tile(jnp.eye(D), (L, 1, 1)), jnp.zeros((L, D))), trainable=True
    )
    insert_steering(model, "blocks", layer, layers=[True, False, True])
    model.train()

    @nnx.jit
    def slopes(model):
        wrt = nnx.DiffState(0, SteeringParam)
        return nnx.grad(lambda model: jnp.mean(model(X) ** 2), argnums=wrt)(model)

    first, second = slopes(model), slopes(model)
    bias = [s["blocks"]["layer"]["bias"][...] for s in (first, second)]
    # The random streams of dropout go on from call to call.
    assert not np.allclose(*bias)
    assert (jnp.abs(bias[0]).max(1) > 0).tolist() == [True, False, True]


def test_stacks_and_layers_that_do_not_fit(model):
    one = pick(MAPS, 0)
    with pytest.raises(ValueError, match=r"stack of 3 modules.*AffineSteer\.stack"):
        insert_steering(model, "blocks", AffineSteer(one))
    with pytest.raises(ValueError, match="is a stack for 2"):
        insert_steering(model, "blocks", AffineSteer.stack(pick(MAPS, slice(2))))
    plain = models.Holder(models.Block(nnx.Rngs(0)))
    with pytest.raises(ValueError, match="is one module"):
        insert_steering(plain, "block", AffineSteer.stack(MAPS))
    with pytest.raises(ValueError, match="leave it out"):
        insert_steering(plain, "block", AffineSteer(one), layers=[True])
    with pytest.raises(ValueError, match="a boolean for each"):
        insert_steering(model, "blocks", AffineSteer.stack(MAPS), layers=[1, 0, 1])
    # Where nothing tells that a module is a stack, the call does.
    unknown = models.Holder(models.Returns(lambda w, h: h))
    with (
        insert_steering(unknown, "block", AffineSteer.stack(MAPS)),
        pytest.raises(ValueError, match="a stack of layers that no scan"),
    ):
        unknown(X)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: AffineSteer.stack(AffineMap(jnp.eye(D), jnp.ones(()))),
            "leading axis",
        ),
        (lambda: AffineSteer.stack(AffineMap(MAPS.weight, MAPS.bias[:2])), "leading"),
        (lambda: AffineSteer.stack(MAPS, strength=jnp.ones(2)), "each of the 3"),
        (lambda: AffineSteer(pick(MAPS, 0)).set_maps(maps_of(2)), "leading axes"),
        (
            lambda: AffineSteer(AffineMap.identity(2)).set_maps(AffineMap.identity(3)),
            "not like the old",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
