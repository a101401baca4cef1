"""The meet channel: one score, exactly as informative in every group.

A score in group ``a`` is an experiment about the label with a concave ROC hull ``R_a``.
The most informative experiment to which every group's can be degraded has the ROC curve
``min_a R_a`` (Blackwell's order of dichotomies is a lattice). A random kernel per group
maps its score bins to the atoms of that experiment, so that given the label the atom has
one law in every group: every threshold, cost and later classifier has equal error rates.
"""

from __future__ import annotations

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_codes,
    check_finite,
    check_same_length,
    check_weights,
    is_concrete,
)
from jaxsteer._types import Array, ArrayLike, Float, Int, Key
from jaxsteer.ideal._kernel import degrading_kernel
from jaxsteer.ideal._roc import concave_hull, lower_envelope, roc_points

# Rows drawn at a time: each needs its kernel row, so memory is CHUNK * atoms.
CHUNK = 65_536


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MeetChannel:
    """Kernels from each group's score bins to common atoms.

    Attributes:
        edges: ``[G, B - 1]`` inner bin edges of each group's scores; a group with fewer
            distinct scores is padded with infinity.
        kernels: ``[G, B, T]`` rows on the simplex, ``P(atom | bin, group)``.
        atom_scores: ``[T]`` ``P(Y = 1 | atom)`` under the sample's class shares,
            increasing.
        atoms: ``[2, T]`` law of the atom given class 0 and 1, in every group.
        roc: ``[T + 1, 2]`` knots (false, true positive rate) of the meet curve.
        hulls: Knots ``[m, 2]`` of each group's own concave ROC hull.
        gap: ``[]`` largest difference between two groups' TPR or FPR over all
            thresholds, in sample and in expectation over the randomness.
        slack: ``[]`` largest violated constraint of the kernels' linear programs.
        cell_counts: ``[2, G]`` rows of each class and group behind the curves.
    """

    edges: Float[Array, "G B-1"]
    kernels: Float[Array, "G B T"]
    atom_scores: Float[Array, " T"]
    atoms: Float[Array, "2 T"]
    roc: Float[Array, "T+1 2"]
    hulls: tuple[Array, ...]
    gap: Float[Array, ""]
    slack: Float[Array, ""]
    cell_counts: Int[Array, "2 G"]

    def transport(
        self,
        score: Float[ArrayLike, " n"],
        group: Int[ArrayLike, " n"],
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, " n"]:
        """Return exactly fair scores, drawn at random.

        Args:
            score: ``[n]`` scores of the same learner; beyond the range seen at fit time
                they count as the nearest bin.
            group: ``[n]`` group codes.
            key: The randomness; the same key gives the same scores.

        Returns:
            ``[n]`` scores in [0, 1], the posterior of the drawn atom; NaN for unknown
            codes under ``jit``.

        Raises:
            ValueError: If the key is missing, a code is unknown or a score is not
                finite.
        """
        if key is None:
            raise ValueError(
                "key is missing: equal error rates at every threshold need randomness; "
                "pass key=jax.random.key(seed), or call expected_score for a score that "
                "is deterministic and only approximately fair."
            )
        return _draw(self, self._rows(score, group), key)

    def expected_score(
        self, score: Float[ArrayLike, " n"], group: Int[ArrayLike, " n"]
    ) -> Float[Array, " n"]:
        """Return the mean of the fair score: deterministic, only approximately fair.

        The mean over the atoms tells more than an atom, and how much more differs
        between groups; measure its gaps before relying on it.

        Args:
            score: ``[n]`` scores.
            group: ``[n]`` group codes.

        Returns:
            ``[n]`` scores in [0, 1].
        """
        rows = self._rows(score, group)
        table = (self.kernels @ self.atom_scores).reshape(-1)
        return jnp.where(rows >= 0, table[rows], jnp.nan)

    def _rows(self, score, group) -> Array:
        """Row of the flattened kernels that each sample uses; -1 for unknown codes."""
        check_same_length(score=score, group=group)
        check_codes("group", group, self.kernels.shape[0])
        check_finite("score", score)
        score, group = jnp.asarray(score, self.edges.dtype), jnp.asarray(group)
        n_groups, n_bins = self.kernels.shape[:2]

        def visit(rows, item):
            code, edges = item
            found = jnp.searchsorted(edges, score, side="right").astype(jnp.int32)
            return jnp.where(group == code, code * n_bins + found, rows), None

        start = jnp.full(score.shape, -1, jnp.int32)
        codes = jnp.arange(n_groups, dtype=jnp.int32)
        rows, _ = jax.lax.scan(visit, start, (codes, self.edges))
        return jnp.where(jnp.isfinite(score), rows, -1)


@jax.jit
def _draw(channel: MeetChannel, rows: Array, key: Array) -> Array:
    """Draw an atom for each row by inverting its kernel row's distribution."""
    kernels = channel.kernels
    steps = jnp.cumsum(kernels, -1).reshape(-1, kernels.shape[-1])
    draw = jax.random.uniform(key, rows.shape, kernels.dtype)

    def pick(item):
        row, u = item
        atom = jnp.sum(steps[row] <= u * steps[row, -1])
        return channel.atom_scores[jnp.minimum(atom, steps.shape[1] - 1)]

    drawn = jax.lax.map(pick, (rows, draw), batch_size=min(CHUNK, len(rows)))
    return jnp.where(rows >= 0, drawn, jnp.nan)


def _law(codes: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    mass = np.bincount(codes, weights, size)
    return mass / mass.sum()


def _inputs(score, label, group, bins, weights, n_groups):
    if not is_concrete(score, label, group, weights):
        raise ValueError(
            "meet_channel is fitted on the host (its curves have as many knots as the "
            "data asks for): call it outside jit; its transport works inside."
        )
    check_same_length(score=score, label=label, group=group)
    check_finite("score", score)
    check_codes("label", label, 2)
    n_groups = check_codes("group", group, n_groups)
    if n_groups < 2:
        raise ValueError("group has one value; there is nothing to make equal.")
    if not (isinstance(bins, int) and bins >= 2):
        raise ValueError(f"bins={bins!r} must be a whole number of at least 2.")
    label, group = np.asarray(label, int), np.asarray(group, int)
    if weights is None:
        weights = np.ones(len(label))
    else:
        check_same_length(score=score, weights=weights)
        check_weights(weights)
    weights = np.asarray(weights, float)
    counts = np.zeros((2, n_groups), int)
    np.add.at(counts, (label, group), weights > 0)
    for cls, code in np.argwhere(counts == 0).tolist():
        raise ValueError(
            f"no rows of class {cls} in group {code}: its error rates are unknown. Merge "
            f"that group with another, or leave it out."
        )
    if counts.min() < bins:
        cls, code = np.unravel_index(counts.argmin(), counts.shape)
        warnings.warn(
            f"class {cls} of group {code} has {counts.min()} rows for {bins} bins: the "
            f"channel will be fair in sample, less so on new rows; use fewer bins or "
            f"merge groups.",
            stacklevel=3,
        )
    return np.asarray(score, float), label, group, weights, counts


def _held(values: np.ndarray) -> np.ndarray:
    """Round values to the precision that transport will compare them in."""
    return np.asarray(jnp.asarray(values), float)


def _edges(score: np.ndarray, bins: int) -> np.ndarray:
    """Distinct inner quantiles; an edge is the lowest score of the bin above it."""
    inner = np.quantile(score, np.arange(1, bins) / bins, method="higher")
    return np.unique(inner[inner > score.min()])


def meet_channel(
    score: Float[ArrayLike, " n"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    bins: int = 60,
    weights: Float[ArrayLike, " n"] | None = None,
    *,
    n_groups: int | None = None,
) -> MeetChannel:
    """Fit the channel that makes any score exactly fair at every threshold.

    Exact in sample, in expectation over the randomness; on new rows up to sampling
    error. Give it scores of rows that the learner has not seen in training (out of
    fold), or the curves are too good to be true. Binning, hulls and the linear programs
    run on the host in float64; the result is a JAX pytree.

    Args:
        score: ``[n]`` finite scores of any base learner, higher for class 1.
        label: ``[n]`` class codes 0 and 1.
        group: ``[n]`` group codes 0..G-1, any number of groups.
        bins: Quantile bins of each group's scores.
        weights: ``[n]`` non-negative sample weights, or None.
        n_groups: ``G``; None takes the largest code plus one.

    Returns:
        The channel.

    Raises:
        ValueError: On scores that are not finite, labels that are not 0 and 1, a group
            without one of the classes, or fewer than two groups or bins.

    Example:
        >>> import jax, numpy as np, jaxsteer as js
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
        >>> score = label * (1 + group) + rng.normal(size=4000)
        >>> channel = js.meet_channel(score, label, group, bins=20)
        >>> bool(channel.gap < 1e-6)
        True
        >>> fair = channel.transport(score, group, key=jax.random.key(0))

    References:
        Blackwell 1953; Torgersen 1991, chapter 9: dichotomies are ordered by their ROC
        hulls, and form a lattice.
    """
    scores, labels, groups, masses, counts = _inputs(
        score, label, group, bins, weights, n_groups
    )
    n_groups = counts.shape[1]
    mix = _law(labels, masses, 2)
    edges = np.full((n_groups, bins - 1), np.inf)
    laws = []
    for code in range(n_groups):
        # A bin without mass would have an arbitrary kernel row.
        mine = (groups == code) & (masses > 0)
        held = _held(scores[mine])
        inner = _edges(held, bins)
        edges[code, : len(inner)] = inner
        bin_of = np.searchsorted(inner, held, side="right")
        of_class = [labels[mine] == y for y in (0, 1)]
        law = [_law(bin_of[rows], masses[mine][rows], bins) for rows in of_class]
        laws.append(np.stack(law))
    hulls = [concave_hull(roc_points(*law)) for law in laws]
    roc = lower_envelope(hulls)
    # Lowest scores first, as the bins are.
    atoms = np.diff(roc, axis=0).T[:, ::-1]
    solved = [degrading_kernel(law, atoms, mix) for law in laws]
    kernels = np.stack([kernel for kernel, _ in solved])
    delivered = np.stack(
        [law @ kernel for law, (kernel, _) in zip(laws, solved, strict=True)]
    )
    rates = np.cumsum(delivered, -1)
    joint = mix[:, None] * atoms
    return MeetChannel(
        edges=jnp.asarray(edges),
        kernels=jnp.asarray(kernels),
        atom_scores=jnp.asarray(joint[1] / joint.sum(0)),
        atoms=jnp.asarray(atoms),
        roc=jnp.asarray(roc),
        hulls=tuple(jnp.asarray(hull) for hull in hulls),
        gap=jnp.asarray(np.max(rates.max(0) - rates.min(0))),
        slack=jnp.asarray(max(slack for _, slack in solved)),
        cell_counts=jnp.asarray(counts),
    )
