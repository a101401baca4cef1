"""Reweighing as a scikit-learn classifier around any other."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from jaxsteer.baselines import reweighing
from jaxsteer.estimators._rows import (
    as_rows,
    check_lengths,
    fit_groups,
    fit_labels,
    pointing_at_encoder,
    require_filled_cells,
)
from jaxsteer.estimators._weighted import with_weights


class Reweighing(ClassifierMixin, BaseEstimator):
    """Fit a classifier with weights that make label and group independent.

    The rows of class i in group a weigh ``q[i, .] q[., a] / q[i, a]``. Groups are
    needed to fit and not to predict. Nothing is promised of the predictions: measured
    on real tables, the gaps at other thresholds than the default can even widen.

    Args:
        estimator: A classifier that takes ``sample_weight``, or a pipeline that ends in
            one; None takes a logistic regression.

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

    def __init__(self, estimator: Any = None):
        self.estimator = estimator

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> Reweighing:
        """Weigh the rows and fit the classifier.

        Args:
            X: ``[n, d]`` rows, as the classifier takes them.
            y: ``[n]`` labels of any kind.
            sensitive_features: ``[n]`` groups, or ``[n, m]`` columns.
            sample_weight: ``[n]`` weights that the rows have already, or None.

        Raises:
            ValueError: If an argument is unusable, or a class is absent in a group.
        """
        X = as_rows(X)
        label, self.classes_ = fit_labels(y)
        group, self.groups_ = fit_groups(sensitive_features)
        check_lengths(
            X=X, y=label, sensitive_features=group, sample_weight=sample_weight
        )
        require_filled_cells(label, group, self.classes_, self.groups_)
        given = None if sample_weight is None else jnp.asarray(sample_weight)
        weights = reweighing(jnp.asarray(label), jnp.asarray(group), weights=given)
        self.sample_weight_ = np.asarray(weights, dtype=float)
        estimator, options = with_weights(self.estimator, self.sample_weight_)
        with pointing_at_encoder():
            self.estimator_ = estimator.fit(X, self.classes_[label], **options)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted labels, ``[n]``."""
        check_is_fitted(self)
        return self.estimator_.predict(as_rows(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of every class, ``[n, K]``."""
        check_is_fitted(self)
        return self.estimator_.predict_proba(as_rows(X))

    @property
    def n_features_in_(self) -> int:
        """Number of columns at fit time."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns at fit time, where they had names."""
        return self.estimator_.feature_names_in_
