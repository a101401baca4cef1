"""Balanced quantiles: the best score map that needs neither labels nor randomness.

In group ``a`` a score becomes its quantile in the mixture of the two classes,
``T_a = (1 - w) F_0a + w F_1a``. At any threshold all groups then have one value of
``(1 - w) FPR + w TPR``, so that their rates can only differ in opposite directions.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_codes,
    check_same_length,
    check_weights,
    is_concrete,
)
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.channels._rows import (
    check_shrinkage,
    class_weights,
    group_shrinkage,
    held_scores,
    in_precision_of,
    pooled_weights,
    traced_precision,
)
from jaxsteer.channels._score_ranks import (
    frechet_gap,
    group_curve,
    isotonic_knots,
    isotonic_knots_traced,
    largest_gaps,
    rates_at,
)

#: Levels at which the groups' curves are kept.
_LEVELS = 257


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """An increasing map of each group's score to a common scale in [0, 1].

    Attributes:
        knots: ``[G, M]`` scores seen in each group, non-decreasing; a group with fewer
            repeats its last. In float64 where the map was fitted on the host.
        levels: ``[G, M]`` what they are mapped to.
        calibration: ``[C, 2]`` knots of the probability of class 1 as a function of the
            mapped score, all groups pooled.
        roc: ``[G, L, 2]`` false and true positive rate of each group at ``L`` common
            thresholds, from the highest to the lowest.
        frechet_gap: ``[]`` half the largest difference of two groups' ``TPR - FPR`` at
            one ``(TPR + FPR) / 2``: no increasing maps have a smaller largest gap.
        gaps: ``[2]`` largest difference of any two groups' false, and true, positive
            rates over all thresholds, in sample.
        class_weight: ``[]`` share of class 1 in the mixture.
        cell_counts: ``[2, G]`` rows of each class and group.
        shrinkage: ``[G]`` how far each group's laws were drawn to those of all groups;
            None for files without it. `roc` and `frechet_gap` are of the laws so drawn,
            `gaps` of the rows.

    Example:
        >>> import numpy as np, jaxsteer as js
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
        >>> score = label * (1 + group) + rng.normal(size=4000)
        >>> fair = js.balanced_quantiles(score, label, group)
        >>> probability = fair.calibrate(fair.transport(score, group))
        >>> bool(0 <= probability.min() and probability.max() <= 1)
        True
    """

    knots: Float[ArrayLike, "G M"]
    levels: Float[ArrayLike, "G M"]
    calibration: Float[ArrayLike, "C 2"]
    roc: Float[ArrayLike, "G L 2"]
    frechet_gap: Float[Array, ""]
    gaps: Float[Array, "2"]
    class_weight: Float[Array, ""]
    cell_counts: Int[Array, "2 G"]
    shrinkage: Float[Array, " G"] | None = None

    def transport(
        self, score: Float[ArrayLike, " n"], group: Int[ArrayLike, " n"]
    ) -> Float[Array, " n"]:
        """Return the mapped scores, the same for whoever asks, however often.

        On concrete rows the score is compared in its own precision, inside ``jit`` in
        that of the trace.

        Args:
            score: ``[n]`` scores of the same learner; between two seen scores the map is
                straight, beyond them constant.
            group: ``[n]`` group codes.

        Returns:
            ``[n]`` in [0, 1]; NaN for unknown codes and for scores that are not finite,
            under ``jit``.

        Raises:
            ValueError: If a code is unknown or a score is not finite.
        """
        check_same_length(score=score, group=group)
        check_codes("group", group, self.knots.shape[0])
        if is_concrete(score, group, self.knots, self.levels):
            return jnp.asarray(self._on_host(score, group))
        dtype = jnp.result_type(self.levels, jnp.float32)
        own = traced_precision(score, dtype)
        # Knots are rounded as the score is, then both are taken at full width.
        knots = jnp.asarray(self.knots, own).astype(dtype)
        score, group = jnp.asarray(score, own).astype(dtype), jnp.asarray(group)
        mapped = jax.vmap(
            lambda knots, levels: jnp.interp(score, knots, levels)
        )(knots, jnp.asarray(self.levels, dtype))  # fmt: skip
        n_groups = mapped.shape[0]
        code = jnp.clip(group, 0, n_groups - 1).astype(jnp.int32)
        found = jnp.take_along_axis(mapped, code[None], 0)[0]
        known = (group >= 0) & (group < n_groups) & jnp.isfinite(score)
        return jnp.where(known, found, jnp.nan)

    __call__ = transport

    def calibrate(self, mapped: Float[ArrayLike, " n"]) -> Float[Array, " n"]:
        """Return the probability of class 1 at mapped scores, by isotonic regression.

        One increasing function for all groups, so thresholds on it are thresholds on the
        mapped score. It is fitted under the sample's class shares.

        Args:
            mapped: ``[n]`` what `transport` returned.
        """
        dtype = jnp.result_type(self.levels, jnp.float32)
        knots = jnp.asarray(self.calibration, dtype)
        return jnp.interp(jnp.asarray(mapped, dtype), knots[:, 0], knots[:, 1])

    def _on_host(self, score: Any, group: Any) -> np.ndarray:
        held, codes = held_scores("score", score), np.asarray(group, int)
        mapped = np.empty(len(held))
        for code in np.unique(codes):
            mine = codes == code
            knots = in_precision_of(score, self.knots[code])
            levels = np.asarray(self.levels[code], np.float64)
            mapped[mine] = np.interp(held[mine], knots, levels)
        return mapped


def balanced_quantiles(
    score: Float[ArrayLike, " n"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    *,
    class_weight: float | Float[ArrayLike, ""] = 0.5,
    weights: Float[ArrayLike, " n"] | None = None,
    shrinkage: float | Float[ArrayLike, ""] | str = 0.0,
    n_groups: int | None = None,
) -> ScoreMap:
    """Fit the deterministic score map with the smallest largest gap.

        T_a(s) = (1 - w) F_0a(s) + w F_1a(s)

    with ``F_ka`` the distribution function of the score in class ``k`` of group ``a`` and
    ``w`` the `class_weight`. At ``w = 1/2`` the largest difference of true or false
    positive rates over all thresholds is `frechet_gap`, and no other increasing maps of
    the groups' scores reach less. In general ``T_a`` minimizes the larger of
    ``w |TPR gap|`` and ``(1 - w) |FPR gap|``: at ``w = 1`` true positive rates are equal
    at every threshold (equal opportunity without a random draw), at ``w = 0`` false
    positive rates. Equal both at once for one score needs randomness:
    :func:`jaxsteer.roc_channel`.

    Distribution functions are weighted mid-ranks, straight between seen scores. Give it
    out-of-fold scores. On the host ranks are taken in the input's own precision; inside
    ``jit`` and ``vmap`` (pass `n_groups`) everything is pure JAX, of fixed shape, and a
    group without one of the classes comes out as NaN. Cost ``O(G n log n)``. The map is
    differentiable in the scores it is applied to, almost everywhere, but ranks do not
    move with the fitted ones: see :func:`smooth_balanced_quantiles`.

    Args:
        score: ``[n]`` finite scores of any base learner, higher for class 1.
        label: ``[n]`` class codes 0 and 1.
        group: ``[n]`` group codes 0..G-1, any number of groups.
        class_weight: Share of class 1, in [0, 1].
        weights: ``[n]`` non-negative sample weights, or None.
        shrinkage: How far each group's laws are drawn to those of all groups, in [0, 1]:
            at 0 each group is fitted to its own rows, which is minimax in sample; at 1
            all get one map. "auto" takes for each group the part of its distance to the
            pooled laws that chance alone would make, and 0 where that is less than a
            fiftieth: large groups that differ stay exact. For small cells: what chance
            made of a group is noise, and undoing it in sample adds as much to the gap on
            new rows.
        n_groups: ``G``; None takes the largest code plus one.

    Returns:
        The map.

    Raises:
        ValueError: On scores that are not finite, labels that are not 0 and 1, a class
            weight or shrinkage out of range, fewer than two groups, or a group without
            one of the classes.

    Example:
        >>> import numpy as np, jaxsteer as js
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
        >>> score = label * (1 + group) + rng.normal(size=4000)
        >>> fair = js.balanced_quantiles(score, label, group)
        >>> bool(abs(fair.gaps.max() - fair.frechet_gap) < 0.002)
        True
        >>> u = fair.transport(score, group)
        >>> probability = fair.calibrate(u)

    References:
        The Frechet distance of two curves in the maximum norm, in coordinates turned by
        45 degrees; Ayer et al. 1955 for the calibration.
    """
    check_shrinkage(shrinkage)
    n_groups = _check_rows(score, label, group, class_weight, weights, n_groups)
    if weights is None:
        weights = np.ones(np.shape(label)[0])
    if is_concrete(score, label, group, class_weight, weights, shrinkage):
        return _fit_on_host(
            score, label, group, class_weight, weights, n_groups, shrinkage
        )
    dtype = jnp.result_type(score, jnp.float32)
    score, weights, share = (
        jnp.asarray(v, dtype) for v in (score, weights, class_weight)
    )
    return _fit(jnp, score, jnp.asarray(label), jnp.asarray(group), share, weights,
                n_groups, shrinkage)  # fmt: skip


def smooth_balanced_quantiles(
    score: Float[ArrayLike, " n"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    *,
    bandwidth: float | Float[ArrayLike, ""],
    class_weight: float | Float[ArrayLike, ""] = 0.5,
    weights: Float[ArrayLike, " n"] | None = None,
    n_groups: int | None = None,
) -> Float[Array, " n"]:
    """Return the rows' own balanced quantiles, differentiable in every score.

    Steps of the distribution functions become logistic curves of scale `bandwidth`,

        F_ka(s) = sum_j w_j sigmoid((s - s_j) / bandwidth) / sum_j w_j

    over the rows of class ``k`` in group ``a``, the row itself included (at 1/2): as the
    bandwidth falls this becomes the mid-rank of :func:`balanced_quantiles`. Meant for
    training: a loss on these values sees how scores move past each other. Pure JAX; cost
    and memory ``O(n^2)``, so use batches.

    Args:
        score: ``[n]`` scores.
        label: ``[n]`` class codes 0 and 1.
        group: ``[n]`` group codes 0..G-1.
        bandwidth: Scale of the smoothing in units of the score, positive. A tenth of the
            score's standard deviation keeps the gaps to about a hundredth.
        class_weight: Share of class 1, in [0, 1].
        weights: ``[n]`` non-negative sample weights, or None.
        n_groups: ``G``, needed when `group` is traced.

    Returns:
        ``[n]`` in [0, 1]; NaN in a group without one of the classes.

    Raises:
        ValueError: As :func:`balanced_quantiles`, or on a bandwidth that is not positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> score, label = jnp.array([0.0, 1.0, 2.0, 3.0]), jnp.array([0, 1, 0, 1])
        >>> group = jnp.array([0, 0, 1, 1])
        >>> u = smooth_balanced_quantiles(score, label, group, bandwidth=0.01)
        >>> u.tolist()
        [0.25, 0.75, 0.25, 0.75]
    """
    if is_concrete(bandwidth) and not np.all(np.asarray(bandwidth) > 0):
        raise ValueError(
            f"bandwidth={bandwidth} must be positive, in units of the score; for the "
            f"limit 0 use jaxsteer.balanced_quantiles."
        )
    _check_rows(score, label, group, class_weight, weights, n_groups)
    dtype = jnp.result_type(score, jnp.float32)
    given = score
    score, label, group = (jnp.asarray(v) for v in (score, label, group))
    score = score.astype(dtype)
    if is_concrete(given) and not np.isfinite(np.asarray(score)).all():
        raise ValueError(
            f"score leaves the range of {dtype}, in which it is smoothed; divide it by "
            f"its standard deviation, and the bandwidth too."
        )
    ones = jnp.ones(score.shape, dtype)
    weights = ones if weights is None else jnp.asarray(weights, dtype)
    below = jax.nn.sigmoid((score[:, None] - score) / bandwidth)
    mapped = jnp.zeros(score.shape, dtype)
    for cls, share in ((0, 1 - class_weight), (1, class_weight)):
        peers = (group[:, None] == group) & (label == cls)
        mass = jnp.where(peers, weights, 0.0)
        mapped = mapped + share * (mass * below).sum(1) / mass.sum(1)
    return mapped


def _check_rows(
    score: Any, label: Any, group: Any, class_weight: Any, weights: Any,
    n_groups: int | None,
) -> int:  # fmt: skip
    """Check what can be checked now, and return the number of groups."""
    check_same_length(score=score, label=label, group=group, weights=weights)
    if np.ndim(score) != 1:
        raise ValueError(
            f"score has shape {np.shape(score)}, expected [rows]: one score of class 1; "
            f"for one column a class use jaxsteer.multiclass_channel, for many scores "
            f"jax.vmap."
        )
    check_codes("label", label, 2)
    n_groups = check_codes("group", group, n_groups)
    if n_groups < 2:
        raise ValueError("group has one value; there is nothing to make equal.")
    number = not isinstance(class_weight, str) and np.ndim(class_weight) == 0
    if is_concrete(class_weight) and not (number and 0 <= float(class_weight) <= 1):
        raise ValueError(
            f"class_weight={class_weight!r} must lie in [0, 1]: 1/2 weighs both rates "
            f"alike, 1 makes true positive rates equal."
        )
    if is_concrete(score):
        held_scores("score", score)
    if weights is not None:
        check_weights(weights)
    if is_concrete(label, group, weights):
        counts = _counts(label, group, weights, n_groups)
        for cls, code in np.argwhere(counts == 0).tolist():
            raise ValueError(
                f"no rows of class {cls} in group {code}: its error rates are unknown. "
                f"Merge that group with another, or leave it out."
            )
    return n_groups


def _counts(label: Any, group: Any, weights: Any, n_groups: int) -> np.ndarray:
    counts = np.zeros((2, n_groups), int)
    used = 1 if weights is None else (np.asarray(weights) > 0).astype(int)
    np.add.at(counts, (np.asarray(label, int), np.asarray(group, int)), used)
    return counts


def _fit_on_host(
    score: Any, label: Any, group: Any, class_weight: Any, weights: Any, n_groups: int,
    shrinkage: Any,
) -> ScoreMap:  # fmt: skip
    weights = np.asarray(weights, float)
    some = weights > 0
    rows = (np.asarray(label, int), np.asarray(group, int), weights)
    found = _fit(
        np,
        held_scores("score", score)[some],
        rows[0][some],
        rows[1][some],
        float(class_weight),
        weights[some],
        n_groups,
        shrinkage,
    )
    # Each distinct score once; a group with fewer repeats its last.
    kept = [np.unique(row, return_index=True)[1] for row in found.knots]
    size = max(map(len, kept))
    place = np.stack([np.pad(k, (0, size - len(k)), mode="edge") for k in kept])
    return dataclasses.replace(
        found,
        knots=np.take_along_axis(found.knots, place, 1),
        levels=np.take_along_axis(found.levels, place, 1),
        **{
            name: jnp.asarray(getattr(found, name))
            for name in (
                "roc",
                "frechet_gap",
                "gaps",
                "class_weight",
                "cell_counts",
                "shrinkage",
            )
        },
    )


def _fit(
    xp: Any, score: Any, label: Any, group: Any, class_weight: Any, weights: Any,
    n_groups: int, shrinkage: Any,
) -> ScoreMap:  # fmt: skip
    """Fit with NumPy or JAX, at fixed shapes."""
    classes = class_weights(xp, label, weights, 2)
    shrunk = group_shrinkage(xp, score, classes, group, shrinkage, n_groups)
    own = pooled_weights(xp, classes, group, xp.stack([shrunk, shrunk]))
    curves = [group_curve(xp, score, label, mass, class_weight) for mass in own]
    knots = xp.stack([curve.score for curve in curves])
    levels = xp.stack([curve.level for curve in curves])
    mapped = score
    for code, curve in enumerate(curves):
        own = xp.interp(score, curve.score, curve.level)
        mapped = xp.where(group == code, own, mapped)
    fit = isotonic_knots if xp is np else isotonic_knots_traced
    at = xp.linspace(0.0, 1.0, _LEVELS, dtype=levels.dtype)
    used = (weights > 0).astype(np.int32)
    counts = [
        [xp.sum(used * (label == cls) * (group == code)) for code in range(n_groups)]
        for cls in (0, 1)
    ]
    return ScoreMap(
        knots=knots,
        levels=levels,
        calibration=fit(mapped, label.astype(levels.dtype), weights),
        roc=xp.stack([rates_at(xp, curve, class_weight, at) for curve in curves]),
        frechet_gap=frechet_gap(xp, curves),
        gaps=largest_gaps(xp, mapped, label, group, weights, n_groups),
        class_weight=xp.asarray(class_weight, dtype=levels.dtype),
        cell_counts=xp.stack([xp.stack(row) for row in counts]),
        shrinkage=shrunk,
    )
