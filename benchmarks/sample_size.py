"""How many rows a cell needs: gaps that remain after steering by fitted maps.

Univariate cells and normal cells in 2, 5 and 10 dimensions; 100 samples of each size; the
largest difference of a Bayes rule's rates between groups over three costs, on the true
population moved by the maps fitted to the sample.

    python benchmarks/sample_size.py [--quick]

Writes results/sample_size.{json,md} and a picture.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
from _machine import RESULTS, describe, save

import jaxsteer as js
from jaxsteer.audit import sample_size_curve

COSTS = jnp.array([[[0.0, 1.0], [ratio, 0.0]] for ratio in (0.3, 1.0, 3.0)])


def population(d: int) -> js.Population:
    """Groups whose classes differ in place and spread, in `d` features."""
    rng = np.random.default_rng(d)
    priors = jnp.full((2, 2), 0.25)
    if d == 1:
        loc, scale = [[0.0, 0.4], [1.0, 2.0]], [[1.0, 0.7], [1.5, 1.0]]
        return js.Population(priors, js.Normal(jnp.array(loc), jnp.array(scale)))
    mean = rng.normal(size=(2, 2, d)) * 1.5 / np.sqrt(d)
    roots = rng.normal(size=(2, 2, d, d)) * 0.3 / np.sqrt(d) + np.eye(d)
    cov = roots @ np.swapaxes(roots, -1, -2)
    return js.Population(
        priors, js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    )


def main() -> None:
    """Simulate, print and save."""
    quick = "--quick" in sys.argv
    sizes = (50, 200) if quick else (30, 100, 300, 1000, 3000, 10_000)
    figures: dict = {**describe(), "rows_per_cell": sizes}
    lines = [
        "Rate gap left (90% of 100 samples lie below), by rows per cell:",
        "",
        "| features | before | " + " | ".join(str(n) for n in sizes) + " |",
        "|---" * (2 + len(sizes)) + "|",
    ]
    curves = {}
    for d in (1,) if quick else (1, 2, 5, 10):
        curve = sample_size_curve(
            population(d),
            sizes,
            COSTS,
            n_simulations=10 if quick else 100,
            maps="positive_definite" if d > 1 else "general",
            differentiate="none",
        )
        curves[d] = np.asarray(curve.quantile(0.9))
        figures[f"d={d}"] = {
            "raw_gap": float(curve.raw_gap),
            "median": np.asarray(curve.quantile(0.5)).tolist(),
            "ninth_decile": curves[d].tolist(),
            "failed": np.asarray(curve.failed).tolist(),
        }
        row = " | ".join(f"{gap:.3f}" for gap in curves[d])
        lines.append(f"| {d} | {float(curve.raw_gap):.3f} | {row} |")
        print(lines[-1], flush=True)
    if not quick:
        save("sample_size", figures)
        (RESULTS / "sample_size.md").write_text("\n".join(lines) + "\n")
        picture(sizes, curves)


def picture(sizes, curves) -> None:
    """The curves on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    ax = figure.subplots()
    for d, gaps in curves.items():
        ax.plot(
            sizes, gaps, marker="o", label=f"{d} features" if d > 1 else "1 feature"
        )
    ax.set(xscale="log", yscale="log", xlabel="rows per cell")
    ax.set_ylabel("rate gap left (ninth decile)")
    ax.legend(frameon=False)
    (RESULTS / "sample_size.png").write_bytes(js.plots.figure_bytes(figure))


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
