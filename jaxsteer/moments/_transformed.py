"""Populations that are normal after a bijection fitted to all cells at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_cells, is_concrete
from jaxsteer._labels import cell_codes
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.families import TransformedNormal
from jaxsteer.maps import Bijection
from jaxsteer.moments._columns import cell_columns
from jaxsteer.moments._fit import fit_population
from jaxsteer.moments._free_bijection import free_numbers, with_free_numbers
from jaxsteer.population import Population
from jaxsteer.solvers import minimize_newton


def fit_transformed_population(
    x: Float[ArrayLike, " n"] | Float[ArrayLike, "n d"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    bijection: Bijection,
    *,
    weights: Float[ArrayLike, " n"] | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
    **options: Any,
) -> Population:
    """Fit a bijection that all cells share, and normal laws behind it.

    Every feature gets its own parameters of the bijection, by maximum likelihood of the
    feature alone with a normal law in each cell. Divergences and ideal programs do not
    see the bijection; the maps become ``forward . T . inverse``. Powers are kept between
    -2 and 4, and maps carry no row further out than half the data's range beyond the
    data (or than the row itself), where a power may end or race to infinity:
    :func:`jaxsteer.audit.cut_rows` counts the rows that were held back.

    Args:
        x: ``[n]`` or ``[n, d]`` features in the bijection's range.
        label: ``[n]`` class codes.
        group: ``[n]`` group codes.
        bijection: The first guess, with scalar parameters: a :class:`jaxsteer.maps.BoxCox`,
            :class:`jaxsteer.maps.YeoJohnson` or :class:`jaxsteer.maps.SinhArcsinh`; a
            :class:`jaxsteer.maps.RationalQuadraticSpline` with knots ``[m]``, whose
            values in `x` stay; or a :class:`jaxsteer.maps.Chain` of them and bijections
            without parameters. Standardize columns first for all but the first, which
            act around 0.
        weights: ``[n]`` non-negative weights, or None for 1.
        n_classes: ``K``; None takes the largest code plus one.
        n_groups: ``G``; None takes the largest code plus one.
        options: For :func:`jaxsteer.fit_population` (`shrinkage`, `covariance`, ...).

    Returns:
        A population of :class:`jaxsteer.TransformedNormal`. Cost 40 Newton steps of
        O(n d) each, and that of :func:`jaxsteer.fit_population`.

    Raises:
        ValueError: If values lie outside the bijection's range, the bijection has no
            rule to be fitted by or a power out of range, or as
            :func:`jaxsteer.fit_population`.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.maps import BoxCox
        >>> rng = np.random.default_rng(0)
        >>> code = rng.integers(0, 2, (2, 4000))
        >>> x = np.exp(rng.normal(size=4000) * 0.5 + code[0])
        >>> pop = fit_transformed_population(x, code[0], code[1], BoxCox(0.5))
        >>> abs(float(pop.conditionals.bijection.power)) < 0.1  # the logarithm
        True

    References:
        Box and Cox 1964, section 3, with one variance for each cell.
    """
    n_classes, n_groups = check_cells(x, label, group, n_classes, n_groups)
    x = jnp.asarray(x)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mass = jnp.ones(x.shape[0], x.dtype) if weights is None else jnp.asarray(weights)
    free = free_numbers(bijection, x.dtype)
    cell = jnp.asarray(cell_codes(label, group, n_groups))
    mass = mass.astype(x.dtype)

    def of_feature(column: Array):
        return _fit_feature(column, cell, mass, free, bijection, n_classes * n_groups)

    # One feature after the other: memory, and small factorizations, stay those of one.
    fitted = of_feature(x) if x.ndim == 1 else jax.lax.map(of_feature, x.T)
    z = fitted.inverse(x)
    if is_concrete(z) and not bool(jnp.all(jnp.isfinite(z))):
        raise ValueError(
            f"x has values outside the range of {type(bijection).__name__}; shift those "
            f"columns, or take jaxsteer.maps.YeoJohnson, which takes any value."
        )
    pop = fit_population(
        z,
        label,
        group,
        weights=weights,
        n_classes=n_classes,
        n_groups=n_groups,
        **options,
    )
    limits = _limits(x, z, mass, fitted)
    return Population(pop.priors, TransformedNormal(pop.conditionals, fitted, limits))


def _limits(
    x: Array, z: Array, weights: Array, bijection: Bijection
) -> tuple[Array, Array]:
    """Base coordinates of half the range beyond the data, or of the data's ends."""
    used = (weights > 0).reshape(-1, *[1] * (x.ndim - 1))

    def ends(values: Array):
        low = jnp.min(jnp.where(used, values, jnp.inf), 0)
        return low, jnp.max(jnp.where(used, values, -jnp.inf), 0)

    low, high = ends(x)
    margin = (high - low) / 2
    wide = bijection.inverse(low - margin), bijection.inverse(high + margin)
    # Where the margin leaves the data's domain, as at 0, the data end.
    return tuple(
        jnp.where(jnp.isfinite(far), far, own)
        for far, own in zip(wide, ends(z), strict=True)
    )  # pyright: ignore[reportReturnType]


def _fit_feature(
    x: Array, cell: Array, weights: Array, free: Array, like: Any, n_cells: int
) -> Any:
    """Maximize the likelihood of one feature, its cells' moments being the best ones."""

    def loss(free: Array, args: tuple[Array, Array]):
        x, weights = args
        bijection = with_free_numbers(free, like)
        z = bijection.inverse(x)
        columns = cell_columns(z[:, None], cell, n_cells, weights)
        spread = columns.variance[:, 0]
        used = (columns.mass > 0) & (spread > 0)
        logs = jnp.where(used, jnp.log(jnp.where(used, spread, 1.0)), 0.0)
        slope = jnp.sum(weights * bijection.log_slope(z))
        return (0.5 * jnp.sum(columns.mass * logs) + slope) / jnp.sum(weights)

    found = minimize_newton(loss, free[None], (x, weights), steps=40)
    return with_free_numbers(found.x, like)
