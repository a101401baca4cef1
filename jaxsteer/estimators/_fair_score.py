"""Fair scores around any classifier: random and exact, deterministic, or blind."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from jaxsteer._errors import check_choice, check_same_length
from jaxsteer._row_draws import check_ids
from jaxsteer._types import Classifier, ColumnLike, Columns, RandomState, TableLike
from jaxsteer.channels import balanced_quantiles, blind_channel, roc_channel
from jaxsteer.estimators._base import Rows
from jaxsteer.estimators._fold_models import log_odds, row_values
from jaxsteer.estimators._fold_scorer import FoldScorer
from jaxsteer.estimators._group_maps import on_host

METHODS = ("roc", "quantiles", "blind")


class FairScore(FoldScorer):
    """Give any classifier a score with equal error rates at every threshold.

    The classifier's out-of-fold scores say what its score tells of the label in each
    group. What is done with them is the `method`:

    - "roc": the ROC channel degrades each group's score, by a random choice among a few
      values, to the most that every group can give. True- and false-positive rates are
      equal across groups at every threshold, on new rows up to sampling and binning, and
      in sample exactly where the groups are large enough to tell them apart (everywhere
      with ``shrinkage=0``). With a `tolerance` more is kept, and less is random.
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
        bins: Bins of the score in each group for "roc", if None twice the root of the
            rows of the smallest cell, between 8 and 60; for "blind" those of the score
            and of the group's probability within them, (24, 5) if None.
        tolerance: Largest gap that "roc" may leave, in sample.
        class_weight: For "quantiles": 1/2 weighs both rates alike, 1 makes true-positive
            rates equal at every threshold, 0 false-positive rates.
        shrinkage: For "roc" and "quantiles": how far each group's laws of the score are
            drawn to those of all groups, 0 to 1; "auto", which None takes, by what chance
            alone would make of their distance, and not at all where that is less than a
            fiftieth of it. So groups with few rows borrow from all, and are not exact in
            sample, which the channel's `gap` reports, but fairer on new rows.
        group_estimator: For "blind": the classifier that reads the group; None takes a
            copy of `estimator`.
        random_state: Seed of the folds and of the choice, which is settled at fit time:
            None takes a new one at each fit.
        sensitive_columns: As in :class:`IdealSteering`.

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
        estimator: Classifier | None = None,
        *,
        method: str = "roc",
        cv: int = 5,
        repeats: int = 3,
        bins: int | None = None,
        tolerance: float = 0.0,
        class_weight: float = 0.5,
        shrinkage: float | str | None = None,
        group_estimator: Classifier | None = None,
        random_state: RandomState = None,
        sensitive_columns: Columns = None,
    ):
        self.estimator = estimator
        self.method = method
        self.cv = cv
        self.repeats = repeats
        self.bins = bins
        self.tolerance = tolerance
        self.class_weight = class_weight
        self.shrinkage = shrinkage
        self.group_estimator = group_estimator
        self.random_state = random_state
        self.sensitive_columns = sensitive_columns

    _label_models: Any
    _group_models: Any
    _ids: Any

    def fit(
        self,
        X: TableLike,
        y: ColumnLike | None = None,
        *,
        sensitive_features: TableLike | None = None,
        sample_weight: ColumnLike | None = None,
        row_ids: ColumnLike | None = None,
    ) -> FairScore:
        """Learn from rows whose groups are known.

        Args:
            X: ``[n, d]`` rows, as the classifier takes them.
            y: ``[n]`` labels of two kinds.
            sensitive_features: ``[n]`` groups, or ``[n, m]`` columns, or None where
                `sensitive_columns` names columns of `X`.
            sample_weight: ``[n]`` weights of the rows, or None.
            row_ids: ``[n]`` or ``[n, m]`` what tells people apart, numbers or text, such
                as their number of customer. Folds and draws then follow it, not the
                features: prediction with the same ids answers training rows by the
                models that have not seen them, so as `fair_training_score_` does.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If an argument is unusable, there are not two classes, or a
                class has fewer rows in a group than there are folds.
        """
        if row_ids is not None:
            check_same_length(X=X, row_ids=row_ids)
            check_ids("row_ids", row_ids)
        self._ids = None if row_ids is None else np.asarray(row_ids)
        return super().fit(
            X, y, sensitive_features=sensitive_features, sample_weight=sample_weight
        )

    def predict_proba(
        self,
        X: TableLike,
        *,
        sensitive_features: TableLike | None = None,
        row_ids: ColumnLike | None = None,
    ) -> np.ndarray:
        """Return the fair probability of both classes, ``[n, 2]``.

        Args:
            X: ``[n, d]`` rows, as at fit time.
            sensitive_features: ``[n]`` groups, or ``[n, m]`` columns, as at fit time;
                not read by method="blind", nor where `sensitive_columns` names them.
            row_ids: What tells people apart, as at fit time; None takes the features.

        Raises:
            ValueError: If a group was not there at fit time, or `X` is unusable.
        """
        check_is_fitted(self)
        if row_ids is not None:
            check_same_length(X=X, row_ids=row_ids)
            check_ids("row_ids", row_ids)
        needs = not self._is_blind()
        rows = self._new_rows(X, sensitive_features, needs_group=needs)
        return self._probabilities(rows, row_ids)

    def with_options(self, **options: Any) -> FairScore:
        """Return a copy with another channel on the same fitted classifiers.

        Args:
            options: `method`, `bins`, `tolerance`, `class_weight`, `shrinkage` or
                `group_estimator`.

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
                (
                    "method",
                    "bins",
                    "tolerance",
                    "class_weight",
                    "shrinkage",
                    "group_estimator",
                ),
            )
        other: Any = clone(self)
        other.set_params(**options)
        other._check_options()
        for name, value in vars(self).items():
            # What a fit has set, the channel's own attributes aside.
            if name not in other.get_params(deep=False) and name not in (
                "channel_",
                "fair_training_score_",
            ):
                setattr(other, name, value)
        if "group_estimator" in options:
            other._group_models = None
        return other._fit_channel()

    def _probabilities(self, rows: Rows, row_ids: Any = None) -> np.ndarray:
        values = row_values(rows.X) if row_ids is None else np.asarray(row_ids)
        score = log_odds(self._label_models.log_probabilities(rows.X, values))
        probe = None
        if self._group_models is not None and self.method == "blind":
            probe = self._group_models.log_probabilities(rows.X, values)
        fair = self._transport(score, rows.group, probe, values)
        return np.stack([1 - fair, fair], axis=1)

    def _is_blind(self) -> bool:
        return self.method == "blind"

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_class = False
        return tags

    def _check_options(self) -> None:
        check_choice("method", self.method, METHODS)
        self._check_folds()
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
        if self.shrinkage not in (None, 0) and self.method == "blind":
            raise ValueError(
                f"shrinkage={self.shrinkage!r} has no meaning for method='blind', which "
                "has one kernel for all groups; leave it out."
            )

    def _check_classes(self) -> None:
        if len(self.classes_) != 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is "
                f"multiclass. y has {len(self.classes_)} classes, but a fair score needs "
                "2; turn y into one class against the rest, or use MulticlassScore."
            )

    def _fit(self, rows: Rows) -> None:
        self._keep(rows)
        self._label_models = self._fit_folds(self.estimator, rows.label)
        self._group_models = None
        self._fit_channel()

    def _fit_channel(self) -> FairScore:
        rows = self._training
        label, group = rows.label, rows.group
        score = log_odds(self._label_models.held_out)
        self.held_out_score_: np.ndarray = score
        options: dict[str, Any] = {
            "weights": rows.weight,
            "n_groups": len(self.groups_),
        }
        shrinkage: Any = "auto" if self.shrinkage is None else self.shrinkage
        probe = None
        if self.method == "roc":
            bins = "auto" if self.bins is None else self.bins
            channel: Any = roc_channel(
                score,
                label,
                group,
                bins=bins,
                tolerance=self.tolerance,
                shrinkage=shrinkage,
                **options,
            )
        elif self.method == "quantiles":
            channel = balanced_quantiles(
                score,
                label,
                group,
                class_weight=self.class_weight,
                shrinkage=shrinkage,
                **options,
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
            channel = blind_channel(
                score, _group_probabilities(probe), label, group, **options
            )
        self.channel_: Any = on_host(channel)
        values = row_values(rows.X) if self._ids is None else self._ids
        self.fair_training_score_: np.ndarray = self._transport(
            score, group, probe, values
        )
        return self

    def _transport(
        self, score: np.ndarray, group: Any, probe: Any, rows: np.ndarray
    ) -> np.ndarray:
        """Fair scores ``[n]`` of log odds, by draws that belong to the rows."""
        draw = self._draw(rows)
        if self.method == "roc":
            fair = self.channel_.transport(score, group, **draw)
        elif self.method == "quantiles":
            fair = self.channel_.calibrate(self.channel_.transport(score, group))
        else:
            fair = self.channel_.transport(score, _group_probabilities(probe), **draw)
        return np.asarray(fair, float)


def _group_probabilities(log: np.ndarray) -> np.ndarray:
    """Group probabilities ``[n, G]``; ``[n]`` log odds of group 1 where there are two."""
    return log_odds(log) if log.shape[1] == 2 else np.exp(log)
