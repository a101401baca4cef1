"""Files that claim more than they hold, or nest without end, are refused by name."""

from __future__ import annotations

import io
import json
import time
import zipfile

import numpy as np
import pytest

from jaxsteer import storage
from jaxsteer.storage import _file

pytest.importorskip("safetensors")


def header_file(path, node):
    """A file whose hash is right, around any node."""
    module = _file._safetensors()
    content = {"format": _file.FORMAT, "objects": {"result": node}, "metadata": {}}
    header = {**content, "version": "0", "sha256": _file._hash(content, {})}
    path.write_bytes(module.save({}, {"jaxsteer": json.dumps(header)}))


@pytest.mark.parametrize("length", [2**63, 2**40, 90_000_000])
def test_safetensors_that_claim_a_long_header(tmp_path, length):
    path = tmp_path / "claims.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b'{"a":1}')
    with pytest.raises(ValueError, match=r"claims\.safetensors is damaged"):
        storage.load(path)


def test_an_array_that_claims_a_shape(tmp_path):
    path = tmp_path / "claims.safetensors"
    about = {"a": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 8]}}
    head = json.dumps(about).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(8))
    with pytest.raises(ValueError, match=r"claims\.safetensors is damaged"):
        storage.load(path)


def test_nodes_nested_without_end(tmp_path):
    path = tmp_path / "deep.safetensors"
    node: object = None
    for _ in range(400):
        node = {"list": [node]}
    header_file(path, node)
    assert storage.load(path).sha256  # deep, and read
    # Deeper than Python's own parser goes, as text that nobody could write with it.
    module = _file._safetensors()
    text = '{"format": 2, "objects": ' + '{"list": [' * 100_000
    path.write_bytes(module.save({}, {"jaxsteer": text}))
    with pytest.raises(ValueError, match=r"deep\.safetensors is damaged"):
        storage.load(path)


def archive(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(name, data)


def array_schema(kind="numpy"):
    return {
        "__class__": "ndarray",
        "__module__": "numpy",
        "__loader__": "NdArrayNode",
        "type": kind,
        "file": "a.npy",
        "__id__": 1,
        "protocol": 2,
        "_skops_version": "0.11",
    }


def test_an_estimator_archive_that_unpacks_to_a_multiple(tmp_path):
    pytest.importorskip("skops")
    path = tmp_path / "bomb.skops"
    entries = {"schema.json": json.dumps(array_schema()), "a.npy": bytes(2**27)}
    archive(path, entries, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"bomb\.skops is damaged.*unpack"):
        storage.load_pipeline(path)
    assert time.process_time() - begin < 5


def test_an_estimator_array_that_claims_more_than_memory_holds(tmp_path):
    pytest.importorskip("skops")
    path = tmp_path / "claims.skops"
    head = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": (2**50,)}
    np.lib.format.write_array_header_1_0(head, about)
    archive(path, {"schema.json": json.dumps(array_schema()), "a.npy": head.getvalue()})
    with pytest.raises(ValueError, match=r"claims\.skops is damaged"):
        storage.load_pipeline(path)


@pytest.mark.parametrize(
    "schema", ["{}", "[]", "[" * 100_000, '{"__loader__": "None"}', "\xff", "null"]
)
def test_an_estimator_archive_with_a_schema_that_nobody_wrote(tmp_path, schema):
    pytest.importorskip("skops")
    path = tmp_path / "schema.skops"
    archive(path, {"schema.json": schema})
    with pytest.raises(ValueError, match=r"schema\.skops"):
        storage.load_pipeline(path)
