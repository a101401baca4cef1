"""Files of jaxsteer 0.1 still load: written by that version, kept beside this test."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys
import zipfile

import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.channels import MulticlassChannel, RocChannel
from jaxsteer.latent._neural_fit import read_about, read_tree, write_tree
from jaxsteer.storage import (
    content_hash,
    load,
    load_map,
    load_pipeline,
    save,
    save_map,
    save_pipeline,
)
from jaxsteer.storage._migrate import MOVED_MODULES, RENAMED_CLASSES
from jaxsteer.storage._registry import registered_class, registered_classes

safetensors = pytest.importorskip(
    "safetensors.numpy", reason="safetensors is not installed"
)

DATA = pathlib.Path(__file__).parent / "data"
VALUES = json.loads((DATA / "values-0.1.json").read_text())


def test_a_steering_and_a_roc_channel_of_0_1():
    stored = load(DATA / "steering-0.1.safetensors")
    assert stored.version == "0.1.0" and stored.metadata == {"made": "0.1"}
    steering, channel = stored["steering"], stored["channel"]
    assert type(steering) is js.Steering and steering.reference is None
    assert float(steering.kl) == pytest.approx(VALUES["kl"], rel=1e-6)
    x = np.array([[0, 0], [1, 2], [-1, 0.5], [3, 1]], np.float32)
    moved = steering.transport(x, np.array([0, 1, 0, 1]))
    np.testing.assert_allclose(moved, VALUES["transport"], rtol=1e-5, atol=1e-6)
    assert type(channel) is RocChannel
    expected = channel.expected_score(
        np.array(VALUES["scores"], np.float32), np.array(VALUES["groups"])
    )
    np.testing.assert_allclose(expected, VALUES["expected"], rtol=1e-5)


def test_a_multiclass_channel_of_0_1():
    channel = load(DATA / "class-channel-0.1.safetensors")["result"]
    assert type(channel) is MulticlassChannel
    np.testing.assert_allclose(channel.gap, VALUES["class_gap"], atol=1e-7)


def test_a_map_of_0_1_keeps_its_hash():
    stored = load_map(DATA / "map-0.1.safetensors")
    assert stored.groups == ("f", "m")
    assert stored.content_hash == content_hash(stored.map)


def test_every_old_name_leads_to_a_class():
    assert set(RENAMED_CLASSES.values()) <= set(registered_classes())
    assert not set(RENAMED_CLASSES) & set(registered_classes())


def test_a_damaged_file_of_0_1_is_found(tmp_path):
    data = bytearray((DATA / "map-0.1.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "map").write_bytes(data)
    with pytest.raises(ValueError, match="does not match its hash"):
        load(tmp_path / "map")


def test_a_checkpoint_of_0_1(tmp_path):
    tree = {"a": np.arange(3.0, dtype=np.float32), "b": np.ones((2, 1), np.float32)}
    text = json.dumps({"format": 1, "about": {"kind": "network"}})
    with (tmp_path / "old.npz").open("wb") as file:
        np.savez(file, about=np.array(text), leaf0=tree["a"], leaf1=tree["b"])
    write_tree(tmp_path / "new", tree, {"kind": "network"})
    for name in ("old.npz", "new"):
        assert read_about(tmp_path / name) == {"kind": "network"}
        found = read_tree(tmp_path / name, tree)
        np.testing.assert_array_equal(found["a"], tree["a"])
        np.testing.assert_array_equal(found["b"], tree["b"])


def test_expected_hashes(tmp_path):
    path, map_ = tmp_path / "a", js.AffineMap(np.eye(2), np.zeros(2))
    digest = save(path, {"map": map_})
    assert load(path, expect_hash=digest).sha256 == digest
    other = save(path, {"map": map_}, metadata={"a": 1})
    assert other != digest
    with pytest.raises(ValueError, match=rf"has the hash {other}.*another file"):
        load(path, expect_hash=digest)
    digest = save_map(path, map_, operation="x")
    assert load_map(path, expect_hash=digest.upper()).operation == "x"
    with pytest.raises(ValueError, match="expect_hash='00'"):
        load_map(path, expect_hash="00")


def test_expected_hash_of_a_pipeline(tmp_path):
    pytest.importorskip("skops", reason="skops is not installed")
    from sklearn.preprocessing import StandardScaler

    fitted = StandardScaler().fit(np.arange(6.0).reshape(3, 2))
    digest = save_pipeline(tmp_path / "a", fitted)
    loaded = load_pipeline(tmp_path / "a", expect_hash=digest)
    assert loaded.mean_.tolist() == fitted.mean_.tolist()
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes() + b"x")
    with pytest.raises(ValueError, match="another file, or was changed"):
        load_pipeline(tmp_path / "a", expect_hash=digest)


def test_estimators_name_classes_by_modules_of_before(tmp_path):
    pytest.importorskip("skops", reason="skops is not installed")
    from jaxsteer.estimators import ParetoFair

    path, before = tmp_path / "now.skops", tmp_path / "before.skops"
    metric = js.pareto.GroupLossVariance()
    save_pipeline(path, ParetoFair(metric=metric))
    now, old = (
        f"jaxsteer.pareto.{name}" for name in ("_dependence_metrics", "_loss_metrics")
    )
    with zipfile.ZipFile(path) as read, zipfile.ZipFile(before, "w") as written:
        for name in read.namelist():
            data = read.read(name)
            if name == "schema.json":
                assert now.encode() in data
                data = data.replace(now.encode(), old.encode())
            written.writestr(name, data)
    assert old not in sys.modules
    try:
        assert load_pipeline(before).metric == metric
    finally:
        sys.modules.pop(old, None)


def test_modules_that_moved_are_where_they_are_said_to_be():
    for before, present in MOVED_MODULES.items():
        assert importlib.util.find_spec(present) is not None
        assert importlib.util.find_spec(before) is None


def test_a_class_is_found_by_its_name_without_the_others():
    for name, cls in registered_classes().items():
        assert registered_class(name) is cls
    for name in ("maps.NoMap", "os.path", "AffineMap", "", "latent._result.RomeResult"):
        assert registered_class(name) is None
