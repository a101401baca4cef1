"""Fair scores around any classifier: random and exact, deterministic, or blind."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from jaxsteer._errors import check_choice
from jaxsteer._labels import cell_codes
from jaxsteer.channels import balanced_quantiles, blind_channel, roc_channel
from jaxsteer.estimators._fold_models import (
    fit_fold_models,
    log_odds,
    row_values,
)
from jaxsteer.estimators._rows import (
    as_rows,
    check_lengths,
    fit_groups,
    fit_labels,
    group_codes,
    require_filled_cells,
)

METHODS = ("roc", "quantiles", "blind")


class FairScore(ClassifierMixin, BaseEstimator):
    """Give any classifier a score with equal error rates at every threshold.

    The classifier's out-of-fold scores say what its score tells of the label in each
    group. What is done with them is the `method`:

    - "roc": the ROC channel degrades each group's score, by a random choice among a few
      values, to the most that every group can give. True- and false-positive rates are
      equal across groups at every threshold, in sample exactly and on new rows up to
      sampling and binning. With a `tolerance` more is kept, and less is random.
    - "quantiles": the class-balanced quantile of the score in its group. Nothing is
      random; no other increasing maps of the scores have a smaller largest gap.
    - "blind": as "roc", but the group is not needed at prediction: a second classifier
      reads it from the features.

    Each value is then the probability of the second class. Two classes, any number of
    groups, no labels at prediction. A random choice belongs to the row: equal rows get
    equal answers, asking again changes nothing, and one row a call is as good as a batch.

    Every row is scored by models that have not seen it (`repeats` times `cv` are
    trained), new rows by one of each repeat; the scores are averaged as log odds.

    Args:
        estimator: A classifier with ``predict_proba``, or a pipeline that ends in one;
            None takes a logistic regression.
        method: "roc", "quantiles" or "blind".
        cv: Folds for the out-of-fold scores, each with rows of every class and group.
        repeats: How often the rows are shuffled into folds.
        bins: Bins of the score in each group for "roc", 60 if None; for "blind" those of
            the score and of the group's probability within them, (24, 5) if None.
        tolerance: Largest gap that "roc" may leave, in sample.
        class_weight: For "quantiles": 1/2 weighs both rates alike, 1 makes true-positive
            rates equal at every threshold, 0 false-positive rates.
        group_estimator: For "blind": the classifier that reads the group; None takes a
            copy of `estimator`.
        random_state: Seed of the folds and of the choice, which is settled at fit time:
            None takes a new one at each fit.

    Attributes:
        classes_: The two labels; scores are probabilities of the second.
        groups_: The groups, ``[G]``.
        estimators_: The ``repeats * cv`` fitted classifiers.
        channel_: The :class:`jaxsteer.RocChannel`, :class:`jaxsteer.ScoreMap` or
            :class:`jaxsteer.BlindChannel`.
        held_out_score_: ``[n]`` out-of-fold log odds of the training rows.
        fair_training_score_: ``[n]`` the fair scores made of them, for a later learner.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> sex, paid = rng.choice(["f", "m"], 2000), rng.choice(["no", "yes"], 2000)
        >>> X = rng.normal(size=(2000, 1)) + np.where(sex == "f", 2, 1)[:, None] * (
        ...     paid == "yes"
        ... )[:, None]
        >>> model = FairScore(random_state=0).fit(X, paid, sensitive_features=sex)
        >>> raised = model.predict(X, sensitive_features=sex) == "yes"
        >>> rates = [raised[(sex == s) & (paid == "yes")].mean() for s in ("f", "m")]
        >>> bool(abs(rates[0] - rates[1]) < 0.1)
        True
        >>> certain = model.with_options(method="quantiles")
        >>> raised = certain.predict(X, sensitive_features=sex) == "yes"
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        method: str = "roc",
        cv: int = 5,
        repeats: int = 3,
        bins: Any = None,
        tolerance: float = 0.0,
        class_weight: float = 0.5,
        group_estimator: Any = None,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.method = method
        self.cv = cv
        self.repeats = repeats
        self.bins = bins
        self.tolerance = tolerance
        self.class_weight = class_weight
        self.group_estimator = group_estimator
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
        row_ids: Any = None,
    ) -> FairScore:
        """Fit the classifiers and the channel.

        Args:
            X: ``[n, d]`` rows, as the classifier takes them.
            y: ``[n]`` labels of two kinds.
            sensitive_features: ``[n]`` groups of any kind, or ``[n, m]`` columns, each
                combination of which is a group.
            sample_weight: ``[n]`` weights of the rows, or None.
            row_ids: ``[n]`` or ``[n, m]`` what tells people apart, numbers or text, such
                as their number of customer. Folds and draws then follow it, not the
                features: prediction with the same ids answers training rows by the
                models that have not seen them, so as `fair_training_score_` does.

        Raises:
            ValueError: If an argument is unusable, there are not two classes, or a
                class has fewer rows in a group than there are folds.
        """
        self._check_options()
        X = as_rows(X)
        label, self.classes_ = fit_labels(y)
        if len(self.classes_) != 2:
            raise ValueError(
                f"y has {len(self.classes_)} classes, but a fair score needs 2; turn y "
                "into one class against the rest."
            )
        group, self.groups_ = fit_groups(sensitive_features)
        check_lengths(
            X=X,
            y=label,
            sensitive_features=group,
            sample_weight=sample_weight,
            row_ids=row_ids,
        )
        require_filled_cells(label, group, self.classes_, self.groups_, least=self.cv)
        weights = None if sample_weight is None else np.asarray(sample_weight, float)
        is_seed = isinstance(self.random_state, int)
        self._seed = (
            self.random_state
            if is_seed
            else int(check_random_state(self.random_state).randint(2**31 - 1))
        )
        self._hashed = row_ids is not None
        self._rows = row_values(X) if row_ids is None else np.asarray(row_ids)
        self._training = X, label, group, weights
        self._label_models = self._fit_folds(self.estimator, label)
        self._group_models = None
        return self._fit_channel()

    def with_options(self, **options: Any) -> FairScore:
        """Return a copy with another channel on the same fitted classifiers.

        Args:
            options: `method`, `bins`, `tolerance`, `class_weight` or `group_estimator`.

        Raises:
            ValueError: On other options, which would need another fit, and after
                pickling, which leaves the training rows out.
        """
        check_is_fitted(self)
        if not hasattr(self, "_training"):
            raise ValueError(
                "The training rows are not kept in a pickled estimator: call "
                "with_options before saving, or fit again."
            )
        for name in options:
            check_choice(
                "option",
                name,
                ("method", "bins", "tolerance", "class_weight", "group_estimator"),
            )
        other: Any = clone(self)
        other.set_params(**options)
        other._check_options()
        names = ("classes_", "groups_", "_seed", "_training", "_label_models")
        for name in (*names, "_rows", "_hashed"):
            setattr(other, name, getattr(self, name))
        same_probe = "group_estimator" not in options
        other._group_models = self._group_models if same_probe else None
        return other._fit_channel()

    def predict_proba(
        self, X: Any, *, sensitive_features: Any = None, row_ids: Any = None
    ) -> np.ndarray:
        """Return the fair probability of both classes, ``[n, 2]``.

        Args:
            X: ``[n, d]`` rows, as the classifier takes them.
            sensitive_features: ``[n]`` groups, or ``[n, m]`` columns, as at fit time;
                not read by method="blind".
            row_ids: What tells people apart, as at fit time; None takes the features.

        Raises:
            ValueError: If a group was not there at fit time.
        """
        check_is_fitted(self)
        X = as_rows(X)
        check_lengths(X=X, row_ids=row_ids)
        group = None
        if self.method != "blind":
            group = group_codes(sensitive_features, self.groups_)
            check_lengths(X=X, sensitive_features=group)
        rows = row_values(X) if row_ids is None else np.asarray(row_ids)
        score = log_odds(self._label_models.log_probabilities(X, rows))
        probe = None
        if self._group_models is not None and self.method == "blind":
            probe = self._group_models.log_probabilities(X, rows)
        fair = self._transport(score, group, probe, rows)
        return np.stack([1 - fair, fair], axis=1)

    def predict(
        self, X: Any, *, sensitive_features: Any = None, row_ids: Any = None
    ) -> np.ndarray:
        """Return the likelier class by the fair score, ``[n]``.

        The decision is as random as the score: the second class where the score drawn
        is above one half.
        """
        fair = self.predict_proba(
            X, sensitive_features=sensitive_features, row_ids=row_ids
        )[:, 1]
        return self.classes_[(fair > 0.5).astype(int)]

    def score(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> float:
        """Return the accuracy of :meth:`predict`."""
        predicted = self.predict(X, sensitive_features=sensitive_features)
        return float(accuracy_score(y, predicted, sample_weight=sample_weight))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the training rows out of what is written."""
        state: Any = super().__getstate__()
        return {k: v for k, v in state.items() if k not in ("_training", "_rows")}

    def _check_options(self) -> None:
        check_choice("method", self.method, METHODS)
        for name, least in (("cv", 2), ("repeats", 1)):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= least):
                raise ValueError(
                    f"{name} must be a whole number of at least {least}, got {value!r}."
                )
        for name, method, default in (
            ("tolerance", "roc", 0.0),
            ("class_weight", "quantiles", 0.5),
        ):
            value = getattr(self, name)
            if value != default and self.method != method:
                raise ValueError(
                    f"{name}={value} has no meaning for method={self.method!r}; pass "
                    f"method={method!r}, or leave it out."
                )

    def _fit_folds(self, estimator: Any, target: np.ndarray) -> Any:
        X, label, group, weights = self._training
        return fit_fold_models(
            estimator,
            X,
            target,
            cell_codes(label, group, len(self.groups_)),
            weights=weights,
            cv=self.cv,
            repeats=self.repeats,
            seed=self._seed,
            row_ids=self._rows if self._hashed else None,
        )

    def _fit_channel(self) -> FairScore:
        _, label, group, weights = self._training
        self.held_out_score_ = score = log_odds(self._label_models.held_out)
        options: dict[str, Any] = {"weights": weights, "n_groups": len(self.groups_)}
        probe = None
        if self.method == "roc":
            bins = 60 if self.bins is None else self.bins
            self.channel_: Any = roc_channel(
                score, label, group, bins=bins, tolerance=self.tolerance, **options
            )
        elif self.method == "quantiles":
            self.channel_ = balanced_quantiles(
                score, label, group, class_weight=self.class_weight, **options
            )
        else:
            if self._group_models is None:
                base = self.estimator
                if self.group_estimator is not None:
                    base = self.group_estimator
                self._group_models = self._fit_folds(base, group)
            probe = self._group_models.held_out
            if self.bins is not None:
                options["bins"] = self.bins
            self.channel_ = blind_channel(
                score, _probabilities(probe), label, group, **options
            )
        self.fair_training_score_ = self._transport(score, group, probe, self._rows)
        return self

    def _transport(
        self, score: np.ndarray, group: Any, probe: Any, rows: np.ndarray
    ) -> np.ndarray:
        """Fair scores ``[n]`` of log odds, by draws that belong to the rows."""
        # Apart from the keys of the folds, which are numbered from 0.
        key = jax.random.fold_in(jax.random.key(self._seed), 2**31)
        draw: dict[str, Any] = {"key": key, "draw": "row", "rows": rows}
        if self.method == "roc":
            fair = self.channel_.transport(score, group, **draw)
        elif self.method == "quantiles":
            fair = self.channel_.calibrate(self.channel_.transport(score, group))
        else:
            fair = self.channel_.transport(score, _probabilities(probe), **draw)
        return np.asarray(fair, float)

    @property
    def estimators_(self) -> list[Any]:
        """The fitted classifiers, those of a repeat side by side."""
        return [model for models in self._label_models.estimators for model in models]

    @property
    def n_features_in_(self) -> int:
        """Number of columns at fit time."""
        return self.estimators_[0].n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns at fit time, where they had names."""
        return self.estimators_[0].feature_names_in_


def _probabilities(log: np.ndarray) -> np.ndarray:
    """Group probabilities ``[n, G]``; ``[n]`` log odds of group 1 where there are two."""
    return log_odds(log) if log.shape[1] == 2 else np.exp(log)
