"""Loaders on bytes: a file that is none is refused, one that was spoiled is found out."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer import maps, models, storage
from tests.fuzz.inputs import Draw
from tests.fuzz.judge import Call

HEADERS = (b"", b"{}", b"GGUF\x03\x00\x00\x00", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ",
           b"PK\x03\x04", b"\xff" * 16, b"null", b"[1]", b'{"a":')  # fmt: skip


@functools.cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="jaxsteer-fuzz-"))


@functools.cache
def _good() -> dict[str, bytes]:
    """Whole files of every kind that this package writes."""
    folder = _folder()
    made = maps.AffineMap(2 * jnp.eye(2), jnp.ones(2))
    storage.save_map(folder / "map.safetensors", made, operation="test")
    storage.save(folder / "any.safetensors", {"a": made, "b": [1, "x"]})
    storage.save(folder / "any.json", {"a": made, "b": [1, "x"]})
    found = {}
    for path in folder.glob("*.*"):
        found[path.name] = path.read_bytes()
    return found


def _spoiled(draw: Draw, name: str) -> tuple[Path, bool]:
    """A file of noise, or a good one with a few bytes changed, cut or added."""
    good = _good()[name]
    how = draw.pick("bytes", ["good", "flipped", "cut", "longer", "noise", "header"])
    content = bytearray(good)
    if how == "flipped":
        for _ in range(int(draw.rng.integers(1, 4))):
            content[int(draw.rng.integers(len(content)))] ^= int(
                draw.rng.integers(1, 256)
            )
    elif how == "cut":
        content = content[: int(draw.rng.integers(len(content)))]
    elif how == "longer":
        content += draw.rng.bytes(int(draw.rng.integers(1, 50)))
    elif how == "noise":
        content = bytearray(draw.rng.bytes(int(draw.rng.integers(0, 400))))
    elif how == "header":
        start = HEADERS[int(draw.rng.integers(len(HEADERS)))]
        content = bytearray(start + draw.rng.bytes(int(draw.rng.integers(0, 100))))
    path = _folder() / f"spoiled-{name}"
    path.write_bytes(bytes(content))
    return path, bytes(content) == good


def _loader(name: str, load: Callable[[Path], Any], draw: Draw) -> Call:
    path, whole = _spoiled(draw, name)

    def check(found):
        assert whole, f"a spoiled file was read as {found}"
        return "answer"

    return Call(lambda: load(path), check, (path.name, "file", "path"))


def _foreign(load: Callable[[Path], Any], suffix: str, draw: Draw) -> Call:
    """Bytes for a loader of another project's format: noise, or a header and noise."""
    start = HEADERS[int(draw.rng.integers(len(HEADERS)))]
    start = draw.pick("start", [b"", start])
    content = start + draw.rng.bytes(int(draw.rng.integers(0, 300)))
    path = _folder() / f"foreign{suffix}"
    path.write_bytes(content)

    def check(found):
        # What happens to be a file of the format holds what its header says: nothing.
        leaves = jax.tree.leaves(found)
        assert all(np.size(leaf) < 1000 for leaf in leaves)
        return "answer"

    return Call(lambda: load(path), check, (path.name, "file", "path"))


FILES: dict[str, Callable[[Draw], Call]] = {
    "storage.load": partial(_loader, "any.safetensors", storage.load),
    "storage.load (JSON)": partial(_loader, "any.json", storage.load),
    "storage.load_map": partial(_loader, "map.safetensors", storage.load_map),
    "storage.load_pipeline": partial(_foreign, storage.load_pipeline, ".skops"),
    "models.load_decoder (GGUF)": partial(_foreign, models.load_decoder, ".gguf"),
    "models.load_decoder (llama2.c)": partial(_foreign, models.load_decoder, ".bin"),
    "models.load_tokenizer": partial(_foreign, models.load_tokenizer, ".json"),
}
