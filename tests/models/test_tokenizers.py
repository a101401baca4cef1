"""Tokenizers from files, and batches of token lists."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from jaxsteer.models import (
    PieceTokenizer,
    load_tokenizer,
    pad_tokens,
    token_batches,
)
from tests.models._stories import needs_stories, stories_tokenizer


@needs_stories
@pytest.mark.parametrize(
    "text",
    [
        "Once upon a time",
        " two  spaces and\nlines",
        "naïve café, 東京 🙂",
        "a",
        "",
    ],
)
def test_pieces_and_back(text):
    tokenizer = stories_tokenizer()
    codes = tokenizer.encode(text)
    assert codes[0] == tokenizer.start == 1
    assert tokenizer.decode(codes) == text
    assert max(codes) < 512


@needs_stories
def test_pieces_of_the_published_prompt():
    # "Once upon a time" is " Once", " upon", " a", " time"; letters would be more.
    assert len(stories_tokenizer().encode("Once upon a time")) == 5


def test_pieces_merge_by_score(tmp_path):
    letters = [b"<unk>", b"<s>", b"</s>", *[b"<0x%02X>" % byte for byte in range(256)]]
    pieces = [*letters, b" ", b"a", b"b", b"c", b"ab", b"bc", b" a", b" ab"]
    scores = [0.0] * len(letters) + [-9, -9, -9, -9, -2, -1, -3, -4]
    path = tmp_path / "tok.bin"
    parts = [struct.pack("<i", 6)]
    for piece, score in zip(pieces, scores, strict=True):
        parts.append(struct.pack("<fi", score, len(piece)) + piece)
    path.write_bytes(b"".join(parts))
    tokenizer = load_tokenizer(path)
    assert isinstance(tokenizer, PieceTokenizer)

    def split(text):
        return [tokenizer.pieces[code] for code in tokenizer.encode(text)[1:]]

    assert split("abc") == [b" a", b"bc"]  # "bc" has the best score, then " a"
    assert split("ab") == [b" ab"]
    assert split("é") == [b" ", b"<0xC3>", b"<0xA9>"]
    assert tokenizer.decode(tokenizer.encode("aé")) == "aé"


def test_a_library_tokenizer(tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    library = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]")
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    library.enable_truncation(2)
    library.enable_padding(length=7)
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    # Neither cut nor padded: batches do that.
    assert tokenizer.encode("one two three one") == [1, 2, 0, 1]
    assert tokenizer.decode(np.array([1, 2])) == "one two"
    assert json.loads(library.to_str())["truncation"]["max_length"] == 2


def test_a_tokenizer_of_a_gguf_file(tmp_path):
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    names = ["<|end|>", "a", "b", "c", "Ġ", "ab", "Ġab", "1", "2", "12"]
    types = [3] + [1] * (len(names) - 1)

    def write(name, split, first=None):
        writer = gguf.GGUFWriter(tmp_path / name, "llama")
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(split)
        writer.add_token_list(names)
        writer.add_token_types(types)
        writer.add_token_merges(["a b", "Ġ ab", "1 2"])
        writer.add_eos_token_id(0)
        writer.add_bos_token_id(0)
        if first is not None:
            writer.add_add_bos_token(first)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return tmp_path / name

    tokenizer = load_tokenizer(write("a.gguf", "smollm"))
    assert tokenizer.encode("ab abc<|end|>12") == [5, 6, 3, 0, 7, 8]
    assert tokenizer.decode([5, 6, 3, 0]) == "ab abc"
    assert (tokenizer.start, tokenizer.stop) == (None, 0)
    assert load_tokenizer(write("b.gguf", "gpt-2", True)).encode("12") == [0, 9]
    assert load_tokenizer(write("c.gguf", "gpt-2", False)).start is None
    with pytest.raises(ValueError, match="'llama-bpe'"):
        load_tokenizer(write("d.gguf", "llama-bpe"))


def test_padding():
    tokens, lengths = pad_tokens([[1, 2, 3, 4], [5]], max_length=3, multiple=4, pad=9)
    assert tokens.tolist() == [[1, 2, 4, 9], [5, 9, 9, 9]]
    assert lengths.tolist() == [3, 1]
    with pytest.raises(ValueError, match="at least one token"):
        pad_tokens([[1], []])
    with pytest.raises(ValueError, match="at least one token"):
        pad_tokens([])


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tokenizer(tmp_path)
    path = tmp_path / "vocab.txt"
    path.write_text("a")
    with pytest.raises(ValueError, match="no tokenizer"):
        load_tokenizer(path)


def test_batches_hold_every_text_once_in_few_shapes():
    texts = [[k] * (1 + 7 * k % 40) for k in range(1, 24)]
    seen = {}
    shapes = set()
    for rows, tokens, lengths in token_batches(texts, 5, multiple=16):
        shapes.add(tokens.shape)
        assert len(tokens) == len(lengths) == 5
        for row, line, length in zip(rows, tokens, lengths, strict=False):
            assert row not in seen
            seen[row] = line[:length].tolist()
    assert seen == dict(enumerate(texts))
    assert shapes <= {(5, 16), (5, 32), (5, 48)}


@pytest.mark.parametrize("size", [-8, -1, 5, 2**31 - 1])
def test_damaged_piece_files_are_refused(tmp_path, size):
    path = tmp_path / "tok.bin"
    path.write_bytes(struct.pack("<ifi", 6, 0.0, size) + b"abc")
    with pytest.raises(ValueError, match=r"tok.bin is damaged"):
        load_tokenizer(path)
