"""The rows that a channel is fitted on: their scores, codes, weights and soft labels.

Scores are held in the precision in which they came. JAX cuts float64 to float32 unless it
is told not to. Ranks taken after that are wrong for scores that differ in a late digit
(an offset of 1e6, posteriors near 1) and missing for those beyond float32's range, so
every comparison with bin edges or knots that can be made on the host is made there in
float64, which holds every narrower type exactly.

Groups with few rows may borrow from all. A difference between two groups' score laws that
chance alone would make is noise, and a map or channel that undoes it adds that noise to
new rows a second time. So each group's laws may be drawn to those of all groups,

    F'_ka = (1 - l_ka) F_ka + l_ka F_k,

which is a weighting of rows: group ``a`` gets every row of class ``k`` with its share of
the weight. Where chance makes next to nothing of the distance, as with large groups
that differ, the laws stay as they are: what is known needs no borrowing, and is exact.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_codes,
    check_finite,
    check_same_length,
    check_weights,
    is_concrete,
)
from jaxsteer._types import Array, ArrayLike

#: Integers up to here are floats without loss.
_EXACT = 2**53


def held_scores(name: str, score: ArrayLike) -> np.ndarray:
    """Return concrete scores as float64, all finite and none rounded.

    Args:
        name: The argument's name, for messages.
        score: Real numbers of any type of at most 64 bits.

    Raises:
        ValueError: On text and objects, wider types, integers beyond 2^53, and values
            that are not finite.

    Example:
        >>> held_scores("score", np.array([2**24, 2**24 + 1])).tolist()
        [16777216.0, 16777217.0]
    """
    array = np.asarray(score)
    is_integer = array.dtype.kind in "biu"
    is_float = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize <= 8
    if not (is_integer or is_float):
        raise ValueError(
            f"{name} must hold real numbers of at most 64 bits, got dtype "
            f"{array.dtype}; convert it first, as with numpy.asarray({name}, float)."
        )
    if is_integer and array.size and array.dtype.itemsize == 8:
        low, high = int(array.min()), int(array.max())
        if max(-low, high) > _EXACT:
            raise ValueError(
                f"{name} has integers from {low} to {high}; beyond 2^53 neighbours "
                f"cannot be told apart: subtract an offset, or pass ranks."
            )
    check_finite(name, array)
    return array.astype(np.float64)


def in_precision_of(score: ArrayLike, fitted: Any) -> np.ndarray:
    """Return fitted scores as float64, rounded as `score` is.

    A float32 copy of a score that was fitted in float64 then meets its own edge.
    """
    dtype = np.asarray(score).dtype
    held = np.asarray(fitted, np.float64)
    if dtype.kind in "biu" or dtype.itemsize >= 8:
        return held
    with np.errstate(over="ignore"):
        return held.astype(dtype).astype(np.float64)


def traced_precision(score: ArrayLike, default: Any) -> Any:
    """Return the dtype in which traced scores are compared: theirs, if it is a float."""
    dtype = jnp.result_type(score)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.dtype(default)


@runtime_checkable
class Channel(Protocol):
    """What turns scores or features into fair ones at deployment, without labels.

    A class is a frozen dataclass, made a pytree by ``register_dataclass``, that a function
    of rows with labels returns. It says what it does not reach: gaps in sample under a
    name of its own (`gap`, `gaps`, `slack`), and the rows behind each cell.

    Example:
        >>> from jaxsteer import RocChannel, ScoreMap, Steering
        >>> [issubclass(one, Channel) for one in (RocChannel, ScoreMap, Steering)]
        [True, True, True]
    """

    def transport(self, score: ArrayLike, group: ArrayLike, /, **options: Any) -> Array:
        """Return fair scores, codes or features of rows.

        Args:
            score: ``[n]``, ``[n, K]`` or ``[n, d]``, as at fit time. Where it holds values
                they are compared in their own precision; inside ``jit`` in that of the
                trace, where unknown codes become NaN or -1 and nothing is raised.
            group: ``[n]`` codes, or what stands in for them.
            **options: Of a channel that draws: ``key``, the randomness, without which it
                raises ValueError.
        """
        ...

    def __call__(self, score: ArrayLike, group: ArrayLike, /, **options: Any) -> Array:
        """The same as `transport`."""
        ...


class ChannelRows(NamedTuple):
    """Rows of positive weight, in NumPy.

    Attributes:
        score: ``[m]`` or ``[m, K]``, float64, none rounded.
        label: ``[m]`` class codes.
        group: ``[m]`` group codes.
        weights: ``[m]`` positive weights.
        counts: ``[K, G]`` rows of each class and group.
        bins: Bins of each group.
    """

    score: np.ndarray
    label: np.ndarray
    group: np.ndarray
    weights: np.ndarray
    counts: np.ndarray
    bins: int


#: Fewest and most bins that are chosen by the rows.
_FEWEST, _MOST = 8, 60


def channel_rows(
    channel: str,
    score: ArrayLike,
    label: Any,
    group: ArrayLike,
    weights: Any,
    *,
    bins: int | str,
    n_classes: int,
    n_groups: int | None,
) -> ChannelRows:
    """Check what a channel is fitted to; warn where cells have fewer rows than bins.

    Args:
        channel: The function's name, for messages; it must be two calls up the stack.
        score: Scores with the rows first.
        label: ``[n]`` class codes.
        group: ``[n]`` group codes.
        weights: ``[n]`` or None.
        bins: Bins of each group, or "auto": twice the root of the rows of the smallest
            cell, between 8 and 60.
        n_classes: ``K``.
        n_groups: ``G``, or None to take the largest code plus one.

    Raises:
        ValueError: As the front doors say.
    """
    if not is_concrete(score, label, group, weights):
        raise ValueError(
            f"{channel} is fitted on the host (its bins and curves depend on the data): "
            f"call it outside jit; its transport works inside."
        )
    check_same_length(score=score, label=label, group=group, weights=weights)
    held = held_scores("score", score)
    check_codes("label", label, n_classes)
    n_groups = check_codes("group", group, n_groups)
    if n_groups < 2:
        raise ValueError("group has one value; there is nothing to make equal.")
    if bins != "auto" and not (isinstance(bins, int) and bins >= 2):
        raise ValueError(f"bins={bins!r} must be a whole number of at least 2.")
    label, group = np.asarray(label, int), np.asarray(group, int)
    if weights is None:
        weights = np.ones(len(label))
    else:
        check_weights(weights)
    weights = np.asarray(weights, float)
    counts = np.zeros((n_classes, n_groups), int)
    np.add.at(counts, (label, group), weights > 0)
    for cls, code in np.argwhere(counts == 0).tolist():
        raise ValueError(
            f"no rows of class {cls} in group {code}: its error rates are unknown. Merge "
            f"that group with another, or leave it out."
        )
    if isinstance(bins, str):
        bins = int(np.clip(2 * np.sqrt(counts.min()), _FEWEST, _MOST))
    if counts.min() < bins:
        cls, code = np.unravel_index(counts.argmin(), counts.shape)
        warnings.warn(
            f"class {cls} of group {code} has {counts.min()} rows for {bins} bins: the "
            f"channel will be fair in sample, less so on new rows; use fewer bins or "
            f"merge groups.",
            stacklevel=3,
        )
    # A bin without mass would have an arbitrary kernel row.
    some = weights > 0
    return ChannelRows(
        held[some], label[some], group[some], weights[some], counts, bins
    )


def class_law(label: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """Weighted share of each code."""
    mass = np.bincount(label, weights, size)
    return mass / mass.sum()


def soft_labels(
    columns: np.ndarray, label: np.ndarray, weights: np.ndarray, n_classes: int
) -> np.ndarray:
    """Fit a ridge multinomial regression, and return its probabilities of the rows.

    Counts of labels in small cells are noisy, and a linear program that may choose among
    many kernels chooses those that the noise flatters: equal in sample, unequal on new
    rows. Expected labels have the same sums but not the noise.

    On the host in float64, by L-BFGS through SciPy. The ridge is one row's worth on
    standardized columns; the intercepts are free, so that each class has its own weighted
    share among the probabilities.

    Args:
        columns: ``[n, m]`` finite columns.
        label: ``[n]`` codes 0..K-1.
        weights: ``[n]`` positive.
        n_classes: ``K``.

    Returns:
        ``[n, K]`` probabilities.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    spread = columns.std(0)
    scaled = (columns - columns.mean(0)) / np.where(spread > 0, spread, 1.0)
    design = np.concatenate([np.ones((len(columns), 1)), scaled], 1)
    wanted = np.eye(n_classes)[label]
    total = weights.sum()

    def loss(flat: np.ndarray):
        table = flat.reshape(design.shape[1], n_classes)
        log = log_softmax(design @ table, -1)
        slope = design.T @ (weights[:, None] * (np.exp(log) - wanted))
        slope[1:] += table[1:]
        value = -np.sum(weights[:, None] * wanted * log) + np.sum(table[1:] ** 2) / 2
        return value / total, slope.ravel() / total

    start = np.zeros((design.shape[1], n_classes))
    start[0] = np.log(weights @ wanted / total)
    found = minimize(
        loss, start.ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": 500, "gtol": 1e-9, "ftol": 1e-13},
    )  # fmt: skip
    return np.exp(log_softmax(design @ found.x.reshape(start.shape), -1))


def normal_scores(value: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Standard normal quantiles of the weighted mid-ranks: a column without outliers."""
    from scipy.special import ndtri

    _, place = np.unique(value, return_inverse=True)
    share = np.bincount(place, weights) / weights.sum()
    return ndtri((np.cumsum(share) - share / 2)[place])


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


def pooled_weights(xp: Any, classes: Any, group: ArrayLike, how_far: Any) -> Any:
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
    xp: Any, columns: Any, classes: Any, group: ArrayLike, n_groups: int
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

    def laws(mass: Any) -> list[Any]:
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
    xp: Any,
    score: ArrayLike,
    classes: Any,
    group: ArrayLike,
    shrinkage: Any,
    n_groups: int,
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
