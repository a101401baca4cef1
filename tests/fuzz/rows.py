"""Front doors that take rows, each with its answer recomputed in NumPy float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsteer as js
from jaxsteer.baselines import (
    fit_leace,
    fit_mean_match,
    fit_mimic,
    reweighing,
)
from tests.fuzz import inputs
from tests.fuzz.inputs import Draw
from tests.fuzz.judge import Call

ATOL = 2e-5


def host(values: Any) -> np.ndarray:
    """As float64."""
    return np.asarray(values, np.float64)


def whole(values: Any) -> np.ndarray:
    """Codes that a function may accept."""
    array = np.asarray(values)
    assert array.ndim == 1, "a column of codes was accepted"
    assert array.dtype.kind in "iub", f"codes of type {array.dtype} were accepted"
    array = array.astype(np.int64)
    assert array.min() >= 0, "a negative code was accepted"
    return array


def mass(weights: Any, n: int) -> np.ndarray:
    """Weights that a function may accept, scaled to a largest one of 1."""
    if weights is None:
        return np.ones(n)
    array = host(weights)
    assert array.shape == (n,), "weights of another length were accepted"
    assert np.isfinite(array).all() and (array >= 0).all() and array.max() > 0
    return array / array.max()


def finite(*arrays: Any) -> None:
    """Assert that no number is missing."""
    for array in arrays:
        for leaf in jax.tree.leaves(array):
            assert np.isfinite(np.asarray(leaf)).all(), f"not finite: {leaf}"


def near(found: Any, expected: Any, atol: float = ATOL) -> str:
    """Assert equality, and say that it is an answer."""
    found, expected = host(found), host(expected)
    assert found.shape == expected.shape, f"shape {found.shape}, not {expected.shape}"
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=atol)
    return "answer"


# --- Metrics.


def _rates(truth, outcome, group, w):
    """``P(outcome = j | truth = i, group = a)``, ``[j, i, a]``."""
    k, g = max(truth.max(), outcome.max()) + 1, group.max() + 1
    table = np.zeros((k, k, g))
    np.add.at(table, (outcome, truth, group), w)
    return table, table / table.sum(0)


def _spread(rates):
    return (rates.max(-1) - rates.min(-1)).max()


def _accuracy(table, rates):
    return np.einsum("iia->", table) / table.sum()


def _balanced(table, rates):
    pooled = table.sum(-1)
    return np.mean(np.diag(pooled) / pooled.sum(0))


def _parity(table, rates):
    selected = table.sum(1)
    return _spread(selected / selected.sum(0))


def _gaps(table, rates):
    diagonal = np.einsum("iia->ia", rates)
    if diagonal.shape[1] == 2:
        return diagonal[:, 1] - diagonal[:, 0]
    return np.ptp(diagonal, axis=-1)


METRICS: dict[str, Callable[[Any, Any], Any]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced,
    "demographic_parity": _parity,
    "equal_opportunity": lambda table, rates: np.ptp(rates[1, 1]),
    "equalized_odds": lambda table, rates: _spread(rates),
    "tpr_gap": lambda table, rates: np.sqrt(np.mean(_gaps(table, rates) ** 2)),
    "tpr_gap_per_class": _gaps,
}


def metric(name: str, draw: Draw) -> Call:
    """A metric on predictions."""
    n = inputs.n_rows(draw)
    label, group = inputs.codes(draw, "label", n), inputs.codes(draw, "group", n)
    prediction, w = inputs.codes(draw, "prediction", n), inputs.weights(draw, n)

    def check(found):
        truth, outcome, code = whole(label), whole(prediction), whole(group)
        assert len(truth) == len(outcome) == len(code)
        table, rates = _rates(truth, outcome, code, mass(w, len(truth)))
        return near(found, METRICS[name](table, rates))

    run = partial(getattr(js.metrics, name), label, prediction, group, weights=w)
    names = ("label", "prediction", "group", "weights", "class", "rows")
    return Call(run, check, names)


def _order(score: Any) -> np.ndarray:
    array = np.asarray(score)
    assert array.ndim == 1 and array.dtype.kind in "fiub"
    assert not (array.dtype.kind == "f" and np.isnan(array).any())
    return np.unique(array, return_inverse=True)[1]


def auc(draw: Draw) -> Call:
    """The area under the curve, by counting pairs."""
    n = inputs.n_rows(draw)
    label, group = inputs.codes(draw, "label", n), inputs.codes(draw, "group", n)
    score, w = inputs.scores(draw, n), inputs.weights(draw, n)

    def check(found):
        truth, rank = whole(label), _order(score)
        own = mass(w, len(truth))
        above = np.sign(rank[:, None] - rank) / 2 + 0.5
        pairs = np.outer(own * (truth == 1), own * (truth == 0))
        return near(found, np.sum(pairs * above) / np.sum(pairs))

    names = ("label", "score", "group", "weights", "class", "rows")
    return Call(lambda: js.metrics.auc(label, score, group, weights=w), check, names)


def _sup(rank, keep, group, w):
    best = 0.0
    for level in np.unique(rank):
        rates = []
        for code in range(group.max() + 1):
            own = (w * keep)[group == code]
            rates.append(np.sum(own * (rank[group == code] >= level)) / np.sum(own))
        best = max(best, max(rates) - min(rates))
    return best


def sup_gap(draw: Draw) -> Call:
    """The largest gap over thresholds, by trying all."""
    n = inputs.n_rows(draw)
    label, group = inputs.codes(draw, "label", n), inputs.codes(draw, "group", n)
    score, w = inputs.scores(draw, n), inputs.weights(draw, n)
    rate = draw.pick("rate", ["tpr", "fpr", "dp", "auc"])

    def check(found):
        truth, code, rank = whole(label), whole(group), _order(score)
        keep = {"tpr": truth == 1, "fpr": truth == 0, "dp": truth >= 0}[rate]
        return near(found, _sup(rank, keep, code, mass(w, len(truth))))

    names = ("label", "score", "group", "weights", "class", "rows", "rate")
    run = partial(js.metrics.sup_gap, label, score, group, rate=rate, weights=w)
    return Call(run, check, names)


# --- Scores made fair.


def _score_rows(draw: Draw, most: int = 2):
    n = inputs.n_rows(draw)
    label = inputs.codes(draw, "label", n, most)
    group = inputs.codes(draw, "group", n)
    return label, group, inputs.scores(draw, n), inputs.weights(draw, n)


SCORE_NAMES = ("label", "score", "group", "weights", "class", "rows", "bins")


def balanced_quantiles(draw: Draw) -> Call:
    """Levels rise with the score in every group, and gaps are those of the levels."""
    label, group, score, w = _score_rows(draw)
    share = draw.often("class_weight", 0.5, [0.0, 1.0, 0.3, -1, np.nan, "a"])

    def check(found):
        truth, code, rank = whole(label), whole(group), _order(score)
        own = mass(w, len(truth))
        finite(found.gaps, found.levels, found.calibration)
        level = host(found.transport(score, group))
        assert ((level >= 0) & (level <= 1)).all()
        for a in range(code.max() + 1):
            order = np.argsort(rank[code == a], kind="stable")
            assert (np.diff(level[code == a][order]) >= -1e-12).all(), "order lost"
        used = own > 0
        for cls in (0, 1):
            gap = _sup(level[used], (truth == cls)[used], code[used], own[used])
            assert gap <= float(found.gaps[cls]) + 1e-4, f"{gap} above {found.gaps}"
        return "answer"

    run = partial(
        js.balanced_quantiles, score, label, group, class_weight=share, weights=w
    )
    return Call(run, check, (*SCORE_NAMES, "class_weight"))


def roc_channel(draw: Draw) -> Call:
    """Kernels are kernels, and the groups' atoms have one law in every class."""
    label, group, score, w = _score_rows(draw)
    bins = draw.often("bins", 6, [2, 60, 1, 0, -3, 2.5, 10**6])
    tolerance = draw.often("tolerance", 0.0, [0.05, 1.0, -1.0, 2.0])
    if bins == 10**6:
        bins = 300  # more would only take long

    def check(found):
        truth, code, rank = whole(label), whole(group), host(score)
        own = mass(w, len(truth))
        kernels = host(found.kernels)
        assert (kernels >= -1e-6).all()
        near(kernels.sum(-1), np.ones(kernels.shape[:2]))
        rates = []
        for a in range(code.max() + 1):
            mine = (code == a) & (own > 0)
            at = np.searchsorted(host(found.edges[a]), rank[mine], side="right")
            laws = np.zeros((2, kernels.shape[1]))
            np.add.at(laws, (truth[mine], at), own[mine])
            laws /= laws.sum(1, keepdims=True)
            rates.append(np.cumsum(laws @ kernels[a], -1))
        gap = np.ptp(np.stack(rates), axis=0).max()
        if found.score_map is None:
            assert gap <= float(found.gap) + 1e-4, f"gap {gap}, said {found.gap}"
            assert gap <= tolerance + 1e-4, f"gap {gap} above {tolerance}"
        drawn = host(found.transport(score, group, key=inputs.key()))
        assert ((drawn >= -1e-6) & (drawn <= 1 + 1e-6)).all()
        return "answer"

    run = partial(
        js.roc_channel, score, label, group, bins=bins, tolerance=tolerance, weights=w
    )
    return Call(run, check, (*SCORE_NAMES, "tolerance"))


def multiclass_channel(draw: Draw) -> Call:
    """Rows of scores of three classes."""
    n = inputs.n_rows(draw)
    label, group = inputs.codes(draw, "label", n, 3), inputs.codes(draw, "group", n)
    w = inputs.weights(draw, n)
    score = np.stack([host_or(inputs.scores(draw, n)) for _ in range(3)], -1)
    bins = draw.often("bins", 4, [1, 8, 0, "a"])

    def check(found):
        finite(found.kernels)
        assert len(whole(label)) == len(whole(group))
        finite(found.transport(score, group, key=inputs.key()))
        return "answer"

    run = partial(js.multiclass_channel, score, label, group, bins=bins, weights=w)
    return Call(run, check, SCORE_NAMES)


def host_or(score: Any) -> np.ndarray:
    """Numbers where there are any, of one shape."""
    array = np.asarray(score)
    array = array.astype(float) if array.dtype.kind in "fiub" else np.zeros(len(array))
    return array[:, 0] if array.ndim > 1 else array


def blind_channel(draw: Draw) -> Call:
    """A channel that does not see the group."""
    label, group, score, w = _score_rows(draw)
    n = len(np.asarray(label))
    chance = draw.rng.uniform(0.05, 0.95, n)
    spoiled = draw.often(
        "group_probability", "good", ["nan", "above 1", "text", "ones"]
    )
    made = {"nan": chance * np.nan, "above 1": chance + 1, "text": chance.astype(str),
            "ones": np.ones(n)}  # fmt: skip
    chance = made.get(spoiled, chance)

    def check(found):
        drawn = host(found.transport(score, chance, key=inputs.key()))
        assert ((drawn >= -1e-6) & (drawn <= 1 + 1e-6)).all()
        return "answer"

    run = partial(
        js.blind_channel, score, chance, label, group, bins=(4, 2), atoms=4, weights=w
    )
    return Call(run, check, (*SCORE_NAMES, "group_probability"))


def smooth_balanced_quantiles(draw: Draw) -> Call:
    """The differentiable form."""
    label, group, score, w = _score_rows(draw)
    bandwidth = draw.often("bandwidth", 0.1, [1.0, 0.0, -1.0, np.nan])

    def check(found):
        found = host(found)
        assert ((found >= -1e-5) & (found <= 1 + 1e-5)).all(), f"{found}"
        return "answer"

    run = partial(
        js.channels.smooth_balanced_quantiles,
        score,
        label,
        group,
        bandwidth=bandwidth,
        weights=w,
    )
    return Call(run, check, (*SCORE_NAMES, "bandwidth"))


# --- Codes, moments, baselines.


def fit_population(draw: Draw) -> Call:
    """Priors and means are those of the rows; nothing is missing."""
    n = inputs.n_rows(draw)
    label, group = inputs.codes(draw, "label", n), inputs.codes(draw, "group", n)
    x, w = inputs.features(draw, n), inputs.weights(draw, n)
    shrinkage = draw.often(
        "shrinkage", "oas", [None, 0.0, 0.5, 1.0, "ledoit_wolf", -1, 2]
    )
    covariance = draw.often("covariance", "full", ["tied", "diagonal", "none"])

    def check(found):
        truth, code, values = whole(label), whole(group), host(x)
        own = mass(w, len(truth))
        finite(found)
        k, g = truth.max() + 1, code.max() + 1
        share = np.zeros((k, g))
        np.add.at(share, (truth, code), own)
        near(found.priors, share / share.sum())
        law = found.conditionals
        mean = host(law.mean if hasattr(law, "cov") else law.loc)
        if values.ndim == 2:
            total = np.zeros((k, g, values.shape[1]))
            np.add.at(total, (truth, code), own[:, None] * values)
            size = 1e-5 * np.abs(values).max() + 1e-30
            np.testing.assert_allclose(
                mean.reshape(total.shape), total / share[..., None], atol=size
            )
        return "answer"

    run = partial(
        js.fit_population, x, label, group, shrinkage=shrinkage, covariance=covariance,
        weights=w,
    )  # fmt: skip
    names = (
        "x",
        "label",
        "group",
        "weights",
        "shrinkage",
        "covariance",
        "cells",
        "class",
    )
    return Call(run, check, names)


def _eraser(fit: Callable, argument: str, draw: Draw) -> Call:
    n = inputs.n_rows(draw)
    code = inputs.codes(draw, argument, n)
    x, w = inputs.features(draw, n), inputs.weights(draw, n)

    def check(found):
        if argument == "z" and np.asarray(code).dtype.kind == "f":
            return near(
                _covariance(found, x, code, w), 0.0, atol=2e-2
            )  # a real concept
        values, group = host(x), whole(code)
        if group.max() == 0:
            return "answer"
        own = mass(w, len(group))
        moved = host(
            found(jnp.asarray(x)) if fit is fit_leace else _by_group(found, x, group)
        )
        if not (np.abs(values).max() < 1e30):
            finite(moved)
            return "answer"
        means = [np.average(moved[group == a], axis=0, weights=own[group == a])
                 for a in range(group.max() + 1)
                 if own[group == a].sum() > 0]  # fmt: skip
        apart = np.abs(np.ptp(np.stack(means), axis=0))
        deviation = values.std(0) + 1e-6 * np.abs(values).max(0) + 1e-30
        assert (apart <= 2e-2 * deviation).all(), f"means {apart / deviation} apart"
        return "answer"

    run = partial(fit, x, code, weights=w)
    names = ("x", argument, "weights", "class", "group", "concept", "reference")
    return Call(run, check, names)


def _covariance(found: Any, x: Any, concept: Any, w: Any) -> float:
    """The largest correlation that is left between a feature and a real concept."""
    values, z = host(x), host(concept)
    own = mass(w, len(z))
    moved = host(found(jnp.asarray(x)))
    finite(moved)
    centered = z - np.average(z, weights=own)
    size = values.std(0) + 1e-6 * np.abs(values).max(0) + 1e-30
    return float(np.max(np.abs((own * centered) @ (moved / size)) / own.sum()))


def _by_group(maps: Any, x: Any, group: np.ndarray) -> np.ndarray:
    moved = jax.vmap(lambda move: move(jnp.asarray(x)))(maps)
    return np.asarray(moved)[group, np.arange(len(group))]


def reweigh(draw: Draw) -> Call:
    """Weighted class and group are independent."""
    n = inputs.n_rows(draw)
    label, group = inputs.codes(draw, "label", n), inputs.codes(draw, "group", n)
    w = inputs.weights(draw, n)

    def check(found):
        truth, code = whole(label), whole(group)
        own = mass(w, len(truth))
        share = np.zeros((truth.max() + 1, code.max() + 1))
        np.add.at(share, (truth, code), own / own.sum())
        alone = share.sum(1, keepdims=True) * share.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = (alone / share)[truth, code]
        # Weights of the rows, with or without their own, up to one factor.
        given, used = host(found), own > 0
        ratio = given[used] / expected[used]
        without = np.ptp(ratio) <= 1e-3 * np.abs(ratio).max()
        ratio = ratio / own[used]
        assert without or np.ptp(ratio) <= 1e-3 * np.abs(ratio).max(), f"{ratio}"
        return "answer"

    run = partial(reweighing, label, group, weights=w)
    return Call(run, check, ("label", "group", "weights", "class"))


def moments(draw: Draw) -> Call:
    """Two updates and a finish give the moments of all rows."""
    n = inputs.n_rows(draw)
    label, group = inputs.codes(draw, "label", n), inputs.codes(draw, "group", n)
    x, w = inputs.features(draw, n), inputs.weights(draw, n)

    def run():
        state = js.moments.init(inputs.D, n_classes=2, n_groups=2)
        state = js.moments.update(state, x, label, group, weights=w)
        state = js.moments.update(state, x, label, group, weights=w)
        return js.moments.finish(state)

    def check(found):
        truth, code = whole(label), whole(group)
        own = mass(w, len(truth))
        finite(found)
        share = np.zeros((2, 2))
        np.add.at(share, (truth, code), own)
        return near(found.priors, share / share.sum())

    return Call(run, check, ("x", "label", "group", "weights", "cell", "class"))


ROWS: dict[str, Callable[[Draw], Call]] = {
    **{f"metrics.{name}": partial(metric, name) for name in METRICS},
    "metrics.auc": auc,
    "metrics.sup_gap": sup_gap,
    "balanced_quantiles": balanced_quantiles,
    "smooth_balanced_quantiles": smooth_balanced_quantiles,
    "roc_channel": roc_channel,
    "multiclass_channel": multiclass_channel,
    "blind_channel": blind_channel,
    "fit_population": fit_population,
    "moments": moments,
    "baselines.fit_mean_match": partial(_eraser, fit_mean_match, "group"),
    "baselines.fit_mimic": partial(_eraser, fit_mimic, "group"),
    "baselines.fit_leace": partial(_eraser, fit_leace, "z"),
    "baselines.reweighing": reweigh,
}
