"""Array aliases, and the one table of the letters used in shapes.

========  =====================================================
letter    meaning
========  =====================================================
``K``     classes (index ``i``, ``j``)
``G``     groups (index ``a``)
``d``     features
``n``     samples
``...``   leading batch axes, added by ``vmap`` or broadcasting
========  =====================================================

Divergences are in nats, everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any, Protocol, TypeAlias

import jax
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

# What the front doors take; inside everything is a jax.Array.
ArrayLike: TypeAlias = jax.Array | np.ndarray
# Arrays in nested tuples, dicts and registered classes; no checker can say which.
PyTree: TypeAlias = Any
# A single number, traced or not.
Scalar: TypeAlias = jax.Array | float
# The name of a file or folder.
PathLike: TypeAlias = str | os.PathLike[str]
# What the names of Parquet files end in.
PARQUET = (".parquet", ".pq")


class FrameLike(Protocol):
    """A table of named columns, of pandas, polars or another."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        ...


class Classifier(Protocol):
    """What scikit-learn calls a classifier, one that tells probabilities."""

    def fit(self, X: Any, y: Any) -> Any:
        """Learn the labels `y` of the rows `X`."""
        ...

    def predict(self, X: Any) -> Any:
        """Return a class for each row."""
        ...

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class for each row."""
        ...


# Rows of features as people have them: an array, a frame, or rows of numbers and words.
TableLike: TypeAlias = ArrayLike | FrameLike | Sequence[object]
# One value a row: an array, a column of a frame, or a list.
ColumnLike: TypeAlias = ArrayLike | Collection[object]

# Columns of a table, by name or position.
Columns: TypeAlias = str | int | Sequence[str | int] | None
# What scikit-learn takes as a seed.
RandomState: TypeAlias = int | np.random.RandomState | None

__all__ = [
    "PARQUET",
    "Array",
    "ArrayLike",
    "Bool",
    "Classifier",
    "ColumnLike",
    "Columns",
    "DTypeLike",
    "Float",
    "FrameLike",
    "Int",
    "Key",
    "PRNGKeyArray",
    "PathLike",
    "PyTree",
    "RandomState",
    "Scalar",
    "TableLike",
]
