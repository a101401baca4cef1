"""Tokenizers from the files, and batches of tokens."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxsteer._types import PathLike
from jaxsteer.models._gguf import field, open_gguf
from jaxsteer.models._weights import need, reading

_START, _END, _FIRST_BYTE = 1, 2, 3


class PieceTokenizer:
    """Text to tokens and back, from a ``tok*.bin`` file.

    Attributes:
        pieces: The bytes of each token.
        scores: Of two neighbours that make a piece, those with the highest score merge.
        start: Token that begins a text.
        stop: Token that ends a text.
    """

    start: int = _START
    stop: int = _END

    def __init__(self, pieces: Sequence[bytes], scores: Sequence[float]):
        self.pieces = tuple(pieces)
        self.scores = tuple(scores)
        self._codes = {piece: code for code, piece in enumerate(self.pieces)}

    @classmethod
    def read(cls, path: PathLike) -> PieceTokenizer:
        """Read a file: the longest piece, then a score, a length and bytes for each.

        Raises:
            ValueError: If the file is damaged, or of another kind.
        """
        data = Path(path).read_bytes()
        pieces, scores, place = [], [], 4
        while place < len(data):
            whole = place + 8 <= len(data)
            score, size = struct.unpack_from("<fi", data, place) if whole else (0, -1)
            place += 8
            # A length below 0 would lead back, and for ever around.
            if size < 0 or place + size > len(data):
                raise ValueError(f"{path} is damaged or no llama2.c tokenizer file.")
            pieces.append(data[place : place + size])
            scores.append(score)
            place += size
        return cls(pieces, scores)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, the start token first."""
        codes = [self.start]
        # A space goes before the text, so that its first word is as any other.
        for letter in (" " + text) if text else "":
            piece = letter.encode()
            if piece in self._codes:
                codes.append(self._codes[piece])
            else:
                codes += [_FIRST_BYTE + byte for byte in piece]
        while True:
            best, place = max(
                (
                    (self._score(codes[i], codes[i + 1]), -i)
                    for i in range(1, len(codes) - 1)
                ),
                default=(float("-inf"), 0),
            )
            if best == float("-inf"):
                return codes
            place = -place
            joined = self.pieces[codes[place]] + self.pieces[codes[place + 1]]
            codes[place : place + 2] = [self._codes[joined]]

    def decode(self, codes: Sequence[int]) -> str:
        """Return the text of tokens."""
        parts = []
        for code in codes:
            if code in (self.start, self.stop):
                continue
            if _FIRST_BYTE <= code < _FIRST_BYTE + 256:
                parts.append(bytes([code - _FIRST_BYTE]))
            else:
                parts.append(self.pieces[code])
        text = b"".join(parts).decode(errors="replace")
        return text.removeprefix(" ") if self.start in codes else text

    def _score(self, left: int, right: int) -> float:
        code = self._codes.get(self.pieces[left] + self.pieces[right])
        return float("-inf") if code is None else self.scores[code]


_CONTROL = 3  # GGUF's type of tokens that no text makes


class Tokenizer(Protocol):
    """What tokenizers have in common."""

    @property
    def start(self) -> int | None:
        """Token that begins a text, None where the model expects none."""
        ...

    @property
    def stop(self) -> int | None:
        """Token that ends a text, None where the file names none."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, with those that the model expects around it."""
        ...

    def decode(self, codes: Sequence[int]) -> str:
        """Return the text of tokens, without special ones."""
        ...


class LibraryTokenizer:
    """A tokenizer of the package ``tokenizers``.

    Attributes:
        wrapped: The ``tokenizers.Tokenizer``.
        start: Token that begins a text, None where the model expects none.
        stop: Token that ends a text, if the file names one.
    """

    def __init__(self, wrapped: Any, start: int | None = None, stop: int | None = None):
        self.wrapped, self.start, self.stop = wrapped, start, stop

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        codes = self.wrapped.encode(text).ids
        return codes if self.start is None else [self.start, *codes]

    def decode(self, codes: Sequence[int]) -> str:
        """Return the text of tokens, without special ones."""
        return self.wrapped.decode([int(code) for code in codes])


def load_tokenizer(path: PathLike) -> Tokenizer:
    """Read the tokenizer that belongs to a model.

    Args:
        path: A ``.gguf`` file, a ``tokenizer.json`` (or the folder that has it), or a
            llama2.c ``tok*.bin`` file. The first two need the extra ``llm``.

    Returns:
        The tokenizer.

    Raises:
        ValueError: If the file is of another kind.
        FileNotFoundError: If nothing is there.

    Example:
        ::

            tokenizer = load_tokenizer("all-MiniLM-L6-v2")
            tokens, lengths = pad_tokens([tokenizer.encode("a text")])
    """
    path = Path(path)
    if path.is_dir():
        path = path / "tokenizer.json"
    if not path.exists():
        raise FileNotFoundError(f"No tokenizer at {path}.")
    if path.suffix == ".bin":
        return PieceTokenizer.read(path)
    if path.suffix == ".gguf":
        with reading(path):
            return _from_gguf(path)
    if path.suffix == ".json":
        tokenizers = need("tokenizers")
        try:
            library = tokenizers.Tokenizer.from_file(os.fspath(path))
        except Exception as error:  # the package raises nothing narrower
            raise ValueError(f"{path} is no tokenizer.json: {error}") from error
        library.no_truncation()
        library.no_padding()
        return LibraryTokenizer(library)
    raise ValueError(
        f"{path} is no tokenizer that is read here; pass a .gguf file, a tokenizer.json "
        f"or a llama2.c tok*.bin file."
    )


def pad_tokens(
    texts: Sequence[Sequence[int]],
    *,
    max_length: int | None = None,
    multiple: int = 1,
    pad: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Stack token lists of different lengths, padded on the right.

    Args:
        texts: Token lists, none empty.
        max_length: Cut longer texts; the last token stays, as it closes the text where a
            tokenizer adds one. None cuts nothing.
        multiple: Round the width up to a multiple, so that few shapes are compiled.
        pad: Token to fill with.

    Returns:
        Tokens ``[B, T]`` and lengths ``[B]``, int32.

    Example:
        >>> tokens, lengths = pad_tokens([[5, 6, 7], [8]])
        >>> tokens.tolist(), lengths.tolist()
        ([[5, 6, 7], [8, 0, 0]], [3, 1])

    Raises:
        ValueError: If a text is empty, or there is none.
    """
    cut = [_cut(list(text), max_length) for text in texts]
    lengths = np.array([len(text) for text in cut], np.int32)
    if len(cut) == 0 or lengths.min() == 0:
        raise ValueError("texts must be token lists of at least one token each.")
    width = -(-int(lengths.max()) // multiple) * multiple
    tokens = np.full((len(cut), width), pad, np.int32)
    for row, text in zip(tokens, cut, strict=True):
        row[: len(text)] = text
    return tokens, lengths


def _cut(text: list[int], max_length: int | None) -> list[int]:
    if max_length is None or len(text) <= max_length:
        return text
    return [*text[: max_length - 1], text[-1]]


def _from_gguf(path: Path) -> LibraryTokenizer:
    """Rebuild the byte-level tokenizer that a GGUF file describes."""
    gguf, tokenizers = need("gguf"), need("tokenizers")
    reader = open_gguf(gguf, path)
    kind = field(reader, "tokenizer.ggml.model")
    split = field(reader, "tokenizer.ggml.pre", "default")
    if kind != "gpt2" or split not in ("smollm", "gpt-2", "default"):
        raise ValueError(
            f"{path} has a tokenizer {kind!r} with splits {split!r}; only byte-level "
            f"'gpt2' with 'smollm' or 'gpt-2' splits is read here."
        )
    names = field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in field(reader, "tokenizer.ggml.merges")]
    vocabulary = {name: code for code, name in enumerate(names)}
    try:
        pieces = tokenizers.models.BPE(vocabulary, merges)
    except Exception as error:  # the package raises nothing narrower
        raise ValueError(f"{path} holds no tokenizer: {error}") from error
    library = tokenizers.Tokenizer(pieces)
    bytes_ = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    if split == "smollm":
        digits = tokenizers.pre_tokenizers.Digits(individual_digits=True)
        bytes_ = tokenizers.pre_tokenizers.Sequence([digits, bytes_])
    library.pre_tokenizer = bytes_
    library.decoder = tokenizers.decoders.ByteLevel()
    types = field(reader, "tokenizer.ggml.token_type")
    library.add_special_tokens(
        [
            tokenizers.AddedToken(name, special=True, normalized=False)
            for name, type_ in zip(names, types, strict=True)
            if type_ == _CONTROL
        ]
    )
    first = field(reader, "tokenizer.ggml.add_bos_token", "no")
    start = field(reader, "tokenizer.ggml.bos_token_id") if first is True else None
    return LibraryTokenizer(
        library, start, field(reader, "tokenizer.ggml.eos_token_id")
    )
