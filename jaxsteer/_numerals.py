"""Numbers that are written as text: decimal commas, thousands, currencies, odd values."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

# What stands before or after a number without being part of it.
_MARKS = re.compile(r"^[$€£¥]\s*|\s*[%$€£¥]$|\s+(?=\d{3}(?:\D|$))")
_ENGLISH = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+)?(?:,\d*)?(?:[eE][+-]?\d+)?")
_CODE = re.compile(r"[+-]?0\d")
_SPECIAL = ("inf", "infinity")
# A column is one of numbers if at least this share of its values are; the others are
# few, and named.
_SHARE = 0.9
_MOST_ODD = 10
_LEAST = 10
# Whole numbers with few distinct values, as text, are codes of categories.
_FEW = 20
_GLANCE = 100


class Numerals(NamedTuple):
    """How a column of text writes its numbers.

    Attributes:
        decimal: "." or ",".
        marked: Whether thousands are marked, or currencies or percents stand there.
        odd: The texts that are no numbers, and the rows of each, most rows first.
    """

    decimal: str
    marked: bool
    odd: tuple[tuple[str, int], ...]

    def note(self) -> str:
        """Say how the numbers are written."""
        parts = ["decimal comma"] if self.decimal == "," else []
        parts += ["thousands, currency or percent marks"] if self.marked else []
        if self.odd:
            listed = ", ".join(
                f"{text!r} in {n} row{'s' if n > 1 else ''}" for text, n in self.odd
            )
            parts.append(f"taken as missing: {listed}")
        return "; ".join(parts) or "numbers written as text"


def find_numerals(texts: Any, *, decimal: str | None = None) -> Numerals | None:
    """Tell whether texts are numbers with few exceptions, and how they are written.

    Args:
        texts: ``[n]`` texts, none missing.
        decimal: "." or "," where it is known; None finds out. Where every number can be
            read both ways ("1,234"), the comma marks thousands.

    Returns:
        The way, or None if these are no numbers, or codes: numbers with leading zeros,
        or few distinct whole numbers.
    """
    points = (".", ",") if decimal is None else (decimal,)
    # Most text is words, which a glance tells, however many rows there are.
    glance = [str(text).strip() for text in itertools.islice(texts, _GLANCE)]
    if not any(
        sum(_parse(text, point) is not None for text in glance) * 2 > len(glance)
        for point in points
    ):
        return None
    counts = Counter(str(text).strip() for text in texts)
    total = sum(counts.values())
    if total < _LEAST:
        return None
    best: Numerals | None = None
    most = -1
    for point in points:
        odd = [(t, n) for t, n in counts.most_common() if _parse(t, point) is None]
        read = total - sum(n for _, n in odd)
        if read > most:
            marked = any(
                _is_marked(t, point) for t in counts if _parse(t, point) is not None
            )
            best, most = Numerals(point, marked, tuple(odd)), read
    assert best is not None
    if most < max(_SHARE * total, _LEAST) or len(best.odd) > _MOST_ODD:
        return None
    odd_texts = {text for text, _ in best.odd}
    numbers = [text for text in counts if text not in odd_texts]
    if any(_CODE.match(text) for text in numbers):
        return None
    whole = all(text.lstrip("+-").isdigit() for text in numbers)
    return None if whole and len(numbers) <= _FEW else best


def read_numerals(column: Any, decimal: str) -> np.ndarray:
    """Return a column as float64 ``[n]``; what is no number becomes NaN."""
    known: dict[Any, float] = {}
    values = column.tolist()
    for value in set(values):
        number = _parse(value.strip(), decimal) if isinstance(value, str) else value
        known[value] = np.nan if number is None or number != number else float(number)
    return np.array([known[value] for value in values], np.float64)


def _parse(text: str, decimal: str) -> float | None:
    plain = _MARKS.sub("", _MARKS.sub("", text))
    if plain.lstrip("+-").lower() in _SPECIAL:
        return float(plain)
    pattern = _ENGLISH if decimal == "." else _COMMA
    if not any(c.isdigit() for c in plain) or not pattern.fullmatch(plain):
        return None
    other = "," if decimal == "." else "."
    return float(plain.replace(other, "").replace(decimal, "."))


def _is_marked(text: str, decimal: str) -> bool:
    other = "," if decimal == "." else "."
    return other in text or _MARKS.search(text) is not None
