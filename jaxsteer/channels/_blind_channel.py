"""The blind channel: exactly fair where the group is unknown when a row comes.

What stands in for the group is its probability given the features. Bins are cells of the
score and that probability, and one kernel serves every group. It is chosen so that the
law of the atom given the label is nevertheless the same in each: whatever decision is
built on the atom has equal error rates, and nobody was asked for a group.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_finite, check_same_length, is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._row_draws import draw_atoms, draw_for
from jaxsteer._types import Array, ArrayLike, Float, Int, Key
from jaxsteer.channels._roc import concave_hull, least_cost, lower_envelope, roc_points
from jaxsteer.channels._roc_channel import CERTAIN
from jaxsteer.channels._rows import (
    ChannelRows,
    channel_rows,
    class_law,
    held_scores,
    in_precision_of,
    normal_scores,
    soft_labels,
    traced_precision,
)

_NEGLIGIBLE = 1e-8


def blind_kernel(laws: np.ndarray, utility: np.ndarray) -> np.ndarray:
    """Choose the most useful kernel that treats the groups alike without seeing them.

    Over ``M >= 0`` with rows that sum to 1, maximize ``sum_bt utility_bt M_bt`` subject
    to ``M' f_ka = M' f_k0`` for every law ``k`` and group ``a``. Always feasible: every
    bin may go to one atom. Sparse, solved by HiGHS through SciPy in ``B T`` variables and
    ``B + L (G - 1) T`` equations.

    Args:
        laws: ``[G, L, B]`` laws of the bin in each group that are to become alike: given
            a class, by counts and by whatever else estimates them.
        utility: ``[B, T]`` what sending all of a bin to an atom is worth.

    Returns:
        The kernel ``[B, T]``.

    Raises:
        RuntimeError: If HiGHS gives up.
    """
    from scipy import sparse

    n_bins, n_atoms = utility.shape
    # On the host, in float64, which JAX may not have.
    # Equations that nearly follow from the others would end the solver far from the
    # optimum: an orthonormal basis of the differences, without what is below 1e-8 of them.
    apart = (laws[1:] - laws[0]).reshape(-1, n_bins)
    _, size, basis = np.linalg.svd(apart, full_matrices=False)
    apart = basis[size > _NEGLIGIBLE * max(size.max(), 1e-6)]
    # Differences of laws sum to 0; where the rounding of a small one says otherwise, not
    # even the kernel of one atom would be allowed.
    apart = apart - apart.mean(1, keepdims=True)
    rows = sparse.kron(sparse.eye(n_bins), np.ones((1, n_atoms)))
    alike = sparse.kron(sparse.csr_matrix(apart), sparse.eye(n_atoms))
    found = least_cost(
        -utility.ravel(),
        sparse.vstack([rows, alike], format="csr"),
        np.concatenate([np.ones(n_bins), np.zeros(len(apart) * n_atoms)]),
        failure="no kernel found for the blind channel",
    )
    kernel = found.reshape(n_bins, n_atoms)
    return kernel / kernel.sum(1, keepdims=True)


def information_utility(joint: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Expected log score ``[B, T]`` of saying ``P(Y = 1) = values_t`` in bin ``b``.

    Args:
        joint: ``[2, B]`` joint probabilities of the class and the bin.
        values: ``[T]`` in (0, 1).
    """
    negative, positive = joint
    return negative[:, None] * np.log1p(-values) + positive[:, None] * np.log(values)


def most_informative(
    laws: np.ndarray, joint: np.ndarray, n_atoms: int, *, rounds: int = 3
) -> np.ndarray:
    """Choose the kernel whose calibrated atoms tell most of the label.

    The mutual information of atom and label is the expected log score of the atom's own
    posterior. Given posteriors it is linear in the kernel, given a kernel the atoms'
    posteriors are the best: the two take turns, and each turn raises it.

    Args:
        laws: ``[G, L, B]`` laws of the bin in each group that are to become alike.
        joint: ``[2, B]`` joint probabilities of the class and the bin.
        n_atoms: ``T``.
        rounds: Linear programs to solve.

    Returns:
        The kernel ``[B, T]``.
    """
    mass = joint.sum(0)
    rate = np.clip(joint[1] / np.where(mass > 0, mass, 1), 1e-4, 1 - 1e-4)
    order = np.argsort(rate)
    # Posteriors at equal steps of the class-balanced mass.
    balanced = (joint / joint.sum(1, keepdims=True)).mean(0)[order]
    middle = np.cumsum(balanced) - balanced / 2
    values = np.interp((np.arange(n_atoms) + 0.5) / n_atoms, middle, rate[order])
    kernel = np.empty(0)
    for _ in range(rounds):
        kernel = blind_kernel(laws, information_utility(joint, values))
        atoms = joint @ kernel
        used = atoms.sum(0) > 1e-12
        own = np.clip(atoms[1, used] / atoms.sum(0)[used], 1e-6, 1 - 1e-6)
        values = values.copy()
        values[used] = own
    return kernel


#: Score bins of each group behind the group-aware curve that is reported beside.
_AWARE_BINS = 60


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BlindChannel:
    """One kernel from cells of (score, group probability) to atoms.

    Attributes:
        edges: Inner edges of the cells, float64: ``[1, S - 1]`` of the score, then
            ``[cells so far, Q - 1]`` of each probability within them; padded with
            infinity.
        kernel: ``[B, T]`` rows on the simplex, ``P(atom | cell)``, for every group.
        atom_scores: ``[T]`` ``P(Y = 1 | atom)`` under the sample's class shares,
            non-decreasing.
        atoms: ``[2, T]`` law of the atom given class 0 and 1.
        roc: ``[T + 1, 2]`` knots (false, true positive rate) of the atoms' curve.
        gap: ``[]`` largest difference between two groups' TPR or FPR over all
            thresholds, in sample and in expectation over the randomness.
        slack: ``[]`` largest difference between two groups in the probability of an atom
            given the label, in sample.
        auc: ``[]`` area under `roc`.
        aware_auc: ``[]`` area under the meet curve of the same scores, which
            :func:`jaxsteer.roc_channel` reaches where the group is known: the price of
            not knowing it is the difference.
        random_share: ``[]`` share of the rows (by weight) whose answer is random.
        cell_counts: ``[2, G]`` rows of each class and group.

    Example:
        >>> import jax, numpy as np, jaxsteer as js
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
        >>> score = label * (1 + group) + rng.normal(size=4000)
        >>> probe = group + rng.normal(size=4000)
        >>> channel = js.blind_channel(score, probe, label, group)
        >>> fair = channel.transport(score, probe, key=jax.random.key(0))  # no group
        >>> fair.shape
        (4000,)
    """

    edges: tuple[ArrayLike, ...]
    kernel: Float[Array, "B T"]
    atom_scores: Float[Array, " T"]
    atoms: Float[Array, "2 T"]
    roc: Float[Array, "T+1 2"]
    gap: Float[Array, ""]
    slack: Float[Array, ""]
    auc: Float[Array, ""]
    aware_auc: Float[Array, ""]
    random_share: Float[Array, ""]
    cell_counts: Int[Array, "2 G"]

    def transport(
        self,
        score: Float[ArrayLike, " n"],
        group_probability: Float[ArrayLike, "n ..."],
        *,
        key: Key[Array, ""] | None = None,
        draw: str = "key",
        rows: ArrayLike | None = None,
    ) -> Float[Array, " n"]:
        """Return fair scores, drawn at random, without a group.

        Args:
            score: ``[n]`` scores of the same learner.
            group_probability: ``[n]`` or ``[n, G]`` as at fit time.
            key: The randomness.
            draw: "key" draws by place, "row" from a hash of the row under the key: equal
                rows get equal answers, one at a time or in a batch
                (:meth:`RocChannel.transport` says more).
            rows: ``[n]`` ids or ``[n, d]`` features that tell rows apart, with
                draw="row"; None takes the score and the probability.

        Returns:
            ``[n]`` scores in [0, 1], the posterior of the drawn atom; NaN for values that
            are not finite, under ``jit``.

        Raises:
            ValueError: If the key is missing, or values are not finite or of another
                shape than at fit time.
        """
        if key is None:
            raise ValueError(
                "key is missing: equal error rates at every threshold need randomness; "
                "pass key=jax.random.key(seed)."
            )
        check_same_length(score=score, group_probability=group_probability)
        columns = _columns(group_probability)
        if len(columns) != len(self.edges) - 1:
            raise ValueError(
                f"group_probability has {len(columns)} columns that count, expected "
                f"{len(self.edges) - 1} as at fit time: [rows] for two groups, or "
                f"[rows, groups]."
            )
        numbers = draw_for(key, draw, rows, score, group_probability)
        cells = self._cells([score, *columns])
        return draw_atoms(self.kernel, self.atom_scores, cells, numbers)

    __call__ = transport

    def _cells(self, values: list[Any]) -> Array | np.ndarray:
        """Cell of each row; -1 where a value is not finite."""
        if is_concrete(*values, *self.edges):
            names = ["score"] + ["group_probability"] * (len(values) - 1)
            held = [held_scores(name, v) for name, v in zip(names, values, strict=True)]
            edges = [
                in_precision_of(v, e) for v, e in zip(values, self.edges, strict=True)
            ]
            return _find_cells(np, edges, held)
        for value in values:
            check_finite("score", value)
        dtypes = [traced_precision(value, self.kernel.dtype) for value in values]
        pairs = zip(values, self.edges, dtypes, strict=True)
        cast, edges = zip(
            *((jnp.asarray(v, d), jnp.asarray(e, d)) for v, e, d in pairs), strict=True
        )
        finite = jnp.all(jnp.stack([jnp.isfinite(v) for v in cast]), 0)
        return jnp.where(finite, _find_cells(jnp, edges, cast), -1)


def _find_cells(xp: Any, edges: Any, values: Any) -> Any:
    cell = xp.zeros(values[0].shape, np.int32)
    for inner, value in zip(edges, values, strict=True):
        within = xp.sum(inner[cell] <= value[:, None], -1, dtype=np.int32)
        cell = cell * (inner.shape[1] + 1) + within
    return cell


def _columns(group_probability: Any) -> list[Any]:
    """The columns that tell of the group: all but the first, which the others give."""
    shape = np.shape(group_probability)
    if len(shape) == 1:
        return [group_probability]
    if len(shape) != 2 or shape[1] < 2:
        raise ValueError(
            f"group_probability has shape {shape}, expected [rows] (the probability of "
            f"group 1 of two) or [rows, groups]."
        )
    return [group_probability[:, code] for code in range(1, shape[1])]


def _balanced_edges(value: np.ndarray, mass: np.ndarray, bins: int) -> np.ndarray:
    """Lowest values of the bins above the first, of equal mass; padded with infinity."""
    distinct, place = np.unique(value, return_inverse=True)
    share = np.bincount(place, mass) / mass.sum()
    at = np.searchsorted(np.cumsum(share) - share / 2, np.arange(1, bins) / bins)
    inner = distinct[np.minimum(at, len(distinct) - 1)]
    inner = np.unique(inner[inner > distinct[0]])
    return np.pad(inner, (0, bins - 1 - len(inner)), constant_values=np.inf)


def _fit_edges(
    values: list[np.ndarray], mass: np.ndarray, sizes: list[int]
) -> list[np.ndarray]:
    """Edges of each value within the cells of those before it."""
    edges: list[np.ndarray] = []
    cell, n_cells = np.zeros(len(mass), int), 1
    for value, size in zip(values, sizes, strict=True):
        inner = np.full((n_cells, size - 1), np.inf)
        for code in np.unique(cell):
            mine = cell == code
            inner[code] = _balanced_edges(value[mine], mass[mine], size)
        edges.append(inner)
        cell, n_cells = _find_cells(np, edges, values[: len(edges)]), n_cells * size
    return edges


def _area(curve: np.ndarray) -> float:
    steps = np.diff(curve, axis=0)
    return float(np.sum(steps[:, 0] * (curve[1:, 1] + curve[:-1, 1])) / 2)


def _aware_area(rows: ChannelRows, mass: np.ndarray) -> float:
    """Area under the least of the groups' hulls, as a group-aware channel has it."""
    hulls = []
    for code in range(rows.counts.shape[1]):
        mine = rows.group == code
        inner = _balanced_edges(rows.score[mine], mass[mine], _AWARE_BINS)
        bin_of = np.searchsorted(inner, rows.score[mine], side="right")
        law = np.zeros((2, _AWARE_BINS))
        np.add.at(law, (rows.label[mine], bin_of), rows.weights[mine])
        hulls.append(concave_hull(roc_points(*(law / law.sum(1, keepdims=True)))))
    return _area(lower_envelope(hulls))


def _soft_masses(
    rows: ChannelRows,
    probes: list[np.ndarray],
    cell: np.ndarray,
    shape: tuple[int, ...],
) -> np.ndarray:
    """Mass ``[G, 2, B]`` of the cells, the labels of each group smoothed."""
    soft = np.zeros(shape)
    tell = np.stack([normal_scores(probe, rows.weights) for probe in probes], 1)
    for code in range(shape[0]):
        mine = rows.group == code
        weights, probe = rows.weights[mine], tell[mine]
        score = normal_scores(rows.score[mine], weights)[:, None]
        columns = [score, score**2, score**3, probe, probe**2, probe * score]
        expected = soft_labels(np.concatenate(columns, 1), rows.label[mine], weights, 2)
        for cls in (0, 1):
            np.add.at(soft[code, cls], cell[mine], weights * expected[:, cls])
    return soft


def blind_channel(
    score: Float[ArrayLike, " n"],
    group_probability: Float[ArrayLike, "n ..."],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    *,
    bins: tuple[int, int] = (24, 5),
    atoms: int = 24,
    weights: Float[ArrayLike, " n"] | None = None,
    n_groups: int | None = None,
) -> BlindChannel:
    """Fit the channel that is exactly fair without knowing the group at deployment.

    Cells of (score, probability of the group) have laws ``f_ka`` given class and group.
    One kernel ``M`` for all groups,

        maximize I(atom; Y)   subject to   M' f_ka = M' f_k0   for k = 0, 1 and every a,

    the mutual information of the atom and the label under the sample's class shares: a
    few linear programs in turn with the atoms' posteriors. There always is one (send
    everything to one atom); how much it can tell depends on how well the probability
    reads the group. The groups are needed to fit only.

    The laws are held alike twice: as counted, so that the channel is exact in sample (in
    expectation over the randomness), and with the labels of each group replaced by a
    smooth model's of score and probability. Among so many kernels there are some that
    only the noise of the counts makes alike, and the program would find them: without
    the second set the gaps on new rows were twice to three times those of chance, with
    it 1.1 to 1.5 times. Give it out-of-fold scores and out-of-fold group probabilities.

    Args:
        score: ``[n]`` finite scores of any base learner, higher for class 1.
        group_probability: ``[n]`` ``P(group = 1 | x)`` of any probe, for two groups, or
            ``[n, G]`` for more; any monotone function of it serves as well.
        label: ``[n]`` class codes 0 and 1.
        group: ``[n]`` group codes 0..G-1, read here and never again.
        bins: Bins of the score, and bins of the probability in each of them. With more
            than two groups the second is shared among the ``G - 1`` columns.
        atoms: ``T``.
        weights: ``[n]`` non-negative sample weights, or None.
        n_groups: ``G``; None takes the largest code plus one.

    Returns:
        The channel.

    Raises:
        ValueError: On values that are not finite, labels that are not 0 and 1, a group
            without one of the classes, shapes that do not fit or sizes out of range.
        RuntimeError: If a linear program was not solved.

    Example:
        >>> import jax, numpy as np, jaxsteer as js
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
        >>> score = label * (1 + group) + rng.normal(size=4000)
        >>> probe = group + rng.normal(size=4000)
        >>> channel = js.blind_channel(score, probe, label, group)
        >>> bool(channel.slack < 1e-6), bool(channel.auc < channel.aware_auc)
        (True, True)
        >>> fair = channel.transport(score, probe, key=jax.random.key(0))

    References:
        Blackwell 1953 (kernels between experiments).
    """
    sizes = tuple(bins) if np.ndim(bins) == 1 else ()
    if len(sizes) != 2 or not all(isinstance(s, int) and s >= 2 for s in sizes):
        raise ValueError(
            f"bins={bins!r} must be two whole numbers of at least 2: bins of the score, "
            f"and bins of the group's probability in each."
        )
    if not (isinstance(atoms, int) and atoms >= 2):
        raise ValueError(f"atoms={atoms!r} must be a whole number of at least 2.")
    check_same_length(score=score, group_probability=group_probability)
    if np.ndim(score) != 1:
        raise ValueError(f"score has shape {np.shape(score)}, expected [rows].")
    rows = channel_rows(
        "blind_channel", score, label, group, weights,
        bins=sizes[0], n_classes=2, n_groups=n_groups,
    )  # fmt: skip
    n_groups = int(rows.counts.shape[1])
    columns = _columns(group_probability)
    if len(columns) != n_groups - 1:
        raise ValueError(
            f"group_probability has shape {np.shape(group_probability)} for {n_groups} "
            f"groups; expected [rows, {n_groups}]"
            + (", or [rows] with the probability of group 1." if n_groups == 2 else ".")
        )
    used = np.ones(len(label), bool) if weights is None else np.asarray(weights) > 0
    probes = [held_scores("group_probability", column)[used] for column in columns]
    # Both classes weigh 1/2, as in the other channels' bins.
    mass = rows.weights / np.bincount(rows.label, rows.weights)[rows.label]
    each = math.ceil(sizes[1] ** (1 / len(probes)))
    values = [rows.score, *probes]
    edges = _fit_edges(values, mass, [sizes[0]] + [each] * len(probes))
    cell = _find_cells(np, edges, values)
    masses = np.zeros((n_groups, 2, sizes[0] * each ** len(probes)))
    np.add.at(masses, (rows.group, rows.label, cell), rows.weights)
    joint = masses.sum(0) / masses.sum()
    laws = masses / masses.sum(-1, keepdims=True)
    soft = _soft_masses(rows, probes, cell, masses.shape)
    alike = np.concatenate([laws, soft / soft.sum(-1, keepdims=True)], 1)
    kernel = most_informative(alike, soft.sum(0) / soft.sum(), atoms)
    mix = class_law(rows.label, rows.weights, 2)
    law = joint / mix[:, None] @ kernel
    total = mix @ law
    posterior = np.where(
        total > 1e-12, mix[1] * law[1] / np.maximum(total, 1e-12), mix[1]
    )
    order = np.argsort(posterior, kind="stable")
    kernel, law, posterior = kernel[:, order], law[:, order], posterior[order]
    delivered = laws @ kernel
    rates = np.cumsum(delivered, -1)
    curve = roc_points(*law)
    in_cell = joint.sum(0)
    return BlindChannel(
        edges=tuple(edges),
        kernel=jnp.asarray(kernel),
        atom_scores=jnp.asarray(posterior),
        atoms=jnp.asarray(law),
        roc=jnp.asarray(curve),
        gap=jnp.asarray(np.max(rates.max(0) - rates.min(0))),
        slack=jnp.asarray(np.max(delivered.max(0) - delivered.min(0))),
        auc=jnp.asarray(_area(curve)),
        aware_auc=jnp.asarray(_aware_area(rows, mass)),
        random_share=jnp.asarray(in_cell[kernel.max(1) < 1 - CERTAIN].sum()),
        cell_counts=jnp.asarray(rows.counts),
    )
