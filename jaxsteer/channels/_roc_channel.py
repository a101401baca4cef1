"""The ROC channel: one score, exactly as informative in every group.

A score in group ``a`` is an experiment about the label with a concave ROC hull ``R_a``.
The most informative experiment to which every group's can be degraded has the ROC curve
``min_a R_a`` (Blackwell's order of dichotomies is a lattice). A random kernel per group
maps its score bins to the atoms of that experiment, so that given the label the atom has
one law in every group: every threshold, cost and later classifier has equal error rates.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_choice,
    check_codes,
    check_finite,
    check_same_length,
)
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Int, Key
from jaxsteer.channels._channel_rows import channel_rows, class_law
from jaxsteer.channels._entropic_meet import entropic_meet
from jaxsteer.channels._kernel import degrading_kernel
from jaxsteer.channels._roc import concave_hull, lower_envelope, roc_points
from jaxsteer.solvers import Status

METHODS = ("linear_program", "entropic")

# Rows drawn at a time: each needs its kernel row, so memory is CHUNK * atoms.
CHUNK = 65_536


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RocChannel:
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
        slack: ``[]`` largest difference between the law of the atom that a group's
            kernel delivers and `atoms`.
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
def _draw(channel: RocChannel, rows: Array, key: Array) -> Array:
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


def _edges(score: np.ndarray, bins: int) -> np.ndarray:
    """Distinct inner quantiles; an edge is the lowest score of the bin above it."""
    inner = np.quantile(score, np.arange(1, bins) / bins, method="higher")
    return np.unique(inner[inner > score.min()])


def _linear_program(
    laws: np.ndarray, hulls: list[np.ndarray], mix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Kernels ``[G, B, T]`` to the exact meet, and its atoms ``[2, T]``."""
    # Lowest scores first, as the bins are.
    atoms = np.diff(lower_envelope(hulls), axis=0).T[:, ::-1]
    return np.stack([degrading_kernel(law, atoms, mix)[0] for law in laws]), atoms


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
    bins: int = 60,
    weights: Float[ArrayLike, " n"] | None = None,
    *,
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
        bins: Quantile bins of each group's scores.
        weights: ``[n]`` non-negative sample weights, or None.
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
    if temperature is not None and method != "entropic":
        raise ValueError(
            f"temperature={temperature} has no meaning for method={method!r}; pass "
            f"method='entropic', or leave it out."
        )
    rows = channel_rows(
        "roc_channel", score, label, group, weights,
        bins=bins, n_classes=2, n_groups=n_groups,
    )  # fmt: skip
    n_groups = int(rows.counts.shape[1])
    mix = class_law(rows.label, rows.weights, 2)
    edges = np.full((n_groups, bins - 1), np.inf)
    masses = np.zeros((n_groups, 2, bins))
    for code in range(n_groups):
        mine = rows.group == code
        inner = _edges(rows.score[mine], bins)
        edges[code, : len(inner)] = inner
        bin_of = np.searchsorted(inner, rows.score[mine], side="right")
        np.add.at(masses[code], (rows.label[mine], bin_of), rows.weights[mine])
    laws = masses / masses.sum(-1, keepdims=True)
    hulls = [concave_hull(roc_points(*law)) for law in laws]
    if method == "entropic":
        kernels, atoms = _entropic(masses, 1e-3 if temperature is None else temperature)
    else:
        kernels, atoms = _linear_program(laws, hulls, mix)
    delivered = laws @ kernels
    rates = np.cumsum(delivered, -1)
    joint = mix[:, None] * atoms
    return RocChannel(
        edges=jnp.asarray(edges),
        kernels=jnp.asarray(kernels),
        atom_scores=jnp.asarray(joint[1] / joint.sum(0)),
        atoms=jnp.asarray(atoms),
        roc=jnp.asarray(roc_points(*atoms)),
        hulls=tuple(jnp.asarray(hull) for hull in hulls),
        gap=jnp.asarray(np.max(rates.max(0) - rates.min(0))),
        slack=jnp.asarray(np.abs(delivered - atoms).max()),
        cell_counts=jnp.asarray(rows.counts),
    )
