"""ROME as scikit-learn estimators: mixtures by EM, and mixtures of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from jaxsteer._errors import check_choice
from jaxsteer._frames import to_pandas
from jaxsteer.estimators._encoder import TabularEncoder
from jaxsteer.estimators._rows import (
    check_lengths,
    check_matrix,
    fit_labels,
    random_key,
)
from jaxsteer.latent import (
    fit_rome_em,
    fit_rome_moe,
    robust_aggregate,
    select_rome_em,
)

AGGREGATES = ("mixture", "maximin")


class _SensitiveColumns(BaseEstimator):
    """Turns sensitive columns of any kind into numbers, the same at fit and predict."""

    def _fit_sensitive(self, values: Any) -> np.ndarray:
        self.sensitive_encoder_ = TabularEncoder()
        return self.sensitive_encoder_.fit_transform(_table(values))

    def _sensitive(self, values: Any) -> np.ndarray:
        return self.sensitive_encoder_.transform(_table(values))


class _Rome(_SensitiveColumns):
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
        random_state: Any = 0,
    ):
        self.n_groups = n_groups
        self.aggregate = aggregate
        self.radius = radius
        self.sensitive_in_outcome = sensitive_in_outcome
        self.restarts = restarts
        self.ridge = ridge
        self.max_steps = max_steps
        self.random_state = random_state

    def _fit(self, X, y, sensitive_features, sample_weight, **options) -> None:
        check_choice("aggregate", self.aggregate, AGGREGATES)
        X = check_matrix(self, X, reset=True)
        s = self._fit_sensitive(sensitive_features)
        check_lengths(X=X, y=y, sensitive_features=s, sample_weight=sample_weight)
        x = np.concatenate([X, s], 1) if self.sensitive_in_outcome else X
        options = {
            **options,
            "weights": sample_weight,
            "restarts": self.restarts,
            "ridge": self.ridge,
            "max_steps": self.max_steps,
            "key": random_key(self.random_state),
        }
        if np.ndim(self.n_groups) == 0:
            self.fit_ = fit_rome_em(y, x, s, self.n_groups, **options)  # type: ignore[arg-type]
        else:
            self.selection_ = select_rome_em(y, x, s, self.n_groups, **options)  # type: ignore[arg-type]
            self.fit_ = self.selection_.best
        self.responsibilities_ = np.asarray(self.fit_.responsibilities)
        if self.aggregate == "maximin":
            self.aggregate_ = robust_aggregate(y, x, s, self.fit_, radius=self.radius)

    def _outcome(self, X: Any, sensitive_features: Any) -> np.ndarray:
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        if self.aggregate == "maximin" and not self.sensitive_in_outcome:
            return np.asarray(self.aggregate_.predict(X))
        s = self._sensitive(sensitive_features)
        check_lengths(X=X, sensitive_features=s)
        x = np.concatenate([X, s], 1) if self.sensitive_in_outcome else X
        if self.aggregate == "maximin":
            return np.asarray(self.aggregate_.predict(x))
        return np.asarray(self.fit_.predict(x, s))

    def group_probabilities(self, sensitive_features: Any) -> np.ndarray:
        """Return the probability of every latent group before the outcome, ``[n, G]``.

        Args:
            sensitive_features: The sensitive columns, as at fit time.
        """
        check_is_fitted(self)
        return np.asarray(
            self.fit_.group_probabilities(self._sensitive(sensitive_features))
        )


class RomeRegressor(RegressorMixin, _Rome):
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
        random_state: Any = 0,
        variance: str | float = "common",
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
        )
        self.variance = variance

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> RomeRegressor:
        """Find the latent groups.

        Args:
            X: ``[n, d]`` finite numbers.
            y: ``[n]`` outcomes.
            sensitive_features: ``[n]`` or ``[n, m]`` columns of any kind.
            sample_weight: ``[n]`` weights of the rows, or None.

        Raises:
            ValueError: If an argument is unusable.
        """
        y = np.asarray(y, float)
        self._fit(X, y, sensitive_features, sample_weight, variance=self.variance)
        return self

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Return the predicted means, ``[n]``."""
        return self._outcome(X, sensitive_features)

    def score(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        sensitive_features: Any = None,
    ) -> float:
        """Return the share of variance explained."""
        from sklearn.metrics import r2_score

        found = self.predict(X, sensitive_features=sensitive_features)
        return float(r2_score(y, found, sample_weight=sample_weight))


class RomeClassifier(ClassifierMixin, _Rome):
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

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> RomeClassifier:
        """Find the latent groups; arguments as for :meth:`RomeRegressor.fit`."""
        label, self.classes_ = fit_labels(y)
        n_classes = len(self.classes_)
        options = {"family": "bernoulli" if n_classes == 2 else "categorical"}
        self._fit(X, label, sensitive_features, sample_weight, **options)
        return self

    def predict_proba(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Return the probability of every class, ``[n, C]``."""
        found = self._outcome(X, sensitive_features)
        return np.stack([1 - found, found], 1) if found.ndim == 1 else found

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Return the most probable labels, ``[n]``."""
        found = self.predict_proba(X, sensitive_features=sensitive_features)
        return self.classes_[found.argmax(1)]

    def score(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        sensitive_features: Any = None,
    ) -> float:
        """Return the accuracy."""
        right = self.predict(X, sensitive_features=sensitive_features) == np.asarray(y)
        return float(np.average(right, weights=sample_weight))


class _Experts(_SensitiveColumns):
    """What the mixtures of experts share."""

    def __init__(
        self,
        *,
        variant: str = "standard",
        alpha: float = 0.05,
        n_experts: int = 3,
        hidden: int = 64,
        gate_hidden: int = 32,
        learning_rate: float = 0.01,
        weight_decay: float = 0.0,
        epochs: int = 30,
        batch_size: int = 64,
        validation: float = 0.15,
        patience: int | None = 10,
        random_state: int = 0,
    ):
        self.variant = variant
        self.alpha = alpha
        self.n_experts = n_experts
        self.hidden = hidden
        self.gate_hidden = gate_hidden
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation = validation
        self.patience = patience
        self.random_state = random_state

    def _fit(self, X, y, sensitive_features, sample_weight, family: str) -> None:
        X = check_matrix(self, X, reset=True)
        s = self._fit_sensitive(sensitive_features)
        check_lengths(X=X, y=y, sensitive_features=s, sample_weight=sample_weight)
        options = self.get_params()
        seed = int(options.pop("random_state") or 0)
        self.fit_ = fit_rome_moe(
            y, X, s, family=family, weights=sample_weight, seed=seed, **options
        )

    def _outcome(self, X: Any, sensitive_features: Any) -> np.ndarray:
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        s = self._sensitive(sensitive_features)
        check_lengths(X=X, sensitive_features=s)
        return np.asarray(self.fit_.predict(X, s))


class RomeMoERegressor(RegressorMixin, _Experts):
    """A mixture of experts that minds its worst expert.

    Arguments as for :func:`jaxsteer.latent.fit_rome_moe`; `random_state` is its seed.

    Attributes:
        fit_: The :class:`jaxsteer.latent.NeuralFit`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X, s = rng.normal(size=(200, 2)), rng.choice(["f", "m"], 200)
        >>> model = RomeMoERegressor(hidden=8, epochs=1)
        >>> model = model.fit(X, X[:, 0], sensitive_features=s)
        >>> model.predict(X, sensitive_features=s).shape
        (200,)
    """

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> RomeMoERegressor:
        """Train the network; arguments as for :meth:`RomeRegressor.fit`."""
        y = np.asarray(y, float)
        self._fit(X, y, sensitive_features, sample_weight, "normal")
        return self

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Return the predicted means, ``[n]``."""
        return self._outcome(X, sensitive_features)

    score = RomeRegressor.score


class RomeMoEClassifier(ClassifierMixin, _Experts):
    """A mixture of experts for classes; see :class:`RomeMoERegressor`.

    Attributes:
        classes_: The labels, ``[C]``.
        fit_: The :class:`jaxsteer.latent.NeuralFit`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X, s = rng.normal(size=(200, 2)), rng.choice(["f", "m"], 200)
        >>> y = np.where(X[:, 0] > 0, "yes", "no")
        >>> model = RomeMoEClassifier(hidden=8, epochs=1)
        >>> model.fit(X, y, sensitive_features=s).predict_proba(
        ...     X, sensitive_features=s
        ... ).shape
        (200, 2)
    """

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> RomeMoEClassifier:
        """Train the network; arguments as for :meth:`RomeRegressor.fit`."""
        label, self.classes_ = fit_labels(y)
        family = "bernoulli" if len(self.classes_) == 2 else "categorical"
        self._fit(X, label, sensitive_features, sample_weight, family)
        return self

    predict_proba = RomeClassifier.predict_proba
    predict = RomeClassifier.predict
    score = RomeClassifier.score


def _table(values: Any) -> Any:
    if values is None:
        raise ValueError(
            "sensitive_features is missing: the membership of the latent groups depends "
            "on it. Inside a pipeline, switch metadata routing on (sklearn.set_config("
            "enable_metadata_routing=True)) and call .set_fit_request("
            "sensitive_features=True) on this estimator, and likewise for predict."
        )
    if hasattr(values, "columns"):
        return to_pandas(values, "sensitive_features")
    rows = np.asarray(values)
    return rows[:, None] if rows.ndim == 1 else rows
