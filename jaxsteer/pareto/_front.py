"""Sampling the Pareto front, and asking whether a model lies on it."""

from __future__ import annotations

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_finite
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Bool, Float, Int, PyTree
from jaxsteer.pareto._baselines import least_worst
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._fitted import FittedModel, fit_path
from jaxsteer.pareto._hypergradient import Problem
from jaxsteer.pareto._metric import Metric
from jaxsteer.pareto._model import Model, unraveler
from jaxsteer.pareto._solve import check_problem


def simplex_grid(n_groups: int, points: int) -> np.ndarray:
    """About `points` group weights all over the simplex, ``[m, G]``.

    For two and three groups the finest lattice of at most so many points (but at least
    the corners), neighbors after each other; for more groups the corners, the middle
    and fixed random points.

    Raises:
        ValueError: If there are fewer than two groups, or `points` is no whole number
            above 0.

    Example:
        >>> simplex_grid(2, 3).tolist()
        [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
        >>> len(simplex_grid(3, 100))
        91
    """
    for name, value, least in (("n_groups", n_groups, 2), ("points", points, 1)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number >= {least}.")
    if n_groups == 2:
        first = np.linspace(0, 1, max(points, 2))
        return np.stack([first, 1 - first], 1)
    if n_groups == 3:
        side = max(int((np.sqrt(8 * points + 1) - 3) / 2), 1)
        rows = []
        for i, j in itertools.product(range(side + 1), repeat=2):
            # Back and forth, so that each fit begins near its answer.
            j = j if i % 2 == 0 else side - j
            if i + j <= side:
                rows.append([i, j, side - i - j])
        return np.asarray(rows) / side
    random = np.random.default_rng(0).dirichlet(np.ones(n_groups), points)
    middle = np.full((1, n_groups), 1 / n_groups)
    fixed = np.concatenate([np.eye(n_groups), middle])
    return np.concatenate([fixed, random])[: max(points, n_groups + 1)]


def sample_front(
    data: GroupData,
    model: Model,
    metric: Metric,
    *,
    points: int = 101,
    group_weights: Float[ArrayLike, "m G"] | None = None,
) -> FittedModel:
    """Fit Pareto-efficient models for group weights all over the simplex.

    Each is fitted from the one before, a Newton step or three. Draw them with
    :func:`jaxsteer.plots.pareto_front`; take the fairest with ``.fairest()``: the grid
    search that :func:`solve_badr` does without.

    Args:
        data: From :func:`group_data`.
        model: The model.
        metric: What is measured.
        points: About how many, see :func:`simplex_grid`.
        group_weights: ``[m, G]`` points of your own.

    Returns:
        The models, along a leading axis.

    Raises:
        ValueError: If an argument is unusable.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.pareto import GroupLossVariance, Logistic, group_data
        >>> rng = np.random.default_rng(0)
        >>> group, y = rng.integers(0, 2, (2, 400))
        >>> x = rng.normal(size=(400, 2)) + y[:, None] * np.where(group, 2, 1)[:, None]
        >>> data = group_data(x, y, group)
        >>> front = sample_front(data, Logistic(), GroupLossVariance(), points=5)
        >>> front.group_losses.shape
        (5, 2)
    """
    check_problem(data, model, metric)
    if group_weights is None:
        group_weights = simplex_grid(data.n_groups, points)
    grid = jnp.asarray(group_weights, data.share.dtype)
    if grid.ndim != 2 or grid.shape[1] != data.n_groups:
        raise ValueError(
            f"group_weights must have shape [m, {data.n_groups}], got {grid.shape}."
        )
    check_finite("group_weights", grid)
    return fit_path(Problem(model=model, metric=metric, data=data), grid)


def nondominated(
    group_losses: Float[ArrayLike, "m G"], *, tolerance: float = 0.0
) -> Bool[Array, " m"]:
    """Tell which of several models no other one dominates.

    One dominates another if its loss is nowhere larger and somewhere smaller, by more
    than `tolerance`.

    Example:
        >>> nondominated(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.5]])).tolist()
        [True, True, False]
    """
    check_finite("group_losses", group_losses)
    losses = jnp.asarray(group_losses)
    if losses.ndim != 2:
        raise ValueError(
            f"group_losses has shape {losses.shape}, expected [models, groups]."
        )
    gap = losses[:, None] - losses[None]  # of i over j
    worse = jnp.all(gap >= 0, -1) & jnp.any(gap > tolerance, -1)
    return ~jnp.any(worse, 1)


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Dominance:
    """Whether some model of a family is better than a given one in every group.

    Attributes:
        margin: ``[]`` the least possible largest difference of a group's loss,
            ``min_w max_a (F_a(w) - f_a)``: below 0, every group can have a smaller loss
            by that much; about 0, the given model is on the front (weakly); above 0, it
            is better than the family can be.
        params: The model that attains it.
        group_losses: ``[G]`` its losses.
        group_weights: ``[G]`` weights that prove it: for them no model has a smaller
            weighted sum of differences than `margin`.
        status: ``[]`` int32 :class:`jaxsteer.Status` of the search.
    """

    margin: Float[Array, ""]
    params: PyTree
    group_losses: Float[Array, " G"]
    group_weights: Float[Array, " G"]
    status: Int[Array, ""]

    def dominated(self, tolerance: float = 1e-5) -> Bool[Array, ""]:
        """Whether every group's loss can fall by more than `tolerance`."""
        return self.margin < -tolerance


def dominance(
    data: GroupData, model: Model, group_losses: Float[ArrayLike, " G"]
) -> Dominance:
    """Ask whether a convex family has a model that is better in every group.

    Args:
        data: From :func:`group_data`.
        model: The family.
        group_losses: ``[G]`` mean losses of the model in question, with the penalty:
            ``FittedModel.group_losses``, or those of any other model.

    Returns:
        The margin and the model that proves it.

    Raises:
        ValueError: If an argument is unusable, or the family is not convex.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.pareto import Logistic, group_data
        >>> rng = np.random.default_rng(0)
        >>> group, y = rng.integers(0, 2, (2, 400))
        >>> x = rng.normal(size=(400, 2)) + y[:, None] * np.where(group, 2, 1)[:, None]
        >>> data = group_data(x, y, group)
        >>> found = dominance(data, Logistic(), np.array([0.9, 0.9]))  # worse than guessing
        >>> bool(found.margin < 0)  # both groups can have less
        True

    References:
        The dual of ``min_w max_a (F_a(w) - f_a)``, as for :func:`fit_minimax`.
    """
    check_problem(data, model)
    if not model.convex:
        raise ValueError(
            "dominance needs a convex model: for others the dual proves nothing; "
            "compare with a sampled front through nondominated instead."
        )
    losses = jnp.asarray(group_losses, data.share.dtype)
    if losses.shape != (data.n_groups,):
        raise ValueError(
            f"group_losses must have shape [{data.n_groups}], got {losses.shape}."
        )
    check_finite("group_losses", losses)
    found = least_worst(model, data, losses)
    return Dominance(
        margin=found.margin,
        params=unraveler(model, data)(found.theta),
        group_losses=found.group_losses,
        group_weights=found.group_weights,
        status=found.status,
    )
