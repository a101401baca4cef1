"""Independent ways to the rates of a rule, in NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp, ndtri
from scipy.stats import norm

import jaxsteer as js

COSTS = (1e-3, 1e-2, 0.1, 1.0, 10.0, 1e2, 1e3)


def ratio_cost(ratio: float) -> np.ndarray:
    return np.array([[0.0, 1.0], [ratio, 0.0]])


def numpy_rule(pop: js.Population, cost: np.ndarray, kind: str) -> Callable:
    """The Bayes rule of univariate normals, on points ``[n]`` of a group."""
    q, loc, scale = (
        np.asarray(leaf, float)[..., None]
        for leaf in (pop.priors, pop.conditionals.loc, pop.conditionals.scale)
    )

    def rule(x, a):
        log_joint = np.log(q) + norm.logpdf(x, loc, scale)
        mine = log_joint[:, a] if kind == "group_aware" else logsumexp(log_joint, 1)
        posterior = np.exp(mine - logsumexp(mine, 0))
        return np.argmin(np.asarray(cost) @ posterior, 0)

    return rule


def rates_by_quantiles(
    pop: js.Population, rule: Callable, points: int = 100_001
) -> np.ndarray:
    """Rates ``[K, K, G]`` over equally likely points of every cell; good to 1e-4."""
    z = ndtri((np.arange(points) + 0.5) / points)
    loc = np.asarray(pop.conditionals.loc, float)
    scale = np.asarray(pop.conditionals.scale, float)
    k, g = loc.shape
    rates = np.zeros((k, k, g))
    for i in range(k):
        for a in range(g):
            chosen = rule(loc[i, a] + scale[i, a] * z, a)
            rates[:, i, a] = np.bincount(chosen, minlength=k) / points
    return rates


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Logistic:
    """A family without ``cdf``, to be integrated by nodes."""

    loc: jax.Array
    scale: jax.Array

    @property
    def mean(self):
        return self.loc

    @property
    def cov(self):
        return (jnp.pi * self.scale) ** 2 / 3

    def log_prob(self, x):
        z = (x - self.loc) / self.scale
        return -z - 2 * jax.nn.softplus(-z) - jnp.log(self.scale)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Waiting:
    """Exponential laws without ``cdf``: their density ends at 0."""

    rate: jax.Array

    @property
    def mean(self):
        return 1 / self.rate

    @property
    def cov(self):
        return 1 / self.rate**2

    def log_prob(self, x):
        return jnp.where(x >= 0, jnp.log(self.rate) - self.rate * x, -jnp.inf)
