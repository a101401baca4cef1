"""How often the search for general maps ends at the best of 64 random starts.

200 random problems of 2 to 12 features and 2 to 6 classes, whose groups are related (one
is nearly an affine image of the other) or not, in float64. Every random start is followed
to its end by the same Newton steps. Run:

    python benchmarks/bench_search_quality.py [--problems N] [--quick]
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from _machine import describe, save  # noqa: E402

import jaxsteer as js  # noqa: E402
from jaxsteer.ideal._affirmative_objective import affirmative_objective  # noqa: E402
from jaxsteer.ideal._matrix_programs import (  # noqa: E402
    SearchOptions,
    solve_matrices,
)
from jaxsteer.solvers import Job, MatrixNewton  # noqa: E402

STARTS = 64
SIZES = ((2, 2), (3, 3), (5, 2), (5, 4), (8, 3), (12, 2), (12, 6))  # features, classes


def problem(rng, d, k, related):
    half = rng.normal(size=(k, 2, d, 2 * d)) / np.sqrt(2 * d)
    cov = half @ half.swapaxes(-1, -2) + 0.05 * np.eye(d)
    mean = rng.normal(size=(k, 2, d))
    if related:
        move = rng.normal(size=(d, d)) / np.sqrt(d) + np.eye(d)
        near = 0.9 * cov[:, 0] + 0.1 * cov[:, 1]
        cov[:, 1] = move @ near @ move.T
        mean[:, 1] = (0.9 * mean[:, 0] + 0.1 * mean[:, 1]) @ move.T
    priors = rng.dirichlet(4 * np.ones(2 * k)).reshape(k, 2)
    cells = js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    return js.Population(jnp.asarray(priors), cells)


@jax.jit
def best_of_starts(pop, starts):
    """Least divergence from random starts, each followed to its end."""
    found = js.nearest_ideal(pop, maps="shared_covariance", reference=0)
    weight = found.target.priors[:, 1]
    own, home = (
        jax.tree.map(lambda leaf, a=a: leaf[:, a], pop.conditionals) for a in (1, 0)
    )
    objective = affirmative_objective(own, home, weight)
    options = SearchOptions(
        solver=MatrixNewton(),
        tolerance=jnp.asarray(1e-8),
        differentiate="none",
    )

    def follow(start):
        end = solve_matrices(
            objective,
            start[None, None],
            [Job(source=0)],
            options,
            moment=objective.input_moment,
        )
        move = objective.best_map(end.x[0])
        moved = home.pushforward(move)
        return jnp.sum(weight * moved.kl(own))

    values = jax.lax.map(follow, starts)
    return jnp.nanmin(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument(
        "--quick", action="store_true", help="4 problems; writes no file"
    )
    options = parser.parse_args()
    n = 4 if options.quick else options.problems
    rng = np.random.default_rng(0)
    solve = {
        reflect: jax.jit(
            partial(js.nearest_ideal, reference=0, allow_reflection=reflect)
        )
        for reflect in (False, True)
    }
    definite = jax.jit(partial(js.nearest_ideal, maps="positive_definite", reference=0))
    rows = []
    for number in range(n):
        d, k = SIZES[number % len(SIZES) if not options.quick else 0]
        related = bool(number // len(SIZES) % 2)
        pop = problem(rng, d, k, related)
        starts = rng.normal(size=(STARTS, d, d)) / np.sqrt(d)
        starts[np.linalg.det(starts) < 0, 0] *= -1
        best = float(best_of_starts(pop, jnp.asarray(starts)))
        ours = {key: float(fn(pop).feature_kl) for key, fn in solve.items()}
        rows.append(
            {
                "d": d,
                "k": k,
                "related": related,
                "best": best,
                "ours": ours[False],
                "reflected": ours[True],
                "definite": float(definite(pop).feature_kl),
            }
        )
    least = np.array([min(row["best"], row["ours"]) for row in rows])
    excess = np.array([row["ours"] for row in rows]) / least - 1
    report = {
        **describe(),
        "problems": n,
        "starts": STARTS,
        "share_within_1e-6": float((excess < 1e-6).mean()),
        "largest_excess": float(excess.max()),
        "below_all_starts": float(
            np.mean([row["ours"] < row["best"] * (1 - 1e-6) for row in rows])
        ),
        "reflections_above_none": int(
            sum(row["reflected"] > row["ours"] * (1 + 1e-7) for row in rows)
        ),
        "above_definite": int(
            sum(row["ours"] > row["definite"] * (1 + 1e-7) for row in rows)
        ),
    }
    print({key: report[key] for key in list(report)[-7:]})
    if not options.quick:
        save("search_quality", {**report, "rows": rows})


if __name__ == "__main__":
    main()
