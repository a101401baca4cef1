"""Rows of several pandas inputs brought into one order, or refused."""

from __future__ import annotations

from typing import Any

import pandas as pd


def align(**given: Any) -> list[Any]:
    """Return the arguments with the rows of all pandas inputs in the order of the first.

    Series and tables with the same index labels in another order are put in order, as
    pandas itself would. Arrays, lists and tables of other libraries have no index and go
    by place. Lengths are not checked here.

    Args:
        given: Arguments by name, X first where there is one; None is passed on.

    Raises:
        ValueError: If two indexes hold different labels, or the order of an array's
            rows would have to be guessed.

    Example:
        >>> X = pd.DataFrame({"x": [1.0, 2.0]}, index=["a", "b"])
        >>> y = pd.Series(["of b", "of a"], index=["b", "a"])
        >>> align(X=X, y=y)[1].tolist()
        ['of a', 'of b']
    """
    indexed = [n for n, v in given.items() if isinstance(v, pd.Series | pd.DataFrame)]
    if len(indexed) < 2:
        return list(given.values())
    first = indexed[0]
    base = given[first].index
    by_place = [
        n
        for n, v in given.items()
        if v is not None and n not in indexed and _has_rows(v)
    ]
    out = dict(given)
    for name in indexed[1:]:
        index = given[name].index
        if index.equals(base) or len(index) != len(base):
            # Other lengths are an error that the caller words better.
            continue
        if not (index.is_unique and base.is_unique):
            raise ValueError(
                f"{first} and {name} have different indexes with repeated labels, so "
                f"their rows cannot be matched; {_remedy(name)}"
            )
        strange = index.difference(base, sort=False)
        if len(strange):
            raise ValueError(
                f"{first} and {name} have different indexes: {len(strange)} labels of "
                f"{name} are not in {first} (such as {strange[0]!r}); {_remedy(name)}"
            )
        if by_place:
            raise ValueError(
                f"{first} and {name} have the same index in different orders, and "
                f"{by_place[0]} has none to say which one it follows; pass all three as "
                "pandas objects, or all as arrays in one order."
            )
        out[name] = given[name].reindex(base)
    return list(out.values())


def _has_rows(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str)


def _remedy(name: str) -> str:
    return (
        f"select the same rows in both, or pass {name}.to_numpy() if they are in one "
        "order already."
    )
