"""What all estimators share: one `fit`, groups as columns or beside, rows in one order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import (
    _check_feature_names_in,  # pyright: ignore[reportPrivateUsage]
    check_is_fitted,
    validate_data,
)

from jaxsteer._errors import check_same_length
from jaxsteer._frames import missing_column_message
from jaxsteer._repr import one_line, text_table
from jaxsteer._types import ColumnLike, Columns, PathLike, TableLike
from jaxsteer.estimators._alignment import align
from jaxsteer.estimators._rows import (
    as_rows,
    check_sample_weight,
    finite_matrix,
    fit_groups,
    fit_labels,
    fit_numbers,
    group_codes,
    named_columns,
    positions_of,
    require_filled_cells,
    require_sensitive,
    sensitive_table,
)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of a fit or a prediction, all in one order.

    Attributes:
        X: ``[n, d]`` what is learnt from or steered, sensitive columns left out.
        label: ``[n]`` class codes or numbers, None where there are none.
        group: ``[n]`` group codes, or the table of sensitive columns.
        weight: ``[n]`` float64 sample weights, or None.
    """

    X: Any
    label: Any = None
    group: Any = None
    weight: np.ndarray | None = None


class GroupAware(BaseEstimator):
    """An estimator that needs the group of every row of its fit.

    A subclass says by class attributes what it reads, and does its own work in
    ``_fit(rows)``. ``_target`` is "classes", "numbers" or None (`y` is not read);
    ``_tables`` tells whether tables of any kind are handed on as they are; ``_latent``
    whether sensitive columns stay columns instead of becoming groups.
    """

    _target: str | None = "classes"
    _tables = False
    _latent = False

    sensitive_columns: Columns = None
    n_features_in_: int
    classes_: np.ndarray
    groups_: np.ndarray

    def fit(
        self,
        X: TableLike,
        y: ColumnLike | None = None,
        *,
        sensitive_features: TableLike | None = None,
        sample_weight: ColumnLike | None = None,
    ) -> Self:
        """Learn from rows whose groups are known.

        Pandas inputs are put into the order of the index of `X`.

        Args:
            X: ``[n, d]`` rows: finite numbers (:class:`TabularEncoder` makes them), or
                what the inner estimator takes where there is one.
            y: ``[n]`` labels of any kind, or numbers for a regression.
            sensitive_features: ``[n]`` groups of any kind, or ``[n, m]`` columns, each
                combination of which is a group; None where `sensitive_columns` names
                columns of `X`.
            sample_weight: ``[n]`` weights of the rows, or None.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If an argument is unusable; the message says what to do.
            SolveError: If a solve did not converge.
        """
        self._check_options()
        self._fit(self._training_rows(X, y, sensitive_features, sample_weight))
        return self

    def save(self, path: PathLike, *, trusted: Sequence[str] = ()) -> str:
        """Write the fitted estimator without pickle, for :func:`load_estimator`.

        Args:
            path: The file.
            trusted: Qualified names of types of other packages that it may hold.

        Returns:
            The SHA-256 hash of the file.
        """
        from jaxsteer.storage import save_pipeline

        check_is_fitted(self)
        return save_pipeline(path, self, trusted=trusted)

    def __str__(self) -> str:
        """One line of options and, once fitted, a table of what was found."""
        names = sorted(n for n in vars(self) if n[-1] == "_" and n[0] != "_")
        found = [
            (name, _list(value) if name in ("classes_", "groups_") else one_line(value))
            for name in names
            if (value := getattr(self, name)) is not None
        ]
        return f"{self!r}\n{text_table(found)}" if found else repr(self)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._target is not None
        return tags

    def _check_options(self) -> None:
        """Raise on constructor arguments that are unusable."""

    def _check_classes(self) -> None:
        """Raise on classes that this estimator does not serve."""

    def _is_blind(self) -> bool:
        """Whether the group is not read after the fit."""
        return False

    def _least_rows(self) -> int:
        """Rows that each class must have in each group."""
        return 1

    def _fit(self, rows: Rows) -> None:
        raise NotImplementedError

    def _training_rows(
        self,
        X: Any,
        y: Any,
        sensitive_features: Any,
        sample_weight: Any,
    ) -> Rows:
        X, y, sensitive_features, sample_weight = align(
            X=X, y=y, sensitive_features=sensitive_features, sample_weight=sample_weight
        )
        X = self._checked_columns(X, reset=True)
        features = self._features(X, reset=True)
        if not self._tables:
            features = finite_matrix(self, features, least=2)
        label = None
        if self._target == "classes":
            label, self.classes_ = fit_labels(y)
            self._check_classes()
        elif self._target == "numbers":
            label = fit_numbers(y)
        sensitive = self._sensitive(X, sensitive_features)
        self.sensitive_names_: list[str] | None = named_columns(sensitive)
        if self._latent:
            group: Any = sensitive_table(sensitive)
        else:
            group, self.groups_ = fit_groups(sensitive)
        weight = check_sample_weight(sample_weight)
        check_same_length(X=X, y=label, sensitive_features=group, sample_weight=weight)
        if label is not None and self._target == "classes" and not self._latent:
            require_filled_cells(
                label, group, self.classes_, self.groups_, least=self._least_rows()
            )
        return Rows(features, label, group, weight)

    def _new_rows(
        self,
        X: Any,
        sensitive_features: Any = None,
        *,
        needs_group: bool = True,
    ) -> Rows:
        """Return rows to predict or to steer, checked against those of the fit."""
        check_is_fitted(self)
        X, sensitive_features = align(X=X, sensitive_features=sensitive_features)
        X = self._checked_columns(X, reset=False)
        features = self._features(X)
        if not self._tables:
            features = finite_matrix(self, features)
        group = None
        if needs_group:
            group = self._group(self._sensitive(X, sensitive_features))
        check_same_length(X=X, sensitive_features=group)
        return Rows(features, group=group)

    def _group(self, sensitive: Any) -> Any:
        """Codes of groups seen at fit time, or the table of sensitive columns."""
        sensitive = self._in_order(sensitive)
        if self._latent:
            return sensitive_table(sensitive)
        return group_codes(sensitive, self.groups_)

    def _checked_columns(self, X: Any, *, reset: bool) -> Any:
        """Set, or compare with the fit, the number and the names of the columns."""
        X = as_rows(X)
        if hasattr(X, "toarray") and (self.sensitive_columns is not None):
            raise TypeError(
                "Sparse data was passed for X, which sensitive_columns cannot be taken "
                "from; use X.toarray(), or pass sensitive_features."
            )
        return validate_data(self, X, reset=reset, skip_check_array=True)

    def _features(self, X: Any, *, reset: bool = False) -> Any:
        """Return the columns of `X` that are learnt from."""
        chosen = self.sensitive_columns
        if chosen is None or callable(chosen):
            return X
        if reset:
            self._positions = positions_of(X, chosen)
        rest = np.setdiff1d(np.arange(X.shape[1]), self._positions)
        if not len(rest):
            raise ValueError(
                f"X has {X.shape[1]} feature(s), all of them sensitive_columns; at "
                "least one other is needed."
            )
        return (X.iloc if isinstance(X, pd.DataFrame) else X)[:, rest]

    def _sensitive(self, X: Any, sensitive_features: Any) -> Any:
        """Return what tells the groups, from `X` or from beside it."""
        chosen = self.sensitive_columns
        if chosen is None:
            return sensitive_features
        if sensitive_features is not None:
            raise ValueError(
                "sensitive_features is given and sensitive_columns names columns of X; "
                "give one of the two."
            )
        if callable(chosen):
            return chosen(X)
        return (X.iloc if isinstance(X, pd.DataFrame) else X)[:, self._positions]

    def _in_order(self, sensitive: Any) -> Any:
        """Bring named sensitive columns into the order of the fit."""
        known, given = self.sensitive_names_, named_columns(sensitive)
        if known is None or given is None or given == known:
            return sensitive
        for name in known:
            if name not in given:
                raise ValueError(
                    missing_column_message(name, given, "sensitive_features")
                )
        return as_rows(sensitive)[known]

    def _feature_names(self, input_features: Any = None) -> np.ndarray:
        """Names ``[d]`` of the columns that are learnt from."""
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        positions = vars(self).get("_positions", [])
        return np.delete(np.asarray(names, object), positions)


class GroupTransformer(TransformerMixin, GroupAware):
    """A transformer that steers rows by their groups.

    Subclasses write ``_transform(X, group)``; ``_blind`` where the group is not needed.
    """

    def transform(
        self, X: TableLike, *, sensitive_features: TableLike | None = None
    ) -> np.ndarray:
        """Steer rows.

        Args:
            X: ``[n, d]`` rows, as at fit time.
            sensitive_features: ``[n]`` groups, or ``[n, m]`` columns, as at fit time;
                None where `sensitive_columns` names columns of `X`, and where the map
                does not need them.

        Returns:
            ``[n, m]`` steered rows, in the precision of `X`; sensitive columns are left
            out.

        Raises:
            ValueError: If a group was not there at fit time, or `X` is unusable.
        """
        check_is_fitted(self)
        needs = not self._is_blind()
        rows = self._new_rows(X, sensitive_features, needs_group=needs)
        return self._transform(rows.X, rows.group)

    # Without scikit-learn's further options: those of `fit` are named.
    def fit_transform(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        X: TableLike,
        y: ColumnLike | None = None,
        *,
        sensitive_features: TableLike | None = None,
        sample_weight: ColumnLike | None = None,
    ) -> np.ndarray:
        """Fit, and return the same rows steered; arguments as for :meth:`fit`."""
        self.fit(
            X, y, sensitive_features=sensitive_features, sample_weight=sample_weight
        )
        if self._is_blind():
            return self.transform(X)
        return self.transform(X, sensitive_features=sensitive_features)

    def get_feature_names_out(
        self, input_features: ColumnLike | None = None
    ) -> np.ndarray:
        """Return the names of the output columns."""
        return self._feature_names(input_features)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _steered_rows(self, X: Any, sensitive_features: Any) -> tuple[Any, Any]:
        """Steered rows and their group codes, for the way back."""
        check_is_fitted(self)
        X, sensitive_features = align(X=X, sensitive_features=sensitive_features)
        matrix = finite_matrix(self, as_rows(X))
        width = self.n_features_in_ - len(vars(self).get("_positions", ()))
        if matrix.shape[1] != width:
            raise ValueError(
                f"X has {matrix.shape[1]} features, but {type(self).__name__} steered "
                f"{width}; sensitive columns are not among them."
            )
        group = self._group(require_sensitive(sensitive_features))
        check_same_length(X=matrix, sensitive_features=group)
        return matrix, group

    def _transform(self, X: np.ndarray, group: Any) -> np.ndarray:
        raise NotImplementedError


class GroupClassifier(ClassifierMixin, GroupAware):
    """A classifier that reads the group to predict.

    Subclasses write ``_probabilities(rows)``, and ``_is_blind`` where no group is read.
    """

    def predict_proba(
        self, X: TableLike, *, sensitive_features: TableLike | None = None
    ) -> np.ndarray:
        """Return the probability of every class, ``[n, K]``.

        Args:
            X: ``[n, d]`` rows, as at fit time.
            sensitive_features: ``[n]`` groups, or ``[n, m]`` columns, as at fit time;
                None where `sensitive_columns` names columns of `X`.

        Raises:
            ValueError: If a group was not there at fit time, or `X` is unusable.
        """
        check_is_fitted(self)
        needs = not self._is_blind()
        return self._probabilities(
            self._new_rows(X, sensitive_features, needs_group=needs)
        )

    def predict(
        self, X: TableLike, *, sensitive_features: TableLike | None = None
    ) -> np.ndarray:
        """Return the most probable labels, ``[n]``; arguments as there."""
        found = self.predict_proba(X, sensitive_features=sensitive_features)
        return self.classes_[found.argmax(1)]

    def score(
        self,
        X: TableLike,
        y: ColumnLike,
        sample_weight: ColumnLike | None = None,
        *,
        sensitive_features: TableLike | None = None,
    ) -> float:
        """Return the accuracy of :meth:`predict`."""
        X, y, sample_weight, sensitive_features = align(
            X=X, y=y, sample_weight=sample_weight, sensitive_features=sensitive_features
        )
        right = self.predict(X, sensitive_features=sensitive_features) == np.asarray(y)
        weights = None if sample_weight is None else np.asarray(sample_weight)
        return float(np.average(right, weights=weights))

    def _probabilities(self, rows: Rows) -> np.ndarray:
        raise NotImplementedError


def load_estimator(
    path: PathLike,
    *,
    trusted: Sequence[str] = (),
    expect_hash: str | None = None,
) -> Any:
    """Read an estimator that its ``save`` wrote; no code in the file is run.

    Args:
        path: The file.
        trusted: Qualified names of types of other packages to load.
        expect_hash: What ``save`` returned: a file of other bytes is refused.

    Returns:
        The fitted estimator.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or holds types that are not trusted.

    Example:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from jaxsteer.estimators import MeanMatching
        >>> X, group = np.arange(12.0).reshape(6, 2), np.array([0, 0, 0, 1, 1, 1])
        >>> y = np.array([0, 1, 0, 1, 0, 1])
        >>> fit = MeanMatching().fit(X, y, sensitive_features=group)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "steering.skops")
        ...     digest = fit.save(path)
        ...     again = load_estimator(path, expect_hash=digest)
        >>> type(again).__name__
        'MeanMatching'
    """
    from jaxsteer.storage import load_pipeline

    return load_pipeline(path, trusted=trusted, expect_hash=expect_hash)


def _list(names: Any) -> str:
    return ", ".join(map(str, names[:8])) + (", ..." if len(names) > 8 else "")
