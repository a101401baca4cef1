"""How many rows a cell needs for a given gap: by simulation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Int, Key
from jaxsteer.audit._rates import bayes_rates
from jaxsteer.families import MultivariateNormal, Normal
from jaxsteer.ideal import nearest_ideal
from jaxsteer.linalg import cholesky, matmul, transpose
from jaxsteer.population import Population, check_population


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleSizeCurve:
    """What is left of the gaps after steering by maps that were fitted to samples.

    Attributes:
        rows_per_cell: ``[S]`` the sizes.
        gap: ``[S, R]`` the largest difference of a rate between groups, over the costs,
            in each simulation: on the true population moved by the fitted maps.
        raw_gap: ``[]`` the same before steering.
        failed: ``[S]`` simulations whose solve did not converge; their gap is NaN.
    """

    rows_per_cell: Int[Array, " S"]
    gap: Float[Array, "S R"]
    raw_gap: Float[Array, ""]
    failed: Int[Array, " S"]

    def quantile(self, q: float) -> Float[Array, " S"]:
        """A quantile over simulations, those that failed left out."""
        return jnp.nanquantile(self.gap, q, axis=1)

    def rows_needed(self, gap: float, q: float = 0.9) -> int | None:
        """The least of the sizes whose `q`-quantile lies below `gap`, or None."""
        enough = self.quantile(q) <= gap
        return int(self.rows_per_cell[jnp.argmax(enough)]) if enough.any() else None


def sample_size_curve(
    pop: Population,
    rows_per_cell: Sequence[int],
    costs: Float[Array, "C K K"],
    *,
    n_simulations: int = 100,
    key: Key[Array, ""] | None = None,
    n_points: int = 2**12,
    **options: Any,
) -> SampleSizeCurve:
    """Gaps that remain when the maps are fitted to a sample of each size.

    Each simulation draws the normal cells that maximum likelihood would fit to that
    many rows in every cell (from their law: the cost does not grow with the rows; the
    priors are the true ones), solves for the cell maps and applies them to the true
    cells. The gaps are those of the moved population's own Bayes rules, so 0 for maps
    without error.

    Args:
        pop: The truth: :class:`jaxsteer.Normal` or :class:`jaxsteer.MultivariateNormal`
            cells.
        rows_per_cell: Sizes, each above the number of features.
        costs: ``[C, K, K]`` matrices as for :func:`jaxsteer.bayes_rates`.
        n_simulations: Simulations of each size.
        key: Randomness; None is ``jax.random.key(0)``.
        n_points: Of the quasi-Monte Carlo, for multivariate cells.
        **options: For :func:`jaxsteer.nearest_ideal`.

    Returns:
        The curve. Cost ``S R`` solves with ``C`` rates each.

    Raises:
        ValueError: If the family or a size does not serve.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> cells = js.Normal(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.ones((2, 2)))
        >>> pop = js.Population(jnp.full((2, 2), 0.25), cells)
        >>> even = jnp.array([[[0.0, 1.0], [1.0, 0.0]]])
        >>> curve = sample_size_curve(pop, [20, 2000], even, n_simulations=10)
        >>> bool(curve.quantile(0.5)[0] > 3 * curve.quantile(0.5)[1])
        True
    """
    check_population(pop)
    if not isinstance(pop.conditionals, Normal | MultivariateNormal):
        raise ValueError(
            "pop must have Normal or MultivariateNormal cells, got "
            f"{type(pop.conditionals).__name__}; strip a shared bijection, which changes "
            "no rate."
        )
    d = 1 if isinstance(pop.conditionals, Normal) else pop.conditionals.mean.shape[-1]
    if not rows_per_cell or min(rows_per_cell) <= d:
        raise ValueError(
            f"rows_per_cell={list(rows_per_cell)!r} must be sizes above {d}, the number "
            "of features."
        )
    costs = jnp.asarray(costs, pop.priors.dtype)
    if costs.ndim != 3:
        raise ValueError(f"costs must have shape [C, K, K], got {list(costs.shape)}.")
    key = jax.random.key(0) if key is None else key
    frozen = tuple(sorted(options.items()))
    keys = jax.random.split(key, (len(rows_per_cell), n_simulations))
    sizes = jnp.asarray(rows_per_cell, pop.priors.dtype)
    gap, failed = _simulate(pop, costs, keys, sizes, n_points, frozen)
    return SampleSizeCurve(
        rows_per_cell=jnp.asarray(rows_per_cell),
        gap=gap,
        raw_gap=largest_gap(pop, costs, n_points),
        failed=jnp.sum(failed, 1),
    )


def largest_gap(pop: Population, costs: Array, n_points: int) -> Float[Array, ""]:
    """The largest difference of a Bayes rule's rates between groups, over the costs."""

    def one(cost: Array):
        return jnp.max(bayes_rates(pop, cost, n_points=n_points).rate_gaps)

    return jnp.max(jax.lax.map(one, costs))


@partial(jax.jit, static_argnums=(4, 5))
def _simulate(
    pop: Population,
    costs: Array,
    keys: Array,
    sizes: Array,
    n_points: int,
    options: tuple[tuple[str, Any], ...],
) -> tuple[Array, ...]:
    """Gaps and failures ``[S, R]`` for keys ``[S, R]`` and sizes ``[S]``."""

    def one(key: Array, n: Array):
        fitted = Population(pop.priors, draw_fit(key, pop.conditionals, n))
        found = nearest_ideal(fitted, **dict(options))
        cells: Any = pop.conditionals
        moved = cells.pushforward(found.cell_maps)
        gap = largest_gap(Population(found.target.priors, moved), costs, n_points)
        return jnp.where(found.status == 0, gap, jnp.nan), found.status != 0

    shape = keys.shape[:2]
    flat = (keys.reshape(-1), jnp.repeat(sizes, shape[1]))
    found = jax.lax.map(lambda pair: one(*pair), flat)
    return tuple(part.reshape(shape) for part in found)


def draw_fit(key: Key[Array, ""], cells: Any, n: Float[Array, ""]) -> Any:
    """Draw what a maximum-likelihood fit to `n` rows of every cell gives.

    Its law is known, so no row need be drawn: the mean is ``N(m, C / n)`` and the
    covariance, independent of it, ``Wishart(C, n - 1) / n``, here by Bartlett's
    decomposition.
    """
    one_feature = isinstance(cells, Normal)
    if one_feature:
        mean, root = cells.loc[..., None], cells.scale[..., None, None]
    else:
        mean, root = cells.mean, cholesky(cells.cov)
    keys = jax.random.split(key, 3)
    dtype, d = mean.dtype, mean.shape[-1]
    noise = jax.random.normal(keys[0], (*mean.shape, 1), dtype)
    below = jnp.tril(jax.random.normal(keys[1], root.shape, dtype), -1)
    freedom = n - 1 - jnp.arange(d, dtype=dtype)
    squares = jax.random.chisquare(keys[2], freedom, mean.shape, dtype)
    spread = below + jnp.sqrt(squares)[..., None] * jnp.eye(d, dtype=dtype)
    factor = matmul(root, spread) / jnp.sqrt(n)
    mean = mean + matmul(root, noise)[..., 0] / jnp.sqrt(n)
    if one_feature:
        return Normal(mean[..., 0], factor[..., 0, 0])
    return MultivariateNormal(mean, matmul(factor, transpose(factor)))
