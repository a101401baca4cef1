"""Groups with few rows borrow from all: how much, and with what weights.

A difference between two groups' score laws that chance alone would make is noise, and a
map or channel that undoes it adds that noise to new rows a second time. So each group's
laws may be drawn to those of all groups,

    F'_ka = (1 - l_a) F_ka + l_a F_k,

which is a weighting of rows: group ``a`` gets every row of class ``k`` with its share of
the weight. The laws of a large group that differ stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxsteer._errors import is_concrete

#: Squared distances this small are those of equal laws.
_LEAST = 1e-30


def check_shrinkage(shrinkage: Any) -> None:
    """Raise unless it is "auto" or a number in [0, 1].

    Raises:
        ValueError: Otherwise.
    """
    if isinstance(shrinkage, str):
        known = shrinkage == "auto"
    else:
        known = not is_concrete(shrinkage) or 0 <= float(shrinkage) <= 1
    if not known:
        raise ValueError(
            f"shrinkage={shrinkage!r} must be 'auto' or lie in [0, 1]: 0 fits each group "
            f"to its own rows, 1 all groups to the rows of all."
        )


def pooled_weights(
    xp: Any,
    score: Any,
    label: Any,
    group: Any,
    weights: Any,
    shrinkage: Any,
    n_groups: int,
) -> tuple[Any, Any]:
    """Weigh all rows for each group.

    Args:
        xp: NumPy or JAX's.
        score: ``[n]``.
        label: ``[n]`` codes 0 and 1.
        group: ``[n]`` codes 0..G-1.
        weights: ``[n]``.
        shrinkage: ``l`` for all groups, ``[G]`` or ``[]``, or "auto"
            (:func:`chance_shrinkage`).
        n_groups: ``G``.

    Returns:
        ``[G, n]`` weights, of the same sum over each class and group as its own rows',
        and ``[G]`` what ``l_a`` is.
    """
    classes = xp.stack([xp.where(label == cls, weights, 0.0) for cls in (0, 1)])
    own = xp.stack([xp.where(group == code, weights, 0.0) for code in range(n_groups)])
    if isinstance(shrinkage, str):
        how_far = chance_shrinkage(xp, score, classes, group, n_groups)
    else:
        how_far = xp.zeros(n_groups, classes.dtype) + shrinkage
        if xp is np and not how_far.any():
            return own, how_far
    borrowed = xp.zeros(own.shape, own.dtype)
    for mass in classes:
        inside = xp.stack(
            [xp.where(group == code, mass, 0.0) for code in range(n_groups)]
        )
        borrowed = borrowed + inside.sum(1)[:, None] * mass / mass.sum()
    how_far = how_far[:, None]
    return (1 - how_far) * own + how_far * borrowed, how_far[:, 0]


def chance_shrinkage(
    xp: Any, score: Any, classes: Any, group: Any, n_groups: int
) -> Any:
    """How much of a group's distance to the pooled laws is what chance would make.

        l_a = min(1, sum_k E_k |F_ka - F_k|^2 by chance / sum_k E_k |F_ka - F_k|^2)

    with the mean over the rows of class ``k`` (Cramer and von Mises's distance), and by
    chance ``(1 - s)^2 (1 / n_ka + 1 / n_k,others) E_k F_k (1 - F_k)``, ``s`` the group's
    share of class ``k``: what it would be if the group's rows were drawn from the same
    law as the others'. Nearly 0 where groups differ and are large, and for groups of
    one law 1 in most samples. Weights count by their effective sample size.

    Args:
        xp: NumPy or JAX's.
        score: ``[n]``.
        classes: ``[2, n]`` weights of the rows of each class, 0 for the other's.
        group: ``[n]`` codes.
        n_groups: ``G``.

    Returns:
        ``[G]`` in [0, 1].

    References:
        Efron and Morris 1973 (shrinkage by the ratio of the two variances).
    """
    order = xp.argsort(score)
    held = score[order]
    first = xp.searchsorted(held, held, side="left")
    after = xp.searchsorted(held, held, side="right")

    def law(mass: Any) -> Any:
        below = xp.concatenate([xp.zeros(1, mass.dtype), xp.cumsum(mass[order])])
        return (below[first] + below[after]) / 2 / below[-1]

    def effective(mass: Any) -> Any:
        # Of no rows the size counts as one: their share is 0 or 1 and cancels it.
        total, squares = mass.sum(), (mass**2).sum()
        return xp.where(
            squares > 0, total**2 / xp.where(squares > 0, squares, 1.0), 1.0
        )

    found = []
    for code in range(n_groups):
        by_chance, measured = 0.0, 0.0
        for mass in classes:
            pooled, share = law(mass), mass[order] / mass.sum()
            inside = xp.where(group == code, mass, 0.0)
            others = 1 - inside.sum() / mass.sum()
            spread = (share * pooled * (1 - pooled)).sum()
            sizes = 1 / effective(inside) + 1 / effective(mass - inside)
            by_chance = by_chance + others**2 * sizes * spread
            measured = measured + (share * (law(inside) - pooled) ** 2).sum()
        ratio = by_chance / xp.maximum(measured, _LEAST)
        found.append(xp.minimum(ratio, xp.ones_like(ratio)))
    return xp.stack(found)
