"""28 classes (as occupations of biographies): the "full" and "tied" gauges at large d.

Claims: "full" is stationary (relative gradient below 1e-6 of the weight) in under 2 s at
d=80 and under 60 s at d=768 on 2 cores; "tied" takes under 1 s at d=768.

Three kinds of cells: "related" (groups that differ by one affine map and sampling, as
real ones), "unrelated" (nothing in common: the hardest), both float64.

    python benchmarks/bench_many_classes.py [--quick | --large]

d=768 takes many minutes and is measured only with ``--large``.
"""

from __future__ import annotations

import json
import sys

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402
from _gauge_problems import population, related, unrelated  # noqa: E402
from _machine import describe, first_and_median, save  # noqa: E402

import jaxsteer as js  # noqa: E402
from jaxsteer.solvers import RelativeNewton  # noqa: E402


def measure(parts: tuple, gauge: str, repeats: int, dtype: str | None = None) -> dict:
    """Seconds, steps and residual of one problem."""
    pop = population(parts, dtype)
    accurate = RelativeNewton(tolerance=1e-7 if dtype is None else None)
    solver = None if gauge == "tied" else accurate
    solve = jax.jit(
        lambda pop: js.nearest_ideal(
            pop, gauge=gauge, solver=solver, differentiate="none"
        )
    )
    first, seconds = first_and_median(lambda: solve(pop), repeats)
    found = solve(pop)
    return {
        "first_call_s": first,
        "seconds": seconds,
        "steps": int(found.steps),
        "residual": float(found.residual),
        "status": js.Status(int(found.status)).name,
        "feature_kl": float(found.feature_kl),
    }


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
            "full, related": measure(close, "full", few),
            "tied, related": measure(close, "tied", few),
            "tied, related, float32": measure(close, "tied", few, "float32"),
        }
        if d == 80:
            figures["d=80"]["full, unrelated"] = measure(
                unrelated(rng(0), k, d), "full", 1
            )
        print(json.dumps(figures[f"d={d}"], indent=2), flush=True)
    if not quick:
        save("many_classes", figures)


if __name__ == "__main__":
    main()
