"""What parts the fields of a text file.

The header decides where it can: with the usual separator of the file's ending in it and
no other mark that files are parted by, or without it and with another one. Where it holds
both, as ``income, net;job;sex`` does, the header cannot tell, and clevercsv is asked, by
the consistency of all lines and of the types of their fields, where it is installed.

Measured on the 54 files of ``tests/datasets/test_separator.py``: the header alone is
right on 49, and wrong where a header of semicolons, tabs or bars holds a comma; clevercsv
alone (0.8.5) is right on 50, and finds nothing in files of one column; ``csv.Sniffer`` of
the standard library is right on 50, gives up on files of one column too, and takes a
comma where decimal commas are as regular as semicolons. The two here are right on 53. A
sample of 64 KB takes clevercsv .1 s whatever the size of the file, and only a file with
such a header waits for it.

References: van den Burg, Nazabal and Sutton 2019, "Wrangling messy CSV files by detecting
row and type patterns", Data Mining and Knowledge Discovery 33.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

MARKS = (",", ";", "\t", "|")
#: Letters of the file that are looked at.
SAMPLE = 1 << 16


def find_separator(
    header: Sequence[str], sample: Callable[[], str], usual: str = ","
) -> str:
    r"""Return what parts the fields of a file.

    Args:
        header: Fields of the first line, as the usual separator parts them.
        sample: Reads the beginning of the file, where it is needed.
        usual: What the ending of the file promises.

    Raises:
        ValueError: If the line is Excel's note of the separator.

    Example:
        >>> find_separator(["age;sex"], str)
        ';'
        >>> find_separator(["age", "sex"], str)
        ','
    """
    if header[0].casefold() in {"sep=", *(f"sep={mark}" for mark in MARKS)}:
        raise ValueError(
            f"its first line {usual.join(header)!r} is a note for Excel and names no "
            "columns; delete that line."
        )
    others = [m for m in MARKS if m != usual and any(m in field for field in header)]
    if not others:
        return usual
    if len(header) == 1:
        return next((m for m in MARKS[1:] if m in others), usual)
    return _asked(sample(), [usual, *others]) or usual


def _asked(text: str, marks: Sequence[str]) -> str | None:
    """Return what clevercsv finds, None where it is not there or finds nothing."""
    try:
        clevercsv = importlib.import_module("clevercsv")
    except ModuleNotFoundError:
        return None
    # The last line may be cut.
    lines = text[: text.rfind("\n") + 1] if len(text) >= SAMPLE else text
    try:
        found = clevercsv.Detector().detect(lines, delimiters=list(marks))
    except Exception:  # it has a class of its own, and those of the standard library
        return None
    return found.delimiter if found is not None and found.delimiter in marks else None
