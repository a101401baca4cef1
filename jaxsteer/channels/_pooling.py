"""Groups with few rows borrow from all: how much, and with what weights.

A difference between two groups' score laws that chance alone would make is noise, and a
map or channel that undoes it adds that noise to new rows a second time. So each group's
laws may be drawn to those of all groups,

    F'_ka = (1 - l_ka) F_ka + l_ka F_k,

which is a weighting of rows: group ``a`` gets every row of class ``k`` with its share of
the weight. Where chance makes next to nothing of the distance, as with large groups
that differ, the laws stay as they are: what is known needs no borrowing, and is exact.
"""

from __future__ import annotations

from typing import Any

from jaxsteer._errors import is_concrete

#: Squared distances this small are those of equal laws.
_LEAST = 1e-30

#: A smaller share of chance in the squared distance of laws is not worth what borrowing
#: takes: that the answer is exact in sample.
_LITTLE = 0.02


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


def class_weights(xp: Any, label: Any, weights: Any, n_classes: int) -> Any:
    """Weights ``[K, n]`` of the rows of each class, 0 for the others'."""
    return xp.stack([xp.where(label == cls, weights, 0.0) for cls in range(n_classes)])


def pooled_weights(xp: Any, classes: Any, group: Any, how_far: Any) -> Any:
    """Weigh all rows for each group.

    Args:
        xp: NumPy or JAX's.
        classes: ``[K, n]`` weights of the rows of each class.
        group: ``[n]`` codes 0..G-1.
        how_far: ``[K, G]`` the shares ``l_ka``.

    Returns:
        ``[G, n]`` weights, of the same sum over each class and group as its own rows'.
    """
    rows = []
    for code in range(how_far.shape[1]):
        inside = xp.where(group == code, classes, 0.0)
        share = how_far[:, code, None]
        mass, all_mass = inside.sum(1)[:, None], classes.sum(1)[:, None]
        lent = classes * (mass / xp.where(all_mass > 0, all_mass, 1.0))
        rows.append(((1 - share) * inside + share * lent).sum(0))
    return xp.stack(rows)


def chance_distances(
    xp: Any, columns: Any, classes: Any, group: Any, n_groups: int
) -> tuple[Any, Any]:
    """How far the groups' laws lie from the pooled ones, by chance and as measured.

    The distance is ``E_k |F_ka - F_k|^2``, the mean over the rows of class ``k`` (Cramer
    and von Mises's), summed over the columns. By chance it is

        (1 - s)^2 (1 / n_ka + 1 / n_k,others) E_k F_k (1 - F_k)

    with ``s`` the group's share of class ``k``: what it would be if the group's rows were
    drawn from the same law as the others'. Weights count by their effective sample size.

    Args:
        xp: NumPy or JAX's.
        columns: ``[m, n]`` scores.
        classes: ``[K, n]`` weights of the rows of each class.
        group: ``[n]`` codes.
        n_groups: ``G``.

    Returns:
        Two arrays ``[K, G]``; the ratio of the first to the second is the share of the
        distance that is noise (Efron and Morris 1973: shrink by it).
    """
    order = [xp.argsort(column) for column in columns]
    held = [column[o] for column, o in zip(columns, order, strict=True)]
    ends = [
        (xp.searchsorted(v, v, side="left"), xp.searchsorted(v, v, side="right"))
        for v in held
    ]

    def laws(mass: Any) -> list:
        found = []
        for place, (first, after) in zip(order, ends, strict=True):
            below = xp.concatenate([xp.zeros(1, mass.dtype), xp.cumsum(mass[place])])
            found.append((below[first] + below[after]) / 2 / below[-1])
        return found

    def effective(mass: Any) -> Any:
        # Of no rows the size counts as one: their share is 0 or 1 and cancels it.
        total, squares = mass.sum(), (mass**2).sum()
        return xp.where(
            squares > 0, total**2 / xp.where(squares > 0, squares, 1.0), 1.0
        )

    by_chance, measured = [], []
    for mass in classes:
        pooled, shares = laws(mass), [mass[o] / mass.sum() for o in order]
        pairs = list(zip(pooled, shares, strict=True))
        spread = sum((share * law * (1 - law)).sum() for law, share in pairs)
        for code in range(n_groups):
            inside = xp.where(group == code, mass, 0.0)
            others = 1 - inside.sum() / mass.sum()
            sizes = 1 / effective(inside) + 1 / effective(mass - inside)
            by_chance.append(others**2 * sizes * spread)
            away = zip(laws(inside), pairs, strict=True)
            measured.append(
                sum((share * (law - other) ** 2).sum() for law, (other, share) in away)
            )
    shape = (len(classes), n_groups)
    return xp.stack(by_chance).reshape(shape), xp.stack(measured).reshape(shape)


def chance_share(xp: Any, by_chance: Any, measured: Any) -> Any:
    """The share of a distance that chance makes, in [0, 1]; NaN stays."""
    ratio = by_chance / xp.maximum(measured, _LEAST)
    return xp.minimum(ratio, xp.ones_like(ratio))


def group_shrinkage(
    xp: Any, score: Any, classes: Any, group: Any, shrinkage: Any, n_groups: int
) -> Any:
    """The share ``[G]`` for each group, one for all its classes.

    Args:
        xp: NumPy or JAX's.
        score: ``[n]``.
        classes: ``[K, n]`` weights of the rows of each class.
        group: ``[n]`` codes.
        shrinkage: "auto" (:func:`chance_distances`, summed over the classes; nothing
            where that is little), or the share itself.
        n_groups: ``G``.
    """
    if not isinstance(shrinkage, str):
        return xp.zeros(n_groups, classes.dtype) + shrinkage
    by_chance, measured = chance_distances(xp, score[None], classes, group, n_groups)
    share = chance_share(xp, by_chance.sum(0), measured.sum(0))
    return xp.where(share < _LITTLE, 0.0, share)
