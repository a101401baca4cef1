"""The one way to score: rows by models that have not seen them, new rows by the same.

A channel is fitted to a law of scores and holds for rows whose scores have that law. The
scores of a model refitted on all rows do not: it can be sharper, and the steps of boosted
trees lie elsewhere. So the models of the folds are kept. Every row, seen or new, gets the
mean log probability of one model from each repeat of the folds: for a training row the
one that did not see it, for a new row one chosen by a hash of the row, so that asking
again gives the same answer.
"""

from __future__ import annotations

import dataclasses
import threading
import weakref
from typing import Any

import jax
import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from jaxsteer.channels import row_uniform
from jaxsteer.estimators._rows import pointing_at_encoder, take_rows
from jaxsteer.estimators._tree_tables import TreeTables, tree_tables
from jaxsteer.estimators._weighted import with_weights

#: Probabilities are kept this far from 0 and 1, so that their logarithms are finite.
_LEAST = 1e-12
#: Rows that are scored at a time: trees visit all of them in turn, so they stay in a
#: core's own memory.
_AT_A_TIME = 8192
#: From so many rows on a model's trees are put into tables, which are compared with the
#: model on so many.
_MANY, _COMPARED = 8192, 1000


@dataclasses.dataclass(frozen=True)
class FoldModels:
    """Classifiers fitted without each fold in turn, once for each repeat.

    Attributes:
        estimators: ``[R][K]`` fitted classifiers.
        held_out: ``[n, C]`` log probabilities of the training rows, each the mean over
            the repeats of models that have not seen the row.
        seed: Seed by which new rows are assigned to folds.
    """

    estimators: tuple[tuple[Any, ...], ...]
    held_out: np.ndarray
    seed: int

    def log_probabilities(self, X: Any, rows: np.ndarray) -> np.ndarray:
        """Score new rows, ``[n, C]``.

        Args:
            X: ``[n, d]`` rows, as the classifiers take them.
            rows: What :func:`row_values` returned for them.
        """
        total = np.zeros((len(rows), self.held_out.shape[1]))
        for repeat, models in enumerate(self.estimators):
            fold = hashed_folds(self.seed, repeat, rows, len(models))
            for code, model in enumerate(models):
                mine = np.flatnonzero(fold == code)
                total[mine] += _log_probability(model, X, mine, total.shape[1])
        return _rounded(total / len(self.estimators))


def fit_fold_models(
    estimator: Any,
    X: Any,
    target: np.ndarray,
    cells: np.ndarray,
    *,
    weights: np.ndarray | None,
    cv: int,
    repeats: int,
    seed: int,
    row_ids: np.ndarray | None = None,
) -> FoldModels:
    """Fit the classifier ``repeats * cv`` times.

    Args:
        estimator: A classifier with ``predict_proba``, a pipeline that ends in one, or
            None for a logistic regression.
        X: ``[n, d]`` rows.
        target: ``[n]`` codes 0..C-1.
        cells: ``[n]`` codes that every fold is to have in equal shares.
        weights: ``[n]`` sample weights, or None.
        cv: Folds.
        repeats: How often the rows are shuffled into folds.
        seed: Seed of the shuffles and of the folds of new rows.
        row_ids: ``[n]`` or ``[n, m]`` what tells rows apart, or None. With it a row's
            fold is that of its hash, as for new rows: asked again, a training row is
            scored by the models that did not see it.

    Raises:
        ValueError: If the classifier gives no probabilities or takes no weights, or the
            hashes leave no row of a class to train on.
    """
    n_classes = int(target.max()) + 1
    total = np.zeros((len(target), n_classes))
    estimators = []
    for repeat in range(repeats):
        if row_ids is None:
            # The first repeat has the folds that StratifiedKFold makes with the seed.
            shuffle = seed if repeat == 0 else _seed_of_repeat(seed, repeat)
            shuffled = StratifiedKFold(cv, shuffle=True, random_state=shuffle)
            folds = list(shuffled.split(np.zeros(len(cells)), cells))
        else:
            code = hashed_folds(seed, repeat, row_ids, cv)
            folds = [
                (np.flatnonzero(code != k), np.flatnonzero(code == k))
                for k in range(cv)
            ]
        models = []
        for train, held_out in folds:
            if len(np.unique(target[train])) < n_classes:
                raise ValueError(
                    "The hashes of the rows put all rows of a class into one fold: use "
                    "more rows, fewer folds (cv), or another random_state."
                )
            model, options = with_weights(
                estimator, None if weights is None else weights[train]
            )
            if not hasattr(model, "predict_proba"):
                raise ValueError(
                    f"{type(model).__name__} has no predict_proba; use a classifier "
                    "that gives probabilities, or wrap it in CalibratedClassifierCV."
                )
            with pointing_at_encoder():
                model.fit(take_rows(X, train), target[train], **options)
            total[held_out] += _log_probability(model, X, held_out, n_classes)
            models.append(model)
        estimators.append(tuple(models))
    return FoldModels(tuple(estimators), _rounded(total / repeats), seed)


def hashed_folds(seed: int, repeat: int, rows: Any, n_folds: int) -> np.ndarray:
    """Fold ``[n]`` of each row by the hash of what tells it from others."""
    key = jax.random.fold_in(jax.random.key(seed), repeat)
    draw = np.asarray(row_uniform(key, rows))
    return np.minimum(draw * n_folds, n_folds - 1).astype(int)


def _rounded(values: np.ndarray) -> np.ndarray:
    # A row's last digits depend on the rows beside it, and edges of bins are at rows.
    return np.round(values, 9)


def log_odds(log_probabilities: np.ndarray) -> np.ndarray:
    """Log odds ``[n]`` of class 1 of two."""
    return log_probabilities[:, 1] - log_probabilities[:, 0]


def row_values(X: Any) -> np.ndarray:
    """What tells rows apart: ``[n, d]`` float64, or ``[n]`` hashes where there is text.

    The same for a table and an array of the same numbers, whatever their types.
    """
    if isinstance(X, pd.DataFrame):
        if not all(pd.api.types.is_numeric_dtype(dtype) for dtype in X.dtypes):
            columns = {
                i: (
                    X.iloc[:, i].astype(float)
                    if pd.api.types.is_numeric_dtype(X.iloc[:, i].dtype)
                    else X.iloc[:, i].astype(str)
                )
                for i in range(X.shape[1])
            }
            hashes = pd.util.hash_pandas_object(  # pyright: ignore[reportAttributeAccessIssue]
                pd.DataFrame(columns), index=False
            )
            return np.asarray(hashes, np.uint64)
        X = X.to_numpy(float, na_value=np.nan)
    array: Any = X.toarray() if hasattr(X, "toarray") else np.asarray(X)
    array = array.reshape(len(array), -1)
    if array.dtype.kind not in "biuf":
        return row_values(pd.DataFrame(array))
    values = array.astype(np.float64)
    return np.where(np.isnan(values), np.nan, values)


def _seed_of_repeat(seed: int, repeat: int) -> int:
    return int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])


def _log_probability(
    model: Any, X: Any, rows: np.ndarray, n_classes: int
) -> np.ndarray:
    """Log probabilities ``[m, C]`` of some rows."""
    found = np.empty((len(rows), n_classes))
    scorer = model
    if len(rows) >= _MANY and isinstance(X, np.ndarray) and X.dtype.kind == "f":
        scorer = _tables_of(model, X[rows[:_COMPARED]]) or model
    for start in range(0, len(rows), _AT_A_TIME):
        part = take_rows(X, rows[start : start + _AT_A_TIME])
        known = scorer is model or bool(np.isfinite(part).all())
        found[start : start + _AT_A_TIME] = (scorer if known else model).predict_proba(
            part
        )
    return np.log(np.clip(found, _LEAST, 1 - _LEAST))


def _tables_of(model: Any, X: np.ndarray) -> TreeTables | None:
    """Return the tables of a model, made once for as long as it is as it was."""
    trees = vars(getattr(model, "model_", model)).get("_predictors")
    if trees is None or not np.isfinite(X).all():
        return None
    with _MAKING:
        kept = _TABLES.get(model)
        if kept is None or kept[0] is not trees:
            kept = trees, tree_tables(getattr(model, "model_", model), X)
            _TABLES[model] = kept
    return kept[1]


#: One thread makes a model's tables, which Python lets no two do faster.
_MAKING = threading.Lock()
_TABLES: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
