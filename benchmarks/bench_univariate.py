"""A million univariate affirmative problems, and a hundred thousand all-groups ones.

Claim: each batch takes under one second on 2 cores after compilation, in float32.
SciPy solves a sample of the same problems one by one, to the same KL.

    python benchmarks/bench_univariate.py [--quick]
"""

from __future__ import annotations

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from _machine import describe, first_and_median, save
from scipy.optimize import minimize

import jaxsteer as js


def populations(n: int, seed: int) -> js.Population:
    """Random problems, two classes by two groups, batch axis first."""
    rng = np.random.default_rng(seed)
    priors = rng.dirichlet(2 * np.ones(4), n).reshape(n, 2, 2)
    loc = rng.normal(size=(n, 2, 2))
    scale = np.exp(0.3 * rng.normal(size=(n, 2, 2)))
    arrays = [jnp.asarray(a, jnp.float32) for a in (priors, loc, scale)]
    return js.Population(arrays[0], js.Normal(*arrays[1:]))


def scipy_kl(pop: js.Population, row: int, intervention: str) -> float:
    """Nearest ideal population of one problem by BFGS over its free parameters."""
    q = np.asarray(pop.priors[row], float)
    loc = np.asarray(pop.conditionals.loc[row], float)
    scale = np.asarray(pop.conditionals.scale[row], float)
    new = q.sum(1, keepdims=True) * q.sum(0)

    def kl(free):
        if intervention == "affirmative":
            mean, spread = loc[:, 1], scale[:, 1]
        else:
            mean, spread = free[2:4], np.exp(free[4:6])
        gain, shift = np.array([np.exp(free[0]), 1.0]), np.array([free[1], 0.0])
        means, spreads = gain * mean[:, None] + shift, gain * spread[:, None]
        cell = np.square(spreads / scale) - 1 - 2 * np.log(spreads / scale)
        cell = 0.5 * (cell + np.square((means - loc) / scale))
        return np.sum(new * (np.log(new / q) + cell))

    start = np.concatenate([[0.0, 0.0], loc[:, 1], np.log(scale[:, 1])])
    size = 2 if intervention == "affirmative" else 6
    return minimize(kl, start[:size], method="BFGS", options={"gtol": 1e-9}).fun


def measure(intervention: str, n: int, checked: int) -> dict:
    """Time one batch and the same problems in SciPy."""
    solve = jax.jit(
        jax.vmap(
            lambda pop: js.nearest_ideal(pop, intervention=intervention, reference=1)
        )
    )
    pops = populations(n, seed=0)
    first, median = first_and_median(lambda: solve(pops))
    found = solve(pops)
    start = time.perf_counter()
    reference = np.array([scipy_kl(pops, row, intervention) for row in range(checked)])
    each = (time.perf_counter() - start) / checked
    excess = np.asarray(found.kl[:checked]) - reference
    return {
        "problems": n,
        "first_call_s": first,
        "seconds": median,
        "microseconds_per_problem": 1e6 * median / n,
        "scipy_milliseconds_per_problem": 1e3 * each,
        "ratio": each * n / median,
        "converged_share": float(np.mean(np.asarray(found.converged))),
        "largest_kl_above_scipy": float(excess.max()),
        "largest_kl_below_scipy": float(-excess.min()),
    }


def main() -> None:
    """Measure and save."""
    small = 100 if "--quick" in sys.argv else 1
    figures = {
        "claim": "1e6 affirmative and 1e5 all-groups problems in under 1 s each",
        **describe("scipy"),
        "affirmative": measure("affirmative", 1_000_000 // small, 200 // small + 3),
        "all_groups": measure("all_groups", 100_000 // small, 200 // small + 3),
    }
    if small > 1:
        print(json.dumps(figures, indent=2))
    else:
        save("univariate", figures)


if __name__ == "__main__":
    main()
