"""Random problems, their brute-force solution, and an independent check of fairness."""

from __future__ import annotations

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, ndtr

import jaxsteer as js


def random_univariate(
    rng: np.random.Generator, n_classes: int, n_groups: int
) -> js.Population:
    shape = (n_classes, n_groups)
    priors = rng.dirichlet(2 * np.ones(n_classes * n_groups)).reshape(shape)
    scale = np.exp(0.4 * rng.normal(size=shape))
    cells = js.Normal(jnp.asarray(1.5 * rng.normal(size=shape)), jnp.asarray(scale))
    return js.Population(jnp.asarray(priors), cells)


def random_multivariate(
    rng: np.random.Generator, n_classes: int, n_groups: int, d: int, *, tied: bool
) -> js.Population:
    shape = (n_classes, n_groups)
    priors = rng.dirichlet(2 * np.ones(n_classes * n_groups)).reshape(shape)
    roots = rng.normal(size=(*shape, d, d)) / np.sqrt(d)
    if tied:
        roots = np.broadcast_to(roots[:1], roots.shape)
    cov = roots @ np.swapaxes(roots, -1, -2) + 0.3 * np.eye(d)
    mean = rng.normal(size=(*shape, d))
    return js.Population(
        jnp.asarray(priors), js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    )


def random_direction(rng: np.random.Generator, pop: js.Population) -> list:
    """A change of every leaf, symmetric for covariances."""
    steps = [rng.normal(size=leaf.shape) * 0.1 for leaf in jax.tree.leaves(pop)]
    steps = [s + np.swapaxes(s, -1, -2) if s.ndim == 4 else s for s in steps]
    return [jnp.asarray(step) for step in steps]


def along(pop: js.Population, t: float, direction: list) -> js.Population:
    """The population, a little on along a direction of all its parameters."""
    leaves, tree = jax.tree.flatten(pop)
    moved = [leaf + t * step for leaf, step in zip(leaves, direction, strict=True)]
    return jax.tree.unflatten(tree, moved)


def new_priors(q: np.ndarray, mode: str, reference: int) -> np.ndarray:
    if mode == "keep":
        return q
    if mode == "reference":
        return np.outer(q[:, reference] / q[:, reference].sum(), q.sum(0))
    return np.outer(q.sum(1), q.sum(0))


def brute_force_kl(
    pop: js.Population,
    intervention: str,
    priors: str,
    reference: int,
    *,
    allow_reflection: bool,
    starts: int,
    rng: np.random.Generator,
) -> float:
    """Least KL over template, gains, shifts (and shares) by BFGS from random starts."""
    q = np.asarray(pop.priors, float)
    loc = np.asarray(pop.conditionals.loc, float)
    scale = np.asarray(pop.conditionals.scale, float)
    k, g = q.shape
    others = [a for a in range(g) if a != reference]
    sizes = [k, k] if intervention == "all_groups" else [0, 0]
    sizes += [g - 1, g - 1] + ([k, g] if priors == "joint" else [0, 0])
    ends = np.cumsum(sizes)[:-1]

    def objective(free, sign):
        """The divergence and its gradient."""
        mean, log_spread, log_gain, move, share, size = np.split(free, ends)
        moved = intervention != "affirmative"
        if not moved:
            mean, log_spread = loc[:, reference], np.log(scale[:, reference])
        gain, shift = np.ones(g), np.zeros(g)
        gain[others], shift[others] = sign * np.exp(np.clip(log_gain, -50, 50)), move
        w = (
            new_priors(q, priors, reference)
            if priors != "joint"
            else np.exp(log_softmax(share)[:, None] + log_softmax(size))
        )
        spread = np.abs(gain) * np.exp(np.clip(log_spread, -50, 50))[:, None]
        ratio = spread / scale
        distance = (gain * mean[:, None] + shift - loc) / scale
        cells = 0.5 * (ratio**2 - 1 - 2 * np.log(ratio) + distance**2)
        logs = np.log(np.maximum(w, 1e-300) / q)
        by_log, by_loc = w * (ratio**2 - 1), w * distance / scale
        by_gain = np.sum(by_log + by_loc * gain * mean[:, None], 0)
        slopes = [by_gain[others], by_loc.sum(0)[others]]
        if moved:
            slopes = [(by_loc * gain).sum(1), by_log.sum(1), *slopes]
        if priors == "joint":
            by_weight = w * (logs + cells + 1)
            by_share, by_size = by_weight.sum(1), by_weight.sum(0)
            total = by_weight.sum()
            slopes += [by_share - w.sum(1) * total, by_size - w.sum(0) * total]
        return np.sum(w * (logs + cells)), np.concatenate(slopes)

    signs = product((1, -1), repeat=g - 1) if allow_reflection else [(1,) * (g - 1)]
    best = np.inf
    for sign in signs:
        for _ in range(starts):
            start = rng.normal(size=sum(sizes))
            found = minimize(
                objective,
                start,
                (np.array(sign),),
                "BFGS",
                True,
                options={"gtol": 1e-8},
            )
            best = min(best, found.fun)
    return best


def orbit_residual(pop: js.Population, reference: int = 0) -> float:
    """Largest violation of the paper's three conditions, univariate, up to reflection.

    Condition 1 and 2: standardized mean differences and ratios of scales between
    classes are the same in all groups; condition 3: so are the ratios of priors.
    """
    loc, scale = pop.conditionals.loc, pop.conditionals.scale
    differences = (loc - loc[:1]) / scale[:1]
    own = differences[:, reference, None]
    mirrored = jnp.minimum(
        jnp.max(jnp.abs(differences - own), 0), jnp.max(jnp.abs(differences + own), 0)
    )
    ratios = scale / scale[:1]
    priors = pop.priors / pop.priors[:1]
    return max(
        float(jnp.max(mirrored)),
        float(jnp.max(jnp.abs(ratios - ratios[:, reference, None]))),
        float(jnp.max(jnp.abs(priors / priors[:, reference, None] - 1))),
    )


def bayes_rates(pop: js.Population, cost_ratio: float) -> np.ndarray:
    """TPR, FPR and selection rate ``[3, G]`` of the Bayes rule for two classes.

    The rule predicts 1 where ``q_1 f_1 > cost_ratio q_0 f_0``; the boundary solves a
    quadratic, so that the rates are exact.
    """
    q, loc, scale = (
        np.asarray(a, float)
        for a in (pop.priors, pop.conditionals.loc, pop.conditionals.scale)
    )
    rates = np.zeros((3, q.shape[1]))
    for a in range(q.shape[1]):
        (m0, m1), (s0, s1) = loc[:, a], scale[:, a]
        square = 0.5 / s0**2 - 0.5 / s1**2
        linear = m1 / s1**2 - m0 / s0**2
        constant = 0.5 * m0**2 / s0**2 - 0.5 * m1**2 / s1**2 + np.log(s0 / s1)
        constant += np.log(q[1, a] / q[0, a]) - np.log(cost_ratio)
        coefficients = [square, linear, constant]
        while len(coefficients) > 1 and abs(coefficients[0]) < 1e-9 / s0**2:
            coefficients = coefficients[1:]
        roots = np.roots(coefficients)
        cuts = np.sort(roots[np.isreal(roots)].real)
        points = np.concatenate([[-np.inf], cuts, [np.inf]])
        inside = np.concatenate(
            [points[1:2] - 1, (points[1:-2] + points[2:-1]) / 2, points[-2:-1] + 1]
        )
        if len(cuts) == 0:
            inside = np.zeros(1)
        chosen = np.polyval(coefficients, inside) > 0
        for row, (m, s) in enumerate([(m1, s1), (m0, s0)]):
            mass = np.diff(ndtr((points - m) / s))
            rates[row, a] = mass[chosen].sum()
        share = q[:, a] / q[:, a].sum()
        rates[2, a] = share[1] * rates[0, a] + share[0] * rates[1, a]
    return rates
