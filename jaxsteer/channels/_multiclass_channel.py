"""The multiclass channel: exactly fair recommendations for any number of classes.

With more than two classes, experiments have no most informative common degradation: what
to keep is a choice. A utility makes it: among all experiments to which every group's
binned scores can be degraded, the one of the highest expected utility. Given the class,
the atom has one law in every group, so every rule and every cost built on the atom has
equal error rates.
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
from jaxsteer.channels._roc import least_cost
from jaxsteer.channels._rows import (
    ChannelRows,
    chance_distances,
    chance_share,
    channel_rows,
    check_shrinkage,
    class_law,
    class_weights,
    held_scores,
    in_precision_of,
    pooled_weights,
    soft_labels,
    traced_precision,
)
from jaxsteer.channels._score_ranks import (
    ScoreTree,
    find_bins,
    find_bins_on_host,
    fit_score_tree,
)


def common_experiment(
    laws: np.ndarray, utility: np.ndarray, away: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the target and the kernels together by one linear program.

    Over ``M_a >= 0`` and ``f* >= 0``, maximize ``sum_it utility_it f*_it`` subject to
    rows of each ``M_a`` summing to 1 and ``M_a' f_ia = f*_i`` for every class ``i`` and
    group ``a``. Always feasible: a constant kernel ignores its bins. Sparse, solved by
    HiGHS through SciPy in ``G B T + K T`` variables and ``G (B + K T)`` equations.

    With `away` what a group delivers may lie as far from ``f*`` in each of its entries,
    and the utility is that of the mean of what the groups deliver.

    Args:
        laws: ``[G, K, B]`` law of the bin given class, in each group; rows sum to 1.
        utility: ``[K, T]`` what an atom is worth in each class, class shares included.
        away: ``[G, K]`` distances from the target that are allowed, or None.

    Returns:
        Kernels ``[G, B, T]``, with a constant row for bins without mass, and the target
        ``[K, T]``: the mean of what the groups deliver.

    Raises:
        RuntimeError: If HiGHS gives up.
    """
    from scipy import sparse

    n_groups, n_classes, n_bins = laws.shape
    n_atoms = utility.shape[1]
    eye = sparse.eye(n_atoms)
    rows = sparse.kron(sparse.eye(n_groups * n_bins), np.ones((1, n_atoms)))
    deliver: Any = sparse.block_diag([sparse.kron(law, eye) for law in laws])
    target = sparse.kron(np.ones((n_groups, 1)), sparse.eye(n_classes * n_atoms))
    nothing: Any = sparse.csr_matrix((n_groups * n_bins, n_classes * n_atoms))
    n_kernel = n_groups * n_bins * n_atoms
    blocks: list[list[Any]] = [[rows, nothing], [deliver, -target]]
    cost = np.concatenate([np.zeros(n_kernel), -utility.ravel()])
    sides, most = np.zeros(deliver.shape[0]), None
    if away is not None:
        # delivered - target + slack = away with 0 <= slack <= 2 away.
        sides = np.repeat(away.ravel(), n_atoms)
        none: Any = sparse.csr_matrix((n_groups * n_bins, len(sides)))
        blocks = [[*blocks[0], none], [*blocks[1], sparse.eye(len(sides))]]
        worth = np.einsum("gkb,kt->gbt", laws, utility).ravel() / n_groups
        cost = np.concatenate([-worth, np.zeros(n_classes * n_atoms + len(sides))])
        free = np.full(n_kernel + n_classes * n_atoms, np.inf)
        most = np.concatenate([free, 2 * sides])
    found = least_cost(
        cost,
        sparse.bmat(blocks, format="csr"),
        np.concatenate([np.ones(n_groups * n_bins), sides]),
        failure="no kernels for the multiclass channel",
        most=most,
    )
    kernels = found[:n_kernel].reshape(n_groups, n_bins, n_atoms)
    kernels /= kernels.sum(-1, keepdims=True)
    # The mean of what the groups deliver, which is the target to the solver's accuracy.
    goal = (laws @ kernels).mean(0)
    empty = laws.sum(1) == 0
    share = goal.mean(0) / goal.mean(0).sum()
    return np.where(empty[..., None], share, kernels), goal


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MulticlassChannel:
    """Kernels from each group's score bins to common atoms, for ``K`` classes.

    Attributes:
        columns: ``[G, N]`` score column of each split of the groups' trees of bins.
        thresholds: ``[G, N]`` values at or above which a row goes to the upper side;
            infinite at the leaves.
        children: ``[G, N]`` lower child of a split, which its upper child follows; at a
            leaf ``-1 - bin``.
        kernels: ``[G, B, T]`` rows on the simplex, ``P(atom | bin, group)``.
        atoms: ``[K, T]`` law of the atom given the class, in every group.
        posteriors: ``[T, K]`` ``P(class | atom)`` under the sample's class shares, which
            a later learner may use; the shares themselves for an atom never drawn.
        utility_value: ``[]`` expected utility of the atom under those shares.
        gap: ``[]`` largest difference between two groups in the probability of any set
            of atoms given a class (total variation), in sample and in expectation over
            the randomness: no rule built on the atom has a larger one.
        cell_counts: ``[K, G]`` rows of each class and group behind the laws.
        shrinkage: ``[K, G]`` how far each law was drawn to that of all groups; None for
            files without it.

    Example:
        >>> import jax, numpy as np, jaxsteer as js
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 3, 6000), rng.integers(0, 2, 6000)
        >>> score = np.eye(3)[label] * (1 + group)[:, None] + rng.normal(size=(6000, 3))
        >>> channel = js.multiclass_channel(score, label, group, bins=16)
        >>> channel.transport(score, group, key=jax.random.key(0)).shape
        (6000,)
    """

    columns: Int[ArrayLike, "G N"]
    thresholds: Float[ArrayLike, "G N"]
    children: Int[ArrayLike, "G N"]
    kernels: Float[Array, "G B T"]
    atoms: Float[Array, "K T"]
    posteriors: Float[Array, "T K"]
    utility_value: Float[Array, ""]
    gap: Float[Array, ""]
    cell_counts: Int[Array, "K G"]
    shrinkage: Float[Array, "K G"] | None = None

    def transport(
        self,
        score: Float[ArrayLike, "n K"],
        group: Int[ArrayLike, " n"],
        *,
        key: Key[Array, ""] | None = None,
        draw: str = "key",
        rows: ArrayLike | None = None,
    ) -> Int[Array, " n"]:
        """Return atoms, drawn at random: with the default utility, fair predictions.

        Args:
            score: ``[n, K]`` scores of the same learner. On concrete rows they are
                compared in their own precision, inside ``jit`` in that of the trace.
            group: ``[n]`` group codes.
            key: The randomness; the same key gives the same atoms.
            draw: "key" draws by place, "row" from a hash of the row under the key: equal
                rows get equal answers, one at a time or in a batch
                (:meth:`RocChannel.transport` says more).
            rows: ``[n]`` ids or ``[n, d]`` features that tell rows apart, with
                draw="row"; None takes the scores and the group.

        Returns:
            ``[n]`` int32 codes 0..T-1; -1 for unknown group codes, and for scores that
            are not finite, under ``jit``.

        Raises:
            ValueError: If the key is missing, a code is unknown, a score is not finite
                or has another number of columns.
        """
        if key is None:
            raise ValueError(
                "key is missing: equal error rates for every cost need randomness; pass "
                "key=jax.random.key(seed)."
            )
        check_same_length(score=score, group=group)
        n_classes = self.atoms.shape[0]
        _check_columns(score, n_classes)
        check_codes("group", group, self.kernels.shape[0])
        numbers = draw_for(key, draw, rows, score, group)
        atoms = np.arange(self.kernels.shape[-1], dtype=np.int32)
        if is_concrete(score, group, self.thresholds):
            found = self._rows_on_host(score, group)
            return draw_atoms(self.kernels, atoms, found, numbers)
        check_finite("score", score)
        score = jnp.asarray(score, traced_precision(score, self.kernels.dtype))
        found = self._rows(score, jnp.asarray(group))
        return draw_atoms(self.kernels, atoms, found, numbers)

    __call__ = transport

    def _rows_on_host(self, score: ArrayLike, group: ArrayLike) -> np.ndarray:
        """Row of the flattened kernels that each sample uses."""
        held, codes = held_scores("score", score), np.asarray(group, int)
        thresholds = in_precision_of(score, self.thresholds)
        rows = np.empty(len(held), np.int32)
        for code in np.unique(codes):
            mine = codes == code
            tree = ScoreTree(
                np.asarray(self.columns[code]),
                thresholds[code],
                np.asarray(self.children[code]),
            )
            found = find_bins_on_host(tree, held[mine])
            rows[mine] = code * self.kernels.shape[1] + found
        return rows

    def _rows(self, score: Array, group: Array) -> Array:
        """The same inside ``jit``; -1 for unknown codes and scores not finite."""
        n_groups, n_bins = self.kernels.shape[:2]

        def visit(rows: Array, item: tuple[Array, ScoreTree]):
            code, tree = item
            found = code * n_bins + find_bins(tree, score)
            return jnp.where(group == code, found, rows), None

        codes = jnp.arange(n_groups, dtype=jnp.int32)
        trees = ScoreTree(
            jnp.asarray(self.columns),
            jnp.asarray(self.thresholds, score.dtype),
            jnp.asarray(self.children),
        )
        start = jnp.full(group.shape, -1, jnp.int32)
        rows, _ = jax.lax.scan(visit, start, (codes, trees))
        return jnp.where(jnp.isfinite(score).all(-1), rows, -1)


def _check_columns(score: ArrayLike, n_classes: int | None = None) -> int:
    shape = np.shape(score)
    wanted = "one column a class, at least 2" if n_classes is None else f"{n_classes}"
    if len(shape) != 2 or shape[1] < 2 or n_classes not in (None, shape[1]):
        raise ValueError(
            f"score has shape {shape}, expected [rows, classes] with {wanted} columns; "
            f"for a single score of a binary label use jaxsteer.roc_channel."
            if n_classes is None
            else f"score has shape {shape}, expected [rows, {wanted}] as at fit time."
        )
    return shape[1]


def _utility(utility: ArrayLike | None, n_classes: int) -> np.ndarray:
    if utility is None:
        return np.eye(n_classes)
    check_finite("utility", utility)
    table = np.asarray(utility, float)
    if table.ndim != 2 or table.shape[0] != n_classes or table.shape[1] < 2:
        raise ValueError(
            f"utility has shape {table.shape}, expected [{n_classes}, T]: what each of T "
            f"atoms, at least 2, is worth in each class."
        )
    return table


def _expected_labels(
    rows: ChannelRows, used: np.ndarray, weights: np.ndarray, n_classes: int
) -> np.ndarray:
    """Labels ``[m, K]`` of a group's rows as a regression on their scores expects them."""
    score = rows.score[used]
    columns = np.log(score) if (rows.score > 0).all() else score
    return soft_labels(columns, rows.label[used], weights[used], n_classes)


def _row_numbers(rows: ChannelRows, n_classes: int, n_groups: int) -> np.ndarray:
    """Effective sample size ``[G, K]`` of each group and class."""
    total, squares = np.zeros((2, n_groups, n_classes))
    np.add.at(total, (rows.group, rows.label), rows.weights)
    np.add.at(squares, (rows.group, rows.label), rows.weights**2)
    return total**2 / squares


def multiclass_channel(
    score: Float[ArrayLike, "n K"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    bins: int | str = 64,
    utility: Float[ArrayLike, "K T"] | None = None,
    weights: Float[ArrayLike, " n"] | None = None,
    *,
    n_groups: int | None = None,
    counts: str = "hard",
    tolerance: float = 0.0,
    shrinkage: float | str = 0.0,
) -> MulticlassChannel:
    """Fit the channel whose atoms are exactly fair for every cost, for ``K`` classes.

    Each group's scores are binned by a tree: first by their highest column, then the cell
    of the largest spread is split at the median of the column that varies most in it,
    again and again. Then one linear program over all groups chooses the
    common experiment ``f*`` and the kernels ``M_a``,

        maximize sum_i p_i sum_t u_it f*_it   subject to   M_a' f_ia = f*_i for all i, a,

    with ``f_ia`` the law of the bin given class ``i`` in group ``a`` and ``p`` the
    sample's class shares. The default utility, ``u_it = 1`` if ``t = i``, is the accuracy
    of the atom taken as the prediction: the best that any randomized rule on these bins
    can have with equal confusion matrices in all groups.

    Exact in sample, in expectation over the randomness; on new rows up to sampling
    error, which grows with the bins: give it out-of-fold scores, and few bins for small
    cells, or ``shrinkage="auto"``, or ``counts="soft"``. Cost: ``O(n K log B)`` for the
    trees and one sparse program of ``G B T`` variables (seconds at ``B = 64, K = 28``).
    Not differentiable. Where several experiments have the highest utility, the solver's
    choice stands.

    Args:
        score: ``[n, K]`` finite scores of any base learner, one column a class, such as
            posterior probabilities.
        label: ``[n]`` class codes 0..K-1.
        group: ``[n]`` group codes 0..G-1, any number of groups.
        bins: Bins of each group, at least ``K``; "auto" takes twice the root of the rows
            of the smallest cell, between 8 and 60.
        utility: ``[K, T]`` what an atom is worth in each class; ``T`` need not be ``K``
            (as an example, a column of constant worth is the choice to abstain). None
            takes the identity.
        weights: ``[n]`` non-negative sample weights, or None; they enter the laws, not
            the bins.
        n_groups: ``G``; None takes the largest code plus one.
        counts: "hard" counts the labels in each bin, and is exact in sample. "soft"
            adds up what a ridge multinomial regression of the group's labels on its
            scores (their logarithms, where all are positive) expects: no longer exact
            in sample, where `gap` says by how much, but free of the noise that the
            program exploits; in simulations of 3 and 6 classes the gaps on new rows
            were the smaller ones, at a higher accuracy.
        tolerance: How far two groups may lie apart in the probability of an atom given a
            class, in units of ``sqrt(1 / n_ia + 1 / n_ib)`` (twice the largest standard
            error of that difference), ``n`` being the rows of the class in the groups:
            groups with few rows then need not be matched more closely than they are
            known, which costs less of the utility. 0 is exact. With it the utility is
            that of the mean of the groups.
        shrinkage: How far each group's laws are drawn to those of all groups, in [0, 1],
            the trees then being grown on all rows; "auto" takes for each class and
            group the part of its distance to the pooled law that chance alone would
            make, however small. Above 0 no longer exact in sample; for classes with few
            rows in a group fairer on new ones.

    Returns:
        The channel.

    Raises:
        ValueError: On scores or utilities that are not finite or of the wrong shape,
            codes out of range, a group without one of the classes, fewer than two
            groups, or fewer bins than classes.
        RuntimeError: If the linear program was not solved.

    Example:
        >>> import jax, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 3, 6000), rng.integers(0, 2, 6000)
        >>> score = np.eye(3)[label] * (1 + group)[:, None] + rng.normal(size=(6000, 3))
        >>> channel = multiclass_channel(score, label, group, bins=16)
        >>> bool(channel.gap < 1e-6)
        True
        >>> prediction = channel.transport(score, group, key=jax.random.key(0))

    References:
        Blackwell 1953: an experiment is a degradation of another if and only if a kernel
        leads there; Torgersen 1991, chapter 6: for more than two classes there is no
        lattice. Heckbert 1982 (median cut) for the bins.
    """
    check_choice("counts", counts, ("hard", "soft"))
    check_shrinkage(shrinkage)
    if not 0 <= tolerance < np.inf:
        raise ValueError(
            f"tolerance={tolerance} must be at least 0, in units of "
            f"sqrt(1 / n_ia + 1 / n_ib)."
        )
    n_classes = _check_columns(score)
    table = _utility(utility, n_classes)
    rows = channel_rows(
        "multiclass_channel", score, label, group, weights,
        bins=bins, n_classes=n_classes, n_groups=n_groups,
    )  # fmt: skip
    bins = rows.bins
    if bins < n_classes:
        raise ValueError(f"bins={bins} must be at least the {n_classes} classes.")
    n_groups = int(rows.counts.shape[1])
    classes = class_weights(np, rows.label, rows.weights, n_classes)
    if isinstance(shrinkage, str):
        distances = chance_distances(np, rows.score.T, classes, rows.group, n_groups)
        how_far = chance_share(np, *distances)
    else:
        how_far = np.full((n_classes, n_groups), float(shrinkage))
    lent = pooled_weights(np, classes, rows.group, how_far)
    trees = []
    masses, soft, own = np.zeros((3, n_groups, n_classes, bins))
    for code in range(n_groups):
        mine, mass = rows.group == code, np.asarray(lent[code])
        used = mass > 0
        tree, _ = fit_score_tree(rows.score[used], bins)
        bin_of = find_bins_on_host(tree, rows.score)
        trees.append(tree)
        np.add.at(own[code], (rows.label, bin_of), rows.weights * mine)
        np.add.at(masses[code], (rows.label, bin_of), mass)
        if counts == "soft":
            expected = _expected_labels(rows, used, mass, n_classes)
            np.add.at(soft[code].T, bin_of[used], expected * mass[used, None])
    laws = own / own.sum(-1, keepdims=True)
    mix = class_law(rows.label, rows.weights, n_classes)
    held = masses if counts == "hard" else soft
    held = held / held.sum(-1, keepdims=True)
    away = None
    if tolerance > 0:
        # Half of sqrt(2) each: two groups' distances from the target add up to at most
        # the square root of the sum of their squares.
        away = tolerance / np.sqrt(2 * _row_numbers(rows, n_classes, n_groups))
    kernels, atoms = common_experiment(held, mix[:, None] * table, away)
    delivered = laws @ kernels
    apart = np.abs(delivered[:, None] - delivered).sum(-1) / 2
    joint = mix[:, None] * atoms
    mass = joint.sum(0)
    posteriors = np.where(mass > 1e-12, joint / np.maximum(mass, 1e-12), mix[:, None])
    columns, thresholds, children = (np.stack(v) for v in zip(*trees, strict=True))
    return MulticlassChannel(
        columns=columns,
        thresholds=thresholds,
        children=children,
        kernels=jnp.asarray(kernels),
        atoms=jnp.asarray(atoms),
        posteriors=jnp.asarray(posteriors.T),
        utility_value=jnp.asarray(np.sum(joint * table)),
        gap=jnp.asarray(apart.max()),
        cell_counts=jnp.asarray(rows.counts),
        shrinkage=jnp.asarray(how_far),
    )
