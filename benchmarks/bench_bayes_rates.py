"""`bayes_rates` against ten million simulated rows, population by population.

Every rate is compared with the share of simulated rows, in standard errors of that share
(and of the rate itself where it is an estimate). Claim: all within 4.

    python benchmarks/bench_bayes_rates.py [--quick]
"""

from __future__ import annotations

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from _machine import describe, save

import jaxsteer as js

CHUNK = 250_000
COST = jnp.array([[0.0, 1.0], [0.6, 0.0]])


def populations() -> dict[str, js.Population]:
    """Two classes and two groups of several families."""
    rng = np.random.default_rng(0)
    priors = jnp.asarray(rng.dirichlet(np.full(4, 5.0)).reshape(2, 2))

    def near(*shape):
        return jnp.asarray(rng.normal(size=(2, 2, *shape)))

    def size():
        return jnp.asarray(rng.uniform(0.7, 2.0, (2, 2)))

    roots = near(4, 4)
    cov = roots @ jnp.swapaxes(roots, -1, -2) + jnp.eye(4)
    cells = {
        "normal, exact": js.Normal(near(), size()),
        "laplace, quadrature": js.Laplace(near(), size()),
        "gamma, quadrature": js.Gamma(1 + size(), size()),
        "beta, quadrature": js.Beta(size(), size()),
        "poisson, sums": js.Poisson(4 * size()),
        "categorical, sums": js.Categorical(near(6)),
        "normal in 4 dimensions, quasi-Monte Carlo": js.MultivariateNormal(
            near(4), cov
        ),
        "normal x bernoulli, simulation": js.Product(
            (js.Normal(near(), size()), js.Bernoulli(near()))
        ),
    }
    return {name: js.Population(priors, law) for name, law in cells.items()}


def decide(pop: js.Population, x: jax.Array, a: int) -> jax.Array:
    """The Bayes rule of group `a`, from densities alone."""
    logs = jnp.stack(
        [pop.cell(i, a).log_prob(x) + jnp.log(pop.priors[i, a]) for i in range(2)]
    )
    posterior = jax.nn.softmax(logs, 0)
    return jnp.argmin(COST @ posterior, 0)


def simulate(pop: js.Population, n: int) -> np.ndarray:
    """Share of class 1 predicted in each cell, from `n` rows in all."""

    # Not one program: several factorizations side by side can wait for each other for
    # ever on two cores.
    def one(key):
        shares = []
        for code in range(4):
            i, a = divmod(code, 2)
            x = pop.cell(i, a).sample(jax.random.fold_in(key, code), (CHUNK,))
            shares.append(jnp.mean(decide(pop, x, a)))
        return jnp.stack(shares).reshape(2, 2)

    keys = jax.random.split(jax.random.key(1), max(1, n // (4 * CHUNK)))
    return np.mean([np.asarray(one(key), float) for key in keys], 0)


def main() -> None:
    """Measure and save."""
    quick = "--quick" in sys.argv
    n = 4 * CHUNK if quick else 10_000_000
    figures = {"claim": __doc__.split("\n\n")[1], **describe(), "rows": n}
    for name, pop in list(populations().items())[: 2 if quick else None]:
        found = js.bayes_rates(pop, COST, n_points=2**16)
        jax.block_until_ready(found)
        start = time.perf_counter()
        jax.block_until_ready(js.bayes_rates(pop, COST, n_points=2**16))
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        share = simulate(pop, n)
        simulated = time.perf_counter() - start
        rate, own = (
            np.asarray(v[1], float) for v in (found.rates, found.standard_error)
        )
        error = np.sqrt(share * (1 - share) / (n / 4) + own**2)
        figures[name] = {
            "largest_difference": float(np.abs(rate - share).max()),
            "largest_z": float((np.abs(rate - share) / np.maximum(error, 1e-12)).max()),
            "seconds": seconds,
            "simulation_seconds": simulated,
        }
        print(name, figures[name], flush=True)
    if not quick:
        save("bayes_rates", figures)


if __name__ == "__main__":
    main()
