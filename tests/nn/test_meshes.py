"""The layers on eight devices: named shardings, explicit axes, loops, one compilation."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from tests.programs import on_devices

# One process for all of it, since the number of devices is fixed when JAX starts.
CODE = """
import contextlib
import jax, jax.monitoring, jax.numpy as jnp, numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from jaxsteer.maps import AffineMap, DiagonalMap, LowRankMap
from jaxsteer.nn import (
    AffineSteer, GroupSteer, SoftGroupSteer, insert_steering, set_strength)

assert len(jax.devices()) == 8
B, T, D, G = 8, 3, 4, 3
rng = np.random.default_rng(0)
draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
maps, one = AffineMap(draw(G, D, D), draw(G, D)), AffineMap(draw(D, D), draw(D))
low = LowRankMap(draw(G, D, 2), draw(G, D, 2), draw(G, D))
probe = AffineMap(draw(G, D), draw(G))
texts, group = draw(B, T, D), jnp.arange(B) % G

meshes = {
    kind: jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
    for kind in (AxisType.Auto, AxisType.Explicit)
}
explicit = meshes[AxisType.Explicit]

def place(x, *names, mesh=explicit):
    return jax.device_put(x, NamedSharding(mesh, P(*names)))

def close(found, expected, atol=1e-4):
    np.testing.assert_allclose(np.float32(found), np.float32(expected), atol=atol)

# Sharding names place the maps, and the compiler does the rest.
plain = GroupSteer(maps)(texts[:, 0], group), SoftGroupSteer(low)(texts[:, 0])
with jax.set_mesh(meshes[AxisType.Auto]):
    names = dict(sharding=(None, "model"))
    layers = GroupSteer(maps, **names), SoftGroupSteer(low, **names)
    assert layers[0].kernel[...].sharding.spec == P(None, None, "model")
    assert layers[0].bias[...].sharding.spec == P(None, "model")
    assert layers[1].up[...].sharding.spec == P(None, None, "model")
    assert len(layers[1].up[...].sharding.device_set) == 8
    rows = place(texts[:, 0], "data", None, mesh=meshes[AxisType.Auto])
    run = nnx.jit(lambda layers, x: (layers[0](x, group), layers[1](x)))
    for found, expected in zip(run(layers, rows), plain):
        close(found, expected)

# Explicit axes: what comes out has the type of what went in, however the maps, the
# groups and the activations themselves are cut.
layouts = [
    (P("data"), P(), None),
    (P("data", None, "model"), P("data"), (None, "model")),
    (P(("data", "model")), P("data"), ("model", None)),
    (P("data", None, "model"), P(), ("model", None)),
]
expected = {
    "affine": AffineSteer(one)(texts),
    "group": GroupSteer(maps)(texts, group),
    "low": GroupSteer(low)(texts, group),
    "soft": SoftGroupSteer(maps, probe)(texts),
}
for n_rows in (1, T):  # many rows a text gather maps, few apply them all
  with jax.set_mesh(explicit):
    for spec, of_group, names in layouts:
        layers = {
            "affine": AffineSteer(one, sharding=names),
            "group": GroupSteer(maps, sharding=names),
            "low": GroupSteer(low, sharding=names),
            "soft": SoftGroupSteer(maps, probe, sharding=names),
        }
        x = place(texts[:, :n_rows], *spec)
        codes = place(group, *of_group)

        @nnx.jit
        def steer(layers, x, codes):
            return {
                name: layer(x, codes) if name in ("group", "low") else layer(x)
                for name, layer in layers.items()
            }

        for name, found in steer(layers, x, codes).items():
            assert jax.typeof(found) == jax.typeof(x), (name, jax.typeof(found))
            close(found, expected[name][:, :n_rows])

# In a scan's carry, whose type may not change, with gradients, and under strict
# promotion of types in bfloat16.
# (On the CPU JAX 0.7 has no product of sharded bfloat16.)
narrow = texts.astype(jnp.bfloat16 if jax.__version_info__ >= (0, 8) else jnp.float32)
with jax.set_mesh(explicit), jax.numpy_dtype_promotion("strict"):
    x, codes = place(narrow, "data", None, "model"), place(group, "data")
    steps = GroupSteer(maps, sharding=(None, "model")), SoftGroupSteer(low)

    @nnx.jit
    def loop(layers, x, codes):
        def step(x, _):
            return layers[1](layers[0](x, codes, strength=0.1), strength=0.1), None

        return jax.lax.scan(step, x, length=3)[0]

    found = loop(steps, x, codes)
    assert jax.typeof(found) == jax.typeof(x)
    slope = jax.jit(jax.grad(lambda x: GroupSteer(maps)(x, codes).sum(
        dtype=jnp.float32)))(x)
    assert jax.typeof(slope) == jax.typeof(x)
close(found, loop(steps, narrow, group), 0.1)
close(slope, jnp.swapaxes(maps.weight, 1, 2).sum(2)[group][:, None] * jnp.ones((T, 1)),
      0.05)

# Outside of jit, on a mesh and off it, a second call compiles nothing.
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None)
for mesh in (None, explicit):
    layer, soft = GroupSteer(maps), SoftGroupSteer(maps)
    def call(x, codes):
        jax.block_until_ready([layer(x, codes), soft(x)])
    inputs = [(texts[:, 0], group), (texts[:, 1] + 0, 2 - group)]
    with jax.set_mesh(mesh) if mesh else contextlib.nullcontext():
        if mesh:
            inputs = [(place(x, "data"), place(codes, "data")) for x, codes in inputs]
        call(*inputs[0])
        compiled.clear()
        call(*inputs[1])
    assert not compiled, (mesh, compiled)
assert jax.jit(lambda x: x * 3 + 1)(jnp.ones(7)).shape and compiled  # it does count

# In a model, some tokens only, with a strength of its own for each example.
class Model(nnx.Module):
    def __init__(self):
        self.block = nnx.Linear(D, D, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.block(x)

model = Model()
insert_steering(model, "block", AffineSteer(one), positions="last")
set_strength(model, jnp.linspace(0.0, 1.0, B))
wanted = model(texts)
with jax.set_mesh(explicit):
    found = nnx.jit(lambda model, x: model(x))(model, place(texts, "data", None, None))
    assert jax.typeof(found).sharding.spec == P("data", None, None)
close(found, wanted)
"""


@pytest.mark.slow
def test_on_eight_devices():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CODE)],
        capture_output=True,
        text=True,
        timeout=280,
        env={
            # Where compiled programs are kept, if anywhere.
            **{k: v for k, v in os.environ.items() if "CACHE" in k},
            "XLA_FLAGS": on_devices(8),
            "JAX_PLATFORMS": "cpu",
            "PATH": "/usr/bin:/bin",
        },
    )
    assert done.returncode == 0, done.stderr
