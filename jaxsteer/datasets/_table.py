"""The tables that loaders return, and their split into rows to train on and to test."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from jaxsteer._errors import check_codes, check_same_length
from jaxsteer._labels import cell_codes


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


def stratified_split(
    label: np.ndarray, group: np.ndarray, *, train_share: float = 0.7, seed: int = 0
) -> np.ndarray:
    """Choose the training rows, the same share in every class of every group.

    A cell of m rows gives ``round(train_share * m)`` of them, and at least one.

    Args:
        label: ``[n]`` integer codes.
        group: ``[n]`` integer codes.
        train_share: Share of the rows to train on, between 0 and 1.
        seed: Seed of the random choice.

    Returns:
        ``[n]`` bool, True for a training row.

    Raises:
        ValueError: If `train_share` is not between 0 and 1, or the lengths differ.

    Example:
        >>> train = stratified_split([0, 0, 1, 1], [0, 0, 0, 0], train_share=0.5)
        >>> int(train.sum()), int(train[:2].sum())
        (2, 1)
    """
    if not 0 < train_share < 1:
        raise ValueError(
            f"train_share must be between 0 and 1, got {train_share}; 0.7 trains on "
            "70% of the rows."
        )
    label, group = np.asarray(label), np.asarray(group)
    check_same_length(label=label, group=group)
    check_codes("label", label)
    cell = cell_codes(label, group, check_codes("group", group))
    generator = np.random.default_rng(seed)
    train = np.zeros(len(label), bool)
    for code in np.unique(cell):
        rows = np.flatnonzero(cell == code)
        count = max(1, round(train_share * len(rows)))
        train[generator.permutation(rows)[:count]] = True
    return train
