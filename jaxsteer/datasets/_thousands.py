"""Points that mark thousands, in files whose numbers have decimal commas.

``12.500`` in a file of semicolons is twelve thousand and five hundred where ``3,75``
stands beside it, and 12.5 where ``3.75`` does. Read the wrong way a column of incomes
jumps at 1,000 from 999 to 1, without a missing value to tell.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+")
_UNGROUPED = re.compile(r"[+-]?\d{1,3}")


def read_thousands(
    table: pd.DataFrame, column: Callable[[int], pd.Series], *, commas: bool
) -> None:
    """Read points as marks of thousands in place, where that is what they are.

    They are if decimal commas stand in another column, or whole numbers below 1000 in
    the same one. They are not if other numbers have points elsewhere.

    Args:
        table: What was read with decimal points; its columns are replaced.
        column: Returns the text of the column at a place, ``[n]``.
        commas: Whether some column has decimal commas.

    Warns:
        UserWarning: If columns were read so, or may have to be.
    """
    marked: dict[int, pd.Series] = {}
    mixed, points = set(), False
    for place, name in enumerate(table.columns):
        if not pd.api.types.is_float_dtype(table[name].dtype):
            continue
        values = table[name].to_numpy(np.float64, na_value=np.nan)
        if not _may_be_marked(values):
            points |= bool((values[np.isfinite(values)] % 1).any())
            continue
        texts = column(place).astype(str).str.strip()
        known = set(texts[np.isfinite(values)])
        grouped = {text for text in known if _GROUPED.fullmatch(text)}
        others = known - grouped
        if grouped and all(_UNGROUPED.fullmatch(text) for text in others):
            marked[place] = texts.where(np.isfinite(values), "nan")
            mixed |= {place} if others else set()
        else:
            points |= any("." in text for text in others)
    if points and not commas:
        return
    read, unclear = [], []
    for place, texts in marked.items():
        name = table.columns[place]
        if commas or place in mixed:
            numbers = texts.str.replace(".", "", regex=False).astype(np.float64)
            table[name] = numbers.to_numpy()
            read.append(repr(name))
        else:
            unclear.append(repr(name))
    if read:
        warnings.warn(
            f"Points mark thousands in {', '.join(read)} (1.234 was read as 1234); "
            "decimal='.' (--decimal .) reads them as decimal points.",
            stacklevel=7,
        )
    if unclear:
        warnings.warn(
            f"Points in {', '.join(unclear)} were read as decimal points, but may mark "
            "thousands (1.234 for 1234); decimal=',' (--decimal ,) reads them so, "
            "decimal='.' as now.",
            stacklevel=7,
        )


def _may_be_marked(values: np.ndarray) -> bool:
    """Tell from numbers ``[n]`` read with decimal points what texts need not be asked."""
    parted = values[np.isfinite(values)]
    parted = np.abs(parted[parted % 1 != 0])
    whole = np.abs(parted * 1e3 - np.round(parted * 1e3)) < 1e-6
    return bool((whole & (parted >= 1) & (parted < 1e3)).all())
