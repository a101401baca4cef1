"""The simulation of the ROME paper, and found groups matched to the true ones."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxsteer._types import ArrayLike

MEMBERSHIP = (
    (2.0, 2.0, 2.0, 2.0, 2.0),
    (-3.0, -2.0, -5.0, 0.1, 0.1),
    (0.1, -10.0, 0.1, 0.1, 0.1),
    (-2.0, -2.0, -2.0, -2.0, -2.0),
)
RATES = (0.1, 0.2)  # of the two binary sensitive columns
CUTOFFS = (1.2815515655446004, 0.8416212335729143)  # normal quantiles of 1 - rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class RomeSample:
    """Rows whose groups are known.

    Attributes:
        y: ``[n]`` outcomes.
        x: ``[n, p]`` columns of the outcome, the sensitive ones last.
        s: ``[n, 5]`` the sensitive columns.
        group: ``[n]`` group codes.
        coef: ``[G, p + 1]`` coefficients of the outcome, the intercept first.
        membership: ``[G, 5]`` coefficients of the membership, without an intercept.
    """

    y: np.ndarray
    x: np.ndarray
    s: np.ndarray
    group: np.ndarray
    coef: np.ndarray
    membership: np.ndarray


def simulate_rome(
    n: int = 8000,
    *,
    seed: int = 0,
    noise: float = 0.1,
    n_features: int = 15,
    coef: np.ndarray | None = None,
) -> RomeSample:
    """Draw the paper's simulation: four groups, five sensitive columns, small noise.

    Columns are standard normal, the last two sensitive ones then made binary at rates
    .1 and .2; the group is drawn from ``softmax(s gamma')`` and the outcome is linear
    in all columns with the group's coefficients.

    Args:
        n: Rows.
        seed: Seed of the rows.
        noise: Standard deviation of the outcome's noise.
        n_features: Columns that are not sensitive.
        coef: ``[4, n_features + 6]``; None draws it uniformly from -1.8 to 1.8, always
            the same (the paper's own table is not published in full).

    Returns:
        The rows with what generated them.

    Example:
        >>> sample = simulate_rome(100)
        >>> sample.x.shape, sample.s.shape
        ((100, 20), (100, 5))

    References:
        arXiv 2509.17411, section 5.
    """
    rng = np.random.default_rng([seed, 2509])
    membership = np.array(MEMBERSHIP)
    n_sensitive = membership.shape[1]
    if coef is None:
        width = n_features + n_sensitive + 1
        coef = np.random.default_rng(17411).uniform(-1.8, 1.8, (len(membership), width))
    x = rng.normal(size=(n, n_features + n_sensitive))
    x[:, -2:] = x[:, -2:] > np.array(CUTOFFS)
    s = x[:, -n_sensitive:]
    logits = s @ membership.T + rng.gumbel(size=(n, len(membership)))
    group = logits.argmax(1).astype(np.int32)
    mean = coef[group, 0] + np.sum(coef[group, 1:] * x, 1)
    y = mean + noise * rng.normal(size=n)
    return RomeSample(y=y, x=x, s=s, group=group, coef=coef, membership=membership)


def match_groups(found: ArrayLike, reference: ArrayLike) -> list[int]:
    """Return the order of `found`'s groups that is nearest to `reference`.

    ``argmin_order sum_j |found[order[j]] - reference[j]|^2``, over all orders (by the
    Hungarian method).

    Args:
        found: ``[G, ...]`` coefficients, or responsibilities transposed.
        reference: ``[G, ...]`` of the same shape.

    Returns:
        For each group of `reference` the index of its match, as
        :meth:`RomeFit.permute` takes it.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> match_groups([[5.0], [1.0], [3.0]], [[1.1], [2.9], [5.2]])
        [1, 2, 0]
    """
    left, right = np.asarray(found, float), np.asarray(reference, float)
    if left.shape != right.shape or left.ndim < 1:
        raise ValueError(
            f"found and reference must have one shape [G, ...], got "
            f"{list(left.shape)} and {list(right.shape)}."
        )
    from scipy.optimize import linear_sum_assignment

    flat = (left.reshape(len(left), -1), right.reshape(len(right), -1))
    gaps = ((flat[0][None] - flat[1][:, None]) ** 2).sum(-1)
    return linear_sum_assignment(gaps)[1].tolist()
