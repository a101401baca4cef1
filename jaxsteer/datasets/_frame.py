"""A table with a label and a group from any frame."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxsteer._frames import (
    check_present,
    encode_column,
    encode_groups,
    missing_column_message,
    to_pandas,
)
from jaxsteer._spellings import match_values, merge_spellings
from jaxsteer._types import ColumnLike, FrameLike
from jaxsteer.datasets._table import Table, stratified_split

# Below this, an error rate has a standard error of about .07 and more.
_SMALL_GROUP = 50
_MAX_VALUES = 100


def table_from_frame(
    frame: FrameLike,
    *,
    label: str,
    group: str | Sequence[str],
    positive: object = None,
    drop: Sequence[str] = (),
    weights: str | None = None,
    train: ColumnLike | None = None,
    name: str = "table",
    need_features: bool = True,
) -> Table:
    """Take a label, a group and the features from a table.

    Args:
        frame: A pandas, polars or pyarrow table (:func:`read_table` reads files).
        label: Column of the label, of integers, strings or booleans.
        group: Sensitive column, or several: a sequence, or names joined by commas as
            ``"sex,race"``. Several columns give one group for each combination that
            occurs.
        positive: The label value that becomes class 1; all others become class 0. None
            keeps every value as a class, in sorted order. Values that differ by blanks,
            case, a trailing dot or type alone (``"yes"`` and ``"Yes "``, 1 and True)
            are one value, in the label and in the group.
        drop: Columns to leave out of the features.
        weights: Column of sampling weights, which is no feature then.
        train: ``[n]`` bool, the rows to train on; None takes
            :func:`stratified_split` with its defaults.
        name: What the table is called.
        need_features: Whether a table without a feature is an error; an audit needs
            none.

    Returns:
        The :class:`Table`. Its features are the columns not named here.

    Raises:
        ValueError: If a column is not there (near names are listed), a label, group or
            weight is missing or unusable, the label or the group has one value only, or
            no feature is left.

    Warns:
        UserWarning: If a group is small, a class has no row in a group, or two spellings
            of one value became one.

    Example:
        >>> import pandas
        >>> frame = pandas.DataFrame(
        ...     {"age": range(200), "sex": ["f", "m"] * 100, "paid": [0, 0, 1, 1] * 50}
        ... )
        >>> table = table_from_frame(frame, label="paid", group="sex")
        >>> table.counts().tolist(), list(table.features)
        ([[50, 50], [50, 50]], ['age'])
    """
    table = to_pandas(frame)
    _check_column(table, label, "label")
    groups = _group_columns(table, group)
    if label in groups:
        raise ValueError(
            f"label and group are the same column {label!r}; a group must be another "
            "column than the label."
        )
    dropped = [drop] if isinstance(drop, str) else list(drop)
    for column in dropped:
        _check_column(table, column, "drop")
    used = [label, *groups, *dropped]
    if weights is not None:
        _check_column(table, weights, "weights")
        used.append(weights)
    features = table.drop(columns=list(dict.fromkeys(used))).reset_index(drop=True)
    if need_features and features.shape[1] == 0:
        raise ValueError(
            "No feature column is left beside label, group, weights and drop."
        )
    codes, names = label_codes(table[label], label, positive)
    group_codes, group_names = encode_groups(
        table[groups].apply(
            lambda column: merge_spellings(column, f"group column {column.name!r}")
        )
    )
    _check_groups(groups, group_names, group_codes)
    built = Table(
        features=features,
        label=codes,
        group=group_codes,
        label_names=names,
        group_names=group_names,
        train=_train(train, codes, group_codes),
        weights=None if weights is None else weight_values(table[weights], weights),
        name=name,
        label_column=label,
        group_columns=tuple(groups),
    )
    _warn_of_empty_cells(built)
    return built


def _check_column(table: pd.DataFrame, column: object, what: str) -> None:
    if not isinstance(column, str):
        raise ValueError(f"{what}={column!r} must be the name of a column, as text.")
    if column not in table.columns:
        raise ValueError(missing_column_message(column, table.columns, what))


def _group_columns(table: pd.DataFrame, group: str | Sequence[str]) -> list[str]:
    if isinstance(group, str):
        # A column whose own name has a comma wins over the list.
        group = [group] if group in table.columns else group.split(",")
        group = [column.strip() for column in group]
    if not isinstance(group, Iterable):
        raise ValueError(f"group={group!r} must be the name of a column, or several.")
    columns = list(dict.fromkeys(group))
    if not columns:
        raise ValueError("group names no column; give one sensitive column or more.")
    for column in columns:
        _check_column(table, column, "group")
    return columns


def label_codes(
    column: Any, name: str, positive: object
) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Return codes ``[n]`` of a label column and their names, the positive one last."""
    what = f"label column {name!r}"
    codes, names = encode_column(merge_spellings(column, what), what)
    if not names[1:]:
        raise ValueError(
            f"label column {name!r} has only the value {names[0]!r}; at least two "
            "classes are needed."
        )
    if positive is None:
        if len(names) > _MAX_VALUES:
            raise ValueError(
                f"label column {name!r} has {len(names)} distinct values, too many for "
                f"classes (at most {_MAX_VALUES}); choose another column, bin it, or "
                "name the favorable value with positive=."
            )
        return codes, names
    try:
        # A command line can only hand over text, so 1 is also found as "1".
        places = match_values([positive], names, "positive")
    except ValueError as error:
        listed = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
        hint = str(error).partition("did you mean ")[2]
        raise ValueError(
            f"positive={positive!r} is no value of the label column {name!r}; its "
            f"values are {listed}" + (f"; did you mean {hint}" if hint else ".")
        ) from None
    chosen = places[positive]
    other = names[1 - chosen] if len(names) == 2 else f"not {names[chosen]}"
    return (codes == chosen).astype(np.int32), (other, names[chosen])


def _check_groups(
    columns: list[str], names: tuple[Any, ...], codes: np.ndarray
) -> None:
    listed = ", ".join(map(repr, columns))
    if not names[1:]:
        raise ValueError(
            f"group column {listed} has only the value {names[0]!r}; at least two "
            "groups are needed."
        )
    if len(names) > _MAX_VALUES:
        raise ValueError(
            f"group column {listed} gives {len(names)} groups, too many (at most "
            f"{_MAX_VALUES}); bin numbers such as an age into a few groups first."
        )
    sizes = np.bincount(codes, minlength=len(names))
    small = [
        f"{group} ({size})"
        for group, size in zip(names, sizes.tolist(), strict=True)
        if size < _SMALL_GROUP
    ]
    if small:
        warnings.warn(
            f"{len(small)} of {len(names)} groups have fewer than {_SMALL_GROUP} rows, "
            f"too few for reliable figures: {', '.join(small[:10])}"
            f"{', ...' if len(small) > 10 else ''}. Merge groups or use fewer columns.",
            stacklevel=3,
        )


def _warn_of_empty_cells(table: Table) -> None:
    empty = [
        f"{table.label_names[i]} in {table.group_names[a]}"
        for i, a in np.argwhere(table.counts() == 0).tolist()
    ]
    if empty:
        warnings.warn(
            f"{len(empty)} classes have no row in a group: {', '.join(empty[:10])}"
            f"{', ...' if len(empty) > 10 else ''}. They cannot be steered; merge "
            "classes or groups.",
            stacklevel=3,
        )


def weight_values(column: Any, name: str) -> np.ndarray:
    """Return a column of sampling weights as float64 ``[n]``."""
    what = f"weights column {name!r}"
    check_present(column, what)
    try:
        values = column.to_numpy(float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must hold numbers: {error}.") from error
    if not np.all(np.isfinite(values)) or (values < 0).any() or values.sum() <= 0:
        raise ValueError(
            f"{what} must hold finite numbers of at least 0 with a positive sum, got a "
            f"minimum of {values.min()} and a maximum of {values.max()}."
        )
    return values


def _train(
    train: ColumnLike | None, label: np.ndarray, group: np.ndarray
) -> np.ndarray:
    if train is None:
        return stratified_split(label, group)
    mask = np.asarray(train)
    if mask.dtype != bool or mask.shape != label.shape:
        raise ValueError(
            f"train must be a mask of {len(label)} booleans, one a row, got "
            f"{mask.dtype} of shape {mask.shape}."
        )
    if not mask.any():
        raise ValueError("train selects no row to train on.")
    return mask
