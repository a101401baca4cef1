"""Whether a GGUF file holds what its header claims, before anything trusts the header.

The header of a file of a few bytes can claim 2^40 tensors, or a text of 2^60 bytes. The
format's own package believes such counts, and runs until memory is full. Here the whole
header is walked first, with no more than it: every length is compared with the bytes
that are left.
"""

from __future__ import annotations

import mmap
import os
import struct

from jaxsteer._types import PathLike

_STRING, _ARRAY = 8, 9
#: Bytes of the scalar types, by their number in the format.
_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_MOST_DIMENSIONS = 8
_MOST_NESTED = 4  # arrays in arrays


class _Cursor:
    """A place in a file that does not leave it."""

    def __init__(self, data: mmap.mmap):
        self.data, self.place, self.order = data, 4, "<"

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.place:
            left = len(self.data) - self.place
            raise ValueError(
                f"its header claims {size} bytes where {left} are left, at byte "
                f"{self.place}"
            )
        self.place += size

    def number(self, kind: str) -> int:
        start = self.place
        self.skip(struct.calcsize(kind))
        return struct.unpack_from(self.order + kind, self.data, start)[0]

    def text(self) -> None:
        self.skip(self.number("Q"))

    def claim(self, count: int, least: int, what: str) -> int:
        """A number of things that take at least `least` bytes each."""
        if count * least > len(self.data) - self.place:
            raise ValueError(
                f"its header claims {count} {what}, more than fit into "
                f"{len(self.data)} bytes"
            )
        return count

    def value(self, kind: int, depth: int = 0) -> None:
        if kind == _STRING:
            self.text()
        elif kind in _BYTES:
            self.skip(_BYTES[kind])
        elif kind == _ARRAY and depth < _MOST_NESTED:
            inner, count = self.number("I"), self.number("Q")
            if inner in _BYTES:
                self.skip(self.claim(count, _BYTES[inner], "numbers") * _BYTES[inner])
                return
            for _ in range(self.claim(count, 8, "texts or lists")):
                self.value(inner, depth + 1)
        else:
            raise ValueError(f"its header has a value of the unknown kind {kind}")


def check_header(path: PathLike) -> None:
    """Walk a file's header: O(its bytes), without allocating what it claims.

    Args:
        path: The file.

    Raises:
        ValueError: If it is no GGUF file, or claims more than its bytes hold.

    References:
        The GGUF specification, versions 2 and 3 (docs/gguf.md of ggml).
    """
    with open(path, "rb") as file:
        if file.read(4) != b"GGUF" or os.fstat(file.fileno()).st_size < 24:
            raise ValueError("it does not begin with a GGUF header")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _walk(_Cursor(data))


def _walk(at: _Cursor) -> None:
    # A version that reads as 2^24 or more is one in the other order of bytes.
    if at.number("I") & 0xFFFF == 0:
        at.order = ">"
    tensors = at.claim(at.number("Q"), 24, "tensors")
    entries = at.claim(at.number("Q"), 13, "entries")
    for _ in range(entries):
        at.text()
        at.value(at.number("I"))
    for _ in range(tensors):
        at.text()
        dimensions = at.number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"its header has a tensor of {dimensions} dimensions")
        at.skip(8 * dimensions + 12)
