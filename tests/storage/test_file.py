from __future__ import annotations

import builtins
import dataclasses
import functools
import json

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.families import MultivariateLogNormal, MultivariateNormal, Normal
from jaxsteer.latent import RomeFit, fit_rome_em, simulate_rome
from jaxsteer.maps import AffineMap, ConjugatedMap, DiagonalMap, Exp
from jaxsteer.pareto import (
    DemographicParity,
    Logistic,
    ParetoSolution,
    group_data,
    solve_badr,
)
from jaxsteer.storage import load, save

safetensors = pytest.importorskip(
    "safetensors.numpy", reason="safetensors is not installed"
)


def population() -> js.Population:
    rng = np.random.default_rng(0)
    mean = jnp.asarray(rng.normal(size=(2, 2, 3)))
    root = jnp.asarray(rng.normal(size=(2, 2, 3, 3)))
    cov = root @ jnp.swapaxes(root, -1, -2) + jnp.eye(3, dtype=root.dtype)
    priors = jnp.array([[0.1, 0.4], [0.2, 0.3]])
    return js.Population(priors, MultivariateNormal(mean, cov))


@functools.cache
def steering(priors: str) -> js.Steering:
    return js.nearest_ideal(
        population(), maps="shared_covariance", priors=priors, reference=1
    )


# JAX 0.7 has the switch under its older name only.
enable_x64 = (
    jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
)


def multiclass_channel() -> js.MulticlassChannel:
    rng = np.random.default_rng(0)
    label, group = rng.integers(0, 3, 300), rng.integers(0, 2, 300)
    score = rng.dirichlet(np.ones(3), 300) + np.eye(3)[label]
    return js.multiclass_channel(
        score / score.sum(1, keepdims=True), label, group, bins=6
    )


def mixture() -> RomeFit:
    sample = simulate_rome(200)
    return fit_rome_em(sample.y, sample.x, sample.s, 2, restarts=2, max_steps=5)


def pareto() -> ParetoSolution:
    rng = np.random.default_rng(0)
    x, group = rng.normal(size=(80, 2)), rng.integers(0, 2, 80)
    label = (x[:, 0] + 0.5 * group > 0).astype(int)
    data = group_data(x, label, group)
    return solve_badr(data, Logistic(), DemographicParity())


OBJECTS = {
    "mixture": mixture,
    "pareto": pareto,
    "multiclass channel": multiclass_channel,
    "affine": lambda: AffineMap(jnp.ones((2, 3, 3)), jnp.arange(6.0).reshape(2, 3)),
    "diagonal": lambda: DiagonalMap(jnp.array(2.0), jnp.array(-1.0)),
    "conjugated": lambda: ConjugatedMap(DiagonalMap(jnp.ones(2), jnp.zeros(2)), Exp()),
    "normal": lambda: Normal(jnp.zeros((2, 2)), jnp.ones((2, 2))),
    "log_normal": lambda: MultivariateLogNormal(jnp.zeros(3), jnp.eye(3)),
    "population": population,
    "steering": lambda: steering("reweigh"),
    "kept": lambda: steering("keep"),
}


def assert_same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert type(a) is type(b) or isinstance(a, jax.Array) == isinstance(
            b, jax.Array
        )
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("name", OBJECTS)
def test_results_come_back_bit_for_bit(tmp_path, name):
    value = OBJECTS[name]()
    save(tmp_path / "one.safetensors", value)
    stored = load(tmp_path / "one.safetensors")
    assert list(stored.objects) == ["result"]
    assert type(stored["result"]) is type(value)
    assert_same(value, stored["result"])


def test_a_steering_works_after_loading(tmp_path):
    value = OBJECTS["steering"]()
    save(tmp_path / "s", {"steering": value})
    again = load(tmp_path / "s")["steering"]
    x, group = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
    assert np.array_equal(value.transport(x, group), again.transport(x, group))
    assert again.require().ideal is True
    assert OBJECTS["kept"]().ideal is False


DTYPES = ["bool", "int8", "uint16", "int64", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16", "complex64", ">f8"])
def test_every_dtype_of_numpy_is_kept(tmp_path, dtype):
    rng = np.random.default_rng(0)
    array = rng.normal(size=(3, 1, 2)).astype(jnp.dtype(dtype))
    objects = {"a": array, "b": array[0, 0, 0], "c": array.T, "d": array[:0]}
    save(tmp_path / "a", objects)
    back = load(tmp_path / "a").objects
    for name, value in objects.items():
        assert isinstance(back[name], np.ndarray | np.generic)
        assert back[name].shape == value.shape
        assert back[name].dtype == value.dtype.newbyteorder("=")
        assert np.array_equal(back[name], value)
    assert isinstance(back["b"], np.generic)


def test_special_values_survive(tmp_path):
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, 0.1 + 0.2])
    objects = {"a": array, "x": float("inf"), "y": -0.0, "z": 0.1 + 0.2}
    save(tmp_path / "a", objects)
    back = load(tmp_path / "a").objects
    assert back["a"].tobytes() == array.tobytes()
    assert back["x"] == float("inf")
    assert str(back["y"]) == "-0.0"
    assert back["z"] == 0.1 + 0.2
    save(tmp_path / "a", {"nan": float("nan")})
    assert np.isnan(load(tmp_path / "a")["nan"])


def test_structure_survives(tmp_path):
    value = {
        "tuple": (1, "two", None, True, [3.5, ()]),
        "odd names": {"a.b": np.ones(1), "a": {"b": np.zeros(1)}},
    }
    save(tmp_path / "a", {"s": value})
    back = load(tmp_path / "a")["s"]
    assert back["tuple"] == value["tuple"]
    assert type(back["tuple"]) is tuple and type(back["tuple"][4]) is list
    assert back["odd names"]["a.b"] == 1
    assert back["odd names"]["a"]["b"] == 0


def test_float64_jax_arrays_are_never_rounded(tmp_path):
    with enable_x64(True):
        value = jnp.array([0.1, 1 / 3], dtype="float64")
        save(tmp_path / "a", {"v": value})
    back = load(tmp_path / "a")["v"]
    assert back.dtype == np.float64
    assert np.asarray(back).tobytes() == np.array([0.1, 1 / 3]).tobytes()
    assert isinstance(back, jax.Array) == jax.config.read("jax_enable_x64")


def test_metadata_and_version(tmp_path):
    metadata = {
        "kind": "group_maps",
        "hook_point": "blocks.3.resid_post",
        "layer": np.int64(3),
        "groups": ("Female", "Male"),
        "rates": np.array([0.5, 0.25]),
    }
    save(tmp_path / "a", OBJECTS["affine"](), metadata=metadata)
    stored = load(tmp_path / "a")
    assert stored.metadata == {
        "kind": "group_maps",
        "hook_point": "blocks.3.resid_post",
        "layer": 3,
        "groups": ["Female", "Male"],
        "rates": [0.5, 0.25],
    }
    assert stored.version == js.__version__


def test_tensors_are_readable_by_their_dotted_names(tmp_path):
    save(tmp_path / "a", {"steering": OBJECTS["steering"]()})
    tensors = safetensors.load_file(tmp_path / "a")
    assert "steering.group_maps.weight" in tensors
    assert "steering.source.conditionals.mean" in tensors


def test_hash_is_of_the_content(tmp_path):
    first = save(tmp_path / "a", {"x": np.ones(2), "y": 1}, metadata={"m": 1, "n": 2})
    assert save(
        tmp_path / "b", {"y": 1, "x": np.ones(2)}, metadata={"n": 2, "m": 1}
    ) == (first)
    assert load(tmp_path / "a").sha256 == first
    others = [
        ({"x": np.ones(2), "y": 2}, {"m": 1, "n": 2}),
        ({"x": np.ones(2), "y": 1}, {"m": 1, "n": 3}),
        ({"x": np.ones((2, 1)), "y": 1}, {"m": 1, "n": 2}),
        ({"x": np.ones(2, np.float32), "y": 1}, {"m": 1, "n": 2}),
        ({"z": np.ones(2), "y": 1}, {"m": 1, "n": 2}),
    ]
    hashes = {save(tmp_path / "c", o, metadata=m) for o, m in others}
    assert len(hashes | {first}) == 6


def test_every_damaged_byte_of_the_data_is_found(tmp_path):
    save(tmp_path / "a", OBJECTS["affine"](), metadata={"note": "abc"})
    data = (tmp_path / "a").read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    for place in [*range(size, len(data), 7), data.index(b"abc")]:
        broken = bytearray(data)
        broken[place] ^= 1
        (tmp_path / "b").write_bytes(bytes(broken))
        with pytest.raises(ValueError, match="damaged: its content does not match"):
            load(tmp_path / "b")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_cut_files_are_damaged(tmp_path, keep):
    save(tmp_path / "a", OBJECTS["affine"]())
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes()[:keep])
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        load(tmp_path / "b")


def test_files_of_other_programs(tmp_path):
    safetensors.save_file({"x": np.ones(2)}, tmp_path / "a")
    with pytest.raises(ValueError, match=r"not written by jaxsteer\.storage\.save"):
        load(tmp_path / "a")
    safetensors.save_file({"x": np.ones(2)}, tmp_path / "a", metadata={"jaxsteer": "{"})
    with pytest.raises(ValueError, match="its header is broken"):
        load(tmp_path / "a")


def rewrite(path, **changes):
    """Change header entries of a file, with a hash that fits."""
    from jaxsteer.storage._file import _hash

    data = path.read_bytes()
    tensors = safetensors.load(data)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["jaxsteer"])
    header.update(changes)
    content = {key: header[key] for key in ("format", "objects", "metadata")}
    header["sha256"] = _hash(content, tensors)
    safetensors.save_file(tensors, path, metadata={"jaxsteer": json.dumps(header)})


def test_files_of_later_versions(tmp_path):
    save(tmp_path / "a", OBJECTS["affine"]())
    rewrite(tmp_path / "a", format=3, version="9.1")
    with pytest.raises(
        ValueError, match=r"format 3 \(jaxsteer 9.1\).*upgrade jaxsteer"
    ):
        load(tmp_path / "a")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"object": "os.system", "fields": {}},
            "'os.system' is no class that jaxsteer",
        ),
        (
            {"object": "maps.AffineMap", "fields": {"weight": 1}},
            r"other fields.*\(bias\)",
        ),
        ({"array": "no", "kind": "jax"}, "the tensor 'no' is not there"),
        ({"call": "maps.AffineMap"}, "unknown node 'call'"),
        ([1], r"unknown node \[1\]"),
    ],
)
def test_only_known_classes_are_built(tmp_path, node, message):
    save(tmp_path / "a", OBJECTS["affine"]())
    rewrite(tmp_path / "a", objects={"x": node})
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "a")


@dataclasses.dataclass(frozen=True)
class Stranger:
    x: int


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Stranger(1), r"thing\.x is a .*Stranger, which cannot be stored"),
        (lambda x: x, r"thing\.x is a builtins.function"),
        ({1: 2}, r"thing\.x is a builtins.dict"),
        ({1, 2}, r"thing\.x is a builtins.set"),
        (np.array(["a"]), r"thing\.x is an array of dtype <U1; only numbers"),
        (np.array([None]), r"thing\.x is an array of dtype object"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path, value, message):
    with pytest.raises(ValueError, match=message):
        save(tmp_path / "a", {"thing": {"x": value}})
    assert not (tmp_path / "a").exists()


def test_random_keys_and_tracers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="result is a random key"):
        save(tmp_path / "a", jax.random.key(0))

    def traced(x):
        save(tmp_path / "a", x)
        return x

    with pytest.raises(ValueError, match="is traced; store results outside of jit"):
        jax.jit(traced)(jnp.ones(2))


@pytest.mark.parametrize("name", ["a.b", "", "a b", 3])
def test_odd_object_names(tmp_path, name):
    with pytest.raises(ValueError, match="must be text of letters, digits"):
        save(tmp_path / "a", {name: 1})


def test_no_objects_no_folder_no_file(tmp_path):
    with pytest.raises(ValueError, match="objects is empty"):
        save(tmp_path / "a", {})
    with pytest.raises(
        FileNotFoundError, match=r"The folder .*nowhere.* does not exist"
    ):
        save(tmp_path / "nowhere" / "a", 1)
    with pytest.raises(FileNotFoundError, match="a does not exist"):
        load(tmp_path / "a")
    with pytest.raises(KeyError, match="it holds x"):
        save(tmp_path / "a", {"x": 1})
        load(tmp_path / "a")["y"]


@pytest.mark.parametrize(
    "metadata", [{"a": {1, 2}}, {"a": float("nan")}, [1], {"a": b""}]
)
def test_metadata_must_be_json(tmp_path, metadata):
    with pytest.raises(ValueError, match="metadata must be"):
        save(tmp_path / "a", 1, metadata=metadata)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("safetensors"):
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'jaxsteer\[cli\]'"):
        save(tmp_path / "a", 1)
    with pytest.raises(ImportError, match=r"pip install 'jaxsteer\[cli\]'"):
        load(tmp_path / "a")
