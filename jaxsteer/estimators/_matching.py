"""Moment matching of groups as scikit-learn transformers: means, and covariances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxsteer._types import Columns
from jaxsteer.baselines import fit_mean_match, fit_mimic
from jaxsteer.estimators._base import Rows
from jaxsteer.estimators._group_maps import AffineGroupSteering, on_host
from jaxsteer.estimators._rows import reference_code


class _Matching(AffineGroupSteering):
    """Moves every group to the moments of one that stays; labels are not read."""

    _target = None
    reference: object

    def _match(self, rows: Rows, fit: Callable[..., Any], **options: Any) -> None:
        """Keep what a baseline finds for these rows and the group that stays."""
        reference = reference_code(self.reference, rows.group, self.groups_)
        self.reference_: Any = self.groups_[reference]
        found = fit(
            rows.X,
            rows.group,
            reference=reference,
            weights=rows.weight,
            n_groups=len(self.groups_),
            **options,
        )
        self.maps_: Any = on_host(found)


class MeanMatching(_Matching):
    """Shift every group onto the mean of the reference group.

    The simplest steering vector: labels are not read. Where groups and classes go
    together it takes the classes along, so :class:`IdealSteering` is the better choice.

    Args:
        reference: The group that stays; None takes the largest.
        sensitive_columns: As in :class:`IdealSteering`.

    Attributes:
        groups_: The groups, ``[G]``.
        reference_: The group that stays.
        maps_: The :class:`jaxsteer.AffineMap` of every group, with NumPy arrays.

    Example:
        >>> import numpy as np
        >>> X, sex = np.array([[0.0], [2.0], [5.0]]), ["f", "f", "m"]
        >>> matched = MeanMatching(reference="m").fit(X, sensitive_features=sex)
        >>> matched.transform(X, sensitive_features=sex).tolist()
        [[4.0], [6.0], [5.0]]

    References:
        Singh et al. 2024, "Representation Surgery", arXiv 2402.09631, section 3.
    """

    def __init__(self, *, reference: object = None, sensitive_columns: Columns = None):
        self.reference = reference
        self.sensitive_columns = sensitive_columns

    def _fit(self, rows: Rows) -> None:
        self._match(rows, fit_mean_match)


class MiMiC(_Matching):
    """Match the mean and the covariance of every group to the reference group.

    Of all affine maps that give a group the first two moments of the reference group
    these move the rows least. Labels are not read; see :class:`MeanMatching`.

    Args:
        reference: The group that stays; None takes the largest.
        ridge: Added to every variance; see :func:`jaxsteer.baselines.fit_mimic`.
        sensitive_columns: As in :class:`IdealSteering`.

    Attributes:
        groups_: The groups, ``[G]``.
        reference_: The group that stays.
        maps_: The :class:`jaxsteer.AffineMap` of every group, with NumPy arrays.

    Example:
        >>> import numpy as np
        >>> X, sex = np.array([[0.0], [2.0], [5.0], [9.0]]), ["f", "f", "m", "m"]
        >>> matched = MiMiC(reference="m").fit(X, sensitive_features=sex)
        >>> matched.transform(X, sensitive_features=sex).round(2).tolist()
        [[5.0], [9.0], [5.0], [9.0]]

    References:
        Singh et al. 2024, "Representation Surgery", arXiv 2402.09631, section 4.
    """

    def __init__(
        self,
        *,
        reference: object = None,
        ridge: float = 1e-5,
        sensitive_columns: Columns = None,
    ):
        self.reference = reference
        self.ridge = ridge
        self.sensitive_columns = sensitive_columns

    def _fit(self, rows: Rows) -> None:
        self._match(rows, fit_mimic, ridge=self.ridge)
