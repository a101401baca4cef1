"""Reweighing as a scikit-learn classifier around any other."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from sklearn.base import ClassifierMixin

from jaxsteer._errors import check_same_length
from jaxsteer._types import Classifier, ColumnLike, Columns, TableLike
from jaxsteer.baselines import reweighing
from jaxsteer.estimators._alignment import align
from jaxsteer.estimators._base import GroupAware, Rows
from jaxsteer.estimators._inner import InnerClassifier
from jaxsteer.estimators._rows import (
    check_sample_weight,
    fit_groups,
    fit_labels,
    pointing_at_encoder,
    require_filled_cells,
)
from jaxsteer.estimators._weighted import with_weights


class Reweighing(InnerClassifier, ClassifierMixin, GroupAware):
    """Fit a classifier with weights that make label and group independent.

    The rows of class i in group a weigh ``q[i, .] q[., a] / q[i, a]``. Groups are
    needed to fit and not to predict. Nothing is promised of the predictions: measured
    on real tables, the gaps at other thresholds than the default can even widen.

    Args:
        estimator: A classifier that takes ``sample_weight``, or a pipeline that ends in
            one; None takes a logistic regression.
        sensitive_columns: As in :class:`IdealSteering`.

    Attributes:
        classes_: The labels, ``[K]``.
        groups_: The groups, ``[G]``.
        estimator_: The fitted classifier.
        sample_weight_: ``[n]`` weights of the rows of the fit.

    Example:
        >>> import numpy as np
        >>> X, y = np.arange(8.0)[:, None], np.array(list("nnynnyyy"))
        >>> model = Reweighing().fit(X, y, sensitive_features=[0, 0, 0, 0, 1, 1, 1, 1])
        >>> model.sample_weight_.round(2).tolist()
        [0.67, 0.67, 2.0, 0.67, 2.0, 0.67, 0.67, 0.67]

    References:
        Kamiran and Calders 2012, Knowledge and Information Systems 33, section 4.3.
    """

    _tables = True

    def __init__(
        self,
        estimator: Classifier | None = None,
        *,
        sensitive_columns: Columns = None,
    ):
        self.estimator = estimator
        self.sensitive_columns = sensitive_columns

    def _fit(self, rows: Rows) -> None:
        self.sample_weight_: np.ndarray = _independent(
            rows.label, rows.group, rows.weight
        )
        estimator, options = with_weights(self.estimator, self.sample_weight_)
        with pointing_at_encoder():
            self.estimator_: Any = estimator.fit(
                rows.X, self.classes_[rows.label], **options
            )

    def predict(self, X: TableLike) -> np.ndarray:
        """Return the predicted labels, ``[n]``."""
        rows = self._new_rows(X, needs_group=False)
        return self.estimator_.predict(rows.X)

    def predict_proba(self, X: TableLike) -> np.ndarray:
        """Return the probability of every class, ``[n, K]``."""
        rows = self._new_rows(X, needs_group=False)
        return np.asarray(self.estimator_.predict_proba(rows.X), float)


def fair_weights(
    y: ColumnLike,
    *,
    sensitive_features: TableLike | None,
    sample_weight: ColumnLike | None = None,
) -> np.ndarray:
    """Return weights under which label and group are independent, ``[n]`` float64.

    Args:
        y: ``[n]`` labels of any kind.
        sensitive_features: ``[n]`` groups, or ``[n, m]`` columns.
        sample_weight: ``[n]`` weights that the rows have already, or None.

    Raises:
        ValueError: If an argument is unusable, or a class is absent in a group.

    Example:
        >>> fair_weights([0, 1, 0, 1], sensitive_features=list("ffmm")).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    y, sensitive_features, sample_weight = align(
        y=y, sensitive_features=sensitive_features, sample_weight=sample_weight
    )
    label, classes = fit_labels(y)
    group, groups = fit_groups(sensitive_features)
    weight = check_sample_weight(sample_weight)
    check_same_length(y=label, sensitive_features=group, sample_weight=weight)
    require_filled_cells(label, group, classes, groups)
    return _independent(label, group, weight)


def _independent(
    label: np.ndarray, group: np.ndarray, weight: np.ndarray | None
) -> np.ndarray:
    given = None if weight is None else jnp.asarray(weight)
    weights = reweighing(jnp.asarray(label), jnp.asarray(group), weights=given)
    return np.asarray(weights, dtype=float)
