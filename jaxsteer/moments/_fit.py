"""``fit_population``: from rows with labels and groups to a Population."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._compilation import broadcasting
from jaxsteer._errors import (
    check_choice,
    check_codes,
    check_finite,
    check_same_length,
    check_weights,
    is_concrete,
)
from jaxsteer._labels import cell_codes
from jaxsteer._types import ArrayLike, Float, Int
from jaxsteer.families import (
    DiagonalNormal,
    LogNormal,
    MultivariateLogNormal,
    MultivariateNormal,
    Normal,
    TransformedNormal,
    fitted_by_samples,
)
from jaxsteer.maps import Exp
from jaxsteer.moments._by_likelihood import fit_cells
from jaxsteer.moments._cells import cell_moments
from jaxsteer.moments._columns import CellColumns, cell_columns, group_moments
from jaxsteer.moments._diagnosis import diagnose
from jaxsteer.moments._fit_spread import fit_spread
from jaxsteer.moments._low_rank import choose_rank, fit_low_rank
from jaxsteer.moments._prior import (
    check_prior,
    mass_of_rows,
    prior_columns,
    prior_group_moments,
    prior_moments,
)
from jaxsteer.moments._sharded import is_spread
from jaxsteer.moments._shrinkage import check_shrinkage, shrink
from jaxsteer.population import Population

NORMAL = ("normal", "diagonal_normal", "lognormal")
COVARIANCES = ("full", "tied", "diagonal", "low_rank")


def _cell_codes(label: ArrayLike, group: ArrayLike, n_classes: int, n_groups: int):
    """Codes ``class * G + group``, -1 where one is out of range; NumPy's if they can."""
    concrete = is_concrete(label, group)
    np_or_jnp = np if concrete else jnp
    label, group = np_or_jnp.asarray(label), np_or_jnp.asarray(group)
    inside = (label >= 0) & (label < n_classes) & (group >= 0) & (group < n_groups)
    # A code out of range must not be taken for another cell.
    return np_or_jnp.where(inside, cell_codes(label, group, n_groups), -1)


_cell_moments = jax.jit(broadcasting(cell_moments), static_argnums=2)
_cell_columns = jax.jit(broadcasting(cell_columns), static_argnums=2)
_group_moments = jax.jit(broadcasting(group_moments), static_argnums=3)
_prior_columns = jax.jit(broadcasting(prior_columns), static_argnums=1)
_prior_moments = jax.jit(broadcasting(prior_moments), static_argnums=1)
_prior_group_moments = jax.jit(broadcasting(prior_group_moments), static_argnums=5)


def fit_population(
    x: Float[ArrayLike, " n"] | Float[ArrayLike, "n d"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    family: str = "normal",
    shrinkage: str | float | None = "oas",
    weights: Float[ArrayLike, " n"] | None = None,
    *,
    covariance: str = "full",
    rank: int | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
    prior: Float[ArrayLike, ""] | None = None,
) -> Population:
    """Fit the priors and one distribution to every class-by-group cell.

    Cost O(n d^2) whatever the number of cells ("diagonal": O(n d)). Differentiable in
    `x` and `weights`; under ``jit`` give `n_classes` and `n_groups`.

    Args:
        x: ``[n]`` or ``[n, d]`` features, finite. One that lies on a mesh of devices
            stays there: see :func:`jaxsteer.moments.sharded_moments`. Scales matter to
            `shrinkage`, which pulls toward a multiple of the identity: standardize
            columns first.
        label: ``[n]`` class codes 0..K-1.
        group: ``[n]`` group codes 0..G-1.
        family: "normal" (univariate for ``[n]``, full covariances for ``[n, d]``),
            "diagonal_normal" (independent features), or "lognormal" (the same as
            "normal" for ``log x``; `x` must be positive). For ``[n]``, by maximum
            likelihood: "laplace", "gumbel", "exponential", "gamma", "inverse_gamma",
            "weibull", "rayleigh", "pareto", "beta", "von_mises", "bernoulli",
            "categorical" (codes 0..m-1), "poisson", "geometric". Side by side:
            :class:`jaxsteer.Product` of such fits' conditionals.
        shrinkage: Of full and tied covariances toward a multiple of the identity: "oas",
            "ledoit-wolf", an intensity in [0, 1], or None. Of "low_rank", the diagonal
            toward its mean: an intensity (1 is probabilistic principal components),
            None (0) for columns that keep their variances exactly, or either name for
            Ledoit and Wolf's estimate from the rows of the cell. Variances alone are
            never shrunk.
        weights: ``[n]`` non-negative sample weights, or None for 1.
        covariance: What of ``[n, d]`` features is fitted. "full": a covariance a cell,
            for cells with many more rows than columns. "tied": one within-class
            covariance a group, the classes pooled by mass, for small classes. "low_rank":
            `rank` leading directions of each cell and what is left in each column
            (:class:`jaxsteer.LowRankNormal`), for cells with fewer rows than columns
            and for many columns; no ``d x d`` matrix is formed for a cell with fewer
            rows than columns, unless label or group are traced. "diagonal": variances
            only, as family="diagonal_normal".
        rank: Number of directions of "low_rank", 1 to ``d - 1`` and two less than the
            effective rows of the smallest cell; None takes 10, or ``d - 1``, or one for
            four rows of the smallest cell, whichever is least (where label, group or
            weights are traced, the rows do not count).
        n_classes: ``K``; None takes the largest code plus one.
        n_groups: ``G``; None takes the largest code plus one.
        prior: Pseudo-count ``t > 0`` of rows of average weight, or None. Every cell gets
            ``t`` rows more that are distributed as the rows of its class in all groups
            (each class, for that purpose, ``t`` rows distributed as all rows are): its
            mean becomes ``w mean + (1 - w) mean_class`` with ``w = m / (m + t)`` for a
            cell of ``m`` rows, its covariance ``w cov + (1 - w) cov_class + w (1 - w)
            outer(mean - mean_class)``, its prior ``(m + t) / (n + K G t)``. So a cell of
            no or one row, as minibatches have, keeps finite moments and gradients, under
            ``jit`` too, and one of many rows changes by ``O(t / m)``. Not with
            "low_rank" or "ledoit-wolf". 1 to ``d`` suits training.

    Returns:
        The population; its conditionals have batch shape ``[K, G]``. They are a
        :class:`Normal`, :class:`MultivariateNormal`, :class:`DiagonalNormal` or
        :class:`LowRankNormal`, or for "lognormal" their log-normal counterparts, which
        for the last two is a :class:`TransformedNormal`.

    Raises:
        ValueError: On lengths that differ, labels that are no codes, values that are
            not finite, options that do not go together, empty cells (without `prior`),
            cells or columns without spread, cells with fewer rows than `rank` plus two,
            and, without shrinkage, cells ("full") or groups ("tied") smaller than the
            dimension or collinear columns; the message names them. With shrinkage the
            last two are warnings; with `prior` the rows of a cell may be few.

    Example:
        >>> import numpy as np
        >>> x = np.array([0.0, 2.0, 1.0, 3.0, 5.0, 7.0, 4.0, 8.0])
        >>> pop = fit_population(x, np.repeat([0, 1], 4), np.array([0, 0, 1, 1] * 2))
        >>> pop.conditionals.loc.tolist()
        [[1.0, 2.0], [6.0, 6.0]]

    References:
        Priors are the cells' shares; moments are maximum likelihood, shrunk as asked.
        "low_rank": Tipping and Bishop 1999, with one step of factor analysis; see
        :meth:`LowRankNormal.from_moments`.
    """
    check_choice("family", family, (*NORMAL, *fitted_by_samples()))
    check_choice("covariance", covariance, COVARIANCES)
    shrinkage = check_shrinkage(shrinkage)
    check_same_length(x=x, label=label, group=group)
    if np.ndim(x) not in (1, 2):
        raise ValueError(f"x must have shape [n] or [n, d], got {np.shape(x)}.")
    covariance = _check_covariance(covariance, rank, family, np.shape(x))
    prior = check_prior(prior, covariance, shrinkage)
    rows = {"label": label, "group": group}
    if weights is not None:
        rows["weights"] = weights
    for name, values in rows.items():
        if np.ndim(values) != 1:
            raise ValueError(f"{name} must have shape [n], got {np.shape(values)}.")
    if is_spread(x) and is_concrete(x):
        _check_spread(family, prior)
        priors, law = fit_spread(
            Exp().inverse(jnp.asarray(x)) if family == "lognormal" else x,
            label,
            group,
            weights,
            covariance=covariance,
            shrinkage=shrinkage,
            n_classes=n_classes,
            n_groups=n_groups,
        )
        return Population(priors, _conditionals(law, np.ndim(x), family))
    check_finite("x", x)
    n_classes = check_codes("label", label, n_classes)
    n_groups = check_codes("group", group, n_groups)
    shares = weights
    x = jnp.asarray(x)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if weights is None:
        weights = jnp.ones(x.shape[0], x.dtype)
    else:
        check_same_length(x=x, weights=weights)
        check_weights(weights)
        weights = jnp.asarray(weights, x.dtype)
    if family == "lognormal":
        if is_concrete(x) and bool((x <= 0).any()):
            raise ValueError(
                "x has values at or below 0, which family='lognormal' does not allow; "
                "use family='normal', or shift those columns."
            )
        x = Exp().inverse(x)
    flat = x[:, None] if x.ndim == 1 else x
    cell = _cell_codes(label, group, n_classes, n_groups)
    cells = (n_classes, n_groups)
    pseudo = None if prior is None else mass_of_rows(prior, weights)
    if family not in NORMAL:
        mass, law = fit_cells(family, x, cell, weights, cells, pseudo)
        return Population(mass / jnp.sum(mass), law)
    moments: Any = None
    if covariance == "full":
        moments = _cell_moments(flat, cell, n_classes * n_groups, weights)
        if pseudo is not None:
            moments = _prior_moments(moments, cells, pseudo, prior)
        columns = CellColumns.of(moments)
    else:
        columns = _cell_columns(flat, cell, n_classes * n_groups, weights)
    if covariance == "tied":
        moments = _group_moments(flat, columns, cell, n_groups, weights)
        if pseudo is not None:
            moments = _prior_group_moments(
                moments, columns, flat, cell, weights, cells, pseudo, prior
            )
    if pseudo is not None and covariance != "full":
        columns = _prior_columns(columns, cells, pseudo, prior)
    if rank is None:
        low_rank = covariance == "low_rank"
        rank = choose_rank(flat.shape[1], _fewest_rows(cell, shares)) if low_rank else 0
    if is_concrete(columns.variance):
        diagnose(
            columns,
            n_groups,
            covariance=covariance,
            shrinkage=shrinkage,
            moments=moments,
            rank=rank,
            judge_size=prior is None,
        )
    if covariance == "low_rank":
        law = fit_low_rank(flat, cell, weights, columns, rank=rank, shrinkage=shrinkage)
    elif covariance == "diagonal":
        law = DiagonalNormal(columns.mean, jnp.sqrt(columns.variance))
    else:
        cov = shrink(moments, shrinkage)
        # Cells are in class-major order, so that a tied covariance repeats by group.
        repeats = columns.mean.shape[0] // cov.shape[0]
        law = MultivariateNormal(columns.mean, jnp.tile(cov, (repeats, 1, 1)))
    law = jax.tree.map(lambda leaf: leaf.reshape(cells + leaf.shape[1:]), law)
    priors = (columns.mass / jnp.sum(columns.mass)).reshape(cells)
    return Population(priors, _conditionals(law, x.ndim, family))


def _check_spread(family: str, prior: object) -> None:
    """Raise for what needs rows, not their moments."""
    if family not in NORMAL:
        raise ValueError(
            f"family={family!r} reads rows on one device, and x lies on a mesh; gather "
            f"it first: jnp.asarray(np.asarray(x))."
        )
    if prior is not None:
        raise ValueError(
            "prior=... is for minibatches on one device; leave it out for an x that "
            "lies on a mesh, or gather x first."
        )


def _fewest_rows(cell: Any, weights: Any) -> float | None:
    """Kish's count of the smallest cell; None if traced (features may be traced)."""
    if not is_concrete(cell, weights):
        return None
    weights = np.ones(len(cell)) if weights is None else np.asarray(weights, float)
    mass, squares = np.bincount(cell, weights), np.bincount(cell, weights**2)
    return float(np.min(mass**2 / np.where(squares > 0, squares, 1.0)))


def _check_covariance(
    covariance: str, rank: int | None, family: str, shape: tuple[int, ...]
):
    """Return what is fitted ("diagonal" where only variances are), or raise."""
    if family not in NORMAL and (len(shape) != 1 or rank is not None):
        raise ValueError(
            f"family={family!r} is for one feature [n] and takes no rank, got x of shape "
            f"{shape}; fit each column and join them with jaxsteer.Product."
        )
    if len(shape) == 1 and covariance != "full":
        raise ValueError(
            f"covariance={covariance!r} needs x of shape [n, d], got {shape}; leave it "
            f"out for a single feature."
        )
    if family == "diagonal_normal" and covariance in ("tied", "low_rank"):
        raise ValueError(
            f"covariance={covariance!r} contradicts family='diagonal_normal', which has "
            f"variances only; use family='normal'."
        )
    if rank is not None:
        if covariance != "low_rank":
            raise ValueError(
                f"rank={rank!r} is for covariance='low_rank', got {covariance!r}."
            )
        if isinstance(rank, bool) or not isinstance(rank, (int, np.integer)):
            raise ValueError(f"rank={rank!r} must be a whole number, or None.")
    if covariance == "low_rank":
        d = shape[-1]
        if d < 2:
            raise ValueError(
                f"covariance='low_rank' needs two columns at least, x has {d}; use "
                f"covariance='full'."
            )
        if rank is not None and not 1 <= rank <= d - 1:
            raise ValueError(
                f"rank={rank} is out of range for {d} features; give 1 to {d - 1}."
            )
    only_variances = len(shape) == 1 or family == "diagonal_normal"
    return "diagonal" if only_variances else covariance


def _conditionals(law: Any, ndim: int, family: str) -> Any:
    if ndim == 1:
        law = Normal(law.loc[..., 0], law.scale[..., 0])
    if family != "lognormal":
        return law
    if isinstance(law, Normal):
        return LogNormal(law.loc, law.scale)
    if isinstance(law, MultivariateNormal):
        return MultivariateLogNormal(law.mean, law.cov)
    return TransformedNormal(law, Exp())
