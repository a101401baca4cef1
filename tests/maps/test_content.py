from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.maps import (
    AffineMap,
    ConjugatedMap,
    DiagonalMap,
    Exp,
    LowRankMap,
    ProductMap,
    content_hash,
)

WEIGHT = np.array([[1, 2], [3, 4]], np.float32)
MAP = AffineMap(jnp.asarray(WEIGHT), jnp.asarray(WEIGHT[0]))


def test_the_hash_is_what_the_docstring_says():
    digest = hashlib.sha256()

    def label(*parts):
        text = json.dumps(parts, separators=(",", ":")).encode()
        digest.update(len(text).to_bytes(8, "little") + text)

    label("object", "AffineMap", ["weight", "bias"])
    for array in (WEIGHT, WEIGHT[0]):
        label("array", "float32", list(array.shape))
        digest.update(array.astype("<f4").tobytes())
    assert MAP.content_hash() == content_hash(MAP) == digest.hexdigest()


def test_the_hash_is_the_same_in_another_process():
    code = (
        "import numpy as np; from jaxsteer.maps import AffineMap; "
        "w = np.asfortranarray(np.array([[1, 2], [3, 4]], np.float32)); "
        "print(AffineMap(w, w[0]).content_hash())"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout.strip() == MAP.content_hash()


def test_whatever_differs_gives_another_hash():
    low = LowRankMap(MAP.weight, MAP.weight, MAP.bias)
    diagonal = DiagonalMap(jnp.ones(2), jnp.zeros(2))
    others = [
        MAP,
        AffineMap(
            MAP.weight.at[0, 0].set(np.nextafter(np.float32(1), np.float32(2))),
            MAP.bias,
        ),
        AffineMap(MAP.weight.astype(jnp.bfloat16), MAP.bias),
        AffineMap(MAP.weight[None], MAP.bias[None]),
        AffineMap(MAP.weight.T, MAP.bias),
        low,
        diagonal,
        ConjugatedMap(diagonal, Exp()),
        ProductMap((diagonal, diagonal), (2, 2)),
        ProductMap((diagonal, diagonal), (1, 3)),
    ]
    assert len({content_hash(other) for other in others}) == len(others)


def test_numpy_round_trip():
    for map_ in (MAP, LowRankMap(MAP.weight, MAP.weight, MAP.bias)):
        arrays = map_.to_numpy()
        assert all(type(a) is np.ndarray for a in arrays.values())
        again = type(map_).from_numpy(**arrays)
        assert again.content_hash() == map_.content_hash()
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(again))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AffineMap.from_numpy(np.eye(2), np.zeros(3)), "shapes must be weight"),
        (
            lambda: AffineMap.from_numpy(np.zeros(2), np.zeros(2)),
            "shapes must be weight",
        ),
        (lambda: AffineMap.from_numpy(np.eye(2)[None], np.zeros(2)), "leading axes"),
        (lambda: AffineMap.from_numpy(np.eye(2, dtype=int), np.zeros(2)), "int"),
        (
            lambda: LowRankMap.from_numpy(np.eye(2), np.ones((2, 1)), np.zeros(2)),
            r"v \[2, 1\]",
        ),
        (lambda: content_hash(AffineMap(WEIGHT, {1})), "A set has no content hash"),
        (lambda: jax.jit(lambda m: m.to_numpy())(MAP), "is traced"),
        (lambda: jax.jit(lambda m: m.content_hash())(MAP), "is traced"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError, match=message):
        make()
