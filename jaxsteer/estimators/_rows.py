"""What every estimator asks of its rows, labels and groups."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from jaxsteer._errors import check_same_length
from jaxsteer._frames import encode_column, encode_groups, to_pandas
from jaxsteer._labels import encode_labels

_ENCODE = (
    "encode the table first, as in make_pipeline(jaxsteer.estimators.TabularEncoder(), "
    "...), which handles text and missing values"
)


def as_rows(X: Any) -> Any:
    """Return a table of any library as pandas, and anything else unchanged."""
    if hasattr(X, "columns") and not isinstance(X, pd.DataFrame):
        return to_pandas(X, "X")
    return X


def take_rows(X: Any, rows: np.ndarray) -> Any:
    """Return some rows of a table or an array."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return X[rows] if hasattr(X, "shape") else np.asarray(X)[rows]


def check_matrix(estimator: BaseEstimator, X: Any, *, reset: bool) -> np.ndarray:
    """Return `X` as ``[n, d]`` float32 or float64, all finite.

    Args:
        estimator: Its ``n_features_in_`` and ``feature_names_in_`` are set or held to.
        X: Table or array.
        reset: Whether this is a fit.

    Raises:
        ValueError: If `X` has text, missing or infinite values, or other columns than
            at fit time.
    """
    try:
        matrix: Any = validate_data(
            estimator,
            as_rows(X),
            reset=reset,
            dtype=[np.float32, np.float64],
            ensure_all_finite=False,
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
            f"X has {int(bad.sum())} missing or infinite values, the first in row "
            f"{row}, column {column}; {_ENCODE}."
        )
    return matrix


@contextlib.contextmanager
def pointing_at_encoder() -> Iterator[None]:
    """Add to a classifier's complaint of text or missing values what to do."""
    try:
        yield
    except ValueError as error:
        complaint = str(error).splitlines()[0].rstrip(".")
        if "NaN" in complaint or "infinity" in complaint or "convert" in complaint:
            raise ValueError(f"{complaint}; {_ENCODE}.") from error
        raise


def fit_labels(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return label codes ``[n]`` and the classes in the order of the codes."""
    codes, names = encode_column(_column(y, "y"), "y")
    if not names[1:]:
        raise ValueError(f"y has only the class {names[0]!r}; at least two are needed.")
    return codes, np.array(names)


def label_codes(y: Any, classes: np.ndarray) -> np.ndarray:
    """Return the codes ``[n]`` of labels seen at fit time."""
    codes, names = encode_column(_column(y, "y"), "y")
    return encode_labels(_objects(names), names=classes.tolist(), what="y")[0][codes]


def fit_groups(sensitive_features: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return group codes ``[n]`` and the groups in the order of the codes."""
    codes, names = encode_groups(_sensitive(sensitive_features))
    if not names[1:]:
        raise ValueError(
            f"sensitive_features has only the group {names[0]!r}; at least two are "
            "needed."
        )
    return codes, np.array(names)


def group_codes(sensitive_features: Any, groups: np.ndarray) -> np.ndarray:
    """Return the codes ``[n]`` of groups seen at fit time, or raise naming others."""
    codes, names = encode_groups(_sensitive(sensitive_features))
    known = encode_labels(
        _objects(names), names=groups.tolist(), what="sensitive_features"
    )[0]
    return known[codes]


def reference_code(reference: Any, group: np.ndarray, groups: np.ndarray) -> int:
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
            f"class {classes[i]} in group {groups[a]} ({counts[i, a]})"
            for i, a in short[:5]
        )
        raise ValueError(
            f"{len(short)} cells have fewer than {least} rows: {listed}"
            f"{', ...' if len(short) > 5 else ''}; merge classes or groups, or leave "
            "them out."
        )


def check_lengths(**arrays: Any) -> None:
    """Raise if the arguments that are given differ in their number of rows."""
    check_same_length(**{name: a for name, a in arrays.items() if a is not None})


def random_key(random_state: Any) -> jax.Array:
    """Return a JAX key: the same for the same integer, a new one for None."""
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    return jax.random.key(int(seed))


def _sensitive(values: Any) -> pd.DataFrame:
    if values is None:
        raise ValueError(
            "sensitive_features is missing: pass the group of every row. Inside a "
            "pipeline, switch metadata routing on (sklearn.set_config("
            "enable_metadata_routing=True)) and call .set_fit_request("
            "sensitive_features=True) on this estimator, and likewise for transform or "
            "predict."
        )
    if hasattr(values, "columns"):
        frame = to_pandas(values, "sensitive_features")
    elif np.ndim(values) == 2:
        frame = pd.DataFrame(_array(values)).add_prefix("sensitive_")
    else:
        frame = _column(values, "sensitive_features").to_frame()
    if frame.shape[1] == 0 or len(frame) == 0:
        raise ValueError(
            f"sensitive_features must have rows and columns, got {frame.shape}."
        )
    return frame


def _column(values: Any, name: str) -> pd.Series:
    if values is None:
        raise ValueError(f"{name} is missing: pass one value for every row.")
    if isinstance(values, pd.Series):
        column = values.reset_index(drop=True)
    else:
        array = values.to_numpy() if hasattr(values, "to_numpy") else _array(values)
        if array.ndim == 2 and array.shape[1] == 1:
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


def _objects(names: tuple[Any, ...]) -> np.ndarray:
    # np.asarray would turn names of mixed types into text.
    out = np.empty(len(names), object)
    out[:] = names
    return out
