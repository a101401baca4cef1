"""The arrays of one comparison: encoded features, codes and the train/test split."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsteer._errors import check_codes, check_finite, check_same_length
from jaxsteer._labels import cell_codes
from jaxsteer._repr import one_line
from jaxsteer.estimators import TabularEncoder

if TYPE_CHECKING:
    from jaxsteer.datasets import Table


@dataclasses.dataclass(frozen=True, repr=False)
class Split:
    """Training and test arrays; a method sees everything but `label_test`.

    Attributes:
        x_train: Encoded features, ``[n_train, d]``.
        label_train: Class codes 0 and 1 (1 is the favorable class), ``[n_train]``.
        group_train: Group codes ``0..G-1``, ``[n_train]``.
        x_test: ``[n_test, d]``.
        label_test: ``[n_test]``; read by the metrics only.
        group_test: ``[n_test]``; the group is known at test.
        feature_names: Names of the `d` encoded features.
        label_names: Names of the two classes, by code.
        group_names: Names of the groups, by code.
        reference: Code of the group that stays where it is.
    """

    x_train: np.ndarray
    label_train: np.ndarray
    group_train: np.ndarray
    x_test: np.ndarray
    label_test: np.ndarray
    group_test: np.ndarray
    feature_names: tuple[str, ...] = ()
    label_names: tuple[object, ...] = (0, 1)
    group_names: tuple[object, ...] = ()
    reference: int = 1

    def __repr__(self) -> str:
        """One line: shapes and names, no arrays."""
        return one_line(self)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        seen = int(max(self.group_train.max(), self.group_test.max())) + 1
        return max(seen, len(self.group_names))


def check_split(split: Split) -> None:
    """Raise unless the split can be compared on: lengths, codes, two classes.

    Raises:
        ValueError: Naming the argument, what came and what to do.
    """
    check_same_length(
        x_train=split.x_train,
        label_train=split.label_train,
        group_train=split.group_train,
    )
    check_same_length(
        x_test=split.x_test, label_test=split.label_test, group_test=split.group_test
    )
    if (
        np.ndim(split.x_train) != 2
        or np.shape(split.x_train)[1] != (np.shape(split.x_test)[-1])
    ):
        raise ValueError(
            "x_train and x_test must have shapes [n, d] with one d, got "
            f"{np.shape(split.x_train)} and {np.shape(split.x_test)}."
        )
    check_finite("x_train", split.x_train)
    check_finite("x_test", split.x_test)
    for part in ("train", "test"):
        labels = getattr(split, f"label_{part}")
        check_codes(f"label_{part}", labels, 2 if len(split.label_names) == 2 else None)
        check_codes(f"group_{part}", getattr(split, f"group_{part}"), split.n_groups)
        counts = cell_counts(labels, getattr(split, f"group_{part}"), 2, split.n_groups)
        if np.max(labels) > 1:
            raise ValueError(
                "The comparison needs a binary label (codes 0 and 1); label_"
                f"{part} has {int(np.max(labels)) + 1} classes: choose one class as "
                "the positive one and join the others."
            )
        if (counts == 0).any():
            label, group = (int(i) for i in np.argwhere(counts == 0)[0])
            raise ValueError(
                f"The {part} rows have no member of class {label} in group {group}, so "
                "its rates are unknown: join that group with another one or use more "
                "rows."
            )
    if split.n_groups < 2:
        raise ValueError(
            "The comparison needs at least two groups, got one; there is no gap to "
            "measure."
        )
    if not 0 <= split.reference < split.n_groups:
        raise ValueError(
            f"reference={split.reference} is no group code, expected "
            f"0..{split.n_groups - 1}."
        )


def cell_counts(
    label: np.ndarray, group: np.ndarray, n_classes: int, n_groups: int
) -> np.ndarray:
    """Return the counts of rows by class and group, ``[K, G]``."""
    n_classes = max(n_classes, int(np.max(label)) + 1)
    flat = np.asarray(cell_codes(label, group, n_groups))
    return np.bincount(flat, minlength=n_classes * n_groups).reshape(-1, n_groups)


def split_table(
    table: Table, *, encoder: TabularEncoder | None = None, reference: int = 1
) -> Split:
    """Encode a table; the encoder sees the training rows only.

    Args:
        table: A table of :mod:`jaxsteer.datasets`.
        encoder: A scikit-learn transformer, None for a
            :class:`jaxsteer.estimators.TabularEncoder`.
        reference: Code of the group that stays.

    Returns:
        The arrays of the comparison.

    Raises:
        ValueError: If the table has no training rows, or no others.

    Example:
        >>> from jaxsteer import datasets
        >>> split = split_table(datasets.load_german())
        >>> split.x_train.shape[1] == len(split.feature_names)
        True
    """
    from jaxsteer.estimators import TabularEncoder

    encoder = TabularEncoder() if encoder is None else encoder
    features: Any = table.features
    train = np.asarray(table.train, bool)
    if train.all() or not train.any():
        raise ValueError(
            "table.train must hold both training and test rows, got "
            f"{int(train.sum())} training rows of {train.size}: give a mask."
        )
    x_train = np.asarray(encoder.fit_transform(features[train]))
    x_test = np.asarray(encoder.transform(features[~train]))
    label, group = np.asarray(table.label), np.asarray(table.group)
    return Split(
        x_train,
        label[train],
        group[train],
        x_test,
        label[~train],
        group[~train],
        feature_names=tuple(str(n) for n in encoder.get_feature_names_out()),
        label_names=tuple(table.label_names),
        group_names=tuple(table.group_names),
        reference=reference,
    )
