"""Individual fairness: rows alike in target, of different groups, score alike."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Scalar
from jaxsteer.linalg import einsum
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._metric import Metric, hard_decisions
from jaxsteer.pareto._model import Outputs


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class IndividualFairness(Metric):
    """Mean of ``k(y, y') (s - s')^2`` over pairs of rows of different groups.

    ``k(y, y') = exp(-|y - y'|)``; for classes ``exp(-1)`` where they differ. Not a sum
    over pairs: for classes a closed form in the moments of every cell, O(n), for real
    targets two passes over the sorted rows, O(n log n). Scores of several classes: the
    sum over them. Hard: the same of the decisions, the share of pairs that are treated
    differently.

    Attributes:
        scale: Of the targets: ``|y - y'| / scale`` (regression only).

    Example:
        >>> IndividualFairness(scale=2.0).scale
        2.0

    References:
        Berk, Heidari, Jabbari, Joseph, Kearns, Morgenstern, Neel and Roth 2017, "A
        convex framework for fair regression".
    """

    scale: Scalar = 1.0

    def smooth(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the mean over pairs."""
        score = outputs.score
        columns = score[:, None] if score.ndim == 1 else score
        return self._pairs(columns, data)

    def hard(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the mean over pairs of the decisions."""
        decided = hard_decisions(outputs.score, data)
        # A change of class changes two of the columns.
        share = 0.5 if decided.shape[1] > 1 else 1.0
        return share * self._pairs(decided, data)

    def _pairs(self, s: Float[Array, "n k"], data: GroupData) -> Float[Array, ""]:
        weight = data.share * data.mass[data.group]
        # Differences do not see a common shift, and rounding is least near 0.
        center = jax.lax.stop_gradient(jnp.sum(weight[:, None] * s, 0))
        s = s - center
        number = 1.0 - jnp.sum(data.mass**2)
        rows = jnp.stack([jnp.ones_like(s), s, s**2], 1) * weight[:, None, None]
        if data.n_classes:
            return jnp.sum(_by_cells(rows, data)) / number
        every = _along_targets(rows, s, data.target / self.scale, None)
        own = _along_targets(rows, s, data.target / self.scale, data.group)
        return (every - own) / number


def _by_cells(rows: Float[Array, "n 3 k"], data: GroupData) -> Array:
    classes = range(data.n_classes)
    cells = [data.group_sum(rows * (data.target == i)[:, None, None]) for i in classes]
    m = jnp.stack(cells, 1)  # [G, K, 3, k]
    kernel = jnp.full((data.n_classes,) * 2, jnp.exp(-1.0), rows.dtype)
    kernel = jnp.where(jnp.eye(data.n_classes, dtype=bool), 1.0, kernel)
    apart = 1.0 - jnp.eye(data.n_groups, dtype=rows.dtype)

    def total(p: int, q: int):
        return einsum("aic,ij,ab,bjc->c", m[:, :, p], kernel, apart, m[:, :, q])

    return 2 * (total(0, 2) - total(1, 1))


def _along_targets(rows: Array, s: Array, target: Array, group: Array | None):
    """Sum over ordered pairs (of one group, where groups are given)."""
    # The kernel of sorted targets is a product of steps: k(y1, y3) = k(y1, y2) k(y2, y3).
    keys = (target,) if group is None else (target, group)
    order = jnp.lexsort(keys)
    rows, s, target = rows[order], s[order], target[order]
    step = jnp.exp(-jnp.abs(jnp.diff(target, prepend=target[:1])))
    if group is not None:
        group = group[order]
        same = jnp.diff(group, prepend=group[:1]) == 0
        step = jnp.where(same, step, 0.0)
    step = step[:, None, None]

    def join(left: tuple[Array, Array], right: tuple[Array, Array]):
        return left[0] * right[0], left[1] * right[0] + right[1]

    # The running sums hold the row itself too, whose difference from itself is 0.
    _, before = jax.lax.associative_scan(join, (step, rows))
    weight = rows[:, 0]
    pairs = s**2 * before[:, 0] - 2 * s * before[:, 1] + before[:, 2]
    return 2 * jnp.sum(weight * pairs)
