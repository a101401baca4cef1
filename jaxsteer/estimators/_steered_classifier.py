"""Steer, weigh and classify in one: the shortest way from a table to predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import TransformerMixin, clone
from sklearn.utils import Tags, get_tags

from jaxsteer._types import Classifier, Columns, TableLike
from jaxsteer.estimators._base import GroupAware, GroupClassifier, Rows
from jaxsteer.estimators._ideal_steering import IdealSteering
from jaxsteer.estimators._rows import as_rows
from jaxsteer.estimators._weighted import with_weights


class SteeredClassifier(GroupClassifier):
    """Train a classifier on steered rows with the weights that belong to them.

    At fit time rows are encoded (where an `encoder` is given), steered by their group,
    and the classifier is trained with the steering's sample weights; at prediction rows
    are encoded and steered alike. Labels are not needed then, groups are, unless the
    steering does without.

    Args:
        estimator: A classifier, or a pipeline that ends in one; None takes a logistic
            regression.
        steering: A transformer of this package, such as :class:`IdealSteering` (taken
            for None), :class:`GaussianChannel`, :class:`MiMiC` or :class:`LEACE`; its own
            `sensitive_columns` must be None.
        encoder: A transformer of the other columns before they are steered, such as
            :class:`TabularEncoder`; None where they are numbers already.
        use_weights: Whether to train with the steering's ``sample_weight_``, where it
            has them.
        sensitive_columns: As in :class:`IdealSteering`.

    Attributes:
        classes_: The labels, ``[K]``.
        groups_: The groups, ``[G]``.
        encoder_: The fitted encoder, or None.
        steering_: The fitted steering.
        estimator_: The fitted classifier.
        sample_weight_: ``[n]`` weights it was trained with, or None.

    Example:
        >>> import numpy as np, pandas as pd
        >>> rng = np.random.default_rng(0)
        >>> table = pd.DataFrame({"sex": rng.choice(["f", "m"], 800)})
        >>> paid = rng.choice(["no", "yes"], 800)
        >>> table["x"] = rng.normal(size=800) + (paid == "yes") - (table["sex"] == "f")
        >>> model = SteeredClassifier(sensitive_columns="sex").fit(table, paid)
        >>> model.predict(table).shape
        (800,)
    """

    _tables = True
    encoder_: Any
    steering_: Any
    estimator_: Any

    def __init__(
        self,
        estimator: Classifier | None = None,
        *,
        steering: GroupAware | None = None,
        encoder: TransformerMixin | None = None,
        use_weights: bool = True,
        sensitive_columns: Columns = None,
    ):
        self.estimator = estimator
        self.steering = steering
        self.encoder = encoder
        self.use_weights = use_weights
        self.sensitive_columns = sensitive_columns

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if self.encoder is not None:
            inner = get_tags(self.encoder).input_tags
            for name in ("allow_nan", "string", "categorical"):
                setattr(tags.input_tags, name, getattr(inner, name))
        return tags

    def _check_options(self) -> None:
        steering = self.steering
        if steering is not None and not (
            isinstance(steering, GroupAware) and hasattr(steering, "transform")
        ):
            raise ValueError(
                f"steering must be a transformer of jaxsteer.estimators, got "
                f"{type(steering).__name__}; put others into the pipeline of `estimator`."
            )
        if steering is not None and steering.sensitive_columns is not None:
            raise ValueError(
                "steering has sensitive_columns of its own; give them to "
                "SteeredClassifier alone."
            )

    def _fit(self, rows: Rows) -> None:
        X, label = rows.X, self.classes_[rows.label]
        self.encoder_ = None
        if self.encoder is not None:
            encoder: Any = clone(self.encoder)
            X = encoder.fit_transform(X, label)
            self.encoder_ = encoder
        groups = self.groups_[rows.group]
        steering: Any = clone(
            IdealSteering() if self.steering is None else self.steering
        )
        X = steering.fit_transform(
            X, label, sensitive_features=groups, sample_weight=rows.weight
        )
        self.steering_ = steering
        self.sample_weight_ = rows.weight
        if self.use_weights:
            self.sample_weight_ = getattr(steering, "sample_weight_", rows.weight)
        estimator, options = with_weights(self.estimator, self.sample_weight_)
        self.estimator_ = estimator.fit(X, label, **options)

    def _probabilities(self, rows: Rows) -> np.ndarray:
        if not hasattr(self.estimator_, "predict_proba"):
            raise ValueError(
                f"{type(self.estimator_).__name__} has no predict_proba; call predict."
            )
        # float64 whatever the encoder gives: fairlearn cannot use less.
        return np.asarray(self.estimator_.predict_proba(self._steered(rows)), float)

    def predict(
        self, X: TableLike, *, sensitive_features: TableLike | None = None
    ) -> np.ndarray:
        """Return the predicted labels, ``[n]``; arguments as for `predict_proba`."""
        rows = self._new_rows(X, sensitive_features, needs_group=not self._is_blind())
        return self.estimator_.predict(self._steered(rows))

    def _is_blind(self) -> bool:
        steering = IdealSteering() if self.steering is None else self.steering
        return steering._is_blind()

    def _steered(self, rows: Rows) -> Any:
        X = rows.X if self.encoder_ is None else self.encoder_.transform(rows.X)
        if rows.group is None:
            return self.steering_.transform(X)
        groups = self.groups_[rows.group]
        return self.steering_.transform(as_rows(X), sensitive_features=groups)
