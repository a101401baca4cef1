"""A split that keeps the share of every class in every group."""

from __future__ import annotations

import numpy as np

from jaxsteer._errors import check_codes, check_same_length
from jaxsteer._labels import cell_codes


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
