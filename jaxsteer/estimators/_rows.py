"""What every estimator asks of its rows, labels and groups."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Generator
from typing import Any

import jax
import numpy as np
import pandas as pd
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import check_array, check_random_state

from jaxsteer._frames import (
    encode_column,
    encode_groups,
    missing_column_message,
    to_pandas,
)
from jaxsteer._labels import encode_labels
from jaxsteer._spellings import warn_of_spellings
from jaxsteer._types import RandomState

_ENCODE = (
    "encode the table first, as in make_pipeline(jaxsteer.estimators.TabularEncoder(), "
    "...), which handles text and missing values"
)


def as_rows(X: Any) -> Any:
    """Return tables as pandas, sparse matrices unchanged and all else as an array.

    Raises:
        ValueError: If an array has not two axes, or a table a name twice.
    """
    if isinstance(X, pd.DataFrame) or hasattr(X, "toarray"):
        names = X.columns if isinstance(X, pd.DataFrame) else pd.Index([])
        if not names.is_unique:
            repeated = names[names.duplicated()].unique()
            raise ValueError(
                f"X has more than one column named {', '.join(map(repr, repeated))}; "
                "rename or drop the repeats."
            )
        return X
    if hasattr(X, "columns"):
        return to_pandas(X, "X")
    array = _array(X)
    if array.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {array.ndim}D array instead: X must have shape "
            f"[n, d], got {array.shape}. Reshape your data using X.reshape(-1, 1) if it "
            "has one feature, or X.reshape(1, -1) if it is one row."
        )
    if np.iscomplexobj(array):
        raise ValueError("Complex data not supported: X must hold real numbers.")
    for size, what in zip(array.shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={array.shape}) while a minimum of "
                "1 is required."
            )
    return array


def take_rows(X: Any, rows: np.ndarray) -> Any:
    """Return some rows of a table or an array."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return X[rows] if hasattr(X, "shape") else np.asarray(X)[rows]


def finite_matrix(estimator: Any, X: Any, *, least: int = 1) -> np.ndarray:
    """Return `X` as ``[n, d]`` float64 or float32 (as given), all finite.

    Args:
        estimator: Named in messages.
        X: Table or array, its columns checked already.
        least: Rows that there must be.

    Raises:
        ValueError: If `X` has text, missing or infinite values, or too few rows.
    """
    try:
        matrix: Any = check_array(
            X,
            dtype=[np.float64, np.float32],  # pyright: ignore[reportArgumentType]
            ensure_all_finite=False,
            ensure_min_samples=least,
            estimator=estimator,
            input_name="X",
        )
    except ValueError as error:
        if "convert" in str(error):
            raise ValueError(
                f"X has values that are no numbers: {error}; {_ENCODE}."
            ) from (error)
        raise
    bad = ~np.isfinite(matrix)
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        raise ValueError(
            f"X has {int(bad.sum())} missing or infinite values (NaN or infinity), the "
            f"first in row {row}, column {column}; {_ENCODE}."
        )
    return matrix


@contextlib.contextmanager
def pointing_at_encoder() -> Generator[None]:
    """Add to a classifier's complaint of text or missing values what to do."""
    try:
        yield
    except ValueError as error:
        complaint = str(error).splitlines()[0].rstrip(".")
        if "NaN" in complaint or "infinity" in complaint or "convert" in complaint:
            raise ValueError(f"{complaint}; {_ENCODE}.") from error
        raise


def fit_labels(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return label codes ``[n]`` and the classes in the order of the codes.

    Raises:
        ValueError: If `y` is missing, incomplete, of one class, or no classes at all.
    """
    column = _column(y, "y")
    codes, names = encode_column(column, "y")
    if column.dtype.kind == "f" and any(isinstance(name, float) for name in names):
        raise ValueError(
            "Unknown label type: continuous. y has numbers that are not whole, such as "
            f"{names[0]}; cut them into classes first."
        )
    if not names[1:]:
        raise ValueError(
            f"y has only one class, {names[0]!r}; at least two are needed."
        )
    warn_of_spellings(names, "y")
    return codes, _as_array(names)


def fit_numbers(y: Any) -> np.ndarray:
    """Return real targets ``[n]`` as float64.

    Raises:
        ValueError: If `y` is missing, or has values that are no finite numbers.
    """
    column = _column(y, "y")
    numbers: Any = pd.to_numeric(column, errors="coerce")
    target = numbers.to_numpy(float, na_value=np.nan)
    if not np.isfinite(target).all():
        raise ValueError(
            f"y must be finite numbers, but {int((~np.isfinite(target)).sum())} of "
            f"{len(target)} are missing, infinite or no numbers."
        )
    return target


def label_codes(y: Any, classes: np.ndarray) -> np.ndarray:
    """Return the codes ``[n]`` of labels seen at fit time."""
    codes, names = encode_column(_column(y, "y"), "y")
    return encode_labels(_objects(names), names=classes.tolist(), what="y")[0][codes]


def fit_groups(sensitive_features: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return group codes ``[n]`` and the groups in the order of the codes."""
    codes, names = encode_groups(sensitive_table(sensitive_features))
    if not names[1:]:
        raise ValueError(
            f"sensitive_features has only the group {names[0]!r}; at least two are "
            "needed."
        )
    warn_of_spellings(names, "sensitive_features")
    return codes, _as_array(names)


def group_codes(sensitive_features: Any, groups: np.ndarray) -> np.ndarray:
    """Return the codes ``[n]`` of groups seen at fit time, or raise naming others."""
    codes, names = encode_groups(sensitive_table(sensitive_features))
    known = encode_labels(
        _objects(names), names=groups.tolist(), what="sensitive_features"
    )[0]
    return known[codes]


def reference_code(reference: object, group: np.ndarray, groups: np.ndarray) -> int:
    """Return the code of the reference group; None takes the largest group."""
    if reference is None:
        return int(np.bincount(group, minlength=len(groups)).argmax())
    names = groups.tolist()
    if reference not in names:
        raise ValueError(
            f"reference={reference!r} is no group; the groups are "
            f"{', '.join(map(repr, names))}."
        )
    return names.index(reference)


def require_filled_cells(
    label: np.ndarray,
    group: np.ndarray,
    classes: np.ndarray,
    groups: np.ndarray,
    *,
    least: int = 1,
) -> None:
    """Raise unless every class has at least `least` rows in every group."""
    counts = np.zeros((len(classes), len(groups)), int)
    np.add.at(counts, (label, group), 1)
    short = np.argwhere(counts < least).tolist()
    if short:
        listed = ", ".join(
            f"class {_shown(classes[i])} in group {_shown(groups[a])} ({counts[i, a]})"
            for i, a in short[:5]
        )
        raise ValueError(
            f"{len(short)} cells have fewer than {least} rows: {listed}"
            f"{', ...' if len(short) > 5 else ''}; merge classes or groups, or leave "
            "them out."
        )


def _shown(name: Any) -> str:
    # A name that is nothing, or ends in a blank, would not be seen.
    text = str(name)
    return text if text and text == text.strip() else repr(text)


def random_key(random_state: RandomState) -> jax.Array:
    """Return a JAX key: the same for the same integer, a new one for None."""
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    return jax.random.key(int(seed))


def check_sample_weight(weights: Any) -> np.ndarray | None:
    """Return sample weights as float64 ``[n]``, or None where there are none.

    Raises:
        ValueError: If they are no finite numbers, at least 0 with a positive sum.
    """
    if weights is None:
        return None
    array = np.asarray(weights, float)
    wrong = (~np.isfinite(array) | (array < 0)).sum()
    if array.ndim != 1 or wrong:
        got = f"{wrong} others" if wrong else f"shape {array.shape}"
        raise ValueError(
            "sample_weight must be finite numbers of at least 0 and of shape [n], got "
            f"{got}; leave it out to weigh all rows alike."
        )
    if not 1e-30 <= array.max() <= 1e30:
        raise ValueError(
            "sample_weight is zero in every row; leave it out."
            if array.max() == 0
            else f"sample_weight has a largest value of {array.max():.0e}, which float32 "
            "does not hold; divide the weights by it."
        )
    return array


def require_sensitive(values: Any) -> Any:
    """Return what was given, or say how groups are handed in."""
    if values is None:
        raise ValueError(
            "sensitive_features is missing: pass the group of every row, or name "
            "columns of X by sensitive_columns=[...]. Inside a pipeline, do the latter, "
            "or switch metadata routing on (sklearn.set_config("
            "enable_metadata_routing=True)) and call .set_fit_request("
            "sensitive_features=True) on this estimator, and likewise for transform or "
            "predict."
        )
    return values


def named_columns(values: Any) -> list[str] | None:
    """Return the names of sensitive columns, None where they have none."""
    if hasattr(values, "columns"):
        return [str(name) for name in values.columns]
    name = getattr(values, "name", None)
    return [name] if isinstance(name, str) and name else None


def positions_of(X: Any, chosen: Any) -> np.ndarray:
    """Positions of columns given by name or position, in the order given.

    Raises:
        ValueError: If a column is not there, or is given twice.
    """
    chosen = [chosen] if isinstance(chosen, str | int | np.integer) else list(chosen)
    width = X.shape[1]
    found = []
    for column in chosen:
        if isinstance(column, int | np.integer) and not isinstance(column, bool):
            if not -width <= column < width:
                raise ValueError(
                    f"sensitive_columns={chosen!r}: X has {width} columns, and none at "
                    f"position {column}."
                )
            found.append(int(column) % width)
        elif not isinstance(X, pd.DataFrame):
            raise ValueError(
                f"sensitive_columns={chosen!r} has names, but X is an array without "
                "them; pass a table, or positions."
            )
        elif column not in X.columns:
            names = [str(name) for name in X.columns]
            raise ValueError(missing_column_message(str(column), names, "X"))
        else:
            place: Any = X.columns.get_loc(column)
            found.append(int(place))
    if not found or len(set(found)) < len(found):
        raise ValueError(
            f"sensitive_columns={chosen!r} must name at least one column, each once."
        )
    return np.array(found)


def sensitive_table(values: Any) -> pd.DataFrame:
    """Return sensitive features of any kind as a table of columns.

    Raises:
        ValueError: If there are none, or no rows.
    """
    require_sensitive(values)
    if hasattr(values, "columns"):
        frame = to_pandas(values, "sensitive_features")
    elif np.ndim(values) == 2:
        frame = pd.DataFrame(_array(values)).infer_objects()
        frame = frame.add_prefix("sensitive_")
    else:
        frame = _column(values, "sensitive_features").to_frame()
    if frame.shape[1] == 0 or len(frame) == 0:
        raise ValueError(
            f"sensitive_features must have rows and columns, got {frame.shape}."
        )
    return frame.reset_index(drop=True)


def _column(values: Any, name: str) -> pd.Series:
    if values is None:
        raise ValueError(
            f"{name} is missing: this estimator requires {name} to be passed, but the "
            f"target {name} is None; pass one value for every row."
        )
    if isinstance(values, pd.Series):
        column = values.reset_index(drop=True)
    else:
        array = values.to_numpy() if hasattr(values, "to_numpy") else _array(values)
        if array.ndim == 2 and array.shape[1] == 1:
            if name == "y":
                warnings.warn(
                    "A column-vector y was passed when a 1d array was expected; pass "
                    "y.ravel().",
                    DataConversionWarning,
                    stacklevel=5,
                )
            array = array[:, 0]
        if array.ndim != 1:
            raise ValueError(f"{name} must have shape [n], got {array.shape}.")
        column = pd.Series(array)
    if len(column) == 0:
        raise ValueError(f"{name} has no rows; at least one is needed.")
    return column.rename(name)


def _array(values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind in "US" and not hasattr(values, "dtype"):
        # NumPy writes numbers and missing values among texts as texts, such as "nan".
        array = np.asarray(values, object)
    return array


def _as_array(names: tuple[Any, ...]) -> np.ndarray:
    """Return names as an array, of objects where NumPy would write numbers as text."""
    array = np.array(names)
    is_text = array.dtype.kind == "U" and not all(isinstance(n, str) for n in names)
    return _objects(names) if is_text else array


def _objects(names: tuple[Any, ...]) -> np.ndarray:
    # np.asarray would turn names of mixed types into text.
    out = np.empty(len(names), object)
    out[:] = names
    return out
