"""``solve_badr`` as scikit-learn estimators."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from jaxsteer import pareto
from jaxsteer._errors import check_choice
from jaxsteer.estimators._rows import (
    check_lengths,
    check_matrix,
    fit_groups,
    fit_labels,
    random_key,
)

METRICS = {
    "demographic_parity": pareto.DemographicParity,
    "equal_opportunity": pareto.EqualOpportunity,
    "equalized_odds": pareto.EqualizedOdds,
    "disparate_mistreatment": pareto.DisparateMistreatment,
    "hsic": pareto.HSIC,
    "group_loss_variance": pareto.GroupLossVariance,
    "individual_fairness": pareto.IndividualFairness,
}


class _ParetoFair(BaseEstimator):
    """What the classifier and the regressor share."""

    def __init__(
        self,
        model: Any = None,
        *,
        metric: Any = "demographic_parity",
        method: Any = "exact",
        options: Any = None,
        random_state: Any = None,
    ):
        self.model = model
        self.metric = metric
        self.method = method
        self.options = options
        self.random_state = random_state

    def _solve(self, X: Any, target: Any, sensitive_features: Any, weights: Any, model):
        X = check_matrix(self, X, reset=True)  # pyright: ignore[reportArgumentType]
        group, self.groups_ = fit_groups(sensitive_features)
        check_lengths(X=X, y=target, sensitive_features=group, sample_weight=weights)
        self.center_ = np.average(X, 0, weights)
        scale = np.sqrt(np.average((X - self.center_) ** 2, 0, weights))
        self.scale_ = np.where(scale > 0, scale, 1.0)
        data = pareto.group_data(self._rows(X), target, group, weights=weights)
        if isinstance(self.metric, str):
            check_choice("metric", self.metric, METRICS)
        metric = METRICS[self.metric]() if isinstance(self.metric, str) else self.metric
        key = random_key(self.random_state) if self.method == "sgd" else None
        self.solution_ = pareto.solve_badr(
            data, model, metric, self.method, options=self.options, key=key
        )
        self.group_weights_ = np.asarray(self.solution_.group_weights, float)
        return self

    def _rows(self, X: np.ndarray) -> jax.Array:
        return jnp.asarray((X - self.center_) / self.scale_)

    def _score(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)  # pyright: ignore[reportArgumentType]
        return np.asarray(self.solution_.score(self._rows(X)))


def _has_probabilities(estimator: Any) -> bool:
    if not hasattr(estimator, "solution_"):
        return not isinstance(estimator.model, pareto.SmoothSVM)
    return isinstance(estimator.solution_.model, pareto.Logistic | pareto.Softmax)


class ParetoFair(ClassifierMixin, _ParetoFair):
    """The fairest classifier among the Pareto-efficient ones.

    Finds weights of the groups' losses whose best model is the fairest by a metric of
    your choice: no group's loss could be smaller without that of another being larger.
    The group is needed to fit and not to predict. Columns are standardized inside.

    Args:
        model: None takes :class:`jaxsteer.pareto.Logistic` for two classes and
            :class:`jaxsteer.pareto.Softmax` for more; or any
            :class:`jaxsteer.pareto.Model`.
        metric: "demographic_parity", "equal_opportunity", "equalized_odds",
            "disparate_mistreatment", "hsic", "group_loss_variance",
            "individual_fairness", or any :class:`jaxsteer.pareto.Metric`.
        method: "exact", "gd" or "sgd"; see :func:`jaxsteer.pareto.solve_badr`.
        options: Options of the method.
        random_state: Seed of the minibatches of "sgd".

    Attributes:
        classes_: The labels, ``[K]``.
        groups_: The groups, ``[G]``.
        group_weights_: ``[G]`` weights of the groups' losses.
        solution_: The :class:`jaxsteer.pareto.ParetoSolution`.
        center_: ``[d]`` means of the columns.
        scale_: ``[d]`` deviations of the columns.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> sex, paid = rng.choice(["f", "m"], 400), rng.integers(0, 2, 400)
        >>> X = rng.normal(size=(400, 2)) + paid[:, None]
        >>> model = ParetoFair(metric="group_loss_variance", method="gd")
        >>> model.fit(X, paid, sensitive_features=sex).predict(X).shape
        (400,)

    References:
        Tanji, Vaiter and Laguel 2026, "Fairness-informed Pareto optimization" (arXiv
        2601.13448).
    """

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> ParetoFair:
        """Find the group weights and fit the model.

        Args:
            X: ``[n, d]`` finite numbers (:class:`TabularEncoder` makes them).
            y: ``[n]`` labels of any kind.
            sensitive_features: ``[n]`` groups of any kind, or ``[n, m]`` columns, each
                combination of which is a group.
            sample_weight: ``[n]`` weights of the rows, or None.

        Raises:
            ValueError: If an argument is unusable; the message says what to do.
        """
        label, self.classes_ = fit_labels(y)
        model = self.model
        if model is None:
            binary = len(self.classes_) == 2
            model = pareto.Logistic() if binary else pareto.Softmax()
        return self._solve(X, label, sensitive_features, sample_weight, model)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores, ``[n]`` for two classes and ``[n, K]`` for more."""
        return self._score(X)

    def predict(self, X: Any) -> np.ndarray:
        """Return the labels, ``[n]``."""
        score = self._score(X)
        code = score.argmax(1) if score.ndim == 2 else (score > 0).astype(int)
        return self.classes_[code]

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes, ``[n, K]``."""
        score = self._score(X)
        if score.ndim == 1:
            score = np.stack([np.zeros_like(score), score], 1)
        return np.asarray(jax.nn.softmax(jnp.asarray(score)))


class ParetoFairRegressor(RegressorMixin, _ParetoFair):
    """The fairest regression among the Pareto-efficient ones.

    As :class:`ParetoFair`, for real targets; they are standardized inside too, and the
    metric is measured on standardized predictions.

    Args:
        model: None takes :class:`jaxsteer.pareto.Ridge`; or any
            :class:`jaxsteer.pareto.Model`.
        metric: As in :class:`ParetoFair`.
        method: "exact", "gd" or "sgd".
        options: Options of the method.
        random_state: Seed of the minibatches of "sgd".

    Attributes:
        groups_: The groups, ``[G]``.
        group_weights_: ``[G]`` weights of the groups' losses.
        solution_: The :class:`jaxsteer.pareto.ParetoSolution`.
        center_: ``[d]`` means of the columns.
        scale_: ``[d]`` deviations of the columns.
        target_center_: Mean of the target.
        target_scale_: Deviation of the target.
    """

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> ParetoFairRegressor:
        """Find the group weights and fit the model.

        Args:
            X: ``[n, d]`` finite numbers.
            y: ``[n]`` real numbers.
            sensitive_features: ``[n]`` groups of any kind, or ``[n, m]`` columns.
            sample_weight: ``[n]`` weights of the rows, or None.

        Raises:
            ValueError: If an argument is unusable; the message says what to do.
        """
        target = np.asarray(y, float)
        if target.ndim != 1 or not np.isfinite(target).all():
            raise ValueError(f"y must be finite numbers of shape [n], got {y!r}.")
        check_lengths(y=target, sample_weight=sample_weight)
        self.target_center_ = float(np.average(target, weights=sample_weight))
        spread = np.average((target - self.target_center_) ** 2, weights=sample_weight)
        self.target_scale_ = float(spread**0.5) or 1.0
        target = (target - self.target_center_) / self.target_scale_
        model = pareto.Ridge() if self.model is None else self.model
        return self._solve(X, target, sensitive_features, sample_weight, model)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predictions, ``[n]``."""
        return self.target_center_ + self.target_scale_ * self._score(X)
