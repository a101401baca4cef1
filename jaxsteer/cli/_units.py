"""Steered features as columns that people can read: in the units of the file."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from jaxsteer.cli._use import significant, steered_names, unmoved_groups

_FIRST = datetime.date(1970, 1, 1).toordinal()


def steered_columns(
    encoder: Any,
    steering: Any,
    x: np.ndarray,
    steered: np.ndarray,
    group: np.ndarray,
    n_groups: int,
) -> dict[str, np.ndarray]:
    """Return the steered columns by name, each in its own unit.

    Args:
        encoder: The fitted encoder.
        steering: The maps.
        x: ``[n, d]`` encoded rows.
        steered: ``[n, m]`` the same steered.
        group: ``[n]`` codes.
        n_groups: Number of groups.

    Returns:
        Numbers as in the file; dates as text; 0/1 columns of categories between their
        two values where they were moved. Coordinates that are not those of the file (of
        a channel) have no unit.
    """
    names = list(encoder.get_feature_names_out())
    titles = steered_names(steered.shape[1], names)
    if steered.shape[1] != x.shape[1]:
        return dict(zip(titles, significant(steered).T, strict=True))
    # Groups that stay keep their values to the last digit.
    stay = unmoved_groups(steering, n_groups)[group]
    values = significant(encoder.in_units(np.where(stay[:, None], x, steered)))
    found: dict[str, np.ndarray] = dict(zip(titles, values.T, strict=True))
    for column in encoder.describe():
        if column["kind"] == "date":
            title = f"steered_{column['outputs'][0]}"
            found[title] = _dates(found[title])
    return found


def _dates(days: np.ndarray) -> np.ndarray:
    """Return dates as text, those beyond the years 1 to 9999 as days since 1970."""
    whole, place = np.unique(np.rint(days).astype(int), return_inverse=True)
    texts = []
    for day in whole.tolist():
        try:
            texts.append(datetime.date.fromordinal(day + _FIRST).isoformat())
        except (ValueError, OverflowError):
            texts.append(str(day))
    return np.array(texts, object)[place]
