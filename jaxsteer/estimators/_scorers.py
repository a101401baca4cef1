"""Scorers of fairness for model selection, which read the group from the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from jaxsteer._errors import check_choice
from jaxsteer._types import Classifier, ColumnLike, Columns, TableLike
from jaxsteer.audit import metrics
from jaxsteer.estimators._alignment import align
from jaxsteer.estimators._base import GroupAware
from jaxsteer.estimators._rows import as_rows, fit_groups, label_codes, positions_of

#: Metrics of decisions (False) and of scores (True), by name.
METRICS: dict[str, tuple[Callable[..., Any], bool]] = {
    "sup_gap": (metrics.sup_gap, True),
    "auc": (metrics.auc, True),
    "accuracy": (metrics.accuracy, False),
    "balanced_accuracy": (metrics.balanced_accuracy, False),
    "demographic_parity": (metrics.demographic_parity, False),
    "equal_opportunity": (metrics.equal_opportunity, False),
    "equalized_odds": (metrics.equalized_odds, False),
    "tpr_gap": (metrics.tpr_gap, False),
}
_MORE_IS_BETTER = ("auc", "accuracy", "balanced_accuracy")


@dataclasses.dataclass(frozen=True)
class FairScorer:
    """A scorer ``(estimator, X, y) -> number``, larger being better.

    Attributes:
        metric: Name of the metric.
        sensitive_columns: Names or positions of the group's columns in `X`, or a
            function of `X`; None asks the estimator (or a step of its pipeline).
        options: Options of the metric.

    Example:
        >>> import pandas as pd
        >>> from sklearn.linear_model import LogisticRegression
        >>> X = pd.DataFrame({"sex": [0, 0, 1, 1] * 5, "age": range(20)})
        >>> y = [0, 1, 0, 1] * 5
        >>> scorer = FairScorer("demographic_parity", sensitive_columns="sex")
        >>> -1 <= scorer(LogisticRegression().fit(X, y), X, y) <= 0  # a gap, with a minus
        True
    """

    metric: str
    sensitive_columns: Columns = None
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def __call__(
        self,
        estimator: Classifier,
        X: TableLike,
        y: ColumnLike,
        *,
        sensitive_features: TableLike | None = None,
        sample_weight: ColumnLike | None = None,
    ) -> float:
        """Return the metric of the estimator on rows, a gap with a minus sign.

        Args:
            estimator: A fitted classifier.
            X: ``[n, d]`` rows.
            y: ``[n]`` labels.
            sensitive_features: ``[n]`` groups, in the place of columns of `X`; handed
                to the estimator too, which then has no columns of its own.
            sample_weight: ``[n]`` weights, or None.

        Raises:
            ValueError: If no group can be read, or a group or class has no row.
        """
        X, y, sensitive_features, sample_weight = align(
            X=X, y=y, sensitive_features=sensitive_features, sample_weight=sample_weight
        )
        beside: dict[str, Any] = {}
        if sensitive_features is None:
            groups = self._groups(estimator, X)
        else:
            groups = sensitive_features
            beside = {"sensitive_features": groups}
        group, names = fit_groups(groups)
        fitted: Any = estimator
        classes = np.asarray(fitted.classes_)
        label = label_codes(y, classes)
        function, of_scores = METRICS[self.metric]
        options = {"n_groups": len(names), "weights": sample_weight, **self.options}
        if of_scores:
            if len(classes) != 2:
                raise ValueError(
                    f"{self.metric} needs two classes, and the estimator has "
                    f"{len(classes)}; choose 'equalized_odds' or 'tpr_gap'."
                )
            found = _scores(estimator, X, beside)
        else:
            found = label_codes(estimator.predict(X, **beside), classes)
            options["n_classes"] = len(classes)
        value = float(function(label, found, group, **options))
        return value if self.metric in _MORE_IS_BETTER else -value

    def _groups(self, estimator: Any, X: Any) -> Any:
        chosen = self.sensitive_columns
        if chosen is None:
            chosen = _columns_of(estimator)
        if chosen is None:
            raise ValueError(
                "The groups are nowhere: name columns of X by make_fair_scorer(..., "
                "sensitive_columns=[...]), or give them to the estimator."
            )
        if callable(chosen):
            return chosen(X)
        X = as_rows(X)
        take = X.iloc if hasattr(X, "iloc") else X
        return take[:, positions_of(X, chosen)]


def make_fair_scorer(
    metric: str = "sup_gap", *, sensitive_columns: Columns = None, **options: Any
) -> FairScorer:
    """Return a scorer for GridSearchCV, cross_val_score or permutation_importance.

    Args:
        metric: A metric of :mod:`jaxsteer.metrics`: "sup_gap" (the largest gap over all
            thresholds), "equalized_odds", "equal_opportunity", "demographic_parity",
            "tpr_gap", or "auc", "accuracy", "balanced_accuracy". Gaps count with a minus
            sign, so that more is better.
        sensitive_columns: Names or positions of the columns of `X` that hold the group,
            or a function of `X`; None takes those of the estimator.
        options: Options of the metric, such as ``rate="fpr"`` for "sup_gap".

    Returns:
        A scorer ``(estimator, X, y) -> float`` that can be pickled.

    Raises:
        ValueError: If there is no such metric.

    Example:
        >>> import numpy as np
        >>> from sklearn.linear_model import LogisticRegression
        >>> rng = np.random.default_rng(0)
        >>> sex, y = rng.integers(0, 2, (2, 400))
        >>> X = np.stack([sex, rng.normal(size=400) + y], 1)
        >>> model = LogisticRegression().fit(X, y)
        >>> score = make_fair_scorer("sup_gap", sensitive_columns=[0])(model, X, y)
        >>> bool(-0.3 < score < 0)
        True
    """
    check_choice("metric", metric, tuple(METRICS))
    return FairScorer(metric, sensitive_columns, options)


def _columns_of(estimator: Any) -> Any:
    """Sensitive columns of the estimator, if its rows are those of the caller."""
    if isinstance(estimator, Pipeline):
        # Later steps see other columns than the caller's.
        return _columns_of(estimator.steps[0][1])
    if isinstance(estimator, GroupAware):
        return estimator.sensitive_columns
    for name in ("best_estimator_", "estimator"):
        inner = getattr(estimator, name, None)
        if inner is not None:
            return _columns_of(inner)
    return None


def _scores(estimator: Any, X: Any, beside: dict[str, Any]) -> np.ndarray:
    if hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict_proba(X, **beside), float)[:, 1]
    return np.asarray(estimator.decision_function(X, **beside), float)
