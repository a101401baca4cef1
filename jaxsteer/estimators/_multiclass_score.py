"""Exactly fair predictions of any number of classes around any classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxsteer._errors import check_choice
from jaxsteer._types import ArrayLike, Classifier, Columns, RandomState, TableLike
from jaxsteer.channels import multiclass_channel
from jaxsteer.estimators._base import Rows
from jaxsteer.estimators._fold_models import row_values
from jaxsteer.estimators._fold_scorer import FoldScorer
from jaxsteer.estimators._group_maps import on_host


class MulticlassScore(FoldScorer):
    """Give any classifier equal confusion matrices in all groups, for any classes.

    The out-of-fold probabilities of a classifier go through
    :func:`jaxsteer.multiclass_channel`: in each group they are degraded, by a random
    choice, to one common experiment. The prediction has equal error rates in all groups
    for every class, on new rows up to sampling and binning, and in sample exactly with
    ``counts="hard"`` and ``shrinkage=0``. The choice belongs to the row, as in
    :class:`FairScore`, which is sharper for two classes.

    Args:
        estimator: A classifier with ``predict_proba``, or a pipeline that ends in one;
            None takes a logistic regression.
        cv: Folds for the out-of-fold scores, each with rows of every class and group.
        repeats: How often the rows are shuffled into folds.
        bins: Bins of the scores in each group, at least the number of classes.
        utility: ``[K, T]`` what each of T atoms is worth in each class; None takes the
            identity, whose atoms are the classes themselves.
        counts: "hard" or "soft"; see :func:`jaxsteer.multiclass_channel`. Most classes
            have few rows in some group, and what undoes the noise of their counts adds
            to the gaps on new rows; the channel's `gap` reports what is left in sample.
        shrinkage: How far each group's laws are drawn to those of all groups, 0 to 1, or
            "auto" by what chance alone would make of their distance; for the same reason.
        random_state: As in :class:`FairScore`.
        sensitive_columns: As in :class:`IdealSteering`.

    Attributes:
        classes_: The labels, ``[K]``.
        groups_: The groups, ``[G]``.
        estimators_: The ``repeats * cv`` fitted classifiers.
        channel_: The :class:`jaxsteer.MulticlassChannel`, with NumPy arrays.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> sex, y = rng.choice(["f", "m"], 1500), rng.integers(0, 3, 1500)
        >>> X = np.eye(3)[y] * (1 + (sex == "m"))[:, None] + rng.normal(size=(1500, 3))
        >>> model = MulticlassScore(bins=12, repeats=1, random_state=0)
        >>> model = model.fit(X, y, sensitive_features=sex)
        >>> bool(model.channel_.gap < 0.05)
        True
        >>> model.predict(X[:2], sensitive_features=sex[:2]).shape
        (2,)
    """

    def __init__(
        self,
        estimator: Classifier | None = None,
        *,
        cv: int = 5,
        repeats: int = 3,
        bins: int = 64,
        utility: ArrayLike | None = None,
        counts: str = "soft",
        shrinkage: float | str = "auto",
        random_state: RandomState = None,
        sensitive_columns: Columns = None,
    ):
        self.estimator = estimator
        self.cv = cv
        self.repeats = repeats
        self.bins = bins
        self.utility = utility
        self.counts = counts
        self.shrinkage = shrinkage
        self.random_state = random_state
        self.sensitive_columns = sensitive_columns

    def predict(
        self, X: TableLike, *, sensitive_features: TableLike | None = None
    ) -> np.ndarray:
        """Return fair predictions, ``[n]``: the atom drawn, or its likeliest class."""
        atom = self._atoms(self._new_rows(X, sensitive_features))
        if self.utility is None:
            return self.classes_[atom]
        return self.classes_[self.channel_.posteriors.argmax(1)[atom]]

    def _check_options(self) -> None:
        check_choice("counts", self.counts, ("hard", "soft"))
        self._check_folds()

    def _fit(self, rows: Rows) -> None:
        self._keep(rows)
        self._label_models = self._fit_folds(self.estimator, rows.label)
        channel = multiclass_channel(
            _normalized(self._label_models.held_out),
            rows.label,
            rows.group,
            self.bins,
            self.utility,
            rows.weight,
            n_groups=len(self.groups_),
            counts=self.counts,
            shrinkage=self.shrinkage,
        )
        self.channel_: Any = on_host(channel)

    def _probabilities(self, rows: Rows) -> np.ndarray:
        return np.asarray(self.channel_.posteriors, float)[self._atoms(rows)]

    def _atoms(self, rows: Rows) -> np.ndarray:
        values = row_values(rows.X)
        score = _normalized(self._label_models.log_probabilities(rows.X, values))
        return np.asarray(
            self.channel_.transport(score, rows.group, **self._draw(values))
        )


def _normalized(log: np.ndarray) -> np.ndarray:
    """Probabilities ``[n, K]`` of mean log probabilities."""
    found = np.exp(log - log.max(1, keepdims=True))
    return found / found.sum(1, keepdims=True)
