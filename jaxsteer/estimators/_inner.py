"""What estimators around a classifier take over from it."""

from __future__ import annotations

from sklearn.utils import Tags, get_tags

from jaxsteer._types import Classifier
from jaxsteer.estimators._base import GroupAware


class InnerClassifier(GroupAware):
    """Says of text, missing and sparse values what the inner ``estimator`` says."""

    estimator: Classifier | None

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if self.estimator is not None:
            inner = get_tags(self.estimator).input_tags
            for name in ("allow_nan", "string", "categorical", "sparse"):
                setattr(tags.input_tags, name, getattr(inner, name))
        else:
            tags.input_tags.sparse = True  # the logistic regression that None takes
        if self.sensitive_columns is not None:
            tags.input_tags.sparse = False
        return tags
