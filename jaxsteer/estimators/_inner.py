"""What estimators around a classifier take over from it."""

from __future__ import annotations

from typing import Any

from sklearn.utils import get_tags

from jaxsteer.estimators._base import GroupAware


class InnerClassifier(GroupAware):
    """Says of missing and sparse values what the inner ``estimator`` says."""

    estimator: Any

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = None if self.estimator is None else get_tags(self.estimator)
        tags.input_tags.sparse = self.sensitive_columns is None and (
            inner is None or inner.input_tags.sparse
        )
        tags.input_tags.allow_nan = inner is not None and inner.input_tags.allow_nan
        return tags
