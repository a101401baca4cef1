"""How sure a steering is: intervals for whatever is computed from fitted rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_cells, check_choice
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Int, Key, PyTree
from jaxsteer.ideal import nearest_ideal
from jaxsteer.moments import fit_population
from jaxsteer.steering import Steering

METHODS = ("delta", "bootstrap")


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """A statistic of a steering with its sampling error; each field is like it.

    Attributes:
        estimate: The statistic on all rows.
        standard_error: Its standard error.
        low: Lower end of the interval.
        high: Upper end.
    """

    estimate: Any
    standard_error: Any
    low: Any
    high: Any


def kl_and_maps(steering: Steering) -> dict[str, Any]:
    """The default statistic: the divergences and the group maps' leaves."""
    return {
        "kl": steering.kl,
        "feature_kl": steering.feature_kl,
        "maps": jax.tree.leaves(steering.group_maps),
    }


def steering_uncertainty(
    x: Float[ArrayLike, " n"] | Float[ArrayLike, "n d"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    statistic: Callable[[Steering], PyTree] = kl_and_maps,
    *,
    method: str = "delta",
    level: float = 0.95,
    n_resamples: int = 200,
    key: Key[Array, ""] | None = None,
    family: str = "normal",
    shrinkage: str | float | None = None,
    **options: Any,
) -> Uncertainty:
    """Intervals for the divergence, the maps or any gap of a steering.

    The statistic is a function of the rows' weights, through ``fit_population`` and
    ``nearest_ideal``. "delta" differentiates it: each row's influence is the derivative
    with respect to its weight, and the variance the sum of their squares (the
    infinitesimal jackknife). "bootstrap" solves again under random exponential weights,
    which leave no cell empty.

    Args:
        x: ``[n]`` or ``[n, d]`` features.
        label: ``[n]`` class codes.
        group: ``[n]`` group codes.
        statistic: From a steering to a pytree of arrays; must be differentiable for
            "delta", such as ``lambda s: js.bayes_rates(s.source).rate_gaps``. Compiled
            once for each function object.
        method: "delta" or "bootstrap".
        level: Coverage of the interval; normal for "delta", percentile for "bootstrap".
        n_resamples: Solves of the bootstrap.
        key: Its randomness; None is ``jax.random.key(0)``.
        family: As for :func:`jaxsteer.fit_population`.
        shrinkage: Likewise. Its intensity varies with the weights, as the moments do.
        **options: For :func:`jaxsteer.nearest_ideal`.

    Returns:
        Estimate, standard error and ends. Where the estimate sits on a bound (a
        divergence of nearly 0) both are too optimistic on one side. Cost of "delta" one
        backward pass for each number of the statistic, O(n d^2) each; of "bootstrap"
        `n_resamples` fits and solves.

    Raises:
        ValueError: On unknown options or unusable rows.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, (2, 500))
        >>> x = rng.normal(label * (1.0 + group))
        >>> found = steering_uncertainty(x, label, group, lambda s: s.kl)
        >>> bool(found.low < found.estimate < found.high)
        True

    References:
        Jaeckel 1972 and Efron 1982, the infinitesimal jackknife; Rubin 1981, the
        Bayesian bootstrap.
    """
    check_choice("method", method, METHODS)
    if not 0 < level < 1:
        raise ValueError(f"level={level!r} must lie between 0 and 1.")
    if not (isinstance(n_resamples, int) and n_resamples > 1):
        raise ValueError(f"n_resamples={n_resamples!r} must be a whole number above 1.")
    n_classes, n_groups = check_cells(x, label, group)
    # One reference for all resamples: the largest group of each would not be the same.
    sizes_of_groups = np.bincount(np.asarray(group), minlength=n_groups)
    options.setdefault("reference", int(np.argmax(sizes_of_groups)))
    x = jnp.asarray(x)
    x = x.astype(jnp.promote_types(x.dtype, "float32"))
    label, group = jnp.asarray(label), jnp.asarray(group)

    fit = {"family": family, "shrinkage": shrinkage}
    fit |= {"n_classes": n_classes, "n_groups": n_groups}
    how = _How(
        statistic=statistic,
        fit=tuple(sorted(fit.items())),
        options=tuple(sorted(options.items())),
    )
    if method == "delta":
        return _delta(x, label, group, how, level)
    key = jax.random.key(0) if key is None else key
    return _bootstrap(x, label, group, how, level, jax.random.split(key, n_resamples))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _How:
    """From weighted rows to the statistic; hashable, so that each is compiled once."""

    statistic: Callable[[Steering], PyTree]
    fit: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, Any], ...]

    def __call__(self, weights: Array, x: Array, label: Array, group: Array) -> Any:
        pop = fit_population(x, label, group, weights=weights, **dict(self.fit))
        return self.statistic(nearest_ideal(pop, **dict(self.options)))


@partial(jax.jit, static_argnames=("how", "level"))
def _delta(
    x: Array, label: Array, group: Array, how: _How, level: float
) -> Uncertainty:
    def solve(weights: Array):
        return how(weights, x, label, group)

    ones = jnp.ones(len(x), x.dtype)
    estimate, slopes = solve(ones), jax.jacrev(solve)(ones)

    def error(slope: Array):
        # Weights that all grow alike must not count as a change.
        centered = slope - jnp.mean(slope, -1, keepdims=True)
        return jnp.sqrt(jnp.sum(centered * centered, -1))

    spread = jax.tree.map(error, slopes)
    reach = NormalDist().inv_cdf((1 + level) / 2)
    return Uncertainty(
        estimate=estimate,
        standard_error=spread,
        low=jax.tree.map(lambda v, s: v - reach * s, estimate, spread),
        high=jax.tree.map(lambda v, s: v + reach * s, estimate, spread),
    )


@partial(jax.jit, static_argnames=("how", "level"))
def _bootstrap(
    x: Array, label: Array, group: Array, how: _How, level: float, keys: Array
) -> Uncertainty:
    def resample(key: Array):
        weights = jax.random.exponential(key, (len(x),), x.dtype)
        return how(weights / jnp.mean(weights), x, label, group)

    drawn = jax.lax.map(resample, keys)
    tail = np.array([(1 - level) / 2, (1 + level) / 2])
    ends = jax.tree.map(lambda v: jnp.quantile(v, tail, axis=0), drawn)
    return Uncertainty(
        estimate=how(jnp.ones(len(x), x.dtype), x, label, group),
        standard_error=jax.tree.map(lambda v: jnp.std(v, 0, ddof=1), drawn),
        low=jax.tree.map(lambda v: v[0], ends),
        high=jax.tree.map(lambda v: v[1], ends),
    )
