"""The table that the other loaders return."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Rows with features, a label, a group and a split.

    Attributes:
        features: ``[n]`` rows; the label, the group columns and the sampling weights
            are not among the columns.
        label: ``[n]`` int32 codes ``0..K-1``.
        group: ``[n]`` int32 codes ``0..G-1``.
        label_names: What the label codes stand for, in order.
        group_names: What the group codes stand for, in order.
        train: ``[n]`` bool, True for the rows to fit on and False for the rows to
            measure on.
        weights: ``[n]`` sampling weights (people that a row stands for), or None.
        name: What the table is called.
        label_column: Name of the column that the label was made of.
        group_columns: Names of the columns that the group was made of.
        attribution: Source and license, empty where unknown.
    """

    features: pd.DataFrame
    label: np.ndarray
    group: np.ndarray
    label_names: tuple[Any, ...]
    group_names: tuple[Any, ...]
    train: np.ndarray
    weights: np.ndarray | None = None
    name: str = "table"
    label_column: str = "label"
    group_columns: tuple[str, ...] = ("group",)
    attribution: str = ""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.label)

    def counts(self) -> np.ndarray:
        """Return the rows of every class and group, ``[K, G]`` int."""
        shape = (len(self.label_names), len(self.group_names))
        counts = np.zeros(shape, int)
        np.add.at(counts, (self.label, self.group), 1)
        return counts

    def take(self, rows: np.ndarray) -> Table:
        """Return the table of some rows, with the same names and codes.

        Args:
            rows: ``[n]`` bool, or row numbers.
        """
        index = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else rows
        return dataclasses.replace(
            self,
            features=self.features.iloc[index].reset_index(drop=True),
            label=self.label[index],
            group=self.group[index],
            train=self.train[index],
            weights=None if self.weights is None else self.weights[index],
        )
