"""Run every method with every learner and measure all of them the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, TypeAlias

import jax
import numpy as np

from jaxsteer._errors import check_choice
from jaxsteer.audit.metrics import ChanceLevel, Interval, bootstrap, chance_level
from jaxsteer.compare import _baselines, _fairlearn, _steering
from jaxsteer.compare._comparison import Comparison, Row
from jaxsteer.compare._learners import Learner, get_learner, worker_count
from jaxsteer.compare._outcome import Downstream, Method, Outcome
from jaxsteer.compare._split import Split, check_split, split_table

if TYPE_CHECKING:
    from jaxsteer.datasets import Table

# What a learner gives, and the seconds it took.
Timed: TypeAlias = Future[tuple[Outcome, float]]
#: Title and function of every row, in the table's order.
METHODS: dict[str, tuple[str, Method]] = {
    "raw": ("raw", _baselines.raw),
    "raw_with_group": ("raw, group as a feature", _baselines.raw_with_group),
    "reweighing": ("reweighing", _baselines.reweighing),
    "mean_matching": ("mean matching", _baselines.mean_matching),
    "mimic": ("MiMiC", _baselines.mimic),
    "mimic_reweighing": ("MiMiC + reweighing", _baselines.mimic_reweighing),
    "leace": ("LEACE", _baselines.leace),
    "steering": ("steering + reweighing", _steering.steering),
    "steering_all_groups": (
        "steering, all groups + reweighing",
        _steering.steering_all_groups,
    ),
    "gaussian_channel": ("Gaussian channel + reweighing", _steering.gaussian_channel),
    "roc_channel": ("ROC channel", _steering.roc_channel),
    "roc_channel_logistic": (
        "ROC channel on logistic scores",
        _steering.roc_channel_logistic,
    ),
    "roc_channel_tolerant": (
        "ROC channel, tolerance .02",
        _steering.roc_channel_tolerant,
    ),
    "balanced_quantiles": (
        "balanced quantiles (deterministic)",
        _steering.balanced_quantiles,
    ),
    "balanced_quantiles_logistic": (
        "balanced quantiles on logistic scores",
        _steering.balanced_quantiles_logistic,
    ),
    "blind_channel": ("blind channel (group unknown)", _steering.blind_channel),
    "threshold_optimizer": (
        "fairlearn ThresholdOptimizer",
        _fairlearn.threshold_optimizer,
    ),
    "exponentiated_gradient": (
        "fairlearn ExponentiatedGradient, 5 rounds",
        _fairlearn.exponentiated_gradient,
    ),
}

#: Rows that need fairlearn.
FAIRLEARN_METHODS = ("threshold_optimizer", "exponentiated_gradient")

_EXTRA = (
    "steering_all_groups",
    "roc_channel_logistic",
    "roc_channel_tolerant",
    "balanced_quantiles_logistic",
    "blind_channel",
)

DEFAULT_METHODS = tuple(name for name in METHODS if name not in _EXTRA)

#: The metric behind each column of the table.
_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "auc": "auc",
    "equalized_odds": "eo_gap",
    "sup_tpr_gap": "sup_tpr_gap",
    "sup_fpr_gap": "sup_fpr_gap",
    "sup_dp_gap": "sup_dp_gap",
}

Progress = Callable[[str, int, int], None]


def compare(
    data: Table | Split,
    *,
    learners: Sequence[str | Learner] = ("logistic", "boosted"),
    methods: Sequence[str] = DEFAULT_METHODS,
    reference: int = 1,
    seed: int = 0,
    n_boot: int = 200,
    progress: Progress | None = None,
) -> Comparison:
    """Fit every method on the training rows and measure it on the test rows.

    The test labels are read by the metrics only; the groups of the test rows are known.
    Nothing is tuned on the test rows. Decisions are taken at a score of .5; "sup" gaps
    are the largest over all thresholds, that is over every cost-sensitive risk.

    Args:
        data: A table of :mod:`jaxsteer.datasets` (encoded here by a
            :class:`jaxsteer.estimators.TabularEncoder` fitted on the training rows), or
            a :class:`Split` of encoded arrays.
        learners: The downstream learners: names, or any :class:`Learner`.
        methods: Names of the rows, keys of `METHODS`.
        reference: Code of the group that stays (a `Split` brings its own).
        seed: Seed of folds, channels, randomized decisions and resamples.
        n_boot: Bootstrap resamples of the test rows for the intervals.
        progress: Called as ``progress(text, done, total)`` after each row.

    Returns:
        The table. The intervals show the sampling of the test rows only, not that of the
        folds: run several seeds. Beside every gap over all thresholds stands its chance
        level, the mean over 100 shuffles of the test groups within each label.

    Raises:
        ValueError: If a name is unknown, the label is not binary, or a cell is empty.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, (2, 400))
        >>> x = rng.normal(size=(400, 2)) + label[:, None]
        >>> halves = [part[i::2] for i in (0, 1) for part in (x, label, group)]
        >>> table = compare(
        ...     Split(*halves), learners=["logistic"], methods=["raw"], n_boot=20
        ... )
        >>> bool(table.row("raw", "logistic").metrics["accuracy"].value > 0.6)
        True
    """
    for name in methods:
        check_choice("methods", name, tuple(METHODS))
    chosen = [get_learner(name) for name in learners]
    split = data if isinstance(data, Split) else split_table(data, reference=reference)
    check_split(split)
    names, notes = list(methods), []
    if not _fairlearn.has_fairlearn():
        left_out = [name for name in names if name in FAIRLEARN_METHODS]
        names = [name for name in names if name not in FAIRLEARN_METHODS]
        if left_out:
            notes.append(
                "Left out, because fairlearn is not installed (pip install fairlearn): "
                + ", ".join(METHODS[name][0] for name in left_out)
                + "."
            )
    rows = _run(split, names, chosen, seed, n_boot, progress)
    order = [rows[name, learner.name] for learner in chosen for name in names]
    return Comparison(
        tuple(order),
        np.asarray(split.label_test),
        np.asarray(split.group_test),
        split.label_names,
        split.group_names,
        len(split.label_train),
        seed,
        tuple(notes),
    )


def _run(
    split: Split,
    names: Sequence[str],
    learners: Sequence[Learner],
    seed: int,
    n_boot: int,
    progress: Progress | None,
) -> dict[tuple[str, str], Row]:
    """Prepare the methods one by one here, and train learners in the workers.

    JAX runs in this thread only: two programs with LAPACK calls at one time can wait
    for each other for ever on two cores.
    """
    total = len(names) * len(learners)
    rows: dict[tuple[str, str], Row] = {}

    def timed(downstream: Downstream, learner: Learner) -> tuple[Outcome, float]:
        start = time.perf_counter()
        outcome = downstream(learner)
        return outcome, time.perf_counter() - start

    def collect(future: Timed, name: str, learner: Learner, shared: float) -> None:
        outcome, seconds = future.result()
        title = METHODS[name][0]
        rows[name, learner.name] = Row(
            name,
            title,
            learner.name,
            measure(outcome, split, seed=seed, n_boot=n_boot),
            outcome.decision_only,
            outcome.note,
            seconds + shared,
            outcome.score,
            outcome.fitted,
            chance_levels(outcome, split, seed=seed),
        )
        if progress is not None:
            progress(f"{title} ({learner.title})", len(rows), total)

    with ThreadPoolExecutor(worker_count()) as pool:
        waiting: dict[Timed, tuple[str, Learner, float]] = {}
        try:
            for name in names:
                start = time.perf_counter()
                downstream = METHODS[name][1](split, seed)
                shared = (time.perf_counter() - start) / len(learners)
                for learner in learners:
                    future = pool.submit(timed, downstream, learner)
                    waiting[future] = (name, learner, shared)
                for future in [future for future in waiting if future.done()]:
                    collect(future, *waiting.pop(future))
            for future in as_completed(list(waiting)):
                collect(future, *waiting[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return rows


def measure(
    outcome: Outcome, split: Split, *, seed: int = 0, n_boot: int = 200
) -> dict[str, Interval]:
    """Return the table's columns for one outcome, with bootstrap intervals.

    Args:
        outcome: What a method and a learner said of the test rows.
        split: The rows.
        seed: Of resamples and shuffles.
        n_boot: Resamples of the test rows.

    Example:
        How a method of your own becomes a row::

            outcome = Outcome(score=model.predict_proba(split.x_test)[:, 1])
            columns = measure(outcome, split)
    """
    names = [
        name
        for name in _METRICS
        if not (outcome.decision_only and _METRICS[name] == "auc")
    ]
    found = bootstrap(
        names,
        np.asarray(split.label_test, np.int32),
        np.asarray(outcome.score >= 0.5, np.int32),
        np.asarray(split.group_test, np.int32),
        score=outcome.score,
        key=jax.random.key(seed),
        n_boot=n_boot,
        n_classes=2,
        n_groups=split.n_groups,
    )
    return {_METRICS[name]: jax.device_get(found[name]) for name in names}


def chance_levels(
    outcome: Outcome, split: Split, *, seed: int = 0, n_shuffles: int = 100
) -> dict[str, ChanceLevel]:
    """Return what the gaps over all thresholds would be with meaningless groups."""
    found = chance_level(
        [name for name in _METRICS if name.startswith("sup_")],
        np.asarray(split.label_test, np.int32),
        None,
        np.asarray(split.group_test, np.int32),
        score=outcome.score,
        key=jax.random.key(seed),
        n_shuffles=n_shuffles,
        n_classes=2,
        n_groups=split.n_groups,
    )
    return {_METRICS[name]: jax.device_get(level) for name, level in found.items()}
