"""28 classes (as occupations of biographies): general and shared maps at large d.

Claims: "general" is stationary (relative gradient below 1e-6 of the weight) in under 2 s at
d=80 and under 60 s at d=768 on 2 cores; the map of "shared_covariance" takes under 1 s
at d=768, and
d=4096 fits into memory.

Two kinds of cells: "related" (groups that differ by one affine map and sampling, as
real ones), "unrelated" (nothing in common: the hardest). float64 where nothing is said;
"float32 products" takes the Hessian products in float32 and all else in float64.
"shared_covariance"
is measured whole (the target's covariances and the divergence included) and for its map
alone.

    python benchmarks/bench_many_classes.py [--quick | --large]

d=768 and d=4096 (4 classes) take some minutes and are measured only with ``--large``.
"""

from __future__ import annotations

import json
import resource
import sys

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402
from _gauge_problems import population, related, unrelated  # noqa: E402
from _machine import describe, first_and_median, save  # noqa: E402

import jaxsteer as js  # noqa: E402
from jaxsteer.ideal._affirmative import affirmative_tied  # noqa: E402
from jaxsteer.solvers import MatrixNewton  # noqa: E402


def measure(
    parts: tuple,
    maps: str,
    repeats: int,
    dtype: str | None = None,
    product_dtype: str | None = None,
) -> dict:
    """Seconds, steps and residual of one problem."""
    pop = population(parts, dtype)
    accurate = MatrixNewton(tolerance=1e-7, product_dtype=product_dtype)
    solver = None if maps == "shared_covariance" else accurate
    solve = jax.jit(
        lambda pop: js.nearest_ideal(
            pop, maps=maps, solver=solver, differentiate="none", reference=1
        )
    )
    ends = []

    def run():
        ends[:] = [solve(pop)]
        return ends[0]

    first, seconds = first_and_median(run, repeats)
    found = ends[0]
    return {
        "first_call_s": first,
        "seconds": seconds,
        "steps": int(found.steps),
        "residual": float(found.residual),
        "status": js.Status(int(found.status)).name,
        "feature_kl": float(found.feature_kl),
    }


def tied_map_seconds(parts: tuple, repeats: int) -> float:
    """Seconds of the map alone, from moments in float32."""
    pop = population(parts, "float32")
    solve = jax.jit(lambda pop: affirmative_tied(pop.conditionals, pop.priors))
    return first_and_median(lambda: solve(pop).to_group, repeats)[1]


def wide(rng: np.random.Generator, k: int, d: int) -> tuple[np.ndarray, ...]:
    """Priors, means and covariances of `d` features, quickly made."""
    factor = rng.normal(size=(k, 2, d, 64)).astype(np.float32)
    cov = factor @ factor.swapaxes(2, 3) / 64
    cov += np.eye(d, dtype=np.float32)
    return np.full((k, 2), 0.5 / k), rng.normal(size=(k, 2, d)), cov


def main() -> None:
    """Measure and save."""
    quick = "--quick" in sys.argv
    rng = np.random.default_rng
    k = 28
    figures = {"claim": __doc__.split("\n\n")[1], **describe(), "classes": k}
    sizes = (80, 768) if "--large" in sys.argv else (80,)
    for d in (8,) if quick else sizes:
        few = 1 if d > 80 else 5
        close = related(rng(0), k, d)
        figures[f"d={d}"] = {
            "full, related": measure(close, "general", few),
            "tied, related": measure(close, "shared_covariance", few),
            "tied, related, float32": measure(
                close, "shared_covariance", few, "float32"
            ),
        }
        figures[f"d={d}"]["tied, related, float32"]["map_alone_s"] = tied_map_seconds(
            close, few
        )
        if d > 80:
            figures[f"d={d}"]["full, related, float32 products"] = measure(
                close, "general", few, product_dtype="float32"
            )
        if d == 80:
            figures["d=80"]["full, unrelated"] = measure(
                unrelated(rng(0), k, d), "general", 1
            )
        print(json.dumps(figures[f"d={d}"], indent=2), flush=True)
    if "--large" in sys.argv:
        large = measure(wide(rng(0), 4, 4096), "shared_covariance", 1, "float32")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        figures["d=4096, 4 classes"] = {"tied, float32": {**large, "peak_gb": peak}}
        print(json.dumps(figures["d=4096, 4 classes"], indent=2), flush=True)
    if not quick:
        save("many_classes", figures)


if __name__ == "__main__":
    main()
