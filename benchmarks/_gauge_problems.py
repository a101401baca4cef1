"""Random problems of multivariate cells, easy and hard."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import jaxsteer as js


def unrelated(rng: np.random.Generator, k: int, d: int) -> tuple[np.ndarray, ...]:
    """Priors ``[k, 2]``, means and covariances with nothing in common between cells."""
    shape = (k, 2)
    priors = rng.dirichlet(2 * np.ones(2 * k)).reshape(shape)
    roots = rng.normal(size=(*shape, d, d)) / np.sqrt(d)
    cov = roots @ np.swapaxes(roots, -1, -2) + 0.3 * np.eye(d)
    return priors, rng.normal(size=(*shape, d)), cov


def related(rng: np.random.Generator, k: int, d: int) -> tuple[np.ndarray, ...]:
    """Groups that differ by an affine map and then a little by class, as real ones do."""
    priors = rng.dirichlet(20 * np.ones(2 * k)).reshape(k, 2)
    spread = np.exp(-np.linspace(0, 4, d))  # eigenvalues of real representations decay
    draws = rng.normal(size=(k, 6 * d, d)) * np.sqrt(spread)
    cov = np.swapaxes(draws, 1, 2) @ draws / (6 * d)
    mean = rng.normal(size=(k, d)) * np.sqrt(spread)
    turn = np.eye(d) + 0.3 * rng.normal(size=(d, d)) / np.sqrt(d)
    draws = rng.normal(size=(k, 6 * d, d)) @ np.linalg.cholesky(
        turn @ cov @ turn.T
    ).swapaxes(1, 2)
    other = np.swapaxes(draws, 1, 2) @ draws / (6 * d)
    shifted = mean @ turn.T + 0.1 * rng.normal(size=(k, d)) * np.sqrt(spread)
    return priors, np.stack([shifted, mean], 1), np.stack([other, cov], 1)


def population(
    parts: tuple[np.ndarray, ...], dtype: str | None = None
) -> js.Population:
    """A population of arrays."""
    priors, mean, cov = (jnp.asarray(part, dtype) for part in parts)
    return js.Population(priors, js.MultivariateNormal(mean, cov))
