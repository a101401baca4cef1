"""Meet-channel kernels of many scores: a vmapped entropic solve against HiGHS in a loop.

Claim: at 60 bins and 60 atoms a batch of entropic kernels (default temperature and
margin, float32) takes less time than SciPy's HiGHS takes for the linear programs of the
same targets, every solve converges, and the mean squared move of rank stays within
``temperature * log(atoms)`` of the least possible. A table shows how the excess falls
with the temperature. The multiclass channel's program is timed at several numbers of
classes.

    python benchmarks/bench_roc_channel.py [--quick]
"""

from __future__ import annotations

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from _machine import describe, first_and_median, save

from jaxsteer.channels._entropic_kernel import entropic_meet
from jaxsteer.channels._multiclass_channel import multiclass_channel
from jaxsteer.channels._roc import degrading_kernel

BINS = 60


def binned_scores(n_scores: int, rows: int) -> np.ndarray:
    """Counts ``[scores, 2, 2, BINS]`` of random learners, sharper in one group."""
    counts = np.zeros((n_scores, 2, 2, BINS))
    for seed, table in enumerate(counts):
        rng = np.random.default_rng(seed)
        group = rng.integers(0, 2, rows)
        label = (rng.uniform(size=rows) < 0.3 + 0.1 * group).astype(int)
        spread = 1 + rng.uniform(0, 1) * label * group
        signal = rng.uniform(0.5, 1) + rng.uniform(0, 1) * group
        score = label * signal + rng.normal(size=rows) * spread
        for code in (0, 1):
            mine = group == code
            inner = np.quantile(score[mine], np.arange(1, BINS) / BINS)
            bin_of = np.searchsorted(inner, score[mine], side="right")
            np.add.at(table[code], (label[mine], bin_of), 1)
    return counts


def linear_programs(counts: np.ndarray, atoms: np.ndarray) -> tuple[float, np.ndarray]:
    """Seconds a program, and the least rank cost ``[scores, G]`` for the same targets."""
    least, seconds = np.zeros((len(counts), 2)), 0.0
    for row, (table, target) in enumerate(zip(counts, atoms, strict=True)):
        laws = table / table.sum(-1, keepdims=True)
        mix = table.sum((0, 2)) / table.sum()
        for code, law in enumerate(laws):
            start = time.perf_counter()
            kernel, _ = degrading_kernel(law, target, mix)
            seconds += time.perf_counter() - start
            mass, goal = mix @ law, mix @ target
            rank, place = np.cumsum(mass) - mass / 2, np.cumsum(goal) - goal / 2
            move = np.square(rank[:, None] - place)
            least[row, code] = (mass[:, None] * kernel * move).sum()
    return seconds / (2 * len(counts)), least


def exact_targets(found, counts: np.ndarray) -> np.ndarray:
    """The solved targets, made feasible for HiGHS's tolerance where float32 is not."""
    atoms = np.asarray(found.atoms, float)
    atoms /= atoms.sum(-1, keepdims=True)
    mix = counts.sum((1, 3)) / counts.sum((1, 2, 3))[:, None]
    useless = np.einsum("sy,syt->st", mix, atoms)[:, None]
    return (1 - 1e-6) * atoms + 1e-6 * useless


def compare(n_scores: int, checked: int, temperature: float) -> dict:
    """Time one batch and the linear programs of its first problems."""
    counts = binned_scores(n_scores, 20_000)
    held = jnp.asarray(counts, jnp.float32)
    solve = jax.jit(jax.vmap(lambda c: entropic_meet(c, temperature=temperature)))
    first, median = first_and_median(lambda: solve(held), repeats=3)
    found = solve(held)
    targets = exact_targets(found, counts)[:checked]
    linear_programs(counts[:1], targets[:1])  # SciPy loads HiGHS when first used
    each, least = linear_programs(counts[:checked], targets)
    excess = np.asarray(found.cost, float)[:checked] - least
    kernels = 2 * n_scores
    return {
        "temperature": temperature,
        "kernels": kernels,
        "first_call_s": first,
        "seconds": median,
        "milliseconds_per_kernel": 1e3 * median / kernels,
        "highs_milliseconds_per_kernel": 1e3 * each,
        "ratio": each * kernels / median,
        "converged_share": float(np.mean(np.asarray(found.status) == 0)),
        "steps_median": float(np.median(found.steps)),
        "steps_largest": int(found.steps.max()),
        "gap_largest": float(found.gap.max()),
        "excess_cost_median": float(np.median(excess)),
        "excess_cost_largest": float(excess.max()),
        "excess_cost_bound": temperature * float(np.log(BINS)),
        "least_cost_median": float(np.median(least)),
    }


def gradient(n_scores: int) -> dict:
    """Cost of a gradient with respect to the counts, in forward solves."""
    held = jnp.asarray(binned_scores(n_scores, 20_000), jnp.float32)
    weight = jnp.linspace(-1.0, 1.0, BINS) ** 2

    def value(counts):
        return jnp.sum(entropic_meet(counts).kernels @ weight)

    forward = jax.jit(jax.vmap(value))
    backward = jax.jit(jax.vmap(jax.grad(value)))
    _, plain = first_and_median(lambda: forward(held), repeats=3)
    _, both = first_and_median(lambda: backward(held), repeats=3)
    return {
        "kernels": 2 * n_scores,
        "forward_s": plain,
        "gradient_s": both,
        "gradient_in_forward_solves": both / plain,
    }


def classes(n_classes: int, rows: int) -> dict:
    """Time and outcome of one multiclass channel with two groups and 64 bins."""
    rng = np.random.default_rng(0)
    label, group = rng.integers(0, n_classes, rows), rng.integers(0, 2, rows)
    score = np.eye(n_classes)[label] * (1.5 + group)[:, None]
    score = np.exp(score + rng.normal(size=score.shape))
    score /= score.sum(1, keepdims=True)
    start = time.perf_counter()
    channel = multiclass_channel(score, label, group, bins=64)
    seconds = time.perf_counter() - start
    best = score.argmax(1)
    raw = [float((best == label)[group == code].mean()) for code in (0, 1)]
    return {
        "classes": n_classes,
        "rows": rows,
        "seconds": seconds,
        "gap": float(channel.gap),
        "accuracy_in_every_group": float(channel.utility_value),
        "accuracy_of_the_raw_argmax_by_group": raw,
    }


def main() -> None:
    """Measure and save."""
    quick = "--quick" in sys.argv
    n_scores, checked = (4, 2) if quick else (256, 16)
    temperatures = [1e-3] if quick else [1e-2, 1e-3, 1e-4]
    sizes = [(3, 2000)] if quick else [(3, 20_000), (10, 40_000), (28, 200_000)]
    figures = {
        "claim": "entropic kernels of many scores in one call are faster than HiGHS",
        **describe("scipy"),
        "entropic": [compare(n_scores, checked, t) for t in temperatures],
        "gradient": gradient(n_scores // 4),
        "multiclass_channel": [classes(*size) for size in sizes],
    }
    if quick:
        print(json.dumps(figures, indent=2))
    else:
        save("roc_channel", figures)


if __name__ == "__main__":
    main()
