"""The layers under jit, grad, vmap and scan, with optimizers, checkpoints and meshes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxsteer.maps import AffineMap
from jaxsteer.nn import (
    AffineSteer,
    GroupIds,
    GroupSteer,
    SoftGroupSteer,
    SteeringConstant,
    SteeringParam,
    insert_steering,
    set_groups,
)

D, G = 4, 2


def stacked(n, seed=0):
    rng = np.random.default_rng(seed)
    weight = jnp.eye(D) + jnp.asarray(0.2 * rng.normal(size=(n, D, D)), jnp.float32)
    return AffineMap(weight, jnp.asarray(rng.normal(size=(n, D)), jnp.float32))


def one(seed=0):
    return jax.tree.map(lambda leaf: leaf[0], stacked(1, seed))


X = np.random.default_rng(9).normal(size=(6, D)).astype(np.float32)
GROUP = np.arange(6) % G


def test_new_groups_and_strengths_compile_nothing():
    traces = []

    @nnx.jit
    def run(model, x):
        traces.append(None)
        return model(x)

    model = nnx.Sequential(nnx.Linear(D, D, rngs=nnx.Rngs(0)))
    x = jnp.asarray(X)
    raw = model(x)
    layer = insert_steering(model, "layers.0", GroupSteer(stacked(G))).layer
    assert set_groups(model, GROUP) == 1
    first = run(model, x)
    set_groups(model, 1 - GROUP)
    second = run(model, x)
    layer.strength[...] = 0.5
    third = run(model, x)
    assert len(traces) == 1
    np.testing.assert_allclose(
        second, GroupSteer(stacked(G))(raw, 1 - GROUP), atol=1e-6
    )
    np.testing.assert_allclose(third, (raw + second) / 2, atol=1e-5)
    assert float(jnp.abs(first - second).max()) > 0.1


def test_groups_are_checked_when_they_are_set():
    model = nnx.Sequential(nnx.Linear(D, D, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="insert_steering"):
        set_groups(model, GROUP)
    insert_steering(model, "layers.0", GroupSteer(stacked(G)))
    with pytest.raises(ValueError, match=r"expected 0\.\.1"):
        set_groups(model, GROUP + 1)
    set_groups(model, GROUP[:2])
    with pytest.raises(ValueError, match="one entry an example"):
        model(jnp.asarray(X))


@pytest.mark.parametrize("kind", ["affine", "group", "soft"])
def test_gradients_reach_trainable_layers_only(kind):
    def make(trainable):
        if kind == "affine":
            return AffineSteer(one(), trainable=trainable)
        if kind == "group":
            return GroupSteer(stacked(G), trainable=trainable)
        return SoftGroupSteer(stacked(G), trainable=trainable)

    def loss(layer):
        y = layer(X_, GROUP) if kind == "group" else layer(X_)
        return jnp.sum(y**2)

    X_ = jnp.asarray(X)
    slope = nnx.grad(loss)(make(True))
    leaves = jax.tree.leaves(slope)
    assert len(leaves) == (4 if kind == "soft" else 2)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in leaves)
    assert not jax.tree.leaves(nnx.grad(loss)(make(False)))
    frozen = make(False)
    assert not jax.tree.leaves(nnx.state(frozen, nnx.Param))
    assert len(jax.tree.leaves(nnx.state(frozen, SteeringConstant))) == len(leaves) + 1
    if kind == "affine":
        # Central differences of the strength, which scales what the map adds.
        layer = make(True)
        by = nnx.DiffState(0, SteeringConstant)
        found = nnx.grad(loss, argnums=by)(layer)["strength"][...]
        step = 1e-2
        ends = [jnp.sum(layer(X_, strength=1 + s) ** 2) for s in (step, -step)]
        np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), rtol=1e-3)


def test_a_probe_learns_while_the_maps_stay():
    layer = SoftGroupSteer(stacked(G), trainable_probe=True)
    slope = nnx.grad(lambda layer: jnp.sum(layer(jnp.asarray(X)) ** 2))(layer)
    assert set(slope) == {"probe_kernel", "probe_bias"}


def test_an_optimizer_trains_the_steering_and_nothing_else():
    model = nnx.Sequential(nnx.Linear(D, D, rngs=nnx.Rngs(0)), nnx.relu)
    layer = AffineSteer(AffineMap.identity(D), trainable=True)
    insert_steering(model, "layers.0", layer)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=SteeringParam)
    weights = np.asarray(model.layers[0].base.kernel[...])

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            return jnp.mean((model(jnp.asarray(X)) - 1) ** 2)

        value, slope = nnx.value_and_grad(
            loss, argnums=nnx.DiffState(0, SteeringParam)
        )(model)
        optimizer.update(model, slope)
        return value

    losses = [float(step(model, optimizer)) for _ in range(50)]
    assert losses[-1] < 0.5 * losses[0]
    np.testing.assert_array_equal(model.layers[0].base.kernel[...], weights)
    assert float(jnp.abs(layer.kernel[...]).max()) > 0.01


def test_layers_are_made_by_vmap_and_run_by_scan():
    maps = stacked(3)
    stack = nnx.vmap(AffineSteer)(maps)
    assert stack.kernel[...].shape == (3, D, D)

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    def run(x, layer):
        return layer(x)

    expected = jnp.asarray(X)
    for place in range(3):
        layer = AffineSteer(jax.tree.map(lambda leaf, p=place: leaf[p], maps))
        expected = layer(expected)
    np.testing.assert_allclose(run(jnp.asarray(X), stack), expected, atol=1e-5)


class Scanned(nnx.Module):
    """Blocks of one kind, kept as a stack and run one after another."""

    def __init__(self, n):
        self.blocks = nnx.vmap(lambda key: nnx.Linear(D, D, rngs=nnx.Rngs(key)))(
            jax.random.split(jax.random.key(0), n)
        )

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x, block):
            return block(x)

        return run(x, self.blocks)


def test_a_stack_of_blocks_is_steered_by_a_stack_of_layers():
    model, x = Scanned(3), jnp.asarray(X)
    plain = model(x)
    strength = jnp.array([0.0, 1.0, 0.0])
    layers = nnx.vmap(lambda m, s: AffineSteer(m, strength=s))(stacked(3), strength)
    expected = x
    for place in range(3):
        kernel = model.blocks.kernel[...][place]
        expected = expected @ kernel + model.blocks.bias[...][place]
        if place == 1:
            expected = jax.tree.map(lambda leaf: leaf[1], stacked(3))(expected)
    with insert_steering(model, "blocks", layers):
        np.testing.assert_allclose(model(x), expected, atol=1e-5)
    np.testing.assert_array_equal(model(x), plain)


def test_vmap_over_maps_is_one_layer_each():
    maps = stacked(3)
    found = jax.vmap(lambda m: AffineSteer(m)(jnp.asarray(X)))(maps)
    for place in range(3):
        layer = AffineSteer(jax.tree.map(lambda leaf, p=place: leaf[p], maps))
        np.testing.assert_allclose(found[place], layer(jnp.asarray(X)), atol=1e-6)


def test_orbax_restores_a_steered_model(tmp_path):
    ocp = pytest.importorskip(
        "orbax.checkpoint", reason="orbax-checkpoint is not installed"
    )

    def make(maps):
        model = nnx.Sequential(nnx.Linear(D, D, rngs=nnx.Rngs(0)), nnx.relu)
        insert_steering(model, "layers.0", GroupSteer(maps, strength=0.3))
        return model

    model = make(stacked(G))
    set_groups(model, GROUP)
    with ocp.StandardCheckpointer() as checkpointer:
        state = nnx.state(model, nnx.Not(GroupIds))
        checkpointer.save(tmp_path / "steered", state)
        checkpointer.wait_until_finished()
        # A model that knows the shapes only.
        other = nnx.eval_shape(lambda: make(stacked(G, seed=5)))
        restored = checkpointer.restore(tmp_path / "steered", nnx.state(other))
    nnx.update(other, restored)
    set_groups(other, GROUP)
    np.testing.assert_array_equal(other(jnp.asarray(X)), model(jnp.asarray(X)))
