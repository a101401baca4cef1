"""Claim: low-rank covariances solve several times faster than the same ones in full.

28 classes, 2 groups, 256 features, covariances of a diagonal plus 8 directions, in
float32: the kinds of maps "positive_definite" and "general" on
:class:`jaxsteer.LowRankNormal` cells against
the same cells as :class:`jaxsteer.MultivariateNormal`, whose programs take the same
steps with full matrices. Times are medians after compilation (the first call beside
them) and cover the whole of :func:`jaxsteer.nearest_ideal`, its divergences included,
which are O(d^3) for both; one gradient of the objective alone is timed beside them.

    python benchmarks/bench_low_rank.py            # prints and writes the results
    python benchmarks/bench_low_rank.py --quick    # small, prints only: does it run?
"""

from __future__ import annotations

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
from _machine import describe, first_and_median, save

import jaxsteer as js
from jaxsteer.ideal._affirmative_objective import affirmative_objective

MAPS = ("positive_definite", "general")


def problem(n_classes, d, rank, seed=0):
    """Draw two groups whose classes resemble each other, as in fitted populations."""
    rng = np.random.default_rng(seed)

    def alike(*shape):
        common = rng.normal(size=(n_classes, 1, *shape))
        return jnp.asarray(common + 0.3 * rng.normal(size=(n_classes, 2, *shape)))

    # Classes about 6 deviations apart, directions of 10 times the other variance.
    mean, factor = alike(d) * (18 / d) ** 0.5, alike(d, rank) * (10 / d) ** 0.5
    cells = js.LowRankNormal(mean, factor, jnp.exp(0.3 * alike(d)))
    priors = rng.dirichlet(10 * np.ones(2 * n_classes)).reshape(n_classes, 2)
    return js.Population(jnp.asarray(priors), cells)


def solved(pop, maps, repeats):
    """Time the solve; report how it ended."""
    found = []

    def run():
        found[:] = [js.nearest_ideal(pop, maps=maps, reference=1)]
        return found[0].kl

    first, median = first_and_median(run, repeats)
    return {
        "run_s": median,
        "first_call_s": first,
        "steps": int(found[0].steps),
        "status": js.Status(int(found[0].status)).name,
        "residual": float(found[0].residual),
        "kl": float(found[0].kl),
    }


@jax.jit
def gradients(pop, x):
    """A hundred gradients of the objective, one after another."""
    own = jax.tree.map(lambda leaf: leaf[:, 0], pop.conditionals)
    home = jax.tree.map(lambda leaf: leaf[:, 1], pop.conditionals)
    objective = affirmative_objective(own, home, pop.priors[:, 0])

    def step(x, _):
        return x - 1e-6 * objective.gradient(x), None

    return jax.lax.scan(step, x, None, length=100)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    quick = parser.parse_args().quick
    n_classes, d, rank, repeats = (3, 12, 2, 1) if quick else (28, 256, 8, 3)
    low = problem(n_classes, d, rank)
    pops = {
        "low_rank": low,
        "dense": js.Population(low.priors, low.conditionals.to_dense()),
    }
    start = jnp.eye(d)[None]
    report = {
        **describe(),
        "dtype": str(low.conditionals.mean.dtype),
        "problem": {"classes": n_classes, "groups": 2, "features": d, "rank": rank},
    }
    seconds = {
        name: first_and_median(lambda pop=pop: gradients(pop, start), repeats)[1] / 100
        for name, pop in pops.items()
    }
    ratio = seconds["dense"] / seconds["low_rank"]
    report["gradient_s"] = {**seconds, "times_faster": ratio}
    for maps in MAPS:
        part = {name: solved(pop, maps, repeats) for name, pop in pops.items()}
        ratio = part["dense"]["run_s"] / part["low_rank"]["run_s"]
        report[maps] = {**part, "times_faster": ratio}
    if quick:
        print(json.dumps(report, indent=2))
    else:
        save("low_rank", report)


if __name__ == "__main__":
    main()
