"""Columns of any kind to a float matrix, and a record of how."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from jaxsteer._errors import check_choice
from jaxsteer._frames import missing_column_message, to_pandas
from jaxsteer._numerals import read_numerals
from jaxsteer._types import ColumnLike, TableLike
from jaxsteer.estimators._columns import (
    MISSING,
    category_codes,
    is_near_discrete,
    to_numbers,
)
from jaxsteer.estimators._plan import (
    DROPPED,
    Plan,
    plan_column,
    warn_of_dropped,
    warn_of_numerals,
    warn_of_placeholders,
)


class TabularEncoder(TransformerMixin, BaseEstimator):
    """Encode a table of numbers, dates, booleans and text as float32 ``[n, d]``.

    - Numbers: missing values get the median, then mean 0 and variance 1; a column that
      has missing values also gives a 0/1 column ``"name=missing"``.
    - Text that is numbers with few exceptions (decimal commas, thousands, currency and
      percent marks; "90+" or "unknown" count as missing): numbers, with a warning that
      says how it was read. Codes (leading zeros, few whole numbers) stay text.
    - Dates and durations: days (since 1970-01-01), then as numbers.
    - Booleans, text, and numbers with few distinct values: 0/1 columns
      ``"name=value"``. A missing value is a value of its own, rare values share one
      column ``"name=rare"``, and the most frequent value has no column, since the
      others determine it and an exactly collinear column makes covariances singular.
    - Columns with one value, and text that names the row, are left out with a warning.

    A value not seen at fit time counts as rare, or as the most frequent one where none
    was rare, and a warning counts the rows.

    Args:
        min_frequency: Values in fewer rows (int), or in a smaller share of the rows
            (float), are rare. None keeps every value.
        max_categories: Most values that one column may have, the rare ones together
            counted as one; None sets no limit.
        drop: "most_frequent" leaves that value without a column; None gives every value
            a column (one not seen at fit time has zeros then).
        max_discrete: Columns of numbers with at most this many distinct values become
            categories.

    Attributes:
        feature_names_in_: Names of the columns at fit time, where they had names.
        n_features_in_: Their number.
        columns_: One dictionary a column: what :meth:`describe` returns.
        near_discrete_: Names of the output columns with few distinct values, or with
            one value in more than a tenth of the rows. Class-aware (cell) maps leak the
            label there, because each class lands on a lattice of its own.
        transformer_: The fitted :class:`sklearn.compose.ColumnTransformer`.

    Example:
        >>> import pandas
        >>> frame = pandas.DataFrame(
        ...     {"age": [20.0, None, 40.0, 30.0], "job": ["a", "b", "a", None]}
        ... )
        >>> encoder = TabularEncoder().fit(frame)
        >>> encoder.get_feature_names_out().tolist()
        ['age', 'age=missing', 'job=b', 'job=missing']
        >>> encoder.transform(frame)[1].tolist()
        [0.0, 1.0, 1.0, 0.0]
    """

    def __init__(
        self,
        *,
        min_frequency: int | float | None = 0.005,
        max_categories: int | None = None,
        drop: str | None = "most_frequent",
        max_discrete: int = 2,
    ):
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.drop = drop
        self.max_discrete = max_discrete

    def fit(self, X: TableLike, y: ColumnLike | None = None) -> TabularEncoder:
        """Learn kinds, medians, scales and categories from ``[n]`` rows.

        Args:
            X: A pandas, polars or pyarrow table, or an array ``[n, m]``.
            y: Not used.

        Raises:
            ValueError: If there are no rows, a value is infinite or cannot be encoded,
                or no column is left.
        """
        self._fit(X)
        return self

    def fit_transform(
        self, X: TableLike, y: ColumnLike | None = None, **fit_params: Any
    ) -> np.ndarray:
        """Fit, and return the same rows encoded, ``[n, d]`` float32."""
        return self._fit(X)

    def transform(self, X: TableLike) -> np.ndarray:
        """Encode rows with the columns seen at fit time.

        Args:
            X: A table with those columns, in any order; others are ignored.

        Returns:
            ``[n, d]`` float32.

        Raises:
            ValueError: If a column is not there, or its values are of another kind.

        Warns:
            UserWarning: If values were not seen at fit time.
        """
        return self.in_parts(X)(slice(None))

    def in_parts(self, X: TableLike) -> Callable[[slice], np.ndarray]:
        """Return what encodes some rows of a table at a time, as `transform` all.

        Args:
            X: As there; what `transform` raises and warns of is said here.
        """
        check_is_fitted(self)
        frame = self._frame(X, fitted=True)
        numbers, codes, texts, unseen = {}, {}, {}, []
        for column in self.columns_:
            name, kind = column["column"], column["kind"]
            if kind == "dropped":
                continue
            if kind == "category":
                codes[name], texts[name] = category_codes(frame[name])
                known = pd.Series(texts[name]).isin(self._known[name]).to_numpy()
                new = ~known[codes[name]]
                shown = texts[name][codes[name][new]]
            else:
                point = column.get("decimal")
                if point is None and kind == "number":
                    point = _mostly_numbers(frame[name])
                numbers[name] = to_numbers(frame[name], kind, point=point)
                there = frame[name].notna().to_numpy()
                new = np.isnan(numbers[name]) & (there | (column["missing"] == 0))
                shown = np.asarray(frame[name], object)[new] if new.any() else new
            if new.any():
                words = sorted({str(v) for v in shown.tolist()})
                listed = ", ".join(words[:5]) + (", ..." if len(words) > 5 else "")
                unseen.append(f"{name!r} in {int(new.sum())} rows ({listed})")
        if unseen:
            warnings.warn(
                "Values that were not there at fit time are encoded as rare or most "
                f"frequent (missing numbers as the median): {'; '.join(unseen)}.",
                stacklevel=3,
            )
        n, tables = len(frame), self._tables(texts)
        (_, steps, scaled), (_, _, flags) = self.transformer_.transformers_[:2]
        flagged = {name: place for place, name in enumerate(flags)}
        medians = steps[0].statistics_ if len(scaled) else ()
        means, scales = (steps[1].mean_, steps[1].scale_) if len(scaled) else ((), ())

        def encoded(some: slice) -> np.ndarray:
            out = np.empty((len(range(*some.indices(n))), len(self._names)), np.float32)
            # In NumPy what the fitted steps do: they set warnings, which threads share.
            for place, name in enumerate(scaled):
                values = numbers[name][some]
                missing = np.isnan(values)
                filled = np.where(missing, medians[place], values)
                with np.errstate(over="ignore"):  # told of below
                    out[:, place] = (filled - means[place]) / scales[place]
                if name in flagged:
                    out[:, len(scaled) + flagged[name]] = missing
            far = np.argwhere(~np.isfinite(out[:, : len(scaled)]))
            if len(far):
                row, column = far[0].tolist()
                raise ValueError(
                    f"X has a value in row {(some.start or 0) + row} that is too far "
                    "from those at fit time for float32 in "
                    f"{scaled[column]!r}: {out[row, column]} deviations."
                )
            place = len(scaled) + len(flagged)
            for name, table in tables.items():
                stop = place + table.shape[1]
                out[:, place:stop] = table[codes[name][some]]
                place = stop
            return out

        return encoded

    def _tables(self, texts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Encode each distinct text of a column once."""
        if not texts:
            return {}
        fitted = self.transformer_.named_transformers_
        most = max(map(len, texts.values()))
        padded = {
            name: np.append(found, [found[-1]] * (most - len(found))).astype(object)
            for name, found in texts.items()
        }
        with warnings.catch_warnings():
            # Said by `transform`, with counts.
            warnings.filterwarnings("ignore", "Found unknown categories")
            hot = fitted["category"].transform(_blocks(padded))
        sizes = {c["column"]: len(c["outputs"]) for c in self.columns_}
        tables, place = {}, 0
        for name, found in texts.items():
            tables[name] = hot[: len(found), place : place + sizes[name]]
            place += sizes[name]
        return tables

    def in_units(self, encoded: TableLike) -> np.ndarray:
        """Return encoded columns in the units of the table.

        Args:
            encoded: ``[n, d]`` encoded rows, also ones that were steered.

        Returns:
            ``[n, d]`` float64: numbers as they were before scaling, dates and durations
            in days, 0/1 columns unchanged.

        Raises:
            ValueError: If the number of columns is not that of :meth:`transform`.
        """
        check_is_fitted(self)
        values = np.array(encoded, np.float64)
        if values.ndim != 2 or values.shape[1] != len(self._names):
            raise ValueError(
                f"encoded must have shape [n, {len(self._names)}], as transform returns "
                f"it, got {list(values.shape)}."
            )
        numbers = self.transformer_.transformers_[0][2]
        if numbers:
            scaler = self.transformer_.named_transformers_["number"][-1]
            values[:, : len(numbers)] *= scaler.scale_
            values[:, : len(numbers)] += scaler.mean_
        return values

    def inverse_transform(self, encoded: TableLike) -> pd.DataFrame:
        """Return the table that :meth:`transform` would encode so.

        Args:
            encoded: ``[n, d]`` encoded rows. Between categories, as after steering, the
                nearest one is taken.

        Returns:
            ``[n]`` rows with the columns seen at fit time, those left out excepted:
            numbers (missing ones NaN), days for dates and durations, text for
            categories (``"rare"`` for those that share a column).

        Raises:
            ValueError: If the number of columns is not that of :meth:`transform`.
        """
        values = self.in_units(encoded)
        place = {name: i for i, name in enumerate(self._names)}
        table: dict[str, np.ndarray] = {}
        for column in self.columns_:
            name, outputs = column["column"], [place[o] for o in column["outputs"]]
            if column["kind"] == "category":
                names = [self._names[i][len(name) + 1 :] for i in outputs]
                share = values[:, outputs]
                if self.drop:
                    names.append(self._most_frequent[name])
                    share = np.column_stack([share, 1 - share.sum(axis=1)])
                table[name] = np.array(names, object)[share.argmax(axis=1)]
            elif column["kind"] != "dropped":
                table[name] = values[:, outputs[0]]
                if len(outputs) > 1:
                    table[name][values[:, outputs[1]] > 0.5] = np.nan
        return pd.DataFrame(table)

    def get_feature_names_out(
        self, input_features: ColumnLike | None = None
    ) -> np.ndarray:
        """Return the names of the output columns, ``[d]``."""
        check_is_fitted(self)
        return np.array(self._names, object)

    def describe(self) -> list[dict[str, Any]]:
        """Say how each column was encoded, for a report.

        Returns:
            One dictionary a column: ``column``, ``kind`` ("number", "date", "duration",
            "category" or "dropped"), ``encoding`` (in words), ``missing`` (rows without
            a value), ``categories`` (distinct values, a missing one included; 0 for
            numbers), ``outputs`` (names of its output columns), and ``decimal`` ("." or
            "," where numbers were written as text, else None).
        """
        check_is_fitted(self)
        return [dict(column) for column in self.columns_]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _fit(self, X: Any) -> np.ndarray:
        check_choice("drop", self.drop, ("most_frequent", None))
        if self.max_categories is not None and self.max_categories < 2:
            raise ValueError(
                f"max_categories must be at least 2 or None, got {self.max_categories}."
            )
        frame = self._frame(X, fitted=False)
        options = {
            "min_frequency": self.min_frequency,
            "max_discrete": self.max_discrete,
        }
        plans = {name: plan_column(frame[name], **options) for name in frame}
        warn_of_dropped(plans)
        warn_of_numerals(plans)
        warn_of_placeholders(plans)
        kept = {name: plan for name, plan in plans.items() if plan.kind not in DROPPED}
        if not kept:
            raise ValueError(
                "X has no column left to encode: every one is constant, empty or an "
                "identifier."
            )
        categories = [name for name, plan in kept.items() if plan.kind == "category"]
        numbers = [name for name in kept if name not in categories]
        flagged = [name for name in numbers if kept[name].missing]
        one_hot = OneHotEncoder(
            drop=np.array([kept[name].most_frequent for name in categories], object)
            if self.drop
            else None,
            min_frequency=self.min_frequency or 1,
            max_categories=self.max_categories,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
            dtype=np.float32,  # pyright: ignore[reportArgumentType]
        )
        scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        transformer = ColumnTransformer(
            [
                ("number", scaled, numbers),
                ("missing", MissingIndicator(features="all"), flagged),
                ("category", one_hot, categories),
            ],
            sparse_threshold=0,
        )
        encoded = _float32(
            transformer.fit_transform(_blocks({n: p.values for n, p in kept.items()}))
        )
        self.transformer_: Any = transformer
        self._known = {
            name: sorted(set(kept[name].values.tolist())) for name in categories
        }
        self._most_frequent = {name: kept[name].most_frequent for name in categories}
        self._record(plans, numbers, flagged, categories)
        self.near_discrete_: list[str] = [
            name
            for name, column in zip(self._names, encoded.T, strict=True)
            if is_near_discrete(column)
        ]
        return encoded

    def _frame(self, X: Any, *, fitted: bool) -> pd.DataFrame:
        if hasattr(X, "toarray"):
            raise ValueError("X is sparse; pass a table or a dense array.")
        is_array = isinstance(X, np.ndarray | list | tuple)
        if is_array:
            array = np.asarray(X)
            if array.ndim != 2:
                raise ValueError(f"X must have shape [n, m], got {array.shape}.")
            names = [f"x{i}" for i in range(array.shape[1])]
            if fitted and array.shape[1] == self.n_features_in_:
                names = [column["column"] for column in self.columns_]
            frame = pd.DataFrame(array, columns=names).infer_objects()
        else:
            frame = to_pandas(X, "X")
        if len(frame) == 0:
            raise ValueError("X has no rows; at least one is needed.")
        if not fitted:
            self.n_features_in_: int = frame.shape[1]
            if is_array:
                vars(self).pop("feature_names_in_", None)
            else:
                self.feature_names_in_: np.ndarray = np.array(list(frame), object)
        elif is_array and frame.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {frame.shape[1]} features, but {type(self).__name__} is "
                f"expecting {self.n_features_in_} features as input."
            )
        else:
            for column in self.columns_:
                if column["column"] not in frame and column["kind"] != "dropped":
                    raise ValueError(
                        missing_column_message(column["column"], frame, "X")
                    )
        return frame

    def _record(
        self,
        plans: dict[str, Plan],
        numbers: list[str],
        flagged: list[str],
        categories: list[str],
    ) -> None:
        """Write down what became of each column, in words and in output names."""
        outputs: dict[str, list[str]] = {name: [] for name in plans}
        words = {n: f"left out: {DROPPED.get(p.kind)}" for n, p in plans.items()}
        if numbers:
            imputer, scaler = self.transformer_.named_transformers_["number"]
            for i, name in enumerate(numbers):
                outputs[name] = [name]
                unit = "" if plans[name].kind == "number" else "in days, "
                fill, flag = "", ""
                if name in flagged:
                    outputs[name].append(f"{name}={MISSING}")
                    fill = (
                        f"missing values get the median {imputer.statistics_[i]:.4g}, "
                    )
                    flag = ", and a 0/1 column for missing values"
                words[name] = (
                    f"{unit}{fill}standardized (mean {scaler.mean_[i]:.4g}, standard "
                    f"deviation {scaler.scale_[i]:.4g}){flag}"
                )
        for i, name in enumerate(categories):
            one_hot = self.transformer_.named_transformers_["category"]
            rare = one_hot.infrequent_categories_[i]
            rare = [] if rare is None else rare.tolist()
            dropped = plans[name].most_frequent if self.drop else None
            values = [
                value
                for value in one_hot.categories_[i].tolist()
                if value not in rare and value != dropped
            ] + (["rare"] if rare else [])
            outputs[name] = [f"{name}={value}" for value in values]
            plural = "values share" if len(rare) > 1 else "value has"
            words[name] = (
                f"{len(values)} 0/1 column{'s' if len(values) > 1 else ''}"
                + (f", {dropped!r} (most frequent) has none" if dropped else "")
                + (f", {len(rare)} rare {plural} one" if rare else "")
            )
        # The order of the blocks of the transformer: (column, place among its outputs).
        order = [(name, 0) for name in numbers] + [(name, 1) for name in flagged]
        order += [(name, i) for name in categories for i in range(len(outputs[name]))]
        self._names = _distinct([outputs[name][i] for name, i in order])
        for (name, i), distinct in zip(order, self._names, strict=True):
            outputs[name][i] = distinct
        self.columns_: list[dict[str, Any]] = [
            {
                "column": name,
                "kind": "dropped" if plan.kind in DROPPED else plan.kind,
                "encoding": words[name],
                "missing": plan.missing,
                "categories": plan.categories,
                "outputs": outputs[name],
                "decimal": None if plan.numerals is None else plan.numerals.decimal,
            }
            for name, plan in plans.items()
        ]


def _mostly_numbers(column: Any) -> str | None:
    """Return "." for a text column of which at least half are numbers, else None."""
    if not (column.dtype == object or pd.api.types.is_string_dtype(column)):
        return None
    present = column.dropna()
    known = ~np.isnan(read_numerals(present.astype(object), "."))
    return "." if known.sum() * 2 >= max(1, len(present)) else None


def _blocks(values: dict[str, np.ndarray]) -> pd.DataFrame:
    # Categories stay object columns, whatever text dtype pandas prefers.
    return pd.DataFrame({n: pd.Series(v, dtype=v.dtype) for n, v in values.items()})


def _float32(encoded: Any) -> np.ndarray:
    return np.asarray(encoded, dtype=np.float32)


def _distinct(names: list[str]) -> list[str]:
    """Number the repeats of a name, which odd column names can cause."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return out
