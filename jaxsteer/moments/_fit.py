"""``fit_population``: from rows with labels and groups to a Population."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_choice,
    check_codes,
    check_finite,
    check_same_length,
    check_weights,
    is_concrete,
)
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.families import (
    DiagonalNormal,
    LogNormal,
    MultivariateLogNormal,
    MultivariateNormal,
    Normal,
)
from jaxsteer.maps import Exp
from jaxsteer.moments._cells import cell_moments
from jaxsteer.moments._diagnosis import diagnose
from jaxsteer.moments._shrinkage import check_shrinkage, shrink
from jaxsteer.population import Population

FAMILIES = ("normal", "diagonal_normal", "lognormal")


@partial(jax.jit, static_argnames=("n_classes", "n_groups"))
def _moments(x, label, group, weights, n_classes, n_groups):
    inside = (label >= 0) & (label < n_classes) & (group >= 0) & (group < n_groups)
    # Narrow codes would overflow in the product; a code out of range must not be taken
    # for another cell.
    cell = label.astype(jnp.int32) * n_groups + group.astype(jnp.int32)
    cell = jnp.where(inside, cell, -1)
    return cell_moments(x, cell, n_classes * n_groups, weights)


def fit_population(
    x: Float[ArrayLike, " n"] | Float[ArrayLike, "n d"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    family: str = "normal",
    shrinkage: str | float | None = "oas",
    weights: Float[ArrayLike, " n"] | None = None,
    *,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> Population:
    """Fit the priors and one distribution to every class-by-group cell.

    Cost O(n d^2) whatever the number of cells. Differentiable in `x` and `weights`;
    under ``jit`` give `n_classes` and `n_groups`.

    Args:
        x: ``[n]`` or ``[n, d]`` features, finite. Scales matter to `shrinkage`, which
            pulls toward a multiple of the identity: standardize columns first.
        label: ``[n]`` class codes 0..K-1.
        group: ``[n]`` group codes 0..G-1.
        family: "normal" (univariate for ``[n]``, full covariances for ``[n, d]``),
            "diagonal_normal" (independent features), or "lognormal" (the same as
            "normal" for ``log x``; `x` must be positive).
        shrinkage: Of full covariances: "oas", "ledoit-wolf", an intensity in [0, 1], or
            None. Variances alone are never shrunk.
        weights: ``[n]`` non-negative sample weights, or None for 1.
        n_classes: ``K``; None takes the largest code plus one.
        n_groups: ``G``; None takes the largest code plus one.

    Returns:
        The population; its conditionals have batch shape ``[K, G]``.

    Raises:
        ValueError: On lengths that differ, labels that are no codes, values that are
            not finite, empty cells, cells or columns without spread, and, without
            shrinkage, cells smaller than the dimension or collinear columns; the
            message names them. With shrinkage the last two are warnings.

    Example:
        >>> import numpy as np
        >>> x = np.array([0.0, 2.0, 1.0, 3.0, 5.0, 7.0, 4.0, 8.0])
        >>> pop = fit_population(x, np.repeat([0, 1], 4), np.array([0, 0, 1, 1] * 2))
        >>> pop.conditionals.loc.tolist()
        [[1.0, 2.0], [6.0, 6.0]]

    References:
        Priors are the cells' shares; moments are maximum likelihood, shrunk as asked.
    """
    check_choice("family", family, FAMILIES)
    shrinkage = check_shrinkage(shrinkage)
    check_same_length(x=x, label=label, group=group)
    if np.ndim(x) not in (1, 2):
        raise ValueError(f"x must have shape [n] or [n, d], got {np.shape(x)}.")
    rows = {"label": label, "group": group}
    if weights is not None:
        rows["weights"] = weights
    for name, values in rows.items():
        if np.ndim(values) != 1:
            raise ValueError(f"{name} must have shape [n], got {np.shape(values)}.")
    check_finite("x", x)
    n_classes = check_codes("label", label, n_classes)
    n_groups = check_codes("group", group, n_groups)
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
    moments = _moments(
        flat, jnp.asarray(label), jnp.asarray(group), weights, n_classes, n_groups
    )
    full = x.ndim == 2 and family != "diagonal_normal"
    if is_concrete(moments.cov):
        diagnose(moments, n_groups, full=full, shrinkage=shrinkage)
    cov = shrink(moments, shrinkage) if full else moments.cov
    d, cells = flat.shape[1], (n_classes, n_groups)
    mean, cov = moments.mean.reshape(*cells, d), cov.reshape(*cells, d, d)
    priors = (moments.mass / jnp.sum(moments.mass)).reshape(cells)
    return Population(priors, _conditionals(family, x.ndim, mean, cov))


def _conditionals(family: str, ndim: int, mean: Array, cov: Array) -> Any:
    if ndim == 1:
        base = Normal.from_moments(mean[..., 0], cov[..., 0, 0])
        return LogNormal(base.loc, base.scale) if family == "lognormal" else base
    if family == "diagonal_normal":
        return DiagonalNormal.from_moments(mean, cov)
    if family == "lognormal":
        return MultivariateLogNormal(mean, cov)
    return MultivariateNormal.from_moments(mean, cov)
