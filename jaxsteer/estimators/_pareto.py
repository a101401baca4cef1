"""``solve_badr`` as scikit-learn estimators."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if

from jaxsteer import pareto
from jaxsteer._errors import check_choice
from jaxsteer._types import Columns, RandomState, TableLike
from jaxsteer.estimators._base import GroupAware, Rows
from jaxsteer.estimators._group_maps import on_host
from jaxsteer.estimators._rows import random_key

METRICS = {
    "demographic_parity": pareto.DemographicParity,
    "equal_opportunity": pareto.EqualOpportunity,
    "equalized_odds": pareto.EqualizedOdds,
    "disparate_mistreatment": pareto.DisparateMistreatment,
    "hsic": pareto.HSIC,
    "group_loss_variance": pareto.GroupLossVariance,
    "individual_fairness": pareto.IndividualFairness,
}


class _ParetoFair(GroupAware):
    """What the classifier and the regressor share."""

    def __init__(
        self,
        model: Any = None,
        *,
        metric: Any = "demographic_parity",
        method: Any = "exact",
        options: Any = None,
        random_state: RandomState = None,
        sensitive_columns: Columns = None,
    ):
        self.model = model
        self.metric = metric
        self.method = method
        self.options = options
        self.random_state = random_state
        self.sensitive_columns = sensitive_columns

    def _least_rows(self) -> int:
        # A class may be absent in a group: most metrics do not mind.
        return 0

    def _check_options(self) -> None:
        if isinstance(self.metric, str):
            check_choice("metric", self.metric, METRICS)

    def _solve(self, rows: Rows, target: np.ndarray, model: Any) -> None:
        X, weights = rows.X.astype(float), rows.weight
        self.center_: np.ndarray = np.average(X, 0, weights)
        scale = np.sqrt(np.average((X - self.center_) ** 2, 0, weights))
        self.scale_: np.ndarray = np.where(scale > 0, scale, 1.0)
        data = pareto.group_data(self._rows(X), target, rows.group, weights=weights)
        metric = METRICS[self.metric]() if isinstance(self.metric, str) else self.metric
        key = random_key(self.random_state) if self.method == "sgd" else None
        found = pareto.solve_badr(
            data, model, metric, self.method, options=self.options, key=key
        )
        self.solution_: Any = on_host(found)
        self.group_weights_: np.ndarray = np.asarray(
            self.solution_.group_weights, float
        )

    def _rows(self, X: np.ndarray) -> jax.Array:
        return jnp.asarray((X - self.center_) / self.scale_)

    def _score(self, X: Any) -> np.ndarray:
        rows = self._new_rows(X, needs_group=False)
        return np.asarray(self.solution_.score(self._rows(rows.X)), float)


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
        sensitive_columns: As in :class:`IdealSteering`.

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

    def _fit(self, rows: Rows) -> None:
        model = self.model
        if model is None:
            binary = len(self.classes_) == 2
            model = pareto.Logistic() if binary else pareto.Softmax()
        self._solve(rows, rows.label, model)

    def decision_function(self, X: TableLike) -> np.ndarray:
        """Return the scores, ``[n]`` for two classes and ``[n, K]`` for more."""
        return self._score(X)

    def predict(self, X: TableLike) -> np.ndarray:
        """Return the labels, ``[n]``."""
        score = self._score(X)
        code = score.argmax(1) if score.ndim == 2 else (score > 0).astype(int)
        return self.classes_[code]

    @available_if(_has_probabilities)
    def predict_proba(self, X: TableLike) -> np.ndarray:
        """Return the probabilities of the classes, ``[n, K]``."""
        score = self._score(X)
        if score.ndim == 1:
            score = np.stack([np.zeros_like(score), score], 1)
        return softmax(score, axis=1)


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
        sensitive_columns: As in :class:`IdealSteering`.

    Attributes:
        groups_: The groups, ``[G]``.
        group_weights_: ``[G]`` weights of the groups' losses.
        solution_: The :class:`jaxsteer.pareto.ParetoSolution`.
        center_: ``[d]`` means of the columns.
        scale_: ``[d]`` deviations of the columns.
        target_center_: Mean of the target.
        target_scale_: Deviation of the target.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X, group = rng.normal(size=(200, 2)), rng.integers(0, 2, 200)
        >>> y = X[:, 0] * (1 + group) + rng.normal(size=200)
        >>> fit = ParetoFairRegressor(method="gd").fit(X, y, sensitive_features=group)
        >>> fit.predict(X).shape
        (200,)
    """

    _target = "numbers"

    def _fit(self, rows: Rows) -> None:
        target, weights = rows.label, rows.weight
        self.target_center_: float = float(np.average(target, weights=weights))
        spread = np.average((target - self.target_center_) ** 2, weights=weights)
        self.target_scale_: float = float(spread**0.5) or 1.0
        target = (target - self.target_center_) / self.target_scale_
        self._solve(rows, target, pareto.Ridge() if self.model is None else self.model)

    def predict(self, X: TableLike) -> np.ndarray:
        """Return the predictions, ``[n]``."""
        score = self._score(X)
        return self.target_center_ + self.target_scale_ * score
