"""What the fair scores share: classifiers of folds, a seed, and training rows."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from sklearn.utils import check_random_state

from jaxsteer._labels import cell_codes
from jaxsteer._types import RandomState
from jaxsteer.estimators._base import GroupClassifier, Rows
from jaxsteer.estimators._fold_models import FoldModels, fit_fold_models
from jaxsteer.estimators._inner import InnerClassifier


class FoldScorer(InnerClassifier, GroupClassifier):
    """Scores rows by classifiers that have not seen them, and then makes them fair."""

    _tables = True
    cv: int
    repeats: int
    random_state: RandomState
    _label_models: FoldModels
    _training: Rows
    _seed: int

    @property
    def estimators_(self) -> list[Any]:
        """The fitted classifiers, those of a repeat side by side."""
        return [model for models in self._label_models.estimators for model in models]

    def _least_rows(self) -> int:
        return self.cv

    def __getstate__(self) -> dict[str, Any]:
        """Leave the training rows out of what is written."""
        state: Any = super().__getstate__()
        rows = ("_training", "_ids")
        return {name: value for name, value in state.items() if name not in rows}

    def _check_folds(self) -> None:
        for name, least in (("cv", 2), ("repeats", 1)):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= least):
                raise ValueError(
                    f"{name} must be a whole number of at least {least}, got {value!r}."
                )

    def _keep(self, rows: Rows) -> None:
        """Settle the seed, and keep the rows for another channel on the same folds."""
        seed = self.random_state
        if not isinstance(seed, int):
            seed = int(check_random_state(seed).randint(2**31 - 1))
        self._seed = seed
        self._training = rows

    def _fit_folds(self, estimator: Any, target: np.ndarray) -> FoldModels:
        rows = self._training
        return fit_fold_models(
            estimator,
            rows.X,
            target,
            cell_codes(rows.label, rows.group, len(self.groups_)),
            weights=rows.weight,
            cv=self.cv,
            repeats=self.repeats,
            seed=self._seed,
            row_ids=vars(self).get("_ids"),
        )

    def _draw(self, rows: np.ndarray) -> dict[str, Any]:
        """How a channel draws, so that a draw belongs to its row."""
        # Apart from the keys of the folds, which are numbered from 0.
        key = jax.random.fold_in(jax.random.key(self._seed), 2**31)
        return {"key": key, "draw": "row", "rows": rows}
