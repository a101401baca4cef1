"""The rows that a channel is fitted to: checked, on the host, with their cell counts."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from jaxsteer._errors import (
    check_codes,
    check_same_length,
    check_weights,
    is_concrete,
)
from jaxsteer.channels._held_scores import held_scores


class ChannelRows(NamedTuple):
    """Rows of positive weight, in NumPy.

    Attributes:
        score: ``[m]`` or ``[m, K]``, float64, none rounded.
        label: ``[m]`` class codes.
        group: ``[m]`` group codes.
        weights: ``[m]`` positive weights.
        counts: ``[K, G]`` rows of each class and group.
        bins: Bins of each group.
    """

    score: np.ndarray
    label: np.ndarray
    group: np.ndarray
    weights: np.ndarray
    counts: np.ndarray
    bins: int


#: Fewest and most bins that are chosen by the rows.
_FEWEST, _MOST = 8, 60


def channel_rows(
    channel: str,
    score: Any,
    label: Any,
    group: Any,
    weights: Any,
    *,
    bins: int | str,
    n_classes: int,
    n_groups: int | None,
) -> ChannelRows:
    """Check what a channel is fitted to; warn where cells have fewer rows than bins.

    Args:
        channel: The function's name, for messages; it must be two calls up the stack.
        score: Scores with the rows first.
        label: ``[n]`` class codes.
        group: ``[n]`` group codes.
        weights: ``[n]`` or None.
        bins: Bins of each group, or "auto": twice the root of the rows of the smallest
            cell, between 8 and 60.
        n_classes: ``K``.
        n_groups: ``G``, or None to take the largest code plus one.

    Raises:
        ValueError: As the front doors say.
    """
    if not is_concrete(score, label, group, weights):
        raise ValueError(
            f"{channel} is fitted on the host (its bins and curves depend on the data): "
            f"call it outside jit; its transport works inside."
        )
    check_same_length(score=score, label=label, group=group)
    held = held_scores("score", score)
    check_codes("label", label, n_classes)
    n_groups = check_codes("group", group, n_groups)
    if n_groups < 2:
        raise ValueError("group has one value; there is nothing to make equal.")
    if bins != "auto" and not (isinstance(bins, int) and bins >= 2):
        raise ValueError(f"bins={bins!r} must be a whole number of at least 2.")
    label, group = np.asarray(label, int), np.asarray(group, int)
    if weights is None:
        weights = np.ones(len(label))
    else:
        check_same_length(score=score, weights=weights)
        check_weights(weights)
    weights = np.asarray(weights, float)
    counts = np.zeros((n_classes, n_groups), int)
    np.add.at(counts, (label, group), weights > 0)
    for cls, code in np.argwhere(counts == 0).tolist():
        raise ValueError(
            f"no rows of class {cls} in group {code}: its error rates are unknown. Merge "
            f"that group with another, or leave it out."
        )
    if isinstance(bins, str):
        bins = int(np.clip(2 * np.sqrt(counts.min()), _FEWEST, _MOST))
    if counts.min() < bins:
        cls, code = np.unravel_index(counts.argmin(), counts.shape)
        warnings.warn(
            f"class {cls} of group {code} has {counts.min()} rows for {bins} bins: the "
            f"channel will be fair in sample, less so on new rows; use fewer bins or "
            f"merge groups.",
            stacklevel=3,
        )
    # A bin without mass would have an arbitrary kernel row.
    some = weights > 0
    return ChannelRows(
        held[some], label[some], group[some], weights[some], counts, bins
    )


def class_law(label: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """Weighted share of each code."""
    mass = np.bincount(label, weights, size)
    return mass / mass.sum()
