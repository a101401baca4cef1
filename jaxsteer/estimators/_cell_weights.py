"""Sample weights of rows by their class and group, for the estimators that give them."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from jaxsteer._errors import check_same_length
from jaxsteer._types import ColumnLike, TableLike
from jaxsteer.estimators._alignment import align
from jaxsteer.estimators._base import GroupAware, Rows
from jaxsteer.estimators._rows import label_codes


class CellWeights(GroupAware):
    """Gives ``sample_weight_`` and ``sample_weight``; subclasses give ``[K, G]``."""

    classes_: np.ndarray
    groups_: np.ndarray

    def sample_weight(
        self, y: ColumnLike, sensitive_features: TableLike | None
    ) -> np.ndarray:
        """Return the weights ``q~/q`` of rows by label and group, ``[n]``.

        Args:
            y: ``[n]`` labels seen at fit time.
            sensitive_features: ``[n]`` groups, or ``[n, m]`` columns, as at fit time.

        Raises:
            ValueError: If a label or a group was not there at fit time.
        """
        check_is_fitted(self)
        y, sensitive_features = align(y=y, sensitive_features=sensitive_features)
        label = label_codes(y, self.classes_)
        group = self._group(sensitive_features)
        check_same_length(y=label, sensitive_features=group)
        return self._cell_weights()[label, group]

    def _weigh(self, rows: Rows) -> None:
        weights = self._cell_weights()[rows.label, rows.group]
        if rows.weight is not None:
            weights = weights * rows.weight
        self.sample_weight_ = weights

    def _cell_weights(self) -> np.ndarray:
        raise NotImplementedError
