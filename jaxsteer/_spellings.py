"""One value in several spellings: blanks, case, a trailing dot, 1 and "1" and True."""

from __future__ import annotations

import difflib
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def plain(value: Any) -> str:
    """Return what is left of a value without blanks, case, trailing dots and type."""
    is_float = isinstance(value, float | np.floating)
    if isinstance(value, bool | np.bool_) or (is_float and float(value).is_integer()):
        value = int(value)
    # A letter and its accent may be one sign or two, and blanks of several kinds.
    text = unicodedata.normalize("NFKC", str(value))
    return text.strip().rstrip(".").rstrip().casefold()


def merge_spellings(column: Any, what: str) -> Any:
    """Give the spellings of one value in a pandas column the name of the most frequent.

    Args:
        column: ``[n]`` values.
        what: What the column is, for the warning.

    Warns:
        UserWarning: If two spellings became one, naming them and their rows.
    """
    counts = column.value_counts()
    together: dict[str, list[Any]] = {}
    for value in counts.index:
        together.setdefault(plain(value), []).append(value)
    several = [group for group in together.values() if len(group) > 1]
    if not several:
        return column
    listed = "; ".join(
        " and ".join(f"{v!r} ({counts[v]} rows)" for v in group) for group in several
    )
    warnings.warn(
        f"{what} has one value in several spellings, taken as one: {listed}.",
        stacklevel=4,
    )
    names = {value: group[0] for group in several for value in group[1:]}
    return column.map(lambda value: names.get(value, value))


def warn_of_spellings(names: Iterable[Any], what: str) -> None:
    """Say which values differ by blanks, case, a trailing dot or type alone.

    Args:
        names: Distinct values, which stay as different as they are.
        what: What they are of, for the warning.

    Warns:
        UserWarning: If there are such values.
    """
    together: dict[str, list[Any]] = {}
    for name in names:
        together.setdefault(plain(name), []).append(name)
    alike = [" and ".join(map(repr, one)) for one in together.values() if one[1:]]
    if alike:
        warnings.warn(
            f"{what} has values that differ by blanks, case, a trailing dot or type "
            f"alone and are taken for different ones: {'; '.join(alike)}. Write them "
            "alike if they mean the same.",
            stacklevel=4,
        )


def match_values(
    values: Iterable[Any], known: Sequence[Any], what: str
) -> dict[Any, int]:
    """Find each value among the known ones, by another spelling if by no other way.

    Args:
        values: Distinct values.
        known: The known values.
        what: What the values are, for messages.

    Returns:
        The place among `known` of each value.

    Raises:
        ValueError: If a value is not known, saying which near ones are.

    Warns:
        UserWarning: If a value was found in another spelling.
    """
    exact: dict[Any, int] = {}
    loose: dict[str, int] = {}
    for place, name in enumerate(known):
        exact.setdefault(_typed(name), place)
        loose.setdefault(plain(name), place)
    found, other, unknown = {}, [], []
    for value in values:
        place = exact.get(_typed(value))
        if place is None:
            place = loose.get(plain(value))
            # 1.0 for 1 is how tables write whole numbers beside missing ones.
            if place is not None and not _is_number(value):
                same = str(value) == str(known[place])
                other += [] if same else [f"{value!r} as {known[place]!r}"]
        if place is None:
            unknown.append(value)
        else:
            found[value] = place
    if unknown:
        raise ValueError(unknown_message(unknown, known, what))
    if other:
        warnings.warn(
            f"{what} was matched in another spelling: {', '.join(other[:10])}.",
            stacklevel=3,
        )
    return found


def unknown_message(unknown: Sequence[Any], known: Sequence[Any], what: str) -> str:
    """Say which values are not known, and which of the known are near."""
    names = {plain(name): name for name in known}
    near = difflib.get_close_matches(plain(unknown[0]), names, n=2, cutoff=0.6)
    hint = (
        f"; did you mean {' or '.join(repr(names[n]) for n in near)}?"
        if near
        else f"; known are {', '.join(map(repr, list(known)[:20]))}."
    )
    listed = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
    return f"{what}: not known: {listed}{hint}"


def _typed(value: Any) -> tuple[str, Any]:
    # True == 1 == 1.0 in Python, which is no reason to take them for one spelling.
    return (type(value).__name__, value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
