"""Sample weights handed to any classifier, a pipeline's last step included."""

from __future__ import annotations

from typing import Any

import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from jaxsteer._types import Classifier


def with_weights(
    estimator: Classifier | None, weights: Any
) -> tuple[Any, dict[str, Any]]:
    """Return an unfitted copy, and the keyword arguments of its ``fit``.

    Args:
        estimator: A classifier or a pipeline that ends in one; None takes a logistic
            regression.
        weights: ``[n]`` sample weights, or None.

    Raises:
        ValueError: If weights are given and the classifier does not take any.
    """
    if estimator is None:
        estimator = LogisticRegression(max_iter=1000)
    copy: Any = clone(estimator)
    if weights is None:
        return copy, {}
    last: Any = copy.steps[-1][1] if isinstance(copy, Pipeline) else copy
    if not has_fit_parameter(last, "sample_weight"):
        raise ValueError(
            f"{type(last).__name__} takes no sample_weight; use a classifier that "
            "does, such as LogisticRegression or HistGradientBoostingClassifier."
        )
    routing = sklearn.get_config()["enable_metadata_routing"]
    if isinstance(copy, Pipeline):
        if routing:
            # Under a name of its own, or a scaler before it would be asked too.
            last.set_fit_request(sample_weight="classifier_weight")
            return copy, {"classifier_weight": weights}
        return copy, {f"{copy.steps[-1][0]}__sample_weight": weights}
    if routing:
        last.set_fit_request(sample_weight=True)
    return copy, {"sample_weight": weights}
