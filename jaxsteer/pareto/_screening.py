"""Where to start: points of the simplex, judged on a sample of the rows."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.pareto._hypergradient import Problem, smooth_metric
from jaxsteer.pareto._lower_level import fit_weighted

FAR = 0.4  # group weights that differ by more are likely in another basin


def starting_points(count: int, n_groups: int) -> np.ndarray:
    """Points of the simplex: its middle, its corners if they all fit, then any.

    ``[count, G]``; for two groups evenly spaced.
    """
    if n_groups == 2:
        first = np.linspace(0, 1, count) if count > 1 else np.full(1, 0.5)
        return np.stack([first, 1 - first], 1)
    corners = np.eye(n_groups if count > n_groups else 0, n_groups)
    middle = np.full((1, n_groups), 1 / n_groups)
    random = np.random.default_rng(0).dirichlet(np.ones(n_groups), count)
    return np.concatenate([middle, corners, random])[:count]


def sample_of(problem: Problem, rows: int) -> Problem:
    """The same problem on a sample, with the same number of rows of every group."""
    data = problem.data
    size = max(rows // data.n_groups, 1)
    if size * data.n_groups >= data.target.shape[0]:
        return problem
    sample = data.batch(size, jnp.zeros_like(data.count))
    return dataclasses.replace(problem, data=sample)


def best_starts(
    problem: Problem, theta: Float[Array, " p"], *, count: int, rows: int
) -> Float[Array, "2 G"]:
    """Return the best of `count` starting points and the best one far from it.

    They are judged on a sample, so the second may be the better one: judge both on all
    rows.
    """
    points = starting_points(count, problem.data.n_groups)
    points = jnp.asarray(points, theta.dtype)
    sample = sample_of(problem, rows)

    def value(point):
        fit = fit_weighted(sample.model, sample.data, point, theta)
        return smooth_metric(fit.theta, sample)

    values = jax.vmap(value)(points)
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    best = points[jnp.argmin(values)]
    far = jnp.max(jnp.abs(points - best), 1) > FAR
    other = points[jnp.argmin(jnp.where(far, values, jnp.inf))]
    return jnp.stack([best, other])
