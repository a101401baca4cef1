"""The scikit-learn face: fitted and applied to rows, each answer recomputed in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from jaxsteer import estimators
from tests.fuzz import inputs
from tests.fuzz.inputs import Draw
from tests.fuzz.judge import Call
from tests.fuzz.rows import finite, host

NAMES = ("X", "x has", "y", "sensitive_features", "sample_weight", "class", "group",
         "cells", "labels", "rows", "column")  # fmt: skip


def _given(draw: Draw) -> tuple[Any, Any, Any]:
    """Rows, labels and groups; these may be text or floats, or come as a table."""
    n = inputs.n_rows(draw)
    X = inputs.features(draw, n)
    y, group = inputs.codes(draw, "y", n), inputs.codes(draw, "group", n)
    if draw.often("table", False, [True]) and np.ndim(X) == 2:
        X = pd.DataFrame(np.asarray(X), columns=["a", "b"][: np.shape(X)[1]])
    return X, y, group


def _names(values: Any) -> np.ndarray:
    """Codes of whatever names rows carry."""
    return np.unique(np.asarray(values).ravel(), return_inverse=True)[1]


def _means_agree(X: Any, moved: Any, group: Any, atol: float) -> None:
    """Groups have one mean, in deviations of each feature."""
    given, found, code = host(X), host(moved), _names(group)
    assert found.shape == given.shape
    finite(found)
    unit = given.std(0) + 1e-6 * np.abs(given).max(0) + 1e-300
    means = [found[code == a].mean(0) / unit for a in range(code.max() + 1)]
    # Far from 0 the numbers themselves are rounded, in float32.
    room = atol + 3e-7 * np.abs(given).max(0) / unit
    assert (np.ptp(np.stack(means), axis=0) <= room).all(), f"means {means} apart"


def _transformer(make: Callable[[], Any], atol: float, draw: Draw) -> Call:
    """Fitted and applied, the groups' means agree to `atol`; inf: only finite."""
    X, y, group = _given(draw)

    def run():
        with np.errstate(all="ignore"):
            fitted = make().fit(X, y, sensitive_features=group)
            return np.asarray(fitted.transform(X, sensitive_features=group))

    def check(found):
        finite(found)
        assert found.shape == np.shape(X)
        if np.isfinite(atol):
            _means_agree(X, found, group, atol)
        return "answer"

    return Call(run, check, NAMES)


def encoder(draw: Draw) -> Call:
    """Whatever a table holds comes out as finite numbers, the same on the same rows."""
    n = inputs.n_rows(draw)
    X = inputs.features(draw, n)
    if draw.often("table", False, [True]) and np.ndim(X) == 2:
        words = np.array(["one", "two", None], object)
        text = draw.rng.choice(words, len(np.asarray(X)))
        X = pd.DataFrame(np.asarray(X)).add_prefix("c").assign(word=text)

    def run():
        fitted = estimators.TabularEncoder().fit(X)
        return fitted.transform(X), fitted.transform(X)

    def check(found):
        first, second = found
        assert len(first) == len(X)
        finite(first)
        np.testing.assert_array_equal(first, second)
        return "answer"

    return Call(run, check, NAMES)


def weights(draw: Draw) -> Call:
    """Weighted shares of the cells are products of those of classes and groups."""
    _, y, group = _given(draw)
    w = inputs.weights(draw, inputs.N)

    def run():
        return estimators.fair_weights(y, sensitive_features=group, sample_weight=w)

    def check(found):
        code, other = _names(y), _names(group)
        base = np.ones(len(code)) if w is None else host(w)
        total = host(found) / np.max(base)
        finite(total)
        share = np.zeros((code.max() + 1, other.max() + 1))
        np.add.at(share, (code, other), total)
        share /= share.sum()
        product = share.sum(1)[:, None] * share.sum(0)[None]
        assert np.abs(share - product).max() < 1e-6, share
        return "answer"

    return Call(run, check, NAMES)


def _classifier(make: Callable[[], Any], with_group: bool, draw: Draw) -> Call:
    """Fitted on rows, predictions are known classes and probabilities are such."""
    X, y, group = _given(draw)

    def run():
        with np.errstate(all="ignore"):
            fitted = make().fit(X, y, sensitive_features=group)
            seen = {"sensitive_features": group} if with_group else {}
            return fitted.predict(X, **seen), fitted.predict_proba(X, **seen)

    def check(found):
        said, share = found
        assert len(said) == len(share) == np.shape(X)[0]
        assert set(np.asarray(said).tolist()) <= set(np.asarray(y).ravel().tolist())
        finite(share)
        assert (share >= 0).all() and np.allclose(share.sum(1), 1)
        return "answer"

    return Call(run, check, NAMES)


def _steered() -> Any:
    return estimators.SteeredClassifier()


def _fair() -> Any:
    return estimators.FairScore(cv=2, repeats=1, random_state=0)


ESTIMATORS: dict[str, Callable[[Draw], Call]] = {
    "estimators.MeanMatching": partial(_transformer, estimators.MeanMatching, 2e-3),
    "estimators.MiMiC": partial(_transformer, estimators.MiMiC, 2e-2),
    "estimators.LEACE": partial(_transformer, estimators.LEACE, 2e-2),
    "estimators.IdealSteering": partial(
        _transformer, estimators.IdealSteering, float("inf")
    ),
    "estimators.TabularEncoder": encoder,
    "estimators.fair_weights": weights,
    "estimators.Reweighing": partial(_classifier, estimators.Reweighing, False),
    "estimators.SteeredClassifier": partial(_classifier, _steered, True),
    "estimators.FairScore": partial(_classifier, _fair, True),
}
