"""The downstream learners of the table: one linear, one flexible, neither tuned."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from jaxsteer._errors import check_choice
from jaxsteer._labels import cell_codes
from jaxsteer._types import Classifier


@runtime_checkable
class Learner(Protocol):
    """What learns labels from the rows that a method has prepared.

    :func:`jaxsteer.compare.compare` takes any beside the names of its own. What it builds
    is a classifier as scikit-learn has them, with ``predict_proba``.

    Example:
        >>> isinstance(get_learner("logistic"), Learner)
        True
    """

    @property
    def name(self) -> str:
        """What rows of the table call it; one of its own."""
        ...

    @property
    def title(self) -> str:
        """The same for readers."""
        ...

    @property
    def weight_name(self) -> str:
        """The name under which the classifier's `fit` takes sample weights."""
        ...

    @property
    def build(self) -> Callable[[], Classifier]:
        """Returns a classifier that has seen nothing."""
        ...

    def fit(
        self, x: np.ndarray, label: np.ndarray, weights: np.ndarray | None = None
    ) -> Classifier:
        """Return a classifier fitted on ``x [n, d]``, codes ``[n]`` and weights ``[n]``.

        Called from several threads at once.
        """
        ...


@dataclasses.dataclass(frozen=True)
class SklearnLearner:
    """A named classifier and the name under which its `fit` takes sample weights."""

    name: str
    title: str
    build: Callable[[], Any]
    weight_name: str

    def fit(self, x: np.ndarray, label: np.ndarray, weights: Any = None) -> Any:
        """Return the classifier fitted on ``x [n, d]``, with one thread."""
        options = {} if weights is None else {self.weight_name: np.asarray(weights)}
        # On a shared machine the threads of one fit wait for each other: 32,561 rows
        # took 10 s of processor time with two threads and 3 s with one. So fits run
        # side by side instead.
        with threadpool_limits(1):
            return self.build().fit(x, label, **options)


def _logistic() -> Any:
    # newton-cholesky: a few exact steps on n >> d, the same answer as lbfgs in a third
    # of the time, and no dependence on the scale of the features.
    model = LogisticRegression(solver="newton-cholesky", max_iter=200)
    return make_pipeline(StandardScaler(), model)


def _boosted() -> Any:
    return HistGradientBoostingClassifier(random_state=0)


LEARNERS: dict[str, Learner] = {
    "logistic": SklearnLearner(
        "logistic",
        "logistic regression",
        _logistic,
        "logisticregression__sample_weight",
    ),
    "boosted": SklearnLearner("boosted", "boosted trees", _boosted, "sample_weight"),
}


def get_learner(name: str | Learner) -> Learner:
    """Return the learner called `name`; a learner is returned as it is.

    Raises:
        ValueError: If there is none of that name.

    Example:
        >>> get_learner("boosted").title
        'boosted trees'
    """
    if isinstance(name, Learner):
        return name
    check_choice("learner", name, tuple(LEARNERS))
    return LEARNERS[name]


def positive_scores(model: Any, x: np.ndarray) -> np.ndarray:
    """Return the model's probability of class 1, ``[n]`` float64."""
    with threadpool_limits(1):
        return np.asarray(model.predict_proba(x), np.float64)[:, -1]


def out_of_fold_scores(
    learner: Learner,
    x: np.ndarray,
    label: np.ndarray,
    group: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    n_splits: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Score every row by a model that has not seen it.

    The folds are stratified by class and group, so that each keeps every cell.

    Args:
        learner: The learner.
        x: Features, ``[n, d]``.
        label: Codes 0 and 1, ``[n]``.
        group: Codes ``0..G-1``, ``[n]``.
        weights: Sample weights, ``[n]``.
        n_splits: Number of folds; fewer where a cell has fewer rows.
        seed: Seed of the folds.

    Returns:
        Probability of class 1, ``[n]``.

    Raises:
        ValueError: If a class has fewer than two rows.
    """
    label, group = np.asarray(label), np.asarray(group)
    cells = cell_codes(label, group, int(group.max()) + 1)
    smallest = int(np.bincount(cells)[np.unique(cells)].min())
    if smallest < n_splits:
        # Too few rows to put one of each cell in every fold: keep the classes apart.
        cells, smallest = label, int(np.bincount(label).min())
    if smallest < 2:
        raise ValueError(
            "Out-of-fold scores need at least two rows of each class, got "
            f"{smallest}; use more rows."
        )
    folds = StratifiedKFold(min(n_splits, smallest), shuffle=True, random_state=seed)

    def score_fold(parts: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        train, held_out = parts
        fold_weights = None if weights is None else np.asarray(weights)[train]
        model = learner.fit(x[train], label[train], fold_weights)
        return positive_scores(model, x[held_out])

    parts = list(folds.split(x, cells))
    scores = np.empty(len(label), np.float64)
    with ThreadPoolExecutor(worker_count()) as pool:
        for (_, held_out), found in zip(
            parts, pool.map(score_fold, parts), strict=True
        ):
            scores[held_out] = found
    return scores


def worker_count() -> int:
    """Return how many fits to run side by side."""
    return max(1, min(4, os.cpu_count() or 1))
