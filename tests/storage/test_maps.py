from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.maps import AffineMap, DiagonalMap, LowRankMap
from jaxsteer.storage import load, load_map, save, save_map

pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")

ONE = AffineMap(jnp.eye(3), jnp.arange(3.0))
GROUPS = AffineMap(jnp.ones((2, 3, 3)), jnp.zeros((2, 3)))
CELLS = LowRankMap(*(jnp.ones((4, 2, 3, 1), jnp.bfloat16),) * 2, jnp.zeros((4, 2, 3)))
DIAGONAL = DiagonalMap(jnp.ones(3), jnp.zeros(3))


@pytest.mark.parametrize(
    ("map_", "about"),
    [
        (ONE, {"operation": "leace"}),
        (GROUPS, {"operation": "mimic", "groups": ["f", "m"], "layer": 6}),
        (ONE, {"operation": "shared", "groups": np.array([3, 7]), "layer": "decoder"}),
        (CELLS, {"operation": "cells", "groups": (0, 1), "classes": list("abcd")}),
        (
            DIAGONAL,
            {"operation": "steer", "hook_point": "residual", "metadata": {"b": 1}},
        ),
    ],
)
def test_a_map_comes_back_with_all_that_is_known_of_it(tmp_path, map_, about):
    digest = save_map(tmp_path / "m", map_, **about)
    found = load_map(tmp_path / "m")
    assert type(found.map) is type(map_)
    for a, b in zip(jax.tree.leaves(map_), jax.tree.leaves(found.map), strict=True):
        assert a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert digest == found.content_hash == js.maps.content_hash(map_)
    assert found.operation == about["operation"]
    assert found.layer == about.get("layer")
    assert found.hook_point == about.get("hook_point")
    for names in ("groups", "classes"):
        given = about.get(names)
        given = None if given is None else tuple(np.asarray(given).tolist())
        assert getattr(found, names) == given
    assert found.metadata == about.get("metadata", {})
    assert found.version == js.__version__
    dtypes = {leaf.dtype.name for leaf in jax.tree.leaves(map_)}
    assert set(found.dtype) == dtypes


def test_load_reads_such_files_too(tmp_path):
    save_map(tmp_path / "m", GROUPS, operation="mimic", groups=["f", "m"])
    stored = load(tmp_path / "m")
    assert stored["map"].content_hash() == GROUPS.content_hash()
    assert stored.metadata["steering_map"]["groups"] == ["f", "m"]


@pytest.mark.parametrize(
    ("map_", "about", "message"),
    [
        ({"a": 1}, {"operation": "x"}, "map_ must be one of AffineMap"),
        (ONE, {"operation": ""}, "operation='' must be text"),
        (GROUPS, {"operation": "x", "groups": ["a", "b", "c"]}, "3 groups are named"),
        (
            GROUPS,
            {"operation": "x", "classes": [0], "groups": [0, 1]},
            "1 classes and 2",
        ),
        (GROUPS, {"operation": "x", "groups": ["a", "a"]}, "names one of them twice"),
        (GROUPS, {"operation": "x", "groups": [0.5, 1.5]}, "must be integers or text"),
        (ONE, {"operation": "x", "metadata": {"f": len}}, "metadata must be JSON"),
    ],
)
def test_messages(tmp_path, map_, about, message):
    with pytest.raises(ValueError, match=message):
        save_map(tmp_path / "m", map_, **about)
    assert not (tmp_path / "m").exists()


def test_other_files_are_refused(tmp_path):
    save(tmp_path / "other", {"a": np.ones(2)})
    with pytest.raises(ValueError, match="holds a and was not written by"):
        load_map(tmp_path / "other")
    about = {"content_hash": "0" * 64}
    save(tmp_path / "forged", {"map": ONE}, metadata={"steering_map": about})
    with pytest.raises(ValueError, match="its map does not match its hash"):
        load_map(tmp_path / "forged")
