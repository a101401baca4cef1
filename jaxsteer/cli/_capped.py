"""A classifier that is trained on part of very many rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from jaxsteer.estimators._weighted import with_weights


class Capped(ClassifierMixin, BaseEstimator):
    """Train a classifier on at most so many rows, evenly spread over those given.

    Args:
        estimator: The classifier, or a pipeline that ends in one.
        most: The number of rows.

    Attributes:
        model_: The fitted classifier.
        classes_: Its classes.
    """

    def __init__(self, estimator: Any, *, most: int):
        self.estimator = estimator
        self.most = most

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Capped:
        """Train on ``[n, d]`` rows, labels ``[n]`` and weights ``[n]`` or None."""
        step = max(1, -(-len(y) // self.most))
        rows = np.arange(0, len(y), step)
        weights = None if sample_weight is None else np.asarray(sample_weight)[rows]
        model: Any = clone(self.estimator)
        model, options = with_weights(model, weights)
        self.model_ = model.fit(X[rows], y[rows], **options)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities ``[n, K]``."""
        return self.model_.predict_proba(X)

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class of each row, ``[n]``."""
        return self.model_.predict(X)
