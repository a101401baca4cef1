"""How far the rows of each cell are from normal."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_cells
from jaxsteer._labels import cell_codes
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, DTypeLike, Float, Int, Key
from jaxsteer.linalg import cholesky, whiten

# Beyond so many rows the null distribution of the scaled distance no longer changes.
LARGEST_NULL = 1000


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalityCheck:
    """Statistics of each cell and their p-values under a normal law.

    NaN in cells of too few rows (fewer than ``d + 2``) or of singular covariance.

    Attributes:
        count: ``[K, G]`` rows.
        skewness: ``[K, G]`` Mardia's multivariate skewness, 0 for a normal law.
        skewness_p: ``[K, G]`` its p-value (chi-square).
        kurtosis: ``[K, G]`` Mardia's multivariate kurtosis, ``d (d + 2)`` for a normal
            law.
        kurtosis_p: ``[K, G]`` its two-sided p-value (normal).
        distance: ``[K, G, d]`` Kolmogorov-Smirnov distances of the columns from normal
            laws with their own mean and deviation.
        distance_p: ``[K, G, d]`` their p-values, by simulation: the usual ones would be
            too large, as mean and deviation are estimated.
    """

    count: Int[Array, "K G"]
    skewness: Float[Array, "K G"]
    skewness_p: Float[Array, "K G"]
    kurtosis: Float[Array, "K G"]
    kurtosis_p: Float[Array, "K G"]
    distance: Float[Array, "K G d"]
    distance_p: Float[Array, "K G d"]

    def rejected(self, level: float = 0.05) -> Array:
        """Cells that are not normal, ``[K, G]``, at a level shared by all the tests."""
        k, g, d = self.distance_p.shape
        share = level / (k * g * (d + 2))
        columns = jnp.any(self.distance_p < share, -1)
        return (self.skewness_p < share) | (self.kurtosis_p < share) | columns


def check_normality(
    x: Float[ArrayLike, " n"] | Float[ArrayLike, "n d"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    *,
    n_simulations: int = 2000,
    key: Key[Array, ""] | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> NormalityCheck:
    """Test every cell for normality: Mardia's statistics and each column's distance.

    With many rows a test rejects what does no harm: see
    :func:`jaxsteer.audit.family_sensitivity` for what depends on it.

    Args:
        x: ``[n]`` or ``[n, d]`` features.
        label: ``[n]`` class codes.
        group: ``[n]`` group codes.
        n_simulations: Samples behind the p-values of the distances, which are at least
            ``1 / (n_simulations + 1)``.
        key: Their randomness; None is ``jax.random.key(0)``.
        n_classes: ``K``; None takes the largest code plus one.
        n_groups: ``G``; None takes the largest code plus one.

    Returns:
        The statistics. Concrete arrays only (cells are taken out one by one). Cost
        O(n d^3), or O(n^2 d) for a cell where that is less.

    Raises:
        ValueError: If lengths differ, or values or codes are unusable.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(400, 2))
        >>> x[:200, 1] = np.exp(x[:200, 1])
        >>> label = np.repeat([0, 1], 200)
        >>> found = check_normality(x, label, np.zeros(400, int), n_simulations=999)
        >>> found.rejected()[:, 0].tolist()
        [True, False]

    References:
        Mardia 1970; Lilliefors 1967, with the scaling of Stephens 1974.
    """
    n_classes, n_groups = check_cells(x, label, group, n_classes, n_groups)
    x = jnp.asarray(x)
    x = (x[:, None] if x.ndim == 1 else x).astype(jnp.promote_types(x.dtype, "float32"))
    key = jax.random.key(0) if key is None else key
    cell = np.asarray(cell_codes(label, group, n_groups))
    nulls: dict[int, Array] = {}
    rows = []
    for code in range(n_classes * n_groups):
        mine = x[np.flatnonzero(cell == code)]
        size = min(len(mine), LARGEST_NULL)
        if size not in nulls and size > 2:
            nulls[size] = _null_distances(key, size, n_simulations, x.dtype)
        rows.append(_one_cell(mine, nulls.get(size)))
    stacked = [jnp.stack(parts) for parts in zip(*rows, strict=True)]
    shaped = [leaf.reshape(n_classes, n_groups, *leaf.shape[1:]) for leaf in stacked]
    names = [field.name for field in dataclasses.fields(NormalityCheck)]
    return NormalityCheck(**dict(zip(names, shaped, strict=True)))


def _one_cell(x: Float[Array, "n d"], null: Array | None) -> tuple[Array, ...]:
    n, d = x.shape
    nan = jnp.full((), jnp.nan, x.dtype)
    if n < d + 2 or null is None:
        nothing = jnp.full(d, jnp.nan, x.dtype)
        return jnp.asarray(n), nan, nan, nan, nan, nothing, nothing
    centered = x - jnp.mean(x, 0)
    cov = centered.T @ centered / n
    z = whiten(cholesky(cov), centered.T).T

    skewness = _mean_cubed_products(z)
    freedom = d * (d + 1) * (d + 2) / 6
    skewness_p = jax.scipy.stats.chi2.sf(n * skewness / 6, freedom)
    kurtosis = jnp.mean(jnp.sum(z * z, 1) ** 2)
    score = (kurtosis - d * (d + 2)) / (8 * d * (d + 2) / n) ** 0.5
    kurtosis_p = 2 * jax.scipy.stats.norm.sf(jnp.abs(score))

    distance = _distances(x.T)
    scaled = distance * _scaling(n)
    beyond = jnp.sum(null >= scaled[:, None], 1)
    distance_p = (1 + beyond) / (1 + len(null))
    distance_p = jnp.where(jnp.isfinite(distance), distance_p, jnp.nan)
    return (
        *(jnp.asarray(n), skewness, skewness_p, kurtosis, kurtosis_p),
        *(distance, distance_p.astype(x.dtype)),
    )


def _mean_cubed_products(z: Float[Array, "n d"]) -> Float[Array, ""]:
    """``mean_ij (z_i . z_j)^3``, from products of columns where there are fewer."""
    n, d = z.shape
    if d * d > n:
        return jnp.mean((z @ z.T) ** 3)
    third = (z[:, :, None] * z[:, None, :]).reshape(n, -1).T @ z / n
    return jnp.sum(third * third)


def _distances(x: Float[Array, "... n"]) -> Float[Array, "..."]:
    """Kolmogorov-Smirnov distance from the normal law of the same mean and deviation."""
    n = x.shape[-1]
    spread = jnp.std(x, -1, keepdims=True, ddof=1)
    z = jnp.sort((x - jnp.mean(x, -1, keepdims=True)) / spread, -1)
    share = jax.scipy.stats.norm.cdf(z)
    steps = jnp.arange(n + 1) / n
    above, below = jnp.max(steps[1:] - share, -1), jnp.max(share - steps[:-1], -1)
    return jnp.maximum(above, below)


def _scaling(n: int) -> float:
    """What makes the null distribution of the distance the same for all sizes."""
    return n**0.5 - 0.01 + 0.85 / n**0.5


def _null_distances(key: Array, n: int, n_simulations: int, dtype: DTypeLike) -> Array:
    """Scaled distances of normal samples, a few hundred at a time."""
    keys = jax.random.split(key, n_simulations)

    def one(own: Array):
        return _distances(jax.random.normal(own, (n,), dtype))

    return jax.lax.map(one, keys, batch_size=256) * _scaling(n)
