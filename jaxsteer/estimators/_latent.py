"""ROME as scikit-learn estimators: mixtures by EM, and mixtures of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from jaxsteer._errors import check_choice
from jaxsteer._types import ColumnLike, Columns, RandomState, TableLike
from jaxsteer.estimators._alignment import align
from jaxsteer.estimators._base import GroupAware, GroupClassifier, Rows
from jaxsteer.estimators._encoder import TabularEncoder
from jaxsteer.estimators._group_maps import on_host
from jaxsteer.estimators._rows import random_key
from jaxsteer.latent import (
    fit_rome_em,
    robust_aggregate,
    select_rome_em,
)

AGGREGATES = ("mixture", "maximin")


def both_classes(found: np.ndarray) -> np.ndarray:
    """Probabilities ``[n, C]`` of all classes, where ``[n]`` are those of the second."""
    return np.stack([1 - found, found], 1) if found.ndim == 1 else found


class EncodesSensitive(GroupAware):
    """Turns sensitive columns of any kind into numbers, the same at fit and predict."""

    _latent = True

    def _outcome(self, rows: Rows) -> np.ndarray:
        raise NotImplementedError

    def _encoded(self, rows: Rows) -> np.ndarray:
        """Sensitive columns ``[n, q]`` of the rows of the fit."""
        self.sensitive_encoder_: TabularEncoder = TabularEncoder()
        return self.sensitive_encoder_.fit_transform(rows.group)

    def _encode(self, table: Any) -> np.ndarray:
        names = self.sensitive_encoder_.feature_names_in_
        if table.shape[1] == len(names):
            # Names were checked where there are any: places count.
            table = table.set_axis(names, axis=1)
        return self.sensitive_encoder_.transform(table)


class _Rome(EncodesSensitive):
    """What the regression and the classification by EM share."""

    def __init__(
        self,
        *,
        n_groups: int | Sequence[int] = 2,
        aggregate: str = "mixture",
        radius: float | None = None,
        sensitive_in_outcome: bool = True,
        restarts: int = 20,
        ridge: float = 1e-3,
        max_steps: int = 500,
        random_state: RandomState = 0,
        sensitive_columns: Columns = None,
    ):
        self.n_groups = n_groups
        self.aggregate = aggregate
        self.radius = radius
        self.sensitive_in_outcome = sensitive_in_outcome
        self.restarts = restarts
        self.ridge = ridge
        self.max_steps = max_steps
        self.random_state = random_state
        self.sensitive_columns = sensitive_columns

    def _check_options(self) -> None:
        check_choice("aggregate", self.aggregate, AGGREGATES)

    def _fit_mixture(self, rows: Rows, **options: Any) -> None:
        X, y, s = rows.X, rows.label, self._encoded(rows)
        x = np.concatenate([X, s], 1) if self.sensitive_in_outcome else X
        options = {
            **options,
            "weights": rows.weight,
            "restarts": self.restarts,
            "ridge": self.ridge,
            "max_steps": self.max_steps,
            "key": random_key(self.random_state),
        }
        if np.ndim(self.n_groups) == 0:
            found = fit_rome_em(y, x, s, self.n_groups, **options)  # type: ignore[arg-type]
        else:
            selection = select_rome_em(y, x, s, self.n_groups, **options)  # type: ignore[arg-type]
            self.selection_: Any = on_host(selection)
            found = selection.best
        self.fit_: Any = on_host(found)
        self.responsibilities_: np.ndarray = np.asarray(self.fit_.responsibilities)
        if self.aggregate == "maximin":
            self.aggregate_: Any = on_host(
                robust_aggregate(y, x, s, found, radius=self.radius)
            )

    def _is_blind(self) -> bool:
        return self.aggregate == "maximin" and not self.sensitive_in_outcome

    def _outcome(self, rows: Rows) -> np.ndarray:
        if self._is_blind():
            return np.asarray(self.aggregate_.predict(rows.X), float)
        s = self._encode(rows.group)
        x = np.concatenate([rows.X, s], 1) if self.sensitive_in_outcome else rows.X
        if self.aggregate == "maximin":
            return np.asarray(self.aggregate_.predict(x), float)
        return np.asarray(self.fit_.predict(x, s), float)

    def group_probabilities(self, sensitive_features: TableLike | None) -> np.ndarray:
        """Return the probability of every latent group before the outcome, ``[n, G]``.

        Args:
            sensitive_features: The sensitive columns, as at fit time.
        """
        check_is_fitted(self)
        encoded = self._encode(self._group(sensitive_features))
        return np.asarray(self.fit_.group_probabilities(encoded))


class LatentRegressor(RegressorMixin, EncodesSensitive):
    """A regressor that reads sensitive columns to predict."""

    _target = "numbers"

    def predict(
        self, X: TableLike, *, sensitive_features: TableLike | None = None
    ) -> np.ndarray:
        """Return the predicted means, ``[n]``.

        Args:
            X: ``[n, d]`` rows, as at fit time.
            sensitive_features: ``[n]`` or ``[n, m]`` columns, as at fit time; None where
                `sensitive_columns` names columns of `X`.
        """
        check_is_fitted(self)
        needs = not self._is_blind()
        rows = self._new_rows(X, sensitive_features, needs_group=needs)
        return self._outcome(rows)

    def score(
        self,
        X: TableLike,
        y: ColumnLike,
        sample_weight: ColumnLike | None = None,
        *,
        sensitive_features: TableLike | None = None,
    ) -> float:
        """Return the share of variance explained."""
        X, y, sample_weight, sensitive_features = align(
            X=X, y=y, sample_weight=sample_weight, sensitive_features=sensitive_features
        )
        found = self.predict(X, sensitive_features=sensitive_features)
        return float(r2_score(y, found, sample_weight=sample_weight))


class RomeRegressor(LatentRegressor, _Rome):
    """Regressions of latent groups whose membership depends on sensitive columns.

    Args:
        n_groups: Number of latent groups, or several to choose from by BIC.
        aggregate: How the groups' predictions become one: "mixture" by the membership
            probabilities of each row; "maximin" by one set of weights that serves the
            worst mixture of groups.
        radius: Of the ball around the groups' shares that "maximin" guards against;
            None guards against all mixtures.
        sensitive_in_outcome: Whether the outcome depends on the sensitive columns too.
            Without, "maximin" needs none of them to predict.
        restarts: Starts of EM, side by side.
        ridge: Pseudo-rows that pull coefficients to zero.
        max_steps: Limit on EM steps.
        random_state: Seed of the starts.
        variance: Of the noise: "common", "group", or a positive number.
        sensitive_columns: As in :class:`IdealSteering`.

    Attributes:
        fit_: The :class:`jaxsteer.latent.RomeFit`.
        responsibilities_: ``[n, G]`` of the rows of the fit.
        selection_: All fits, where several numbers of groups were tried.
        aggregate_: The :class:`jaxsteer.latent.RobustAggregate` ("maximin").

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X, s = rng.normal(size=(400, 1)), rng.normal(size=(400, 1))
        >>> y = np.where(s[:, 0] > 0, 3.0, -3.0) * X[:, 0]
        >>> model = RomeRegressor(restarts=4).fit(X, y, sensitive_features=s)
        >>> bool(model.score(X, y, sensitive_features=s) > 0.9)
        True

    References:
        arXiv 2509.17411.
    """

    def __init__(
        self,
        *,
        n_groups: int | Sequence[int] = 2,
        aggregate: str = "mixture",
        radius: float | None = None,
        sensitive_in_outcome: bool = True,
        restarts: int = 20,
        ridge: float = 1e-3,
        max_steps: int = 500,
        random_state: RandomState = 0,
        variance: str | float = "common",
        sensitive_columns: Columns = None,
    ):
        super().__init__(
            n_groups=n_groups,
            aggregate=aggregate,
            radius=radius,
            sensitive_in_outcome=sensitive_in_outcome,
            restarts=restarts,
            ridge=ridge,
            max_steps=max_steps,
            random_state=random_state,
            sensitive_columns=sensitive_columns,
        )
        self.variance = variance

    def _fit(self, rows: Rows) -> None:
        self._fit_mixture(rows, variance=self.variance)


class RomeClassifier(GroupClassifier, _Rome):
    """Logistic regressions of latent groups; see :class:`RomeRegressor`.

    Args:
        n_groups: As there.
        aggregate: As there.
        radius: As there.
        sensitive_in_outcome: As there.
        restarts: As there.
        ridge: As there.
        max_steps: As there.
        random_state: As there.
        sensitive_columns: As there.

    Attributes:
        classes_: The labels, ``[C]``.
        fit_: The :class:`jaxsteer.latent.RomeFit`.
        responsibilities_: ``[n, G]`` of the rows of the fit.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X, s = rng.normal(size=(400, 1)), rng.normal(size=(400, 1))
        >>> y = np.where(s[:, 0] * X[:, 0] > 0, "yes", "no")
        >>> model = RomeClassifier(restarts=4, ridge=0.1).fit(
        ...     X, y, sensitive_features=s
        ... )
        >>> bool(np.mean(model.predict(X, sensitive_features=s) == y) > 0.9)
        True
    """

    def _fit(self, rows: Rows) -> None:
        binary = len(self.classes_) == 2
        self._fit_mixture(rows, family="bernoulli" if binary else "categorical")

    def _probabilities(self, rows: Rows) -> np.ndarray:
        return both_classes(self._outcome(rows))
