"""The tokenizer of llama2.c: pairs merged by score, bytes where no piece fits."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

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
    def read(cls, path: str | os.PathLike[str]) -> PieceTokenizer:
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
