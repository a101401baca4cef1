"""The ways of steering that the biographies compare, and what is measured of each.

A method sees training rows with their genders, and returns a move: a map for each
gender, weights for the learner, or both. Rows are moved by these maps as they are
(`prepare`), or inside a language model (`_biography_hidden.py`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import ks_2samp

import jaxsteer as js
from jaxsteer.compare import apply_group_maps

REFERENCE = 1  # men stay, women are moved


class Rows(NamedTuple):
    """What a method sees: features, classes, genders; those of test rows are predicted.

    Attributes:
        x: ``[n, d]`` training rows.
        label: ``[n]``.
        group: ``[n]``.
        x_test: ``[m, d]``.
        posterior: ``[m, 2]`` predicted probability of the genders.
        seed: Seed of the split.
    """

    x: np.ndarray
    label: np.ndarray
    group: np.ndarray
    x_test: np.ndarray
    posterior: np.ndarray
    seed: int

    @property
    def group_test(self) -> np.ndarray:
        """Predicted genders of the test rows."""
        return self.posterior.argmax(1)

    def weights(self) -> np.ndarray:
        """Weights that make class and gender independent in the training rows."""
        return np.asarray(js.baselines.reweighing(self.label, self.group))


class Move(NamedTuple):
    """What a method does.

    Attributes:
        maps: Maps with leading axis ``[2]``; None leaves the rows.
        weights: ``[n]`` weights of the training rows for the learner, or None.
        soft: Whether a test row goes by both maps, weighted by its predicted gender.
        channel: A channel, which moves and adds noise, instead of maps.
        transport: A function that moves the women's rows, instead of maps.
    """

    maps: Any = None
    weights: np.ndarray | None = None
    soft: bool = False
    channel: Any = None
    transport: Any = None


def raw(rows: Rows) -> Move:
    """As they are."""
    return Move()


def reweighing(rows: Rows) -> Move:
    """Weights that make class and gender independent."""
    return Move(weights=rows.weights())


def mean_matching(rows: Rows) -> Move:
    """Equal means of the genders."""
    return Move(js.baselines.fit_mean_match(rows.x, rows.group, reference=REFERENCE))


def mimic(rows: Rows) -> Move:
    """Equal means and covariances of the genders."""
    return Move(js.baselines.fit_mimic(rows.x, rows.group, reference=REFERENCE))


def mimic_reweighed(rows: Rows) -> Move:
    """The same of the reweighed rows, on which class and gender are independent."""
    weights = rows.weights()
    maps = js.baselines.fit_mimic(
        rows.x, rows.group, reference=REFERENCE, weights=weights
    )
    return Move(maps, weights)


def leace(rows: Rows) -> Move:
    """Gender linearly erased."""
    return Move(_for_both(js.baselines.fit_leace(rows.x, rows.group)))


def leace_reweighed(rows: Rows) -> Move:
    """The same of the reweighed rows."""
    weights = rows.weights()
    eraser = js.baselines.fit_leace(rows.x, rows.group, weights=weights)
    return Move(_for_both(eraser), weights)


def inlp(rows: Rows) -> Move:
    """Gender's linear probes projected away, ten times."""
    return Move(_for_both(js.baselines.fit_inlp(rows.x, rows.group)))


def splince(rows: Rows) -> Move:
    """Gender linearly erased, what the classes covary with kept."""
    return Move(_for_both(js.baselines.fit_splince(rows.x, rows.group, rows.label)))


def switch(rows: Rows) -> Move:
    """Women by the least affine movement that switches the genders' means."""
    found = js.baselines.fit_switch(rows.x, rows.group)
    stay = js.AffineMap.identity(rows.x.shape[1])
    return Move(jax.tree.map(lambda *parts: jnp.stack(parts), found, stay))


def mixture_transport(rows: Rows) -> Move:
    """Women by a Gaussian map for each of four clusters, softly chosen."""
    women = rows.group != REFERENCE
    found = js.baselines.fit_mixture_transport(
        rows.x[women], rows.x[~women], n_components=4, key=jax.random.key(rows.seed)
    )
    return Move(transport=found)


def _for_both(one: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), one)


def population(rows: Rows) -> js.Population:
    """Class by gender cells, covariances shrunk."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cells with few rows a feature: shrunk
        return js.fit_population(rows.x, rows.label, rows.group)


def steering(*, soft: bool = False, **options: Any) -> Callable[[Rows], Move]:
    """Group maps to the nearest ideal population, with its weights."""

    def fit(rows: Rows) -> Move:
        found = js.nearest_ideal(
            population(rows), reference=REFERENCE, differentiate="none", **options
        ).require()
        return Move(found.group_maps, rows.weights(), soft)

    return fit


def gaussian_channel(rows: Rows) -> Move:
    """The classes' discriminant coordinates with noise: label-free."""
    channel = js.gaussian_channel(population(rows), reference=REFERENCE)
    return Move(weights=rows.weights(), channel=channel)


METHODS: dict[str, Callable[[Rows], Move]] = {
    "raw": raw,
    "reweighing": reweighing,
    "mean matching": mean_matching,
    "MiMiC": mimic,
    "MiMiC, reweighed": mimic_reweighed,
    "LEACE": leace,
    "LEACE, reweighed": leace_reweighed,
    "INLP": inlp,
    "SPLINCE": splince,
    "MidSteer switch": switch,
    "mixture transport": mixture_transport,
    "affirmative, tied": steering(maps="shared_covariance"),
    "affirmative, full": steering(maps="general"),
    "all groups": steering(intervention="all_groups", maps="shared_covariance"),
    "affirmative, soft groups": steering(maps="shared_covariance", soft=True),
    "Gaussian channel": gaussian_channel,
}


def prepare(move: Move, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and the test rows, moved."""
    if move.channel is not None:
        keys = jax.random.split(jax.random.key(rows.seed))
        parts = ((rows.x, rows.group), (rows.x_test, rows.group_test))
        moved = [
            np.asarray(move.channel.transport(jnp.asarray(x), group, key=key))
            for (x, group), key in zip(parts, keys, strict=True)
        ]
        return moved[0], moved[1]
    if move.transport is not None:
        moved = [
            np.where((group == REFERENCE)[:, None], x, np.asarray(move.transport(x)))
            for x, group in ((rows.x, rows.group), (rows.x_test, rows.group_test))
        ]
        return moved[0], moved[1]
    if move.maps is None:
        return rows.x, rows.x_test
    x = apply_group_maps(move.maps, rows.x, rows.group)
    if not move.soft:
        return x, apply_group_maps(move.maps, rows.x_test, rows.group_test)
    every = [
        apply_group_maps(move.maps, rows.x_test, np.full(len(rows.x_test), a))
        for a in range(rows.posterior.shape[1])
    ]
    return x, np.einsum("na,and->nd", rows.posterior, np.stack(every))


def measure(
    score: np.ndarray, label: np.ndarray, group: np.ndarray
) -> dict[str, float]:
    """Figures of class probabilities ``[n, K]`` on rows with their true groups.

    Returns:
        Accuracy; the mean recall of the classes; the root mean square over the classes
        of the gap between the groups' true positive rates, and the gap of each class;
        and the largest over classes and thresholds of the gap between the groups' true
        positive rates, and false positive rates, of the class's score.
    """
    chosen, k = score.argmax(1), score.shape[1]
    recall, gap, sup_tpr, sup_fpr = [], [], [], []
    for i in range(k):
        mine = label == i
        recall.append(np.mean(chosen[mine] == i))
        parts = [mine & (group == a) for a in (0, 1)]
        rates = [np.mean(chosen[part] == i) for part in parts]
        gap.append(abs(rates[0] - rates[1]))
        sup_tpr.append(_largest_gap(*(score[part, i] for part in parts)))
        others = [~mine & (group == a) for a in (0, 1)]
        sup_fpr.append(_largest_gap(*(score[part, i] for part in others)))
    figures = {
        "accuracy": np.mean(chosen == label),
        "balanced": np.mean(recall),
        "rms_tpr_gap": np.sqrt(np.mean(np.square(gap))),
        "sup_tpr_gap": max(sup_tpr),
        "sup_fpr_gap": max(sup_fpr),
    }
    return {name: float(value) for name, value in figures.items()} | {
        f"tpr_gap_{i}": float(value) for i, value in enumerate(gap)
    }


def _largest_gap(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference of the shares above a threshold."""
    # "asymp" is about a p-value that nobody asks for, and the exact one is slow.
    return ks_2samp(first, second, method="asymp").statistic


def by_chance(
    score: np.ndarray, label: np.ndarray, group: np.ndarray, draws: int = 20
) -> dict[str, float]:
    """Figures as they would be if gender was drawn at random within each class.

    What a gap reads where there is none: few rows of a class and gender make it large.
    """
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        drawn = group.copy()
        for i in range(score.shape[1]):
            drawn[label == i] = rng.permutation(group[label == i])
        found.append(measure(score, label, drawn))
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}
