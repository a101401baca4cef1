"""``roc_channel`` around any classifier."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.validation import check_is_fitted

from jaxsteer.channels import roc_channel
from jaxsteer.estimators._rows import (
    as_rows,
    check_lengths,
    fit_groups,
    fit_labels,
    group_codes,
    pointing_at_encoder,
    random_key,
    require_filled_cells,
    take_rows,
)
from jaxsteer.estimators._weighted import with_weights


class FairScore(ClassifierMixin, BaseEstimator):
    """Give any classifier a score with equal error rates at every threshold.

    The classifier's out-of-fold scores say what its score tells of the label in each
    group. The ROC channel degrades each group's score, by a random choice among a few
    values, to the most that every group can give; each value is then the probability
    of the second class. True- and false-positive rates are equal across groups at
    every threshold, in sample exactly and on new rows up to sampling and binning. Two
    classes, any number of groups, no labels at prediction.

    The choice is random: two equal people can get different scores. Where that is not
    acceptable, ``deterministic=True`` gives the mean of the choice, with error rates
    that are only approximately equal.

    Args:
        estimator: A classifier with ``predict_proba``, or a pipeline that ends in one;
            None takes a logistic regression.
        cv: Folds for the out-of-fold scores, each with rows of every class and group.
        bins: Quantile bins of the score in each group.
        deterministic: Give the mean score instead of a random one.
        random_state: Seed of the folds and of the choice. An integer gives the same
            choice at each call for the same rows in the same order; None gives a new
            one at each call.

    Attributes:
        classes_: The two labels; scores are probabilities of the second.
        groups_: The groups, ``[G]``.
        estimators_: The classifier fitted without each fold in turn; a row is scored by
            one of them, chosen at random (by the mean of all if `deterministic`).
        channel_: The :class:`jaxsteer.RocChannel`.

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
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        cv: int = 5,
        bins: int = 60,
        deterministic: bool = False,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.cv = cv
        self.bins = bins
        self.deterministic = deterministic
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> FairScore:
        """Fit the classifier and the channel.

        Args:
            X: ``[n, d]`` rows, as the classifier takes them.
            y: ``[n]`` labels of two kinds.
            sensitive_features: ``[n]`` groups of any kind, or ``[n, m]`` columns, each
                combination of which is a group.
            sample_weight: ``[n]`` weights of the rows, or None.

        Raises:
            ValueError: If an argument is unusable, there are not two classes, or a
                class has fewer rows in a group than there are folds.
        """
        if not (isinstance(self.cv, int) and self.cv >= 2):
            raise ValueError(
                f"cv must be a whole number of at least 2, got {self.cv!r}."
            )
        X = as_rows(X)
        label, self.classes_ = fit_labels(y)
        if len(self.classes_) != 2:
            raise ValueError(
                f"y has {len(self.classes_)} classes, but a fair score needs 2; turn y "
                "into one class against the rest."
            )
        group, self.groups_ = fit_groups(sensitive_features)
        check_lengths(
            X=X, y=label, sensitive_features=group, sample_weight=sample_weight
        )
        require_filled_cells(label, group, self.classes_, self.groups_, least=self.cv)
        weights = None if sample_weight is None else np.asarray(sample_weight, float)
        is_seed = self.random_state is None or isinstance(self.random_state, int)
        folds = StratifiedKFold(
            self.cv, shuffle=True, random_state=self.random_state if is_seed else None
        )
        cells = label * len(self.groups_) + group
        scores = np.empty(len(label))
        self.estimators_ = []
        for train, held_out in folds.split(np.zeros(len(cells)), cells):
            estimator, options = with_weights(
                self.estimator, None if weights is None else weights[train]
            )
            if not hasattr(estimator, "predict_proba"):
                raise ValueError(
                    f"{type(estimator).__name__} has no predict_proba; use a "
                    "classifier that gives probabilities, or wrap it in "
                    "CalibratedClassifierCV."
                )
            with pointing_at_encoder():
                estimator.fit(take_rows(X, train), label[train], **options)
            scores[held_out] = _second(estimator, take_rows(X, held_out))
            self.estimators_.append(estimator)
        self.channel_ = roc_channel(
            scores, label, group, bins=self.bins, weights=weights
        )
        return self

    def predict_proba(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Return the fair probability of both classes, ``[n, 2]``.

        Args:
            X: ``[n, d]`` rows, as the classifier takes them.
            sensitive_features: ``[n]`` groups, or ``[n, m]`` columns, as at fit time.

        Raises:
            ValueError: If a group was not there at fit time.
        """
        check_is_fitted(self)
        X = as_rows(X)
        group = group_codes(sensitive_features, self.groups_)
        check_lengths(X=X, sensitive_features=group)
        if self.deterministic:
            scores = [_second(estimator, X) for estimator in self.estimators_]
            fair = np.mean(
                [self.channel_.expected_score(score, group) for score in scores], axis=0
            )
        else:
            fold_key, atom_key = jax.random.split(random_key(self.random_state))
            score = self._one_fold_a_row(X, len(group), fold_key)
            fair = self.channel_.transport(score, group, key=atom_key)
        fair = np.asarray(fair, float)
        return np.stack([1 - fair, fair], axis=1)

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Return the likelier class by the fair score, ``[n]``.

        The decision is as random as the score: the second class where the score drawn
        is above one half.
        """
        fair = self.predict_proba(X, sensitive_features=sensitive_features)[:, 1]
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

    def _one_fold_a_row(self, X: Any, n: int, key: jax.Array) -> np.ndarray:
        """Score each row by the classifier of a random fold.

        The scores then have the law of the out-of-fold scores, which the channel was
        fitted to. Those of one classifier fitted on all rows do not: it can be sharper,
        and the steps of boosted trees lie elsewhere.
        """
        fold = np.asarray(jax.random.randint(key, (n,), 0, len(self.estimators_)))
        scores = np.empty(n)
        for code, estimator in enumerate(self.estimators_):
            rows = np.flatnonzero(fold == code)
            if len(rows):
                scores[rows] = _second(estimator, take_rows(X, rows))
        return scores

    @property
    def n_features_in_(self) -> int:
        """Number of columns at fit time."""
        return self.estimators_[0].n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns at fit time, where they had names."""
        return self.estimators_[0].feature_names_in_


def _second(estimator: Any, X: Any) -> np.ndarray:
    return np.asarray(estimator.predict_proba(X), float)[:, 1]
