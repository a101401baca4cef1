"""Headers that claim more than their file holds are refused before anything is made."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc

import numpy as np
import pytest

from jaxsteer.models import load_decoder, load_tokenizer
from jaxsteer.models._gguf_header import check_header
from tests.models._small import small_decoder, write_gguf
from tests.models.test_decoder import write_hugging_face

HUGE = 2**40


def gguf(tensors=0, entries=(), claimed=None, order="<", version=3, rest=b""):
    """A GGUF header; entries are (name, type, bytes)."""
    head = struct.pack(
        order + "IQQ", version, tensors, len(entries) if claimed is None else claimed
    )
    for name, kind, data in entries:
        head += struct.pack(order + "Q", len(name)) + name
        head += struct.pack(order + "I", kind) + data
    return b"GGUF" + head + rest


def array(kind, count, data=b""):
    return struct.pack("<IQ", kind, count) + data


CLAIMS = {
    "tensors": gguf(tensors=HUGE, rest=bytes(64)),
    "entries": gguf(claimed=HUGE, rest=bytes(64)),
    "a text": gguf(entries=[(b"a", 8, struct.pack("<Q", 2**60))]),
    "a name": gguf(claimed=1, rest=struct.pack("<Q", 2**63) + bytes(16)),
    "numbers": gguf(entries=[(b"a", 9, array(0, HUGE))], rest=bytes(64)),
    "texts": gguf(entries=[(b"a", 9, array(8, HUGE))], rest=bytes(64)),
    "lists in lists": gguf(
        entries=[(b"a", 9, array(9, 1, array(9, 1, array(9, 1, array(9, 1)))))],
        rest=array(9, 1) + bytes(64),
    ),
    "dimensions": gguf(tensors=1, rest=struct.pack("<Q", 1) + b"t" + b"\xff" * 28),
    "an unknown type": gguf(entries=[(b"a", 77, bytes(8))]),
    "nothing": b"GGUF" + bytes(8),
    "another order": gguf(tensors=HUGE, order=">", rest=bytes(64)),
}


@pytest.mark.parametrize("name", sorted(CLAIMS))
@pytest.mark.parametrize("load", [load_decoder, load_tokenizer])
def test_gguf_headers(tmp_path, name, load):
    pytest.importorskip("gguf")
    path = tmp_path / "claims.gguf"
    path.write_bytes(CLAIMS[name])
    tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"claims\.gguf is damaged or no GGUF"):
        load(path)
    assert time.process_time() - begin < 2
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_whole_gguf_headers_pass(tmp_path):
    path = tmp_path / "good.gguf"
    for order in "<>":
        entries = [
            (b"a", 8, struct.pack(order + "Q", 3) + b"abc"),
            (b"b", 9, struct.pack(order + "IQ", 8, 1) + struct.pack(order + "Q", 0)),
            (b"c", 9, struct.pack(order + "IQ", 5, 2) + bytes(8)),
            (b"d", 12, bytes(8)),
        ]
        tensor = struct.pack(order + "Q", 1) + b"t"
        tensor += struct.pack(order + "IQQIQ", 2, 3, 4, 0, 0)
        path.write_bytes(gguf(1, entries, order=order, rest=tensor))
        check_header(path)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ValueError, match="claims 28 bytes where 27 are left"):
            check_header(path)


def test_a_whole_gguf_model_passes(tmp_path):
    pytest.importorskip("gguf")
    write_gguf(small_decoder(), tmp_path / "small.gguf")
    check_header(tmp_path / "small.gguf")


@pytest.mark.parametrize(
    "header",
    [
        (64, 4, 2**31 - 1, 2, 1, 10, 8),  # layers
        (2**31 - 1, 2**31 - 1, 2, 1, 1, 2**31 - 1, 8),  # products beyond 2^63
    ],
)
def test_llama2c_headers(tmp_path, header):
    path = tmp_path / "claims.bin"
    path.write_bytes(struct.pack("<7i", *header) + bytes(4000))
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"claims\.bin ends early"):
        load_decoder(path)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", "many"),
        ("num_hidden_layers", -1),
        ("num_attention_heads", 0),
        ("num_attention_heads", 3),
        ("hidden_size", None),
        ("vocab_size", {}),
    ],
)
def test_configurations(tmp_path, name, value):
    pytest.importorskip("safetensors")
    write_hugging_face(small_decoder(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    begin = time.process_time()
    with pytest.raises(ValueError, match=str(tmp_path)):
        load_decoder(tmp_path)
    assert time.process_time() - begin < 5


def test_a_configuration_nested_beyond_measure(tmp_path):
    (tmp_path / "config.json").write_text("[" * 200_000)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        load_decoder(tmp_path)


def test_safetensors_headers(tmp_path):
    pytest.importorskip("safetensors")
    write_hugging_face(small_decoder(), tmp_path)
    weights = tmp_path / "model-00001-of-00002.safetensors"
    for size in (HUGE, 2**63, 90_000_000):
        weights.write_bytes(np.uint64(size).tobytes() + b"{}")
        with pytest.raises(ValueError, match=r"safetensors is damaged"):
            load_decoder(tmp_path)
