"""Whether the last line of a text file is a row: pandas fills what is missing of one.

A file that was cut off ends within a row, and some programs write a line below the table
("Total;1.234"). Either would be read as a row whose other fields are missing.
"""

from __future__ import annotations

import os
import pathlib

_TAIL = 1 << 16


def check_last_line(path: pathlib.Path, separator: str, n_fields: int) -> None:
    r"""Raise if the last line has fewer fields than the header and the line before it.

    Lines with quotes, which may hold separators and ends of lines, are not looked at.

    Args:
        path: A file that is not compressed, in an encoding that contains ASCII.
        separator: What parts its fields.
        n_fields: Fields of the header.

    Raises:
        ValueError: If it has.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "rows.csv")
        >>> _ = path.write_text("age,sex\n31,f\n47")
        >>> check_last_line(path, ",", 2)
        Traceback (most recent call last):
            ...
        ValueError: its last line has 1 of 2 fields ('47'), so it was cut off there, ...
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        file.seek(max(0, size - _TAIL))
        lines = [line for line in file.read().splitlines() if line.strip()]
    mark = separator.encode()
    if len(lines) < 3 or b'"' in lines[-1] + lines[-2]:  # the first one may be cut
        return
    found = lines[-1].count(mark) + 1
    if found < n_fields == lines[-2].count(mark) + 1:
        text = lines[-1].decode("utf-8", "replace")
        raise ValueError(
            f"its last line has {found} of {n_fields} fields ({text[:60]!r}), so it was "
            "cut off there, or this is no row of it; complete the line or delete it."
        )
