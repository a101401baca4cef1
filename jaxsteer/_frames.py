"""Tables of any library to pandas, and several sensitive columns to one group."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxsteer._labels import encode_labels

try:
    import narwhals as nw
    import pandas as pd
except ModuleNotFoundError as error:
    raise ImportError(
        f"Tables need the package {error.name}: pip install 'jaxsteer[sklearn]'."
    ) from error


def to_pandas(frame: Any, what: str = "frame") -> pd.DataFrame:
    """Return a pandas, polars or pyarrow table as a pandas DataFrame with string names.

    Args:
        frame: The table; it is not changed.
        what: Name of the argument, for messages.

    Raises:
        ValueError: If `frame` is no eager table, or two columns have the same name.
    """
    if isinstance(frame, pd.DataFrame):
        table = frame
    else:
        try:
            native = nw.from_native(frame)
        except TypeError:
            raise ValueError(
                f"{what} must be a pandas, polars or pyarrow table, got "
                f"{_public_name(frame)}."
            ) from None
        if isinstance(native, nw.LazyFrame):
            raise ValueError(f"{what} is a lazy frame; call .collect() first.")
        if not isinstance(native, nw.DataFrame):
            raise ValueError(
                f"{what} must be a table with columns, got {_public_name(frame)}."
            )
        table = native.to_pandas()
    names = [str(name) for name in table.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"{what} has more than one column named {', '.join(map(repr, repeated))}; "
            "rename or drop the repeats."
        )
    if names != list(table.columns):
        table = table.set_axis(names, axis=1)
    return table


def _public_name(value: Any) -> str:
    """Package and class, as users import it: modules inside packages move."""
    package = type(value).__module__.partition(".")[0]
    return f"{package}.{type(value).__name__}"


def missing_column_message(name: str, known: Iterable[str], what: str) -> str:
    """Say that a column is not there, and which names are near."""
    columns = list(known)
    folded = {column.casefold(): column for column in reversed(columns)}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(repr(folded[n]) for n in near)}?"
        if near
        else f"the columns are {', '.join(map(repr, columns[:30]))}."
    )
    return f"{what}: there is no column {name!r}; {hint}"


def check_present(column: Any, what: str) -> None:
    """Raise if a column has missing values, saying how many and which rows first."""
    missing = np.flatnonzero(np.asarray(column.isna(), bool))
    if len(missing):
        rows = ", ".join(map(str, missing[:5].tolist()))
        more = ", ..." if len(missing) > 5 else ""
        raise ValueError(
            f"{what} has {len(missing)} missing values, in rows {rows}{more} (counted "
            f"from 0); fill them in or drop those rows."
        )


def encode_column(column: Any, what: str) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Turn a complete column into codes ``[n]`` int32 and the names of the codes."""
    check_present(column, what)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    return encode_labels(column.to_numpy(), what=what)


def encode_groups(columns: Any) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Join sensitive columns into one group a row; only combinations that occur count.

    Args:
        columns: A DataFrame of one or more sensitive columns; the names of several are
            joined by ``" & "``, as in ``"Female & Black"``.

    Returns:
        Codes ``[n]`` int32, and the names in the order of the codes.

    Raises:
        ValueError: If two combinations have one name, as ``"a & b", "c"`` and ``"a",
            "b & c"``.
    """
    parts = [encode_column(columns[name], f"group column {name!r}") for name in columns]
    if len(parts) == 1:
        return parts[0]
    sizes = [len(names) for _, names in parts]
    joint = np.ravel_multi_index([codes for codes, _ in parts], sizes)
    seen, codes = np.unique(joint, return_inverse=True)
    picks = np.stack(np.unravel_index(seen, sizes), axis=1)
    names = tuple(
        " & ".join(str(part[1][code]) for part, code in zip(parts, row, strict=True))
        for row in picks.tolist()
    )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"the sensitive columns {', '.join(map(repr, columns))} give two groups one "
            f"name, {twice!r}; write other values."
        )
    return codes.astype(np.int32), names
