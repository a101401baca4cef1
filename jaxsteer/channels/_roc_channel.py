"""The ROC channel: one score, exactly as informative in every group.

A score in group ``a`` is an experiment about the label with a concave ROC hull ``R_a``.
The most informative experiment to which every group's can be degraded has the ROC curve
``min_a R_a`` (Blackwell's order of dichotomies is a lattice). A random kernel per group
maps its score bins to the atoms of that experiment, so that given the label the atom has
one law in every group: every threshold, cost and later classifier has equal error rates.
With a tolerance every group keeps more of its own curve, and from the Frechet distance of
the curves on nothing is random: the balanced quantiles are within it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_choice,
    check_codes,
    check_finite,
    check_same_length,
    is_concrete,
)
from jaxsteer._pytrees import register_dataclass
from jaxsteer._row_draws import draw_atoms, draw_for
from jaxsteer._types import Array, ArrayLike, Float, Int, Key
from jaxsteer.channels._entropic_kernel import entropic_meet
from jaxsteer.channels._quantiles import ScoreMap, balanced_quantiles
from jaxsteer.channels._roc import (
    concave_hull,
    degrading_kernel,
    heights_within,
    lower_envelope,
    roc_points,
)
from jaxsteer.channels._rows import (
    channel_rows,
    check_shrinkage,
    class_law,
    class_weights,
    held_scores,
    in_precision_of,
    pooled_weights,
    traced_precision,
)
from jaxsteer.channels._score_ranks import isotonic_knots
from jaxsteer.solvers import Status

METHODS = ("linear_program", "entropic")

# A kernel row with less than this outside its likeliest atom is not random.
CERTAIN = 1e-9


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RocChannel:
    """Kernels from each group's score bins to common atoms.

    Attributes:
        edges: ``[G, B - 1]`` inner bin edges of each group's scores, float64; a group
            with fewer distinct scores is padded with infinity.
        kernels: ``[G, B, T]`` rows on the simplex, ``P(atom | bin, group)``.
        atom_scores: ``[T]`` ``P(Y = 1 | atom)`` under the sample's class shares,
            increasing.
        atoms: ``[2, T]`` law of the atom given class 0 and 1: in every group, or over
            all groups where there is a tolerance.
        roc: ``[T + 1, 2]`` knots (false, true positive rate) of those atoms' curve: the
            meet, where there is no tolerance.
        hulls: Knots ``[m, 2]`` of each group's own concave ROC hull.
        gap: ``[]`` largest difference between two groups' TPR or FPR over all
            thresholds, in sample and in expectation over the randomness.
        slack: ``[]`` largest difference between the law of the atom that a group's
            kernel delivers and the one that it was to deliver.
        cell_counts: ``[2, G]`` rows of each class and group behind the curves.
        frechet_gap: ``[]`` what the best increasing maps reach without randomness,
            None for files of 0.1 (:attr:`ScoreMap.frechet_gap`); a tolerance of it or
            more needs no key.
        random_share: ``[]`` share of the rows (by weight) whose answer is random.
        score_map: Where the tolerance needs no randomness, the
            :class:`ScoreMap` that `transport` uses instead of the kernels; else None.
        shrinkage: ``[G]`` how far each group's laws were drawn to those of all groups,
            None for files without it. `hulls`, `slack` and `frechet_gap` are of the
            laws so drawn, `gap` of the rows.

    Example:
        >>> import jax, numpy as np, jaxsteer as js
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
        >>> score = label * (1 + group) + rng.normal(size=4000)
        >>> channel = js.roc_channel(score, label, group, bins=20)
        >>> u = channel.transport(score, group, key=jax.random.key(0))
        >>> u.shape, bool(channel.gap < 1e-6)
        ((4000,), True)
    """

    edges: Float[ArrayLike, "G B-1"]
    kernels: Float[Array, "G B T"]
    atom_scores: Float[Array, " T"]
    atoms: Float[Array, "2 T"]
    roc: Float[Array, "T+1 2"]
    hulls: tuple[Array, ...]
    gap: Float[Array, ""]
    slack: Float[Array, ""]
    cell_counts: Int[Array, "2 G"]
    frechet_gap: Float[Array, ""] | None = None
    random_share: Float[Array, ""] | None = None
    score_map: ScoreMap | None = None
    shrinkage: Float[Array, " G"] | None = None

    def transport(
        self,
        score: Float[ArrayLike, " n"],
        group: Int[ArrayLike, " n"],
        *,
        key: Key[Array, ""] | None = None,
        draw: str = "key",
        rows: ArrayLike | None = None,
    ) -> Float[Array, " n"]:
        """Return exactly fair scores, drawn at random.

        Args:
            score: ``[n]`` scores of the same learner; beyond the range seen at fit time
                they count as the nearest bin. On concrete rows they are compared in
                their own precision, inside ``jit`` in that of the trace.
            group: ``[n]`` group codes.
            key: The randomness; the same key gives the same scores. Not needed where
                `score_map` is set.
            draw: "key" draws one number a place: the answers to one key depend on the
                order of the rows, and two calls of one row each with one key make the
                same draw. "row" draws from a hash of the row under the key: equal rows
                get equal answers, asking again changes nothing, and one row a call is as
                good as a batch. Keep one secret key for as long as answers should stay.
            rows: ``[n]`` ids (numbers or text) or ``[n, d]`` features that tell rows
                apart, with draw="row"; None takes the score and the group. Rows that
                are alike share a draw, so the finer, the closer to exact.

        Returns:
            ``[n]`` scores in [0, 1], the posterior of the drawn atom; NaN for unknown
            codes under ``jit``.

        Raises:
            ValueError: If the key is missing, a code is unknown, a score is not finite,
                or `rows` are given without draw="row".
        """
        if self.score_map is not None:
            return self.score_map.calibrate(self.score_map.transport(score, group))
        if key is None:
            raise ValueError(
                "key is missing: equal error rates at every threshold need randomness; "
                "pass key=jax.random.key(seed), or call expected_score for a score that "
                "is deterministic and only approximately fair. "
                "jaxsteer.balanced_quantiles is the best that needs no key."
            )
        found = self._rows(score, group)
        numbers = draw_for(key, draw, rows, score, group)
        return draw_atoms(self.kernels, self.atom_scores, found, numbers)

    __call__ = transport

    def expected_score(
        self, score: Float[ArrayLike, " n"], group: Int[ArrayLike, " n"]
    ) -> Float[Array, " n"]:
        """Return the mean of the fair score: deterministic, only approximately fair.

        The mean over the atoms tells more than an atom, and how much more differs
        between groups; measure its gaps before relying on it.
        :func:`jaxsteer.balanced_quantiles` is deterministic too, with gaps that no
        other increasing maps can beat.

        Args:
            score: ``[n]`` scores.
            group: ``[n]`` group codes.

        Returns:
            ``[n]`` scores in [0, 1].
        """
        if self.score_map is not None:
            return self.transport(score, group)
        rows = self._rows(score, group)
        table = (self.kernels @ self.atom_scores).reshape(-1)
        return jnp.where(rows >= 0, table[rows], jnp.nan)

    def _rows(self, score: ArrayLike, group: ArrayLike) -> np.ndarray | Array:
        """Row of the flattened kernels that each sample uses; -1 for unknown codes."""
        alone = _single_row(score, group, self.edges)
        if alone is not None:
            return alone
        check_same_length(score=score, group=group)
        check_codes("group", group, self.kernels.shape[0])
        if is_concrete(score, group, self.edges):
            return _rows_on_host(score, group, self.edges)
        check_finite("score", score)
        dtype = traced_precision(score, self.kernels.dtype)
        score, group = jnp.asarray(score, dtype), jnp.asarray(group)
        n_groups, n_bins = self.kernels.shape[:2]

        def visit(rows: Array, item: tuple[Array, Array]):
            code, edges = item
            found = jnp.searchsorted(edges, score, side="right").astype(jnp.int32)
            return jnp.where(group == code, code * n_bins + found, rows), None

        start = jnp.full(score.shape, -1, jnp.int32)
        codes = jnp.arange(n_groups, dtype=jnp.int32)
        rows, _ = jax.lax.scan(visit, start, (codes, jnp.asarray(self.edges, dtype)))
        return jnp.where(jnp.isfinite(score), rows, -1)


def _single_row(score: Any, group: Any, edges: Any) -> np.ndarray | None:
    """What :func:`_rows_on_host` finds for one plain row, without its general checks.

    None for whatever is not plain, or not right: the checks then say what is wrong.
    """
    if not all(type(part) is np.ndarray for part in (score, group, edges)):
        return None
    if not score.shape == group.shape == (1,) or group.dtype.kind != "i":
        return None
    if not score.dtype == edges.dtype == np.float64:
        return None
    value, code = score.item(), group.item()
    if not (np.isfinite(value) and 0 <= code < len(edges)):
        return None
    found = edges[code].searchsorted(value, side="right")
    return np.array([code * (edges.shape[1] + 1) + found], np.int32)


def _rows_on_host(score: ArrayLike, group: ArrayLike, edges: ArrayLike) -> np.ndarray:
    held, codes = held_scores("score", score), np.asarray(group, int)
    edges = in_precision_of(score, edges)
    rows = np.empty(held.shape, np.int32)
    for code in set(codes.tolist()):
        mine = codes == code
        found = np.searchsorted(edges[code], held[mine], side="right")
        rows[mine] = code * (edges.shape[1] + 1) + found
    return rows


def _edges(knots: np.ndarray, levels: np.ndarray, bins: int) -> np.ndarray:
    """Lowest scores of the bins above the first, equal in class-balanced mass."""
    at = np.searchsorted(levels, np.arange(1, bins) / bins)
    inner = knots[np.minimum(at, len(knots) - 1)]
    return np.unique(inner[inner > knots[0]])


def _linear_program(
    laws: np.ndarray, hulls: list[np.ndarray], mix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Kernels ``[G, B, T]`` to the exact meet, and its atoms ``[2, T]``."""
    # Lowest scores first, as the bins are.
    atoms = np.diff(lower_envelope(hulls), axis=0).T[:, ::-1]
    # Rounding below 0 where a curve runs along an axis.
    atoms = np.maximum(atoms, 0.0)
    atoms /= atoms.sum(-1, keepdims=True)
    return np.stack([degrading_kernel(law, atoms, mix)[0] for law in laws]), atoms


def _tolerant(
    laws: np.ndarray, hulls: list[np.ndarray], mix: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Kernels ``[G, B, T]`` to each group's curve within the tolerance, and its laws.

    An atom is an interval of the share ``u``, with the laws ``[G, 2, T]``. The intervals
    are the groups' own bins where these lie at one share in every group, to a quarter of
    the tolerance, so that a bin need not be split where its group keeps its own curve.
    """
    curves = [roc_points(*law) for law in laws]
    shares = np.stack([curve.mean(1) for curve in curves])
    apart = np.ptp(shares, axis=0).max()
    aligned = apart <= tolerance / 4 and np.diff(shares).min() > 0
    if aligned:
        # At shares that differ by `apart` rates can differ by twice of it more.
        tolerance -= 2 * apart
    else:
        common = np.linspace(0.0, 1.0, laws.shape[-1] + 1)
        shares = np.broadcast_to(common, shares.shape)
    heights = [
        heights_within(hulls, code, share, tolerance, curves[code] if aligned else None)
        for code, share in enumerate(shares)
    ]
    rise, width = np.diff(heights), np.diff(shares)
    goals = np.stack([width - rise / 2, width + rise / 2], 1)[..., ::-1]
    # Rounding below 0 where a curve runs along an axis.
    goals = np.maximum(goals, 0.0)
    goals /= goals.sum(-1, keepdims=True)
    pairs = zip(laws, goals, strict=True)
    return np.stack([degrading_kernel(law, goal, mix)[0] for law, goal in pairs]), goals


def _deterministic(
    score_map: ScoreMap, edges: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Kernels of zeros and ones from the bins to equal cells of the mapped score.

    A summary of the map at the resolution of the bins, for those who read the fields.
    """
    kernels = np.zeros((*edges.shape[:1], bins, bins))
    for code, inner in enumerate(edges):
        starts = np.concatenate([[-np.inf], inner])
        knots, levels = score_map.knots[code], score_map.levels[code]
        # The knot in the middle of a bin; bins without scores take the last one's.
        ends = np.append(np.searchsorted(knots, starts[1:]), len(knots))
        middle = (np.searchsorted(knots, starts) + ends) // 2
        at = levels[np.minimum(middle, len(knots) - 1)]
        cell = np.minimum((at * bins).astype(int), bins - 1)
        kernels[code, np.arange(bins), cell] = 1
    atom_scores = score_map.calibrate((np.arange(bins) + 0.5) / bins)
    return kernels, np.asarray(atom_scores, float)


def _entropic(masses: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed kernels ``[G, B, B]``, and their atoms ``[2, B]``."""
    found = entropic_meet(masses, temperature=temperature)
    codes = np.asarray(found.status)
    for code in np.flatnonzero(codes != Status.CONVERGED).tolist():
        status = Status(int(codes[code]))
        raise RuntimeError(
            f"no kernel found for the ROC channel in group {code} ({status.name}: "
            f"residual {float(found.residual[code]):.1e}); raise temperature, use fewer "
            f"bins, or method='linear_program'."
        )
    kernels = np.asarray(found.kernels, float)
    return kernels / kernels.sum(-1, keepdims=True), np.asarray(found.atoms, float)


def roc_channel(
    score: Float[ArrayLike, " n"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    *,
    bins: int | str = 60,
    tolerance: float = 0.0,
    weights: Float[ArrayLike, " n"] | None = None,
    shrinkage: float | str = 0.0,
    n_groups: int | None = None,
    method: str = "linear_program",
    temperature: float | None = None,
) -> RocChannel:
    """Fit the channel that makes any score exactly fair at every threshold.

    Exact in sample, in expectation over the randomness; on new rows up to sampling
    error. Give it scores of rows that the learner has not seen in training (out of
    fold), or the curves are too good to be true. Bins are fitted on the host; the result
    is a JAX pytree. To fit inside ``jit``, to many scores at once or with gradients, see
    :func:`entropic_meet`.

    Args:
        score: ``[n]`` finite scores of any base learner, higher for class 1.
        label: ``[n]`` class codes 0 and 1.
        group: ``[n]`` group codes 0..G-1, any number of groups.
        bins: Bins of each group's scores, of equal mass when both classes weigh 1/2.
            Few blur the score, many fit the noise of small cells: "auto" takes twice
            the root of the rows of the smallest cell, between 8 and 60.
        tolerance: Largest gap that is allowed, in sample: each group then keeps the most
            of its own curve that any channel within the gap can give it, and fewer
            answers are random. 0 is exact; from `frechet_gap` on the answer is that of
            :func:`jaxsteer.balanced_quantiles` (calibrated) and `transport` needs no
            key. Only with method="linear_program".
        weights: ``[n]`` non-negative sample weights, or None.
        shrinkage: How far each group's laws are drawn to those of all groups before the
            kernels are fitted to them, in [0, 1], or "auto" for what chance alone would
            make of their distance (:func:`jaxsteer.balanced_quantiles` says more): for
            small cells, whose noise would be carried to new rows. Above 0 no longer
            exact in sample; `gap` says by how much.
        n_groups: ``G``; None takes the largest code plus one.
        method: "linear_program" reaches the meet itself, with as many atoms as it has
            corners, by the kernels that move ranks the least (HiGHS, float64).
            "entropic" takes `bins` atoms of equal mass just below the meet and smooth
            kernels, in JAX (:func:`entropic_meet` with its margin): faster, and exact
            to the rounding of the present precision.
        temperature: Smoothness of the entropic kernels, in squared ranks; None takes
            1e-3. Only with method="entropic".

    Returns:
        The channel.

    Raises:
        ValueError: On scores that are not finite, labels that are not 0 and 1, a group
            without one of the classes, fewer than two groups or bins, or options that
            do not go together.
        RuntimeError: If a kernel was not found.

    Example:
        >>> import jax, numpy as np, jaxsteer as js
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
        >>> score = label * (1 + group) + rng.normal(size=4000)
        >>> channel = js.roc_channel(score, label, group, bins=20)
        >>> bool(channel.gap < 1e-6)
        True
        >>> fair = channel.transport(score, group, key=jax.random.key(0))

    References:
        Blackwell 1953; Torgersen 1991, chapter 9: dichotomies are ordered by their ROC
        hulls, and form a lattice.
    """
    check_choice("method", method, METHODS)
    check_shrinkage(shrinkage)
    if temperature is not None and method != "entropic":
        raise ValueError(
            f"temperature={temperature} has no meaning for method={method!r}; pass "
            f"method='entropic', or leave it out."
        )
    if not (0 <= tolerance <= 1) or (tolerance > 0 and method == "entropic"):
        raise ValueError(
            f"tolerance={tolerance} must lie in [0, 1], and above 0 it needs "
            f"method='linear_program'."
        )
    rows = channel_rows(
        "roc_channel", score, label, group, weights,
        bins=bins, n_classes=2, n_groups=n_groups,
    )  # fmt: skip
    n_groups, bins = int(rows.counts.shape[1]), rows.bins
    mix = class_law(rows.label, rows.weights, 2)
    fair = balanced_quantiles(
        rows.score, rows.label, rows.group,
        weights=rows.weights, n_groups=n_groups, shrinkage=shrinkage,
    )  # fmt: skip
    classes = class_weights(np, rows.label, rows.weights, 2)
    how_far = np.tile(np.asarray(fair.shrinkage, float), (2, 1))
    lent = pooled_weights(np, classes, rows.group, how_far)
    edges = np.full((n_groups, bins - 1), np.inf)
    masses, own = np.zeros((2, n_groups, 2, bins))
    for code in range(n_groups):
        mine = rows.group == code
        knots, levels = np.asarray(fair.knots[code]), np.asarray(fair.levels[code])
        inner = _edges(knots, levels, bins)
        edges[code, : len(inner)] = inner
        bin_of = np.searchsorted(inner, rows.score, side="right")
        np.add.at(masses[code], (rows.label, bin_of), lent[code])
        np.add.at(own[code], (rows.label, bin_of), rows.weights * mine)
    laws = masses / masses.sum(-1, keepdims=True)
    hulls = [concave_hull(roc_points(*law)) for law in laws]
    needs_no_key = tolerance > 0 and tolerance >= float(fair.frechet_gap)
    goals, scores = None, None
    if needs_no_key:
        kernels, scores = _deterministic(fair, edges, bins)
    elif method == "entropic":
        kernels, goals = _entropic(masses, 1e-3 if temperature is None else temperature)
    elif tolerance > 0:
        kernels, goals = _tolerant(laws, hulls, mix, tolerance)
    else:
        kernels, goals = _linear_program(laws, hulls, mix)
    delivered = laws @ kernels
    shares = masses.sum(-1) / masses.sum((0, 2))
    pooled = np.einsum("gy,gyt->yt", shares, delivered)
    atoms = goals if goals is not None and goals.ndim == 2 else pooled
    joint = mix[:, None] * atoms
    if scores is None and tolerance > 0:
        # The common order of the intervals: that of the share, kept by an isotonic fit.
        middle = np.cumsum(atoms.sum(0) / 2) - atoms.sum(0) / 4
        knots = isotonic_knots(middle, joint[1] / joint.sum(0), joint.sum(0))
        scores = np.interp(middle, *knots.T)
    elif scores is None:
        scores = joint[1] / joint.sum(0)
    of_rows = own / own.sum(-1, keepdims=True) @ kernels
    rates = np.cumsum(of_rows, -1)
    gap = fair.gaps.max() if needs_no_key else np.max(rates.max(0) - rates.min(0))
    certain = kernels.max(-1) > 1 - CERTAIN
    mass = masses.sum(1)
    return RocChannel(
        edges=edges,
        kernels=jnp.asarray(kernels),
        atom_scores=jnp.asarray(scores),
        atoms=jnp.asarray(atoms),
        roc=jnp.asarray(roc_points(*atoms)),
        hulls=tuple(jnp.asarray(hull) for hull in hulls),
        gap=jnp.asarray(gap),
        slack=jnp.asarray(0.0 if goals is None else np.abs(delivered - goals).max()),
        cell_counts=jnp.asarray(rows.counts),
        frechet_gap=fair.frechet_gap,
        random_share=jnp.asarray(mass[~certain].sum() / mass.sum()),
        score_map=fair if needs_no_key else None,
        shrinkage=fair.shrinkage,
    )
