"""Known normal and log-normal populations: error, gaps and divergence by intervention.

Every figure is exact (roots of the log-ratio and normal probabilities, no samples), over
45 populations of two classes and two groups that differ in separation, scale and priors.

    python benchmarks/synthetic_study.py [--quick]

Writes results/synthetic_study.{json,md} and two pictures.
"""

from __future__ import annotations

import sys

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
from _machine import RESULTS, describe, save  # noqa: E402

import jaxsteer as js  # noqa: E402
from jaxsteer.compare import (  # noqa: E402
    INTERVENTIONS,
    intervene,
    study_table,
    synthetic_populations,
)

HEADS = {
    "bayes_error": "Bayes error",
    "dp_gap": "DP gap",
    "eo_gap": "EO gap",
    "eodds_gap": "equalized odds gap",
    "worst_gap": "worst gap of 7 costs",
    "kl": "KL (nats)",
}


def table(rows: list[dict]) -> str:
    """Means over the grid, the largest value in brackets."""
    lines = [
        "| intervention | " + " | ".join(HEADS.values()) + " |",
        "|---" * (1 + len(HEADS)) + "|",
    ]
    for row in rows:
        cells = [f"{row[name]:.3f} ({row[f'{name}_max']:.3f})" for name in HEADS]
        lines.append(f"| {row['intervention']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def pictures() -> None:
    """One population before and after, and its price of fairness."""
    pops, _ = synthetic_populations(separations=(1.0,), scales=(0.6,), positives=(0.3,))
    pop = jax.tree.map(lambda leaf: leaf[0], pops)
    after = {
        name: intervene(pop, name) for name in INTERVENTIONS if name != "reweighing"
    }
    densities = js.plots.population_densities(after)
    ratios = jnp.logspace(-1.5, 1.5, 41)
    curve = js.price_of_fairness(pop, ratios)
    for name, figure in {
        "synthetic_densities": densities,
        "synthetic_price": js.plots.price_curves(curve, ratios.tolist()),
    }.items():
        (RESULTS / f"{name}.png").write_bytes(js.plots.figure_bytes(figure))


def main() -> None:
    """Compute, print and save."""
    quick = "--quick" in sys.argv
    grid = {"separations": (1.0,), "scales": (0.5, 2.0)} if quick else {}
    text, figures = "", dict(describe())
    for family in ("normal", "lognormal"):
        rows = study_table(family, **grid)
        figures[family] = rows
        text += f"{family}: means over the grid, the largest in brackets\n\n"
        text += table(rows) + "\n"
    print(text)
    if not quick:
        save("synthetic_study", figures)
        (RESULTS / "synthetic_study.md").write_text(text)
        pictures()


if __name__ == "__main__":
    main()
