"""Payloads load with the readers that their formats document."""

from __future__ import annotations

import base64
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer.export import (
    load_steering,
    save_steering,
    to_control_vector,
    to_easysteer,
)
from jaxsteer.maps import AffineMap, DiagonalMap, LowRankMap
from jaxsteer.nn import AffineSteer, GroupSteer

D = 5
rng = np.random.default_rng(0)


def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


ONE = AffineMap(jnp.eye(D, dtype=jnp.float32) + 0.3 * draw(D, D), draw(D))
SHIFT = AffineMap(jnp.eye(D), draw(D))
STATES = np.asarray(draw(200, D)) + 1


def read_wire(wire):
    """EasySteer's own way, as its payload file documents it."""
    assert (wire["version"], wire["kind"], wire["extra"]) == (1, "linear", {})
    digest, tensors = hashlib.sha256(b"linear:1"), {}
    for name, entry in sorted(wire["tensors"].items()):
        data = entry["data"]
        data = base64.b64decode(data) if isinstance(data, str) else data
        digest.update(name.encode())
        digest.update(str(tuple(entry["shape"])).encode())
        digest.update(data)
        tensors[name] = np.frombuffer(data, np.float32).reshape(entry["shape"])
    assert digest.hexdigest() == wire["sha256"]
    return tensors


@pytest.mark.parametrize("text", [False, True])
def test_easysteer_reads_the_map(text):
    wires = to_easysteer({3: ONE, 7: AffineSteer(ONE, strength=0.5)}, text=text)
    assert list(wires) == [3, 7]
    if text:
        wires = {int(n): w for n, w in json.loads(json.dumps(wires)).items()}
    tensors = read_wire(wires[3])
    found = STATES @ tensors["weight"].T + tensors["bias"]
    np.testing.assert_allclose(found, ONE(STATES), atol=1e-5)
    half = read_wire(wires[7])
    found = STATES @ half["weight"].T + half["bias"]
    np.testing.assert_allclose(found, (STATES + ONE(STATES)) / 2, atol=1e-5)


def test_easysteer_refusals():
    with pytest.raises(ValueError, match="each group"):
        to_easysteer({1: jax.tree.map(lambda a: a[None], ONE)})
    with pytest.raises(ValueError, match="layer 2 is not finite"):
        to_easysteer({2: AffineMap(ONE.weight, ONE.bias * jnp.nan)})


def test_control_vectors(tmp_path):
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    path = tmp_path / "vector.gguf"
    maps = {2: SHIFT, 5: ONE}
    parts = to_control_vector(path, maps, model_hint="llama", states={5: STATES})
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.model_hint"].contents() == "llama"
    assert reader.fields["controlvector.layer_count"].contents() == 2
    tensors = {t.name: t.data for t in reader.tensors}
    assert set(tensors) == {"direction.2", "direction.5"}
    np.testing.assert_array_equal(tensors["direction.2"], SHIFT.bias)
    assert parts[2].loss == 0
    moves = np.asarray(ONE(STATES)) - STATES
    np.testing.assert_allclose(tensors["direction.5"], moves.mean(0), atol=1e-5)
    # What is left of the moves without the vector, as a share of them.
    left = np.mean(np.sum((moves - moves.mean(0)) ** 2, 1))
    share = left / np.mean(np.sum(moves**2, 1))
    assert 0.05 < share < 0.95
    assert parts[5].loss == pytest.approx(share, rel=1e-4)
    assert reader.fields["jaxsteer.loss.5"].contents() == pytest.approx(share, rel=1e-4)
    # No vector does better.
    for other in (0.9, 1.1):
        worse = np.mean(np.sum((moves - other * moves.mean(0)) ** 2, 1))
        assert worse > left


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        ({}, {}, "is empty"),
        ({0: SHIFT}, {}, "block 0"),
        ({1: ONE}, {}, r"pass states=\{1"),
        ({1: ONE}, {"states": {1: STATES[:, :2]}}, r"states\[1\] has shape"),
        ({1: ONE}, {"states": {1: STATES}, "max_loss": 0.01}, "more than max_loss"),
        ({1: SHIFT, 2: AffineMap.identity(2)}, {}, "different numbers"),
    ],
)
def test_control_vectors_that_are_refused(tmp_path, maps, options, message):
    path = tmp_path / "vector.gguf"
    with pytest.raises(ValueError, match=message):
        to_control_vector(path, maps, model_hint="llama", **options)
    assert not path.exists()


class Model(nnx.Module):
    def __init__(self):
        self.layers = nnx.List([nnx.Linear(D, D, rngs=nnx.Rngs(0)) for _ in range(4)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_one_artifact_says_what_it_is_and_goes_where_it_belongs(tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    file = tmp_path / "steering.safetensors"
    digest = save_steering(
        file,
        ONE,
        operation="affirmative",
        path="layers.3",
        at="input",
        which=("inputs",),
        classes=["nurse", "surgeon"],
        model="small",
        model_hash="abc",
        fit={"rows": 200, "shrinkage": "oas"},
    )
    found = load_steering(file)
    assert (found.form, found.path, found.at) == ("affine", "layers.3", "input")
    assert (found.layer_index, found.which) == (3, ("inputs",))
    assert (found.model, found.model_hash) == ("small", "abc")
    assert found.fit == {"rows": 200, "shrinkage": "oas"}
    stored = found.stored
    assert (stored.operation, stored.hook_point) == ("affirmative", "layers.3:input")
    assert (stored.classes, stored.dtype) == (("nurse", "surgeon"), ("float32",))
    assert stored.content_hash == digest
    np.testing.assert_array_equal(stored.map.weight, ONE.weight)
    model, x = Model(), draw(2, D)
    before = model(x)
    with found.insert(model):
        y = x
        for place, layer in enumerate(model.layers):
            y = layer.base(ONE(y)) if place == 3 else layer(y)
        np.testing.assert_allclose(model(x), y, atol=1e-5)
    np.testing.assert_array_equal(model(x), before)


@pytest.mark.parametrize(
    ("map_", "form"),
    [
        (SHIFT, "additive"),
        (LowRankMap(draw(D, 2), draw(D, 2), draw(D)), "low_rank"),
        (DiagonalMap(draw(D), draw(D)), "diagonal"),
    ],
)
def test_forms(tmp_path, map_, form):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    file = tmp_path / "a.safetensors"
    save_steering(file, map_, operation="test", path="layers.1.blocks.2")
    found = load_steering(file)
    assert (found.form, found.layer_index, found.which) == (form, None, None)
    assert isinstance(found.layer(strength=0.5), AffineSteer)
    groups = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), map_)
    save_steering(file, groups, operation="test", path="a", groups=["f", "m"])
    assert isinstance(load_steering(file).layer(), GroupSteer)
    assert load_steering(file).stored.groups == ("f", "m")


def test_artifact_refusals(tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    from jaxsteer.storage import save_map

    file = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="which is a function"):
        save_steering(file, ONE, operation="x", path="a", which=lambda o: o)
    with pytest.raises(ValueError, match="'output', 'input'"):
        save_steering(file, ONE, operation="x", path="a", at="middle")
    save_map(file, ONE, operation="x")
    with pytest.raises(ValueError, match=r"not written by .*save_steering"):
        load_steering(file)
